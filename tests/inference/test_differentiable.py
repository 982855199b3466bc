"""From waveform to score with gradients: the same numbers, and a slope that leads uphill."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.table import ENCODERS
from mmmos.errors import AudioError, SampleRateError
from mmmos.inference.differentiable import bound
from mmmos.inference.predictor import Predictor
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig
from mmmos.model.info import ModelInfo
from mmmos.model.quality import ModelConfig
from mmmos.scores import AXES
from tests.sounds import RATE, music, noise
from tests.toys import CPU, SlowToy, ToyEncoder, toy_config, toy_member, toy_model

DROPOUT = toy_config(heads=HeadConfig(dropout=0.5), fusion=FusionConfig("mean_std", "none", standardize=True))
PQ = AXES.index("PQ")


@pytest.fixture
def toys(toy_encoder: ToyEncoder) -> Predictor:
    return Predictor(toy_model(toy_member(0, DROPOUT), toy_member(1, DROPOUT)), CPU)


@pytest.mark.slow
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


def test_gradient_is_finite_and_reaches_only_the_audio(toys: Predictor) -> None:
    waves = torch.from_numpy(music(0.5)).repeat(2, 1).requires_grad_()
    toys.module(waves, torch.tensor([8_000, 4_000])).sum().backward()
    assert waves.grad.isfinite().all()
    assert waves.grad[0].count_nonzero() > 7_900
    assert not waves.grad[1, 4_000:].any()


@pytest.mark.slow
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


def ascend(scorer: Predictor, wave: torch.Tensor, steps: int, bounded: bool) -> Iterator[float]:
    """Production quality before each of `steps` steps uphill of a fixed length."""
    for _ in range(steps):
        wave = wave.detach().requires_grad_()
        score = scorer.module(wave, bounded=bounded)[0, PQ]
        (slope,) = torch.autograd.grad(score, wave)
        wave = (wave + slope / slope.norm()).clamp(-1, 1)
        yield score.item()


@pytest.mark.slow
def test_bounded_ascent_stays_within_the_scale(scorer: Predictor) -> None:
    wave = torch.from_numpy(music(0.5))[None]
    assert any(score > 10 for score in ascend(scorer, wave, 60, bounded=False))
    bounded = list(ascend(scorer, wave, 12, bounded=True))
    assert max(bounded) <= 10
    assert bounded[-1] > bounded[0] + 0.5


@pytest.mark.parametrize("label_range", [(0.0, 10.0), (1.0, 5.0), (-3.0, 3.0), (0.0, 100.0)])
def test_bound_is_monotone_and_linear_in_the_middle(label_range: tuple[float, float]) -> None:
    low, high = label_range
    length = high - low
    raw = torch.linspace(low - length, high + length, 3001, dtype=torch.float64, requires_grad=True)
    bounded = bound(raw, label_range)
    (slope,) = torch.autograd.grad(bounded.sum(), raw)
    inside = (raw > low - 0.2 * length) & (raw < high + 0.2 * length)
    assert ((bounded >= low) & (bounded <= high)).all()
    assert (bounded.diff() >= 0).all()
    assert (slope[inside] > 0).all()
    middle = (raw > low + 0.09 * length) & (raw < high - 0.09 * length)
    assert (bounded - raw)[middle].abs().max() < 3e-4 * length  # .003 of 10
    assert (bounded + bounded.flip(0)).allclose(torch.tensor(low + high, dtype=torch.float64))
    differences = (bounded[2:] - bounded[:-2]) / (raw[2:] - raw[:-2])
    torch.testing.assert_close(slope[1:-1], differences, atol=2e-4, rtol=0)


@pytest.mark.parametrize("far", [-1e30, 1e30])
def test_bound_of_huge_scores_is_the_end_of_the_scale(far: float) -> None:
    raw = torch.tensor([far], requires_grad=True)
    bounded = bound(raw, (0.0, 10.0))
    bounded.sum().backward()
    assert (bounded.item(), raw.grad.item()) == (10.0 if far > 0 else 0.0, 0.0)


def test_bounded_scores_equal_score_on_the_models_scale(toy_encoder: ToyEncoder) -> None:
    model = replace(toy_model(toy_member(0)), info=ModelInfo(label_range=(1.0, 5.0)))
    predictor = Predictor(model, CPU)
    wave = torch.from_numpy(music(0.5))[None]
    raw, bounded = predictor.module(wave, bounded=False), predictor.module(wave)
    assert (raw > 5).any()
    torch.testing.assert_close(bounded, bound(raw, (1.0, 5.0)))
    scores = predictor.score(wave[0], sample_rate=16_000)
    assert "out_of_range" in scores.warnings
    assert [scores[axis] for axis in AXES] == pytest.approx(raw[0].clamp(1, 5).tolist(), abs=1e-5)


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("level", [0.0, 1e-30, 9e-5])
def test_silence_has_the_lowest_score_and_no_gradient(scorer: Predictor, level: float, bounded: bool) -> None:
    wave = torch.full((2, 8_000), level, requires_grad=True)
    scores = scorer.module(wave, bounded=bounded)
    scores.sum().backward()
    assert scores.tolist() == [[0.0] * 4] * 2
    assert not wave.grad.any()


def test_silence_of_another_scale_is_its_lowest(toy_encoder: ToyEncoder) -> None:
    model = replace(toy_model(toy_member(0)), info=ModelInfo(label_range=(1.0, 5.0)))
    assert Predictor(model, CPU).module(torch.zeros(1, 8_000)).tolist() == [[1.0] * 4]


@pytest.mark.slow
def test_silence_in_a_batch_leaves_the_others_as_they_are(scorer: Predictor) -> None:
    wave = torch.from_numpy(music(0.5))
    waves = torch.stack([torch.zeros(8_000), wave, torch.zeros(8_000)]).requires_grad_()
    alone = wave[None].clone().requires_grad_()
    scores, own = scorer.module(waves), scorer.module(alone)
    scores.sum().backward()
    own.sum().backward()
    torch.testing.assert_close(scores[1:2], own)
    torch.testing.assert_close(waves.grad[1:2], alone.grad)
    assert not waves.grad[::2].any()


@pytest.mark.slow
def test_a_pause_has_a_gradient_of_the_order_of_the_sound(scorer: Predictor) -> None:
    wave = torch.from_numpy(music(1.0))
    wave[8_000:] = 0
    wave.requires_grad_()
    scorer.module(wave).sum().backward()
    assert wave.grad.abs().max() < 1e4


def test_an_axis_without_ratings_is_nan_and_has_no_gradient(toy_encoder: ToyEncoder) -> None:
    model = replace(toy_model(toy_member(0)), info=ModelInfo(rated=("PQ",)))
    wave = torch.from_numpy(music(0.5))[None].requires_grad_()
    scores = Predictor(model, CPU).module(wave)
    assert scores.isnan().tolist() == [[axis != "PQ" for axis in AXES]]
    (slope,) = torch.autograd.grad(scores[:, :PQ].sum(), wave, retain_graph=True)
    assert not slope.any()
    (slope,) = torch.autograd.grad(scores[:, PQ].sum(), wave)
    assert slope.isfinite().all()
    assert slope.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(8_000,), (1, 8_000), (1, 1, 8_000)])
def test_layouts_and_types(toys: Predictor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    wave = torch.from_numpy(music(0.5)).to(dtype).view(shape).requires_grad_()
    scores = toys.module(wave)
    scores.sum().backward()
    assert (scores.shape, scores.dtype) == ((1, 4), torch.float32)
    assert torch.equal(scores, toys.module(wave.detach().float().reshape(1, -1)))
    assert (wave.grad.shape, wave.grad.dtype) == (shape, dtype)
    assert wave.grad.any()


@pytest.mark.parametrize(
    ("waves", "error", "message"),
    [
        (torch.zeros(2, 2, 8_000), ValueError, "downmix"),
        (torch.zeros(()), ValueError, "waves are"),
        (torch.zeros(1, 8_000, dtype=torch.int16), TypeError, "int16"),
        (torch.zeros(1, 8_000, dtype=torch.complex64), TypeError, "complex64"),
        (np.zeros((1, 8_000), np.float32), TypeError, "ndarray"),
    ],
)
def test_other_waves_are_refused(toys: Predictor, waves: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        toys.module(waves)


@pytest.mark.parametrize(
    "lengths",
    [[8_000, 5_000], (8_000, 5_000), np.array([8_000, 5_000]), torch.tensor([8_000, 5_000], dtype=torch.int32)],
)
def test_lengths_are_any_whole_numbers(toys: Predictor, lengths: Sequence[int]) -> None:
    waves = torch.from_numpy(music(0.5)).repeat(2, 1)
    assert torch.equal(toys.module(waves, lengths), toys.module(waves, torch.tensor([8_000, 5_000])))


@pytest.mark.parametrize("lengths", [[1.0, 0.5], torch.tensor([1.0, 0.5]), 8_000, ["8000", "8000"]])
def test_lengths_that_are_no_whole_numbers_are_refused(toys: Predictor, lengths: object) -> None:
    with pytest.raises(TypeError, match="lengths are 2 whole numbers"):
        toys.module(torch.zeros(2, 8_000), lengths)


@pytest.mark.parametrize("lengths", [[8_000], [8_000] * 3, [8_000, 8_001], [8_000, -1]])
def test_lengths_that_do_not_fit_are_refused(toys: Predictor, lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="lengths are 2 numbers of samples from 0 to 8000"):
        toys.module(torch.zeros(2, 8_000), lengths)


@pytest.mark.slow
def test_batch_of_unequal_lengths_is_its_clips_one_by_one(scorer: Predictor) -> None:
    lengths = [24_000, 2_400, 23_999, 12_345, 24_000]
    waves = torch.stack([torch.from_numpy(music(1.0, 24_000, seed)) for seed in range(5)]).requires_grad_()
    together = scorer.module(waves, lengths, sample_rate=24_000)
    together.sum().backward()
    for wave, length, scores, slope in zip(waves.detach(), lengths, together, waves.grad, strict=True):
        alone = wave[:length].clone().requires_grad_()
        own = scorer.module(alone, sample_rate=24_000)
        own.sum().backward()
        torch.testing.assert_close(scores[None], own, atol=1e-4, rtol=0)
        # The slope of the compressed spectrum is steep where there is little sound: rounding shows in it.
        torch.testing.assert_close(slope[:length], alone.grad, atol=2e-3 * alone.grad.abs().max().item(), rtol=0)
        assert not slope[length:].any()


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000])
def test_any_sample_rate_gives_the_scores_of_score(scorer: Predictor, rate: int) -> None:
    wave = torch.from_numpy(music(1.0, rate)).requires_grad_()
    scores = scorer.score(wave, sample_rate=rate)
    reward = scorer.module(wave, sample_rate=rate)
    assert reward[0].tolist() == pytest.approx([scores[axis] for axis in AXES], abs=0.03)  # another resampler
    reward.sum().backward()
    assert wave.grad.isfinite().all()
    assert wave.grad.any()


@pytest.mark.parametrize("rate", [0, -1, 16_000.5, "16000", 100, 3_999, 768_001])
def test_wrong_sample_rates_are_refused(toys: Predictor, rate: object) -> None:
    with pytest.raises(SampleRateError, match="Hz"):
        toys.module(torch.zeros(1, 8_000), sample_rate=rate)


@pytest.mark.parametrize("rate", [16_000, 44_100, 11_025, 7_999])
def test_as_many_samples_as_the_error_says_are_enough(toys: Predictor, rate: int) -> None:
    with pytest.raises(AudioError, match="at least") as caught:
        toys.module(torch.ones(1, 1), sample_rate=rate)
    needed = int(re.search(r"at least (\d+)", str(caught.value))[1])
    assert toys.module(torch.ones(1, needed), sample_rate=rate).isfinite().all()
    with pytest.raises(AudioError):
        toys.module(torch.ones(1, needed - 1), sample_rate=rate)


def test_noise_of_variance_one_is_scored(scorer: Predictor) -> None:
    assert scorer.module(4.2 * torch.randn(1, 24_000).clamp(-1, 1)).isfinite().all()
    with pytest.raises(ValueError, match=r"clip 0: samples reach \d+.*divide them by 32768, the full scale of 16-bit"):
        scorer.module(torch.from_numpy(music(0.5))[None] * 32_768)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e20, -8.5])
def test_samples_off_the_scale_are_refused_by_clip(toys: Predictor, value: float) -> None:
    waves = torch.from_numpy(music(0.5)).repeat(2, 1)
    waves[1, 5_000] = value
    with pytest.raises(AudioError, match="clip 1") as caught:
        toys.module(waves)
    finite = np.isfinite(value)
    assert caught.value.code == ("not_normalized" if finite else "non_finite_audio")
    assert isinstance(caught.value, ValueError) == finite
    assert toys.module(waves, [8_000, 5_000]).isfinite().all()  # behind the clip's end


def test_slopes_are_those_of_finite_differences(toys: Predictor) -> None:
    wave = torch.from_numpy(music(0.2, 8_000))
    leaf = wave.clone().requires_grad_()
    toys.module(leaf, sample_rate=8_000)[0, PQ].backward()
    for seed in range(5):
        direction = torch.randn(len(wave), generator=torch.Generator().manual_seed(seed))
        step = 1e-3 * direction / direction.norm()
        up, down = (toys.module(wave + sign * step, sample_rate=8_000)[0, PQ] for sign in (1, -1))
        assert ((up - down) / 2).item() == pytest.approx((leaf.grad @ step).item(), rel=0.05, abs=2e-5)


def test_empty_batch_has_no_scores(toys: Predictor) -> None:
    assert toys.module(torch.zeros(0, 8_000)).shape == (0, 4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
def test_compiled_module_runs_as_it_is(toys: Predictor) -> None:
    wave = torch.from_numpy(music(0.5))[None].requires_grad_()
    begin = time.monotonic()
    compiled = torch.compile(toys.module)(wave)
    compiled.sum().backward()
    assert time.monotonic() - begin < 30
    assert torch.equal(compiled, toys.module(wave))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_model_may_hold_the_module(toys: Predictor) -> None:
    class Agent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(0.5))
            self.reward = toys.module

        def forward(self, waves: torch.Tensor) -> torch.Tensor:
            return self.reward(torch.tanh(waves * self.gain)).mean()

    agent, wave = Agent(), torch.from_numpy(music(0.5))[None]
    compiled = torch.compile(agent, backend="aot_eager")(wave)
    torch.testing.assert_close(compiled, agent(wave))
    (slope,) = torch.autograd.grad(compiled, agent.gain)
    assert slope.isfinite()


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
    both = Predictor(toy_model(*members, weights=weights.double().numpy()), CPU).module(wave)
    alone = torch.stack([Predictor(toy_model(member), CPU).module(wave) for member in members])
    torch.testing.assert_close(both, (alone * weights[:, None]).sum(dim=0))


def test_too_short_waves_are_refused(toys: Predictor) -> None:
    with pytest.raises(AudioError, match="clip 1 has 100 samples; at 8000 Hz at least 800 are needed") as caught:
        toys.module(torch.zeros(2, 900), [900, 100], sample_rate=8_000)
    assert caught.value.code == "too_short"


def test_one_waveform_serves_encoders_of_two_rates(toy_encoder: ToyEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "slow", SlowToy)
    specs = (EncoderSpec(kind.name, kind.block_dims, kind().fingerprint()) for kind in (ToyEncoder, SlowToy))
    predictor = Predictor(toy_model(toy_member(0, ModelConfig(tuple(specs)))), CPU)
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


def long_clips() -> torch.Tensor:
    """[3, 25.05 s]: music, music with a silent second window, and 12 s of music."""
    waves = torch.from_numpy(music(25.05)).repeat(3, 1)
    waves[1, 10 * RATE : 20 * RATE] = 0
    waves[2, 12 * RATE :] = 0
    return waves


LONG_SIZES = [25 * RATE + 800, 20 * RATE + 800, 12 * RATE]  # the second has a last window of 50 ms, which is left out


@pytest.mark.parametrize("checkpoint", [None, True, False])
def test_long_clips_have_the_scores_of_score(toys: Predictor, checkpoint: bool | None) -> None:
    together = toys.module(long_clips(), LONG_SIZES, checkpoint=checkpoint)
    for wave, size, row in zip(long_clips(), LONG_SIZES, together, strict=True):
        scores = toys.score(wave[:size], sample_rate=RATE)
        assert row.tolist() == pytest.approx([scores[axis] for axis in AXES], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8_000, 22_050, 24_000])
def test_long_clips_at_other_rates_have_those_scores(toys: Predictor, rate: int) -> None:
    wave = torch.from_numpy(music(21.0, rate))
    scores = toys.score(wave, sample_rate=rate)
    found = toys.module(wave, sample_rate=rate)[0]
    assert found.tolist() == pytest.approx([scores[axis] for axis in AXES], abs=0.02)  # another resampler


def kept_bytes(toys: Predictor, waves: torch.Tensor, checkpoint: bool | None) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Bytes of the tensors that the graph keeps for the backward pass, the scores and the gradient of their sum."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    waves = waves.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        scores = toys.module(waves, LONG_SIZES, checkpoint=checkpoint)
    (slope,) = torch.autograd.grad(scores.sum(), waves)
    return sum(kept.values()), scores.detach(), slope


@pytest.mark.slow
def test_checkpoint_keeps_less_and_gives_the_same_gradients(toys: Predictor) -> None:
    less, scores, slope = kept_bytes(toys, long_clips(), checkpoint=None)
    more, plain, plain_slope = kept_bytes(toys, long_clips(), checkpoint=False)
    assert less < 0.8 * more
    torch.testing.assert_close(scores, plain)
    torch.testing.assert_close(slope, plain_slope)
    assert slope[0].count_nonzero() > 24.5 * RATE
    assert not slope[1, 10 * RATE : 20 * RATE].any()


@pytest.mark.parametrize("checkpoint", [True, False])
def test_autocast_changes_neither_scores_nor_gradients(toys: Predictor, checkpoint: bool) -> None:
    wave = torch.from_numpy(music(0.5))[None].requires_grad_()
    plain = toys.module(wave)
    with torch.autocast("cpu", torch.bfloat16):
        scores = toys.module(wave, checkpoint=checkpoint)
    assert torch.equal(scores, plain)
    slopes = [torch.autograd.grad(found.sum(), wave)[0] for found in (plain, scores)]
    assert torch.equal(*slopes)


@pytest.mark.slow
def test_slope_of_bundled_model_is_that_of_finite_differences(scorer: Predictor) -> None:
    wave = torch.from_numpy(music(0.3, 24_000) + 0.01 * noise(0.3, 24_000)).float()
    leaf = wave.clone().requires_grad_()
    scorer.module(leaf, sample_rate=24_000)[0, PQ].backward()
    step = 2e-3 * leaf.grad / leaf.grad.norm()
    with torch.no_grad():
        up, down = (scorer.module(wave + sign * step, sample_rate=24_000)[0, PQ] for sign in (1, -1))
    assert ((up - down) / 2).item() == pytest.approx((leaf.grad @ step).item(), rel=0.1)
