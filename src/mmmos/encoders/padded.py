"""Padding that counts as audio: short clips are padded with silence to one length, as in the published MMMOS system."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from mmmos.encoders.base import Encoder
from mmmos.errors import UsageError


class Padded(Encoder):
    """An encoder that pads each clip with zeros to `seconds`; the frames of the padding count as valid.

    A clip of that length or more is left as it is. Raises `UsageError` for a length that is not above 0 s.
    """

    def __init__(self, encoder: Encoder, seconds: float) -> None:
        super().__init__()
        if not 0 < seconds < math.inf:
            raise UsageError(f"clips are padded with silence to a length above 0 s, not to {seconds!r} s")
        self.encoder = encoder
        self.seconds = float(seconds)
        self.name, self.sample_rate, self.rate_hz = encoder.name, encoder.sample_rate, encoder.rate_hz
        self.dim, self.block_dims, self.min_samples = encoder.dim, encoder.block_dims, encoder.min_samples
        self.train()

    def fingerprint_key(self, key: str) -> str:
        """The encoder's key, after "encoder."."""
        return f"encoder.{self.encoder.fingerprint_key(key.removeprefix('encoder.'))}"

    def settings(self) -> dict[str, Any]:
        """The encoder's settings, and `pad_silence` (s)."""
        return self.encoder.settings() | {"pad_silence": self.seconds}

    def frames(self, waves: Tensor) -> Tensor:
        """[B, S] -> [B, T, D], with T for at least `seconds`."""
        missing = round(self.seconds * self.sample_rate) - waves.shape[1]
        return self.encoder.frames(F.pad(waves, (0, max(0, missing))))
