"""Degradations: each is one, and more of it is farther from the recording."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.lite import degradations
from tests.sounds import music


def distance_from_clean(kind: str, step: int) -> float:
    """How far a degradation moves the spectra of 20 ms, in nepers."""
    x, other = music(3.0, 24_000).astype(np.float64), np.random.default_rng(1).standard_normal(72_000)
    function, steps = degradations.DEGRADATIONS[kind]
    y = function(x, degradations.Job(24_000, 12_000, np.random.default_rng(0), other, other), steps[step])
    assert np.isfinite(y).all()
    assert abs(len(y) - len(x)) < 2500  # codecs have delays
    size = min(len(x), len(y)) // 480 * 480
    before, after = (np.log(np.abs(np.fft.rfft(part[:size].reshape(-1, 480))) + 1e-3) for part in (x, y))
    return float(np.abs(before - after).mean())


@pytest.mark.slow
@pytest.mark.parametrize("kind", degradations.DEGRADATIONS)
def test_least_degradation_is_audible(kind: str):
    assert distance_from_clean(kind, 0) > 0.01


# The others change what a spectrum does not show, or draw what they do.
@pytest.mark.parametrize("kind", sorted({*degradations.DEGRADATIONS} - {"phase", "wow", "vocoded", "chain"}))
def test_more_of_it_is_farther_from_the_recording(kind: str):
    assert distance_from_clean(kind, 0) < distance_from_clean(kind, 3)
