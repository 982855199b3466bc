"""From waveform to score with gradients: the same numbers, and a slope that leads uphill."""

from __future__ import annotations

import pytest
import torch

from conftest import ToyEncoder, music, toy_config, toy_member, toy_model
from mmmos.encoders import ENCODERS
from mmmos.errors import AudioError
from mmmos.fusion import FusionConfig
from mmmos.heads import HeadConfig
from mmmos.model import EncoderSpec, ModelConfig
from mmmos.predictor import Predictor
from mmmos.scores import AXES

DROPOUT = toy_config(heads=HeadConfig(dropout=0.5), fusion=FusionConfig("mean_std", "none", standardize=True))
PQ = AXES.index("PQ")


@pytest.fixture
def toys(toy_encoder: ToyEncoder) -> Predictor:
    return Predictor(toy_model(toy_member(0, DROPOUT), toy_member(1, DROPOUT)), device="cpu")


def test_module_gives_the_scores_of_one_window(scorer: Predictor) -> None:
    wave = music(1.5, rate=scorer.module.sample_rate)
    scores = scorer.score(wave, sample_rate=scorer.module.sample_rate)
    with torch.no_grad():
        values = scorer.module(torch.from_numpy(wave)[None])
    assert values.shape == (1, 4)
    assert values[0].tolist() == pytest.approx([scores[axis] for axis in AXES], abs=0.02)  # another resampler


def test_lengths_and_neighbours_change_nothing(toys: Predictor) -> None:
    waves = torch.stack([torch.from_numpy(music(1.0, seed=seed)) for seed in range(3)])
    lengths = torch.tensor([16_000, 5_000, 9_999])
    together = toys.module(waves, lengths)
    for wave, length, row in zip(waves, lengths, together, strict=True):
        scores = toys.score(wave[:length], sample_rate=16_000)
        assert row.tolist() == pytest.approx([scores[axis] for axis in AXES], abs=1e-4)


def test_gradient_is_finite_and_reaches_what_is_heard_alone(toys: Predictor) -> None:
    waves = torch.from_numpy(music(0.5)).repeat(2, 1).requires_grad_()
    toys.module(waves, torch.tensor([8_000, 4_000])).sum().backward()
    assert waves.grad.isfinite().all()
    assert waves.grad[0].count_nonzero() > 7_900
    assert not waves.grad[1, 4_000:].any()


def test_a_few_steps_uphill_raise_production_quality(scorer: Predictor) -> None:
    wave = torch.from_numpy(music(0.5) + 0.05 * torch.randn(8_000).numpy())[None].requires_grad_()
    scores = []
    for _ in range(4):
        score = scorer.module(wave)[0, PQ]
        scores.append(score.item())
        (slope,) = torch.autograd.grad(score, wave)
        assert slope.isfinite().all()
        wave = (wave + 0.02 * slope / slope.norm()).detach().requires_grad_()
    assert scores == sorted(scores)
    assert scores[-1] > scores[0] + 0.01


@pytest.mark.parametrize("level", [0.0, 1e-5])
def test_silence_has_a_finite_gradient(scorer: Predictor, level: float) -> None:
    wave = torch.full((1, 8_000), level, requires_grad=True)
    scorer.module(wave).sum().backward()
    assert wave.grad.isfinite().all()


def test_stays_frozen_as_part_of_a_model_that_is_trained(toys: Predictor) -> None:
    wave = torch.from_numpy(music(0.5))[None]
    before = toys.module(wave)
    toys.module.train().requires_grad_(True)
    assert torch.equal(toys.module(wave), before)
    assert torch.equal(toys.module.train()(wave), before)
    assert not any(parameter.requires_grad for parameter in toys.module.parameters())
    scores = toys.score(wave[0], sample_rate=16_000)
    assert [scores[axis] for axis in AXES] == pytest.approx(before[0].tolist(), abs=1e-4)


def test_training_a_generator_that_holds_it_turns_no_dropout_on(toys: Predictor) -> None:
    wave = torch.from_numpy(music(0.5))[None]
    before = toys.module(wave)
    torch.nn.ModuleList([toys.module]).train()
    assert torch.equal(toys.module(wave), before)


def test_ensemble_weights_are_heeded(toy_encoder: ToyEncoder) -> None:
    members = toy_member(0), toy_member(1)
    wave = torch.from_numpy(music(0.5))[None]
    weights = torch.tensor([[1.0, 0.0, 0.5, 0.25], [0.0, 1.0, 0.5, 0.75]])
    both = Predictor(toy_model(*members, weights=weights.double().numpy()), device="cpu").module(wave)
    alone = torch.stack([Predictor(toy_model(member), device="cpu").module(wave) for member in members])
    torch.testing.assert_close(both, (alone * weights[:, None]).sum(dim=0))


def test_too_short_waves_are_refused(toys: Predictor) -> None:
    with pytest.raises(AudioError, match="clip 1 has 100 samples; at 8000 Hz at least 800 are needed") as caught:
        toys.module(torch.zeros(2, 900), [900, 100], sample_rate=8_000)
    assert caught.value.code == "too_short"


def test_one_waveform_serves_encoders_of_two_rates(toy_encoder: ToyEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowToy(ToyEncoder):
        name = "slow"
        sample_rate = 8_000

    monkeypatch.setitem(ENCODERS, "slow", SlowToy)
    specs = (EncoderSpec(kind.name, kind.columns, kind().fingerprint()) for kind in (ToyEncoder, SlowToy))
    predictor = Predictor(toy_model(toy_member(0, ModelConfig(tuple(specs)))), device="cpu")
    assert predictor.module.sample_rate == 16_000
    waves = torch.from_numpy(music(1.0)).repeat(2, 1).requires_grad_()
    loud_tail = waves.clone()
    loud_tail[1, 8_000:] = 0.5
    values = predictor.module(loud_tail, torch.tensor([16_000, 8_000]))
    for row, wave in zip(values, (waves[0], waves[1, :8_000]), strict=True):
        scores = predictor.score(wave.detach(), sample_rate=16_000)
        assert row.tolist() == pytest.approx([scores[axis] for axis in AXES], abs=0.02)  # another resampler
    values.sum().backward()
    assert waves.grad.isfinite().all()
    assert waves.grad[1, 8_000:].count_nonzero() == 0
