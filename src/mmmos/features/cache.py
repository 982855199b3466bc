"""Encoder features on disk: a crop is encoded once, however often models are trained on it.

    CACHE/<encoder's fingerprint>/<2 hex>/<sha256 of file and segment>.<kept>.safetensors

        count            number of frames; 0 for a silent crop
        mean, std [D]    float32, over time
        frames [T, D]    float16, at the encoder's own rate; only in files `.frames`

Writes are atomic: a killed process leaves no partial file, and the same command continues where it stopped.
Files are memory-mapped: reading a mean does not read the frames.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mmmos.audio.clip import Clip
from mmmos.audio.windows import WINDOW_SECONDS
from mmmos.encoders.base import Features
from mmmos.errors import AudioError, UsageError
from mmmos.io.atomic import hash_file, replacing

Keep = Literal["frames", "pooled"]
"""What is kept of a crop. Models on pooled vectors need no frames, which take a hundred times the space."""

FRAME_BYTES, POOLED_BYTES = 2, 4
"""Bytes per value: of a frame, and of a mean or standard deviation."""

HEADER_BYTES = {"frames": 330, "pooled": 190}
"""Approximate bytes of a file besides its values."""


def clip_key(clip: Clip) -> str:
    """sha256 of the file's bytes and the clip's segment. Raises `AudioError` like `file_key`."""
    content = file_key(clip.path or clip.id)
    segment = f"{WINDOW_SECONDS} {clip.start_time} {clip.end_time} {clip.stream}"
    return hashlib.sha256(f"{content} {segment}".encode()).hexdigest()


def file_key(path: str) -> str:
    """sha256 of a file's bytes. Raises `AudioError`: "not_found", "not_readable", "decode_failed"."""
    try:
        state = os.stat(path)
        return _content(path, state.st_size, state.st_mtime_ns)
    except FileNotFoundError as error:
        raise AudioError("not_found", f"no such file: {path}") from error
    except PermissionError as error:
        raise AudioError("not_readable", f"{path} cannot be opened: {error.strerror}") from error
    except OSError as error:
        raise AudioError("decode_failed", f"the file cannot be read: {error.strerror}") from error


def file_digests(clips: Iterable[Clip]) -> tuple[str, ...]:
    """The first 16 digits of the sha256 of each clip's file, sorted, without repeats; missing files are left out."""
    found = (_digest(clip) for clip in clips)
    return tuple(sorted({digest for digest in found if digest}))


def count_used(clips: Iterable[Clip], digests: Collection[str]) -> int:
    """Number of clips whose file has one of these digests."""
    known = set(digests)
    return sum(_digest(clip) in known for clip in clips)


def _digest(clip: Clip) -> str:
    try:
        return file_key(clip.path or clip.id)[:16]
    except AudioError:
        return ""


@lru_cache(maxsize=1 << 16)
def _content(path: str, size: int, mtime: int) -> str:
    """sha256 of a file's bytes, which are read once for all its segments."""
    return hash_file(path)


class FeatureCache:
    """The features of crops, by encoder. Several processes may read and write it at once."""

    def __init__(self, root: Path, keep: Keep = "frames") -> None:
        self.root = root
        self.keep = keep

    def holds(self, key: str, fingerprint: str) -> bool:
        """Whether the cache has all that it keeps of this crop."""
        return self._find(key, fingerprint, self.keep) is not None

    def frames(self, key: str, fingerprint: str) -> Features | None:
        """Features [1, T, D] in float32, with T = 0 for a silent crop; None if they are not in the cache."""
        path = self._find(key, fingerprint, "frames")
        if path is None:
            return None
        with _opened(path) as file:
            frames = file.get_tensor("frames").float().unsqueeze(0)
            rate_hz = float(file.get_tensor("rate_hz"))
        return Features(frames, torch.ones(frames.shape[:2], dtype=torch.bool), rate_hz)

    def pooled(self, key: str, fingerprint: str) -> tuple[Tensor, Tensor] | None:
        """Mean and standard deviation over time, each [1, D], or [0, D] for a silent crop; None if not in the cache."""
        path = self._find(key, fingerprint, "pooled")
        if path is None:
            return None
        with _opened(path) as file:
            rows = min(1, int(file.get_tensor("count")))
            return file.get_tensor("mean")[None][:rows], file.get_tensor("std")[None][:rows]

    def put(self, key: str, fingerprint: str, features: Features) -> None:
        """Write the features [1, T, D] of a crop; T = 0 marks it as silent."""
        frames = features.frames[features.mask].float()
        std, mean = torch.std_mean(frames, dim=0, correction=0) if len(frames) else frames.new_zeros(2, frames.shape[1])
        tensors = {"count": torch.tensor(len(frames)), "mean": mean.contiguous(), "std": std.contiguous()}
        if self.keep == "frames":
            tensors |= {"frames": frames.half().contiguous()}
            tensors |= {"rate_hz": torch.tensor(features.rate_hz, dtype=torch.float64)}
        with replacing(self._path(key, fingerprint, self.keep)) as partial:
            save_file(tensors, partial)

    def size(self, frames: float, dim: int) -> float:
        """Bytes of a crop with `frames` frames of `dim` values."""
        pooled = HEADER_BYTES[self.keep] + 2 * dim * POOLED_BYTES
        return pooled + frames * dim * FRAME_BYTES if self.keep == "frames" else pooled

    def _find(self, key: str, fingerprint: str, wanted: Keep) -> Path | None:
        # A file with the frames also has their mean.
        kinds: tuple[Keep, ...] = ("frames",) if wanted == "frames" else ("frames", "pooled")
        paths = (self._path(key, fingerprint, kind) for kind in kinds)
        return next((path for path in paths if path.is_file()), None)

    def _path(self, key: str, fingerprint: str, kind: Keep) -> Path:
        return self.root / fingerprint / key[:2] / f"{key}.{kind}.safetensors"


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except SafetensorError as error:
        raise UsageError(f"{path} is damaged: delete it, and the crop is encoded again") from error
