"""The encoders that fill a cache: which ones, and how to load them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmmos.encoders.base import Encoder
from mmmos.encoders.device import pick_device
from mmmos.encoders.table import load_encoder

EncoderOptions = Callable[[str], Mapping[str, Any]]
"""Maps the name of an encoder to its other arguments of `load_encoder`."""


@dataclass(frozen=True)
class EncoderSource:
    """Which encoders to load, from which weights, and on which device."""

    names: tuple[str, ...]  # keys of `ENCODERS`, or NAME=PATH to load the checkpoint at a path
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    trust_checkpoint: bool = False  # whether to read pickles of unknown origin
    accept_licenses: tuple[str, ...] = ()

    @property
    def paths(self) -> dict[str, str]:
        """The path of each encoder's checkpoint, by name; "" for the published or bundled weights."""
        return {name: path for name, _, path in (word.partition("=") for word in self.names)}

    @property
    def checkpoints(self) -> dict[str, str]:
        """The absolute paths of the given checkpoints, by encoder name."""
        return {name: str(Path(path).resolve()) for name, path in self.paths.items() if path}


def load_encoders(source: EncoderSource, options: EncoderOptions) -> dict[str, Encoder]:
    """Load the encoders of a source onto its device. Raises the errors of `load_encoder`."""
    device = pick_device(source.device)
    access = source.trust_checkpoint, source.accept_licenses
    return {
        name: load_encoder(name, path or None, *access, **options(name)).to(device)
        for name, path in source.paths.items()
    }
