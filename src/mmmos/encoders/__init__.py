"""The frozen encoders, and the table of their names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from mmmos.encoders.base import Encoder, Features, wants
from mmmos.encoders.distillmos import DistillMOS
from mmmos.encoders.m2d import M2D
from mmmos.encoders.muq import MuQ
from mmmos.encoders.musicnn import MusiCNN
from mmmos.encoders.published import PUBLISHED, locate
from mmmos.encoders.wavlm import WavLM
from mmmos.errors import ModelNotFoundError

__all__ = ["ENCODERS", "Encoder", "Features", "load_encoder", "wants"]

ENCODERS: dict[str, type[Encoder]] = {
    "distillmos": DistillMOS,
    "musicnn": MusiCNN,
    "wavlm": WavLM,
    "muq": MuQ,
    "m2d": M2D,
}
"""Name -> class. The first two come with the package, the others are the paper's."""


def load_encoder(
    name: str,
    checkpoint: str | Path | None = None,
    trust_checkpoint: bool = False,
    accept_licenses: Collection[str] = (),
    **options: Any,
) -> Encoder:
    """An encoder by its name, in evaluation mode, with `options` of its class.

    A published one comes from `checkpoint` (a file or folder), else from the hub or its cache; then a
    pickle is read too, since its sha256 is the hub's.

    Raises `ModelNotFoundError` for a name that is not in `ENCODERS` and for weights that cannot be had,
    `LicenseError` before a download without consent, `ModelFormatError` for weights that do not fit,
    TypeError for an unknown option.
    """
    if name not in ENCODERS:
        raise ModelNotFoundError(f"no encoder is called {name!r}; there are {', '.join(ENCODERS)}")
    kind = ENCODERS[name]
    if checkpoint is not None:
        return kind.from_checkpoint(Path(checkpoint), trust_checkpoint=trust_checkpoint, **options).train(False)
    if name in PUBLISHED:
        return kind.from_checkpoint(locate(name, accept=accept_licenses), trust_checkpoint=True, **options).train(False)
    return kind(**options).train(False)
