"""The table of encoders by name, and the function that loads them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmmos.encoders.base import Encoder
from mmmos.encoders.distillmos import DistillMOS
from mmmos.encoders.dnsmos import DNSMOS
from mmmos.encoders.efficientat import EfficientAT
from mmmos.encoders.fullband import FullBand
from mmmos.encoders.m2d import M2D
from mmmos.encoders.muq import MuQ
from mmmos.encoders.musicnn import MusiCNN
from mmmos.encoders.nisqa import NISQA
from mmmos.encoders.padded import Padded
from mmmos.encoders.spectrum import Spectrum
from mmmos.encoders.student import Student
from mmmos.encoders.torch_settings import building
from mmmos.encoders.wavlm import WavLM
from mmmos.encoders.yamnet import YAMNet
from mmmos.errors import ModelNotFoundError
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions
from mmmos.hub.published import PUBLISHED, locate

ENCODERS: dict[str, type[Encoder]] = {
    # In the package
    "distillmos": DistillMOS,
    "dnsmos": DNSMOS,
    "musicnn": MusiCNN,
    "spectrum": Spectrum,
    "yamnet": YAMNet,
    "fullband": FullBand,
    "student": Student,
    # The paper's
    "wavlm": WavLM,
    "muq": MuQ,
    "m2d": M2D,
    # Other published networks
    "efficientat": EfficientAT,
    "nisqa": NISQA,
}
"""Name -> class."""


def load_encoder(
    name: str,
    checkpoint: str | Path | None = None,
    trust_checkpoint: bool = False,
    accept_licenses: Collection[str] = (),
    **settings: Any,
) -> Encoder:
    """An encoder by its name, in evaluation mode, with `settings` of its class.

    A published encoder is read from `checkpoint` (a file or folder), else from the hub or its cache. A pickle from the
    hub is trusted, since its sha256 is the one that the hub announced. All encoders have a setting `pad_silence`: the
    length in s of `Padded`, 0 for none.

    Raises `ModelNotFoundError` for a name that is not in `ENCODERS` and for weights that are not available,
    `LicenseError` before a download without consent, `ModelFormatError` for weights that do not fit,
    TypeError for an unknown setting, `UsageError` for a wrong `pad_silence`.
    """
    options = LoadOptions(trust_checkpoint=trust_checkpoint, accept_licenses=tuple(accept_licenses))
    return open_encoder(name, checkpoint, options, **settings)


def open_encoder(
    name: str,
    checkpoint: str | Path | None = None,
    options: LoadOptions = DEFAULT_OPTIONS,
    *,
    pad_silence: float = 0,
    **settings: Any,
) -> Encoder:
    """`load_encoder` with the options as one object. The encoder is on the CPU."""
    if name not in ENCODERS:
        raise ModelNotFoundError(f"no encoder is called {name!r}; there are {', '.join(ENCODERS)}")
    kind = ENCODERS[name]
    if checkpoint is None and name in PUBLISHED:
        checkpoint, options = locate(name, options), replace(options, trust_checkpoint=True)
    with building():
        if checkpoint is None:
            encoder = kind(**settings)
        else:
            encoder = kind.from_checkpoint(Path(checkpoint), options, **settings)
        return (Padded(encoder, pad_silence) if pad_silence else encoder).train(False)
