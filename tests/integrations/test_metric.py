"""The metric's numbers are those of NumPy over the scores of its clips, however they are batched and distributed."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from matplotlib.figure import Figure
from torchmetrics import MetricCollection

import mmmos
from mmmos.errors import AudioError, MissingExtraError, SampleRateError
from mmmos.inference.predictor import Predictor
from mmmos.integrations.batches import score_batch
from mmmos.integrations.metric import Metric
from mmmos.integrations.optional import optional_base
from mmmos.integrations.samples import all_reduced
from mmmos.integrations.statistics import Sums, audio_quality, statistics
from mmmos.scores import AXES
from tests.integrations.batches import DOMAINS, LENGTHS, RATE, clips, toy_scorer
from tests.sounds import music
from tests.toys import ToyEncoder


@pytest.fixture
def scorer(toy_encoder: ToyEncoder) -> Predictor:
    return toy_scorer()


def reference(scorer: Predictor, waves: torch.Tensor, lengths: list[int]) -> dict[str, float]:
    """Mean, standard deviation and count by axis and domain, from the scores of each clip alone."""
    scores = [scorer.score(wave[:size], sample_rate=RATE) for wave, size in zip(waves, lengths, strict=True)]
    assert {item.domain for item in scores} == set(DOMAINS)
    found: dict[str, float] = {"clips": len(scores), "silent": 0, "failed": 0}
    for domain in (None, *DOMAINS):
        for axis in AXES:
            values = np.array([item[axis] for item in scores if domain in (None, item.domain)])
            name = f"{domain}/{axis}" if domain else axis
            found |= {f"{name}_mean": values.mean(), f"{name}_std": values.std(ddof=1), f"{name}_count": len(values)}
    return found


def plain(result: dict[str, torch.Tensor]) -> dict[str, float]:
    assert all(value.ndim == 0 for value in result.values())
    return {name: value.item() for name, value in result.items()}


def test_compute_equals_numpy_over_scores_of_clips(scorer: Predictor) -> None:
    metric = Metric(scorer, sample_rate=RATE)
    waves = clips()
    metric.update(waves[:4], LENGTHS[:4])
    metric.update(waves[:0])
    metric.update(waves[4:, None], torch.tensor(LENGTHS[4:]), RATE)
    assert plain(metric.compute()) == pytest.approx(reference(scorer, waves, LENGTHS), rel=1e-9)
    metric.reset()
    metric.update(waves[0])
    assert metric.compute()["clips"] == 1


def test_functional_twin_equals_metric_of_one_batch(scorer: Predictor) -> None:
    metric = Metric(scorer)
    of_batch = metric(clips(), LENGTHS, RATE)
    assert of_batch == audio_quality(clips(), LENGTHS, RATE, scorer) == metric.compute()


def test_forward_returns_batch_and_accumulates(scorer: Predictor) -> None:
    metric, waves = Metric(scorer, sample_rate=RATE), clips()
    first, second = metric(waves[:2]), metric(waves[2:])
    assert (first["clips"], second["clips"], metric.compute()["clips"]) == (2, 4, 6)
    total = sum(part["PQ_mean"] * part["clips"] for part in (first, second))
    assert metric.compute()["PQ_mean"].item() == pytest.approx(total.item() / 6)


def test_multichannel_waves_have_scores_of_their_downmix(scorer: Predictor) -> None:
    waves = torch.stack([clips(), clips().flip(0)], dim=1)
    stereo, mono = (audio_quality(batch, LENGTHS, RATE, scorer) for batch in (waves, waves.mean(dim=1)))
    assert plain(stereo) == pytest.approx(plain(mono), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_batch_scores_take_any_float_type(scorer: Predictor, dtype: torch.dtype) -> None:
    waves = clips().to(dtype).requires_grad_()
    scores = score_batch(scorer, waves, None, RATE)
    alone = [scorer.score(wave, sample_rate=RATE) for wave in waves.detach().float()]
    assert [item.PQ for item in scores] == pytest.approx([item.PQ for item in alone], abs=1e-5)


def test_domain_without_clips_is_nan_with_count_zero(scorer: Predictor) -> None:
    result = audio_quality(clips()[:1], None, RATE, scorer)
    (own,) = (domain for domain in DOMAINS if result[f"{domain}/PQ_count"])
    (other,) = set(DOMAINS) - {own}
    assert result[f"{other}/PQ_count"] == 0
    assert result[f"{other}/PQ_mean"].isnan()
    assert result["PQ_std"].isnan()  # of one clip
    assert result[f"{own}/PQ_mean"] == result["PQ_mean"]


def test_silent_clips_are_counted_without_scores(scorer: Predictor) -> None:
    waves = torch.cat([clips(), torch.zeros(2, 8_000)])
    result, spoken = audio_quality(waves, None, RATE, scorer), audio_quality(clips(), None, RATE, scorer)
    assert (result["clips"], result["silent"], result["failed"]) == (6, 2, 0)
    assert result["PQ_mean"] == spoken["PQ_mean"]
    assert result["PQ_count"] == 6


def test_clip_that_fails_is_an_error_that_adds_nothing(scorer: Predictor) -> None:
    metric = Metric(scorer, sample_rate=RATE)
    metric.update(clips())
    before = metric.compute()
    broken = clips()
    broken[4, 100] = torch.nan
    with pytest.raises(AudioError, match=r"clip 4: .*NaN") as caught:
        metric.update(broken)
    assert caught.value.code == "non_finite_audio"
    with pytest.raises(AudioError, match="clip 1: "):
        metric.update(clips(), [8_000, 0, 8_000, 8_000, 8_000, 8_000])
    assert metric.compute() == before


def test_clip_that_fails_is_counted_if_not_strict(scorer: Predictor) -> None:
    broken = clips()
    broken[4, 100] = torch.nan
    result = audio_quality(broken, None, RATE, scorer, strict=False)
    assert (result["clips"], result["failed"], result["PQ_count"]) == (5, 1, 5)
    assert result["PQ_mean"].isfinite()


@pytest.mark.parametrize(
    ("waves", "lengths", "error", "message"),
    [
        (torch.zeros(1, 1, 1, 800), None, TypeError, r"\[B, C, S\]"),
        ([[0.0] * 800], None, TypeError, "not list"),
        (torch.zeros(2, 800), [800], ValueError, "lengths are 2 numbers"),
        (torch.zeros(2, 800), [800.0, 1.0], TypeError, "whole numbers"),
        (torch.zeros(2, 800, dtype=torch.complex64), None, TypeError, "complex64"),
        (torch.zeros(2, 800, 2), None, TypeError, "channels"),
    ],
)
def test_update_refuses_other_batches(
    scorer: Predictor, waves: object, lengths: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Metric(scorer, sample_rate=RATE).update(waves, lengths)


@pytest.mark.parametrize("rate", [None, 0, "16000", 16_000.5])
def test_update_refuses_missing_or_wrong_rates(scorer: Predictor, rate: object) -> None:
    with pytest.raises(SampleRateError, match="Hz"):
        Metric(scorer).update(clips(), sample_rate=rate)


@pytest.mark.slow
def test_metric_of_bundled_model_equals_its_scores(scorer: Predictor) -> None:
    lite = mmmos.load(device="cpu")
    wave = torch.from_numpy(music(1.0, 44_100))
    result = mmmos.audio_quality(wave, sample_rate=44_100, scorer=lite)
    scores = lite.score(wave, sample_rate=44_100)
    assert result["PQ_mean"].item() == scores.PQ
    assert result[f"{scores.domain}/CE_mean"].item() == scores.CE


def test_metric_works_in_collection_with_prefix(scorer: Predictor) -> None:
    collection = MetricCollection({"quality": Metric(scorer, sample_rate=RATE)}, prefix="val/")
    collection.update(clips())
    result = collection.compute()
    assert result["val/PQ_mean"] == audio_quality(clips(), None, RATE, scorer)["PQ_mean"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda metric: pickle.loads(pickle.dumps(metric)), Metric.clone])
def test_copies_keep_state_and_continue(scorer: Predictor, copied) -> None:
    metric = Metric(scorer, sample_rate=RATE)
    metric.update(clips()[:3])
    other = copied(metric)
    for item in (metric, other):
        item.update(clips()[3:])
    assert other.compute() == metric.compute()


def test_half_precision_of_a_parent_changes_nothing(scorer: Predictor) -> None:
    parent = torch.nn.ModuleDict({"quality": Metric(scorer, sample_rate=RATE)}).half()
    parent["quality"].update(clips())
    assert parent["quality"].compute() == audio_quality(clips(), None, RATE, scorer)
    assert not list(parent.parameters())
    assert not parent.state_dict()


def test_higher_is_better_and_bounds_are_declared() -> None:
    assert Metric.higher_is_better is True
    assert Metric.is_differentiable is False


@pytest.mark.slow
def test_plot_draws_means_with_spread_and_curves(scorer: Predictor) -> None:
    metric = Metric(scorer, sample_rate=RATE)
    steps = [metric(clips()[:count]) for count in (2, 4, 6)]
    figure, panel = metric.plot()
    assert isinstance(figure, Figure)
    assert panel.get_legend().get_texts()[0].get_text() == "all (12)"
    result = metric.compute()
    assert panel.lines[0].get_ydata()[0] == pytest.approx(result["PQ_mean"].item())
    assert panel.get_ylim() == (0.0, 10.0)
    axes = Figure().subplots()
    figure, panel = metric.plot(steps, ax=axes)
    assert panel is axes
    assert list(panel.lines[0].get_ydata()) == pytest.approx([step["PQ_mean"].item() for step in steps])


def test_stand_in_of_missing_package_reports_what_to_install() -> None:
    base: Any = optional_base(("no_such_package.part",), "Metric", "pip install 'mmmos[metrics]'")

    class Own(base):
        pass

    with pytest.raises(MissingExtraError, match=r"^Own needs no_such_package: pip install 'mmmos\[metrics\]'$"):
        Own("lite")


def test_optional_base_takes_first_installed_package() -> None:
    assert optional_base(("no_such_package", "torch.nn"), "Module", "") is torch.nn.Module


RANK_1 = """
import sys, datetime, torch
from mmmos.encoders.table import ENCODERS
from mmmos.integrations.metric import Metric
from mmmos.integrations.samples import all_reduced
from mmmos.integrations.statistics import Sums
from tests.integrations.batches import LENGTHS, RATE, clips, toy_scorer
from tests.toys import ToyEncoder

