"""Features on disk, so that a clip is encoded once however often a model is trained on it.

    CACHE/<fingerprint of the encoder>/<2 hex>/<sha256 of audio and stretch>.safetensors

A file that has its final name is whole: it is written under another name, flushed and renamed. Kill
the process at any moment and the same command goes on where it was.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from mmmos.clips import Clip
from mmmos.encoders.base import Features
from mmmos.encoders.weights import hash_file
from mmmos.windows import WINDOW_SECONDS


def clip_key(clip: Clip) -> str:
    """sha256 of the file's bytes and of the stretch taken from it."""
    return hash_file(clip.path or clip.id, f"{WINDOW_SECONDS} {clip.start_time} {clip.end_time}\n".encode())


class FeatureCache:
    """Frames of whole clips by encoder, float16."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str, fingerprint: str) -> Path:
        """Where the features of a clip lie, or will."""
        return self.root / fingerprint[:16] / key[:2] / f"{key}.safetensors"

    def get(self, key: str, fingerprint: str) -> Features | None:
        """Features [1, T, D] in float32, or None."""
        path = self.path(key, fingerprint)
        if not path.is_file():
            return None
        stored = load_file(path)
        frames = stored["frames"].float().unsqueeze(0)
        return Features(frames, torch.ones(frames.shape[:2], dtype=torch.bool), float(stored["rate_hz"]))

    def put(self, key: str, fingerprint: str, features: Features) -> None:
        """Keep the features [1, T, D] of a clip."""
        path = self.path(key, fingerprint)
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = features.frames[features.mask].half().contiguous()
        rate = torch.tensor(features.rate_hz, dtype=torch.float64)
        partial = path.with_suffix(f".{os.getpid()}.part")
        save_file({"frames": frames, "rate_hz": rate}, partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
