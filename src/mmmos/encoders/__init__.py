"""The frozen encoders, and the table of their names."""

from __future__ import annotations

from typing import Any

from mmmos.encoders.base import Encoder, Features
from mmmos.encoders.distillmos import DistillMOS
from mmmos.encoders.musicnn import MusiCNN
from mmmos.errors import ModelNotFoundError

__all__ = ["ENCODERS", "Encoder", "Features", "load_encoder"]

ENCODERS: dict[str, type[Encoder]] = {
    "distillmos": DistillMOS,
    "musicnn": MusiCNN,
}
"""Name -> class. Both ship with the package."""


def load_encoder(name: str, **options: Any) -> Encoder:
    """An encoder by its name, in evaluation mode, with `options` of its class.

    Raises `ModelNotFoundError` for a name that is not in `ENCODERS`, TypeError for an unknown option.
    """
    if name not in ENCODERS:
        raise ModelNotFoundError(f"no encoder is called {name!r}; there are {', '.join(ENCODERS)}")
    return ENCODERS[name](**options).train(False)