torch.set_num_threads(1)
ENCODERS["toy"] = ToyEncoder
wait = datetime.timedelta(seconds=300)
torch.distributed.init_process_group("gloo", init_method=sys.argv[1], rank=1, world_size=2, timeout=wait)
metric = Metric(toy_scorer(), sample_rate=RATE)
metric.update(clips()[4:], LENGTHS[4:])
print(metric.compute()["clips"].item())
print(all_reduced(Sums(*(getattr(metric, name) for name in Sums._fields)), torch.device("cpu")).clips.tolist())
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_compute_what_one_does(scorer: Predictor, tmp_path: Path) -> None:
    meeting = f"file://{tmp_path}/meeting"
    wait = timedelta(seconds=300)
    other = subprocess.Popen([sys.executable, "-c", RANK_1, meeting], stdout=subprocess.PIPE, text=True)
    try:
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=0, world_size=2, timeout=wait)
        metric = Metric(scorer, sample_rate=RATE)
        metric.update(clips()[:4], LENGTHS[:4])
        together = metric.compute()
        assert metric.clips[0] == 4  # its own again
        own = Sums(*(getattr(metric, name) for name in Sums._fields))
        reduced = all_reduced(own, torch.device("cpu"))
        printed, _ = other.communicate(timeout=300)
    finally:
        other.kill()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    alone = audio_quality(clips(), LENGTHS, RATE, scorer)
    assert plain(together) == pytest.approx(plain(alone), rel=1e-9)
    assert plain(statistics(reduced, DOMAINS)) == pytest.approx(plain(alone), rel=1e-9)
    assert printed == "6\n[6, 0, 0]\n"
