"""Gradient ascent raises the score of a dull clip, and stays near its start where that is asked for."""

from __future__ import annotations

import pytest
import torch

from mmmos.inference.predictor import Predictor
from recipes.reward.curve import draw, read
from recipes.reward.equaliser import BANDS, DULL, Equaliser, FreeSignal, ascend, spectral_distance
from tests.sounds import RATE, SAMPLES, sine
from tests.toys import CPU, ToyEncoder, toy_member, toy_model


def test_equaliser_multiplies_each_band_by_its_gain() -> None:
    gains = tuple(float(3 * i - 12) for i in range(len(BANDS)))
    for hz, gain in zip(BANDS[1:-1], gains[1:-1], strict=True):
        wave = torch.from_numpy(sine(hz, 1.0, 44_100)).float()
        middle = slice(11_025, 33_075)
        factor = Equaliser(gains)(wave, 44_100)[middle].norm() / wave[middle].norm()
        assert 20 * torch.log10(factor).item() == pytest.approx(gain, abs=0.1)


def test_equaliser_without_gains_changes_nothing() -> None:
    wave = torch.randn(5_000)
    torch.testing.assert_close(Equaliser()(wave, 16_000), wave, atol=1e-5, rtol=0)
    assert Equaliser().distance() == FreeSignal(10).distance() == 0


def test_spectral_distance_of_a_gain_is_that_gain() -> None:
    wave = torch.randn(20_000)
    assert spectral_distance(wave / 2, wave) == pytest.approx(6.02, abs=0.01)
    assert spectral_distance(wave, wave) == 0


@pytest.mark.slow
def test_ascent_raises_quality_of_dull_speech_towards_original(scorer: Predictor) -> None:
    original, rate = read(SAMPLES / "speech_clean.flac")
    start = Equaliser(DULL)(original, rate).detach()
    steps = list(ascend(scorer, Equaliser(), start, original, rate, steps=3, lr=1.0, distance_weight=0.01))
    assert steps[-1].reward > steps[0].reward + 0.2
    assert steps[-1].held_out > steps[0].held_out + 0.1
    assert steps[-1].original_distance < steps[0].original_distance
    assert steps[-1].start_distance <= 3.5
    run = [vars(step) | {"other": 3.0} for step in steps]
    assert len(draw({"original": 6.0, "other_original": 3.5, "runs": {"a": run, "b": run}}).axes) == 6


@pytest.mark.slow
def test_distance_weight_keeps_ascent_near_its_start(toy_encoder: ToyEncoder) -> None:
    toys = Predictor(toy_model(toy_member(0), toy_member(1)), CPU)
    wave = torch.from_numpy(sine(440, 0.3)).float()

    def last_distance(weight: float) -> float:
        steps = ascend(toys, Equaliser(), wave, wave, RATE, steps=3, lr=1.0, distance_weight=weight)
        return list(steps)[-1].start_distance

    assert last_distance(100.0) < 0.5 * last_distance(0.0)
