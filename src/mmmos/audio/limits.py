"""Sample rates and levels beyond which audio is refused: a score of it would mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from mmmos.errors import AudioError, LevelError

MIN_RATE, MAX_RATE = 4_000, 768_000
"""Hz. Below is no band that speech can be understood in; above, no recorder. A rate beyond is a broken header."""

MAX_PEAK = 4.0
"""Of full scale, +12 dB: loud masters and decoders of lossy formats stay under +6 dB."""

HOT_PEAK = 64.0
"""Under this peak samples are rather too loud a mix (+36 dB at most) than integers (-54 dB of 16 bits at most)."""

OVERSHOOT = 1.5
"""Of an integer's full scale, which resampling goes beyond."""

SCAN_SECONDS = 60
"""How much more is read for the peak once a sample is off the scale."""


def check_rate(rate: int) -> None:
    """Raise `AudioError` "bad_sample_rate" for a rate (Hz) that no audio has.

    >>> check_rate(44_100)
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        reason = f"a sample rate of {rate} Hz is not within {MIN_RATE} to {MAX_RATE} Hz"
        raise AudioError("bad_sample_rate", f"{reason}: correct it if it is wrong, else resample the audio first")


def within_scale(blocks: Iterator[NDArray[np.float32]], rate: int) -> Iterator[NDArray[np.float32]]:
    """Blocks [n, C] as they are. Raises `LevelError` at the first that is not in [-1, 1] by far."""
    for block in blocks:
        peak = peak_of(block)
        if peak > MAX_PEAK:
            left = SCAN_SECONDS * rate
            for other in chain([block], blocks):
                peak, left = max(peak, peak_of(other)), left - len(other)
                if left <= 0:
                    break
            raise LevelError(off_scale(peak))
        yield block


def peak_of(block: NDArray[np.float32]) -> float:
    """Largest magnitude of a block, without a copy of it."""
    return max(float(block.max(initial=0)), -float(block.min(initial=0)))


def off_scale(peak: float) -> str:
    """How far samples with this peak are off the scale, and what brings them onto it.

    >>> off_scale(11_718.75)
    'samples reach 11718.8, not 1: divide them by 32768, the full scale of 16-bit integers'
    >>> off_scale(1e20)
    'samples reach 1e+20, not 1: divide them by 1e+20, their peak'
    """
    remedy = f"divide them by {peak:g}, their peak"
    if peak < HOT_PEAK:
        remedy += ", or by 32768 if they were 16-bit integers"
    else:
        for bits in (16, 24, 32):
            full_scale = 2 ** (bits - 1)
            if peak <= OVERSHOOT * full_scale:
                remedy = f"divide them by {full_scale}, the full scale of {bits}-bit integers"
                break
    return f"samples reach {peak:g}, not 1: {remedy}"
