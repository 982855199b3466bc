"""Sustained vowels, made from formulas: speech that sounds like music to networks that know AudioSet."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Wave = NDArray[np.float64]

RATE = 24_000  # Hz
FORMANTS = {"a": (800, 1200, 2500), "e": (450, 2000, 2600), "i": (300, 2300, 3000), "o": (450, 850, 2500)}
FORMANTS |= {"u": (320, 750, 2300), "ae": (660, 1700, 2400)}
"""Vowel -> frequencies (Hz) of its lowest formants."""
HIGHEST_FORMANT = 3500  # Hz, of every vowel
PITCHES = (85, 110, 140, 170, 200, 240)  # Hz
NAMES = tuple(f"{name} {pitch}" for name, pitch in itertools.product(FORMANTS, PITCHES))


def vowel(name: str, rng: np.random.Generator) -> Wave:
    """1.5 to 6 s of a vowel of `NAMES` at RATE, as a person holds it: the pitch drifts, the voice has some breath."""
    kind, pitch = name.split()
    size = int(rng.uniform(1.5, 6) * RATE)
    steps = np.arange(0, size + RATE // 10, RATE // 10)
    drift = 1 + 0.01 * np.interp(np.arange(size), steps, rng.normal(0, 0.7, len(steps)))
    phase = np.cumsum(float(pitch) * drift / RATE)
    x = np.diff(np.floor(phase), prepend=0) + 0.02 * rng.standard_normal(size)  # pulses and breath
    x = lfilter([1], [1, -0.97], x)
    for hz in (*FORMANTS[kind], HIGHEST_FORMANT):
        radius = np.exp(-np.pi * (60 + 0.04 * hz) / RATE)
        x = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * hz / RATE), radius**2], x)
    return np.asarray(x * np.minimum(1, np.minimum(np.arange(size), size - np.arange(size)) / (0.05 * RATE)))
