"""The outline of a clip for its picture: peaks of the waveform, and its loudness, from the windows that are scored.

The page draws any format and any length with it, without decoding the file in the browser.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from mmmos.audio.windows import WINDOW_SECONDS, Window

POINTS_PER_WINDOW = 400
"""Peaks per full window, one for each 25 ms."""

MOST_POINTS = 2000
"""Peaks of a long clip: as many as a wide screen has pixels."""

BLOCK_SECONDS, HOP_SECONDS = 0.4, 0.1
"""Blocks of the loudness, as in ITU-R BS.1770-4."""

ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0
"""LUFS, and LU below the loudness of the blocks above the absolute gate."""


class Outline:
    """Collects the outline of a clip. Its memory is 2.4 kB per window."""

    def __init__(self) -> None:
        self._peaks: dict[float, NDArray[np.float32]] = {}  # by the start of the window, s
        self._powers: dict[float, NDArray[np.float64]] = {}

    def add(self, window: Window) -> None:
        """Take in a window while it has its samples. Windows of a clip may come in any order."""
        rate = max(window.waves)
        wave = window.waves[rate]
        size = rate * WINDOW_SECONDS // POINTS_PER_WINDOW
        padded = np.pad(np.abs(wave), (0, -len(wave) % size))
        self._peaks[window.start_time] = padded.reshape(-1, size).max(axis=1)
        self._powers[window.start_time] = block_powers(wave, rate)

    def row(self) -> dict[str, Any]:
        """JSON values: peaks in [0, 1] every `seconds`, and the loudness in LUFS, null for silence."""
        parts = [self._peaks[start] for start in sorted(self._peaks)]
        peaks = np.minimum(np.concatenate(parts), 1.0) if parts else np.zeros(0, np.float32)
        merged = -(-len(peaks) // MOST_POINTS) or 1
        peaks = np.pad(peaks, (0, -len(peaks) % merged)).reshape(-1, merged).max(axis=1)
        powers = list(self._powers.values())
        loudness = loudness_of(np.concatenate(powers)) if powers else -math.inf
        return {
            "seconds": merged * WINDOW_SECONDS / POINTS_PER_WINDOW,
            "peaks": [round(float(peak), 3) for peak in peaks],
            "loudness": round(loudness, 2) if math.isfinite(loudness) else None,
        }


def block_powers(wave: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Mean square [N] of the K-weighted samples [S] in each block of 0.4 s; one block if there are fewer samples."""
    weighted = wave.astype(np.float64)
    for numerator, denominator in k_weighting(rate):
        weighted = lfilter(numerator, denominator, weighted)
    size, hop = round(BLOCK_SECONDS * rate), round(HOP_SECONDS * rate)
    if len(weighted) <= size:
        return np.array([np.mean(weighted**2)]) if len(weighted) else np.zeros(0)
    powers: NDArray[np.float64] = np.lib.stride_tricks.sliding_window_view(weighted**2, size)[::hop].mean(axis=1)
    return powers


def loudness_of(powers: NDArray[np.float64]) -> float:
    """Integrated loudness in LUFS of one channel's block powers [N], gated as in ITU-R BS.1770-4; -inf for silence."""
    with np.errstate(divide="ignore"):
        levels = -0.691 + 10 * np.log10(powers)
    loud = levels > ABSOLUTE_GATE
    if not loud.any():
        return -math.inf
    loud &= levels > -0.691 + 10 * np.log10(powers[loud].mean()) + RELATIVE_GATE
    return float(-0.691 + 10 * np.log10(powers[loud].mean()))


@lru_cache(maxsize=8)
def k_weighting(rate: int) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], ...]:
    """The two filters of ITU-R BS.1770-4 at any rate (Hz), as numerator and denominator [3].

    A high shelf for the head, then a high pass; analogue prototypes of the standard's filters at 48 kHz.
    """
    shelf_hz, shelf_q, gain = 1681.974450955533, 0.7071752369554196, 3.999843853973347
    k, high = math.tan(math.pi * shelf_hz / rate), 10 ** (gain / 20)
    middle = high**0.4996667741545416
    shelf = (
        np.array([high + middle * k / shelf_q + k * k, 2 * (k * k - high), high - middle * k / shelf_q + k * k]),
        np.array([1 + k / shelf_q + k * k, 2 * (k * k - 1), 1 - k / shelf_q + k * k]),
    )
    pass_hz, pass_q = 38.13547087602444, 0.5003270373238773
    k = math.tan(math.pi * pass_hz / rate)
    lower = np.array([1 + k / pass_q + k * k, 2 * (k * k - 1), 1 - k / pass_q + k * k])
    return (shelf[0] / shelf[1][0], shelf[1] / shelf[1][0]), (np.array([1.0, -2.0, 1.0]), lower / lower[0])
