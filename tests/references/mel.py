"""Mel spectrograms of librosa's definition in float64, without the minute that librosa takes to compile itself."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import get_window


def mel_spectrogram(
    clip: NDArray[np.float64],
    *,
    rate: int,
    fft: int,
    hop: int,
    bands: int,
    window: int | None = None,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    power: float = 2.0,
) -> NDArray[np.float64]:
    """Samples [S] -> [bands, T], of frames that are centred on every `hop` samples, of which `window` count."""
    librosa = pytest.importorskip("librosa")
    window = window or fft
    taper = np.pad(get_window("hann", window), (fft - window) // 2)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(clip, fft // 2, mode="reflect"), fft)[::hop]
    magnitude = np.abs(np.fft.rfft(frames * taper)).T
    filters = librosa.filters.mel(sr=rate, n_fft=fft, n_mels=bands, fmin=low_hz, fmax=high_hz, dtype=np.float64)
    return np.asarray(filters @ magnitude**power)
