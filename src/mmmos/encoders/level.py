"""Brings clips to one level, so that a gain changes no feature."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from mmmos.errors import UsageError

QUIETEST = 1e-5  # RMS of full scale that is raised to the level; a quieter clip stays below it


def at_level(waves: Tensor, level_db: float) -> Tensor:
    """Waveforms [B, S], each at this RMS level (dB of full scale)."""
    rms = waves.square().mean(dim=1, keepdim=True).clamp(min=QUIETEST**2).sqrt()
    return waves * (10 ** (level_db / 20) / rms)


def checked_level(level_db: Any) -> float | None:
    """The option `level_db` of an encoder: a level in dB, or None to keep clips as they are. Raises `UsageError`."""
    if level_db is not None and not math.isfinite(level_db):
        raise UsageError(f"level_db is a level in dB or None, not {level_db!r}")
    return None if level_db is None else float(level_db)
