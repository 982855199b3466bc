"""Triangular filters that turn a power spectrum into mel bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def mel_filters(
    sample_rate: int,
    fft: int,
    mels: int,
    low_hz: float = 0.0,
    high_hz: float | None = None,
    *,
    htk: bool = False,
    unit_area: bool = True,
    linear_in_mel: bool = False,
) -> NDArray[np.float64]:
    """Triangles between `low_hz` and `high_hz` (Nyquist by default): [mels, fft // 2 + 1].

    Their edges are evenly spaced in mel. Slaney's scale is linear (15 mels per kHz) up to 1 kHz and logarithmic (27
    mels per factor 6.4) above; HTK's is 2595 log10(1 + f / 700 Hz). Each triangle has unit area in Hz, or height 1. Its
    sides are straight lines over Hz, or over mel as in TensorFlow.

    >>> mel_filters(16_000, 512, 96).shape
    (96, 257)
    """
    top_hz = sample_rate / 2 if high_hz is None else high_hz
    in_mel = np.linspace(_mel(low_hz, htk), _mel(top_hz, htk), mels + 2)
    in_hz = _hz(in_mel, htk)
    bins: NDArray[np.float64] = np.arange(fft // 2 + 1) * sample_rate / fft
    edges = in_hz
    if linear_in_mel:
        edges, bins = in_mel, np.array([_mel(float(hz), htk) for hz in bins])
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters: NDArray[np.float64] = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    filters = filters.clip(min=0)
    return filters * 2 / (in_hz[2:, None] - in_hz[:-2, None]) if unit_area else filters


def _mel(hz: float, htk: bool) -> float:
    if htk:
        return float(2595 * np.log10(1 + hz / 700))
    return float(15 * hz / 1000 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4))


def _hz(mel: NDArray[np.float64], htk: bool) -> NDArray[np.float64]:
    if htk:
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, mel / 15, 6.4 ** ((mel - 15) / 27)) * 1000
