"""Spectrograms in float64, of librosa's definition, without the minute that librosa takes to compile itself."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import get_window

Array = NDArray[np.float64]


def spectrogram(clip: Array, fft: int, hop: int, window: int | None = None) -> Array:
    """Samples [S] -> magnitudes [bins, T] of frames centred on every `hop` samples, of which `window` count."""
    window = window or fft
    taper = np.pad(get_window("hann", window), (fft - window) // 2)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(clip, fft // 2, mode="reflect"), fft)[::hop]
    return np.abs(np.fft.rfft(frames * taper)).T


def mel_spectrogram(
    clip: Array,
    *,
    rate: int,
    fft: int,
    hop: int,
    bands: int,
    window: int | None = None,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    power: float = 2.0,
) -> Array:
    """Samples [S] -> sums [bands, T] of powers of the magnitudes, weighted by librosa's triangles."""
    librosa = pytest.importorskip("librosa")
    filters = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=bands, fmin=low_hz, fmax=high_hz, dtype=np.float64)
    return np.asarray(filters @ spectrogram(clip, fft, hop, window) ** power)
