"""The checkpoints of M2D: sizes from their folder's name and their tensors, and our names for the weights.

Reads the checkpoints that github.com/nttcslab/m2d releases; NTT's licence allows evaluation and research only.
A checkpoint does not contain the length and the rate of its input. The name of its FOLDER does, so keep that name:

    m2d_clap_vit_base-80x1001p16x16-240128_AS-FT_enconly/weights_ep67it3124-0.48558.pth
                      │       └ patch: 16 mels × 16 frames; a third field would be the rate, p16k or p32k
                      └ input: 80 mels × 1001 frames

Our keys are the published ones without their prefix.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmmos.encoders.weights import read_checkpoint
from mmmos.errors import ModelFormatError, ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mmmos.hub.options import LoadOptions

NORM_STATS = (-7.1, 4.2)  # mean and standard deviation of AudioSet's log-mels, for checkpoints without them (2022)
HEAD = 64  # values per attention head, in every published size

PREFIXES = ("module.ar.runtime.backbone.", "backbone.", "")
"""Prefixes of the encoder's keys: as fine-tuned on AudioSet, as in M2D-CLAP of 2025, as pre-trained."""
IGNORED = re.compile(
    r"(module\.ar\.runtime\.)?to_spec\..+"  # tables of the spectrogram, computed here
    r"|(module\.)?head(_norm)?\..+"  # classes of the fine-tuning
    r"|(audio_proj|text_proj|text_encoder)\..+"  # M2D-CLAP's projections to its text embeddings
    r"|mask_token|decoder_.+|target_.+|offline_predictor\..+"  # for pre-training only
)
"""Published keys of parts that the features do not depend on."""
FOLDER = re.compile(r"[^-]+-(\d+)x(\d+)p(\d+)x(\d+)(?:p(16|32)k(?:p[^-]*)?)?(?:-.*)?")
"""Name of a checkpoint's folder; what may follow the rate names a text encoder."""


@dataclass(frozen=True)
class M2DConfig:
    """Sizes of an M2D network."""

    input_size: tuple[int, int] = (80, 1001)  # mels, frames in a chunk
    patch_size: tuple[int, int] = (16, 16)  # mels, frames
    sample_rate: int = 16_000  # Hz, or 32,000
    width: int = 768  # of the transformer; 64 per head
    depth: int = 12  # blocks
    hidden: int = 3072  # in the middle of a block's perceptron

    def __post_init__(self) -> None:
        (mels, frames), (high, wide) = self.input_size, self.patch_size
        if self.sample_rate not in (16_000, 32_000):
            raise ModelFormatError(f"M2D takes audio at 16000 or 32000 Hz, not at {self.sample_rate} Hz")
        if min(high, wide) < 1 or mels < high or mels % high or frames < wide:
            raise ModelFormatError(f"an input of {mels} mels x {frames} frames has no patches of {high} x {wide}")
        if self.width < HEAD or self.width % HEAD:
            raise ModelFormatError(f"M2D's width is a multiple of {HEAD}, not {self.width}")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of a whole chunk, in frequency and in time; frames at its end without a whole patch are dropped."""
        return self.input_size[0] // self.patch_size[0], self.input_size[1] // self.patch_size[1]


def parse_folder(name: str) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Input size, patch size (each mels, frames) and rate (Hz) from the name of a checkpoint's folder.

    >>> parse_folder("m2d_clap_vit_base-80x1001p16x16p16kpBpTI-2025")
    ((80, 1001), (16, 16), 16000)

    Raises `ModelFormatError`.
    """
    found = FOLDER.fullmatch(name)
    if not found:
        raise ModelFormatError(
            f"the folder name {name!r} does not say the size of M2D's input: keep the checkpoint in a folder named as "
            "released, MODEL-80x1001p16x16-DATE (mels x frames, p, patch; then p32k if at 32 kHz), or give "
            "input_size=(80, 1001), patch_size=(16, 16) and sample_rate=16000"
        )
    mels, frames, high, wide, rate = (int(size) for size in found.groups(default="16"))
    return (mels, frames), (high, wide), 1000 * rate


def find_checkpoint(path: Path) -> Path:
    """The checkpoint at `path`, which may be its folder. Raises `ModelNotFoundError`."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise ModelNotFoundError(f"no such checkpoint: {path}")
    found = sorted(file for file in path.iterdir() if file.suffix in (".pth", ".safetensors"))
    if len(found) != 1:
        raise ModelNotFoundError(f"{path} holds {len(found)} checkpoints (.pth, .safetensors), not one: name the file")
    return found[0]


def read_state(path: Path, options: LoadOptions) -> dict[str, Tensor]:
    """The encoder's weights by our keys. Raises `ModelFormatError`."""
    # A pre-training checkpoint holds its command line next to the weights.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return _own(read_checkpoint(path, options), str(path))


def input_sizes(
    path: Path, input_size: Sequence[int] | None, patch_size: Sequence[int] | None, sample_rate: int | None
) -> tuple[Sequence[int], Sequence[int], int]:
    """The given sizes; those that are None from the name of the checkpoint's folder. Raises `ModelFormatError`."""
    if input_size is not None and patch_size is not None and sample_rate is not None:
        return input_size, patch_size, sample_rate
    named = parse_folder(path.absolute().parent.name)
    return input_size or named[0], patch_size or named[1], sample_rate or named[2]


def fit_config(
    state: Mapping[str, Tensor], path: Path, input_size: Sequence[int], patch_size: Sequence[int], sample_rate: int
) -> M2DConfig:
    """The sizes of a network: depth and widths are those of the weights.

    Raises `ModelFormatError` if the weights do not fit an input of that size.
    """
    config = M2DConfig(
        input_size=(input_size[0], input_size[1]),
        patch_size=(patch_size[0], patch_size[1]),
        sample_rate=sample_rate,
        width=state["cls_token"].numel(),
        depth=len({key.split(".")[1] for key in state if key.startswith("blocks.")}),
        hidden=state["blocks.0.mlp.fc1.bias"].numel(),
    )
    (bands, steps), places = config.grid, state["pos_embed"].numel() // config.width - 1
    if places != bands * steps:
        raise ModelFormatError(
            f"{path} has positions for {places} patches, but an input of {config.input_size} in patches of "
            f"{config.patch_size} has {bands} x {steps}: is its folder named as released?"
        )
    return config


def _own(held: Any, source: str) -> dict[str, Tensor]:
    """The encoder's weights, by our keys, out of a checkpoint's content."""
    state = held.get("model", held) if isinstance(held, dict) else held
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelFormatError(f"{source} holds no table of tensors")
    prefix = next((prefix for prefix in PREFIXES if f"{prefix}cls_token" in state), "")
    strays = [key for key in state if not key.startswith(prefix) and not IGNORED.fullmatch(key)]
    if strays:
        raise ModelFormatError(f"{source} does not fit M2D: unknown {', '.join(strays[:3])} next to {prefix}*")
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    own = {key: value for key, value in own.items() if not IGNORED.fullmatch(key)}
    missing = {"cls_token", "pos_embed", "blocks.0.mlp.fc1.bias"} - own.keys()
    if missing:
        raise ModelFormatError(f"{source} does not fit M2D: missing {', '.join(sorted(missing))}")
    own["front.norm_stats"] = own.pop("norm_stats", torch.tensor(NORM_STATS))
    return own
