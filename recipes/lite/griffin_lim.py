"""Waveforms from magnitudes, with phases that neighbouring frames agree on.

Griffin and Lim 1984, Signal estimation from modified short-time Fourier transform.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import istft, stft

Array = NDArray[np.float64]


def transform(x: Array, size: int) -> NDArray[np.complex128]:
    """Samples [S] -> bins [size // 2 + 1, T] of frames of `size` samples, which overlap by three quarters."""
    return np.asarray(stft(x, nperseg=size, noverlap=3 * size // 4)[2])


def reconstruct(magnitude: Array, phase: Array, size: int, rounds: int) -> Array:
    """Magnitudes and first phases (radians), [size // 2 + 1, T] each -> samples; may be longer than the original."""
    bins = magnitude * np.exp(1j * phase)
    for _ in range(rounds):
        again = transform(_inverse(bins, size), size)[:, : bins.shape[1]]
        again = np.pad(again, ((0, 0), (0, bins.shape[1] - again.shape[1])))
        bins = magnitude * np.exp(1j * np.angle(again))
    return _inverse(bins, size)


def _inverse(bins: NDArray[np.complex128], size: int) -> Array:
    return np.asarray(istft(bins, nperseg=size, noverlap=3 * size // 4)[1])
