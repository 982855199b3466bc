"""Which encoders a cache is filled with, and how they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmmos.encoders.base import Encoder
from mmmos.encoders.device import pick_device
from mmmos.encoders.table import load_encoder

EncoderOptions = Callable[[str], Mapping[str, Any]]
"""By the name of an encoder the further arguments of `load_encoder`."""


@dataclass(frozen=True)
class EncoderSource:
    """Which encoders, where their weights may come from, and what they run on."""

    names: tuple[str, ...]  # keys of `ENCODERS`, or NAME=PATH for one whose checkpoint lies at the path
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    trust_checkpoint: bool = False  # whether a pickle of unknown origin is read
    accept_licenses: tuple[str, ...] = ()

    @property
    def paths(self) -> dict[str, str]:
        """By the name of an encoder the path of its checkpoint, "" for the published or bundled weights."""
        return {name: path for name, _, path in (word.partition("=") for word in self.names)}

    @property
    def checkpoints(self) -> dict[str, str]:
        """By name the absolute paths of the checkpoints that are given."""
        return {name: str(Path(path).resolve()) for name, path in self.paths.items() if path}


def load_encoders(source: EncoderSource, options: EncoderOptions) -> dict[str, Encoder]:
    """The encoders of a source on its device. Raises what `load_encoder` raises."""
    device = pick_device(source.device)
    access = source.trust_checkpoint, source.accept_licenses
    return {
        name: load_encoder(name, path or None, *access, **options(name)).to(device)
        for name, path in source.paths.items()
    }
