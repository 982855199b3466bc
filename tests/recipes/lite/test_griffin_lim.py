"""Waveforms from magnitudes: exact with their own phases, and ever nearer to their magnitudes without them."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.lite.griffin_lim import reconstruct, transform
from tests.sounds import music

RATE = 16_000


@pytest.mark.parametrize("size", [640, 882])
def test_own_phases_give_the_samples_after_any_number_of_rounds(size: int) -> None:
    x = music(0.5, RATE).astype(np.float64)
    bins = transform(x, size)
    for rounds in (0, 3):
        again = reconstruct(np.abs(bins), np.angle(bins), size, rounds)
        np.testing.assert_allclose(again[: len(x)], x, atol=1e-9)


def test_rounds_bring_the_magnitudes_nearer() -> None:
    x = music(0.5, RATE).astype(np.float64)
    magnitude = np.abs(transform(x, 640))
    phase = np.random.default_rng(0).uniform(-np.pi, np.pi, magnitude.shape)
    found = [transform(reconstruct(magnitude, phase, 640, rounds), 640) for rounds in (0, 4, 16)]
    errors = [np.linalg.norm(np.abs(bins[:, : magnitude.shape[1]]) - magnitude) for bins in found]
    assert errors[0] > errors[1] > errors[2]
