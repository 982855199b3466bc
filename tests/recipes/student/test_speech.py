"""Faults of speech keep its length and leave it recognisable; wheels that are not installed are left out."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from recipes.student.speech import SUPPRESSORS, VOCODERS, Fault, by_frames, installed, resynthesized
from tests.sounds import noise, swelling_tones

RATE = 48_000
FAULTS = SUPPRESSORS | VOCODERS


@pytest.mark.slow
def test_resynthesized_is_reproducible_and_near_the_input() -> None:
    x = swelling_tones(1.0, RATE).astype(float)
    for seed in range(4):
        y, again = (resynthesized(x, RATE, np.random.default_rng(seed)) for _ in range(2))
        assert y.shape == x.shape
        assert np.array_equal(y, again)
        assert 0.1 < np.std(y) / np.std(x) < 4
        assert not np.allclose(y, x, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_fault_keeps_length(name: str) -> None:
    x = 0.1 * noise(1.0, RATE, slope=1).astype(float)
    y = FAULTS[name](x, RATE, np.random.default_rng(0))
    assert y.shape == x.shape
    assert np.isfinite(y).all()
    assert not np.allclose(y, x, atol=1e-3)


def test_by_frames_passes_samples_on_and_returns_the_result() -> None:
    x = swelling_tones(0.5, 16_000).astype(float)
    sizes = []

    def halve(out: Any, samples: Any) -> None:
        sizes.append(1)
        values = np.ctypeslib.as_array(ctypes.cast(samples, ctypes.POINTER(ctypes.c_float)), (160,))
        np.ctypeslib.as_array(ctypes.cast(out, ctypes.POINTER(ctypes.c_float)), (160,))[:] = values / 2

    y = by_frames(x, 16_000, 16_000, 100.0, 160, halve)
    assert len(sizes) == 50
    np.testing.assert_allclose(y, x * (0.25 / np.abs(x).max()), atol=1e-6)


def test_installed_leaves_out_missing_wheels() -> None:
    def fault(x: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        return x

    faults: dict[str, tuple[Fault, str]] = {"here": (fault, "numpy"), "elsewhere": (fault, "no_such_wheel")}
    assert installed(faults) == {"here": fault}
