"""Resampling with gradients: what soxr gives where it can be compared, and a linear map everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soxr
import torch

from mmmos.encoders.resample import resample
from tests.sounds import faded_tones

RATES = [(24_000, 16_000), (16_000, 24_000), (44_100, 16_000), (48_000, 24_000)]


@pytest.mark.parametrize(("old", "new"), RATES)
def test_it_gives_what_soxr_gives(old: int, new: int) -> None:
    wave = faded_tones(old)
    ours = resample(torch.from_numpy(wave)[None], old, new)[0].numpy()
    theirs = soxr.resample(wave, old, new, quality="HQ")
    n = min(len(ours), len(theirs))
    assert abs(len(ours) - len(theirs)) <= 1
    assert np.abs(ours[:n] - theirs[:n]).max() < 3e-4 * np.abs(wave).max()


@pytest.mark.parametrize(("old", "new"), RATES)
def test_what_the_new_rate_cannot_hold_is_filtered_out(old: int, new: int) -> None:
    if new > old:
        pytest.skip("a higher rate holds everything")
    t = torch.arange(old, dtype=torch.float64) / old
    wave = torch.sin(2 * math.pi * 0.55 * new * t) * torch.hann_window(old, dtype=torch.float64)
    assert resample(wave[None], old, new).abs().max() < 1e-5


@pytest.mark.parametrize("samples", [1, 2, 3, 100, 101])
def test_lengths_are_rounded_up_and_a_batch_is_its_rows(samples: int) -> None:
    waves = torch.randn(3, samples, dtype=torch.float64)
    out = resample(waves, 24_000, 16_000)
    assert out.shape == (3, math.ceil(samples * 2 / 3))
    torch.testing.assert_close(out[1:2], resample(waves[1:2], 24_000, 16_000))


def test_the_same_rate_changes_nothing() -> None:
    waves = torch.randn(2, 50)
    assert resample(waves, 16_000, 16_000) is waves


def test_gradients_pass() -> None:
    waves = torch.randn(1, 40, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resample(x, 24_000, 16_000), waves)
