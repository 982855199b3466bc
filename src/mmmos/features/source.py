"""The encoders that fill a cache: which ones, and how to load them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmmos.encoders.base import Encoder
from mmmos.encoders.device import pick_device
from mmmos.encoders.table import open_encoder
from mmmos.errors import UsageError
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions

EncoderOptions = Callable[[str], Mapping[str, Any]]
"""Maps the name of an encoder to its other arguments of `load_encoder`."""


@dataclass(frozen=True)
class EncoderSource:
    """Which encoders to load, from which weights, and with which options."""

    names: tuple[str, ...]  # keys of `ENCODERS`, or NAME=PATH to load the checkpoint at a path
    options: LoadOptions = DEFAULT_OPTIONS

    @property
    def paths(self) -> dict[str, str]:
        """The path of each encoder's checkpoint, by name; "" for the published or bundled weights."""
        return {name: path for name, _, path in (word.partition("=") for word in self.names)}

    @property
    def checkpoints(self) -> dict[str, str]:
        """The absolute paths of the given checkpoints, by encoder name."""
        return {name: str(Path(path).resolve()) for name, path in self.paths.items() if path}


def load_encoders(source: EncoderSource, encoder_options: EncoderOptions) -> dict[str, Encoder]:
    """Load the encoders of a source onto its device. Raises the errors of `load_encoder`.

    Raises `UsageError` for another back end than torch, and int8: no score shows what they do to features.
    """
    if source.options.running_backend != "torch":
        raise UsageError("features are extracted with torch: use float32 or bfloat16 without another back end")
    device = pick_device(source.options.device)
    return {
        name: open_encoder(name, path or None, source.options, **encoder_options(name)).to(device)
        for name, path in source.paths.items()
    }
