"""Limits of sample rate and level: audio beyond them is refused, as its score would be meaningless."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from mmmos.errors import AudioError, LevelError

MIN_RATE, MAX_RATE = 4_000, 768_000
"""Hz. Speech is unintelligible below, and recorders do not exist above. Other rates are from a broken header."""

MAX_PEAK = 4.0
"""Relative to full scale, +12 dB: loud masters and decoders of lossy formats stay below +6 dB."""

HOT_PEAK = 64.0
"""Samples below this peak are more likely a loud mix (at most +36 dB) than 16-bit integers (at most -54 dB)."""

OVERSHOOT = 1.5
"""Relative to the full scale of integers, which resampling may exceed."""

SCAN_SECONDS = 60
"""s of audio that are searched for the peak after a sample beyond the limit."""


def check_rate(rate: int) -> None:
    """Raise `AudioError` "bad_sample_rate" for a rate (Hz) outside the limits.

    >>> check_rate(44_100)
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        reason = f"a sample rate of {rate} Hz is not within {MIN_RATE} to {MAX_RATE} Hz"
        raise AudioError("bad_sample_rate", f"{reason}: correct it if it is wrong, else resample the audio first")


def within_scale(blocks: Iterator[NDArray[np.float32]], rate: int) -> Iterator[NDArray[np.float32]]:
    """Blocks [n, C], unchanged. Raises `LevelError` at the first block with a peak above `MAX_PEAK`."""
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
    """Largest magnitude of a block, computed without copying it."""
    return max(float(block.max(initial=0)), -float(block.min(initial=0)))


def off_scale(peak: float) -> str:
    """The message for samples with this peak: how to scale them to [-1, 1].

    >>> off_scale(11_718.75)
    'samples reach 11718.8, not 1: divide them by 32768, the full scale of 16-bit integers'
    >>> off_scale(1e20)
    'samples reach 1e+20, not 1: divide them by 1e+20, their peak'
    """
    fix = f"divide them by {peak:g}, their peak"
    if peak < HOT_PEAK:
        fix += ", or by 32768 if they were 16-bit integers"
    else:
        for bits in (16, 24, 32):
            full_scale = 2 ** (bits - 1)
            if peak <= OVERSHOOT * full_scale:
                fix = f"divide them by {full_scale}, the full scale of {bits}-bit integers"
                break
    return f"samples reach {peak:g}, not 1: {fix}"
