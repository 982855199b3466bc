"""Noises and tones, made from formulas: sound that a gate which only knows recordings takes for speech in noise."""

from __future__ import annotations

import itertools

import numpy as np

from recipes.lite.chains import Wave, band

RATE = 44_100  # Hz
SLOPES = {"white": 0.0, "pink": 0.5, "brown": 1.0}
"""Noise -> how fast its magnitude falls with frequency: 1 / f to this power."""
NAMES = tuple(
    f"{kind} {i}" for kind, i in itertools.product((*SLOPES, "band", "tone", "buzz", "beats", "clicks"), range(6))
)


def noise(name: str, rng: np.random.Generator) -> Wave:
    """1.5 to 6 s of a noise of `NAMES` at RATE; its loudness may rise and fall slowly."""
    kind = name.split()[0]
    size = int(rng.uniform(1.5, 6) * RATE)
    time = np.arange(size) / RATE
    hz = 60 * 2 ** rng.uniform(0, 6)
    if kind in SLOPES:
        bins = np.fft.rfft(rng.standard_normal(size))
        x = np.fft.irfft(bins / np.maximum(np.arange(len(bins)), 20 * size / RATE) ** SLOPES[kind], size)
    elif kind == "band":
        x = band(rng.standard_normal(size), RATE, hz, hz * 2 ** rng.uniform(0.5, 3))
    elif kind == "tone":
        x = np.sin(2 * np.pi * hz * time)
    elif kind == "buzz":
        x = (time * hz / 8) % 1 - 0.5
    elif kind == "beats":
        x = np.sin(2 * np.pi * hz * time) + np.sin(2 * np.pi * (hz + rng.uniform(1, 20)) * time)
    else:
        x = (time % rng.uniform(0.05, 0.7) < 1e-3) * rng.standard_normal(size)
    swell = 1 + rng.uniform(0, 0.8) * np.sin(2 * np.pi * rng.uniform(0.1, 1) * time)
    return np.asarray(x * swell / np.abs(x).max() * 0.3 + 1e-5 * rng.standard_normal(size))
