"""Agreement with labels, against SciPy on hand-picked rows."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.errors import AUDIO_ERROR_CODES
from mmmos.evaluation import agreement as module
from mmmos.evaluation.agreement import Agreement, Comparison, compare, evaluate, labelled, missing_axes
from mmmos.metrics import ALL_METRICS
from mmmos.scores import AXES, ClipError, Scores


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOOTSTRAP_SAMPLES", 10)


def case(clips: int = 30, seed: int = 0, noise: float = 1.0) -> tuple[list[LabelledClip], list[Scores]]:
    """Rows of two domains, five systems and ten groups, with scores that follow the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(2, 8, (clips, 4))
    predictions = labels + 0.5 + noise * rng.standard_normal((clips, 4))
    rows = [
        LabelledClip(Clip(f"{i}.wav"), tuple(values), f"system{i % 5}", ("speech", "music")[i % 2], f"song{i % 10}")
        for i, values in enumerate(labels)
    ]
    return rows, [Scores(id=row.clip.id).with_axes(values) for row, values in zip(rows, predictions, strict=True)]


def arrays(rows: list[LabelledClip], scores: list[Scores]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[item[axis] for axis in AXES] for item in scores]), np.array([row.labels for row in rows])


def only(found: list[Agreement], axis: str, part: str = "all", level: str = "utterance") -> Agreement:
    (one,) = [item for item in found if (item.axis, item.part, item.level) == (axis, part, level)]
    return one


def assert_is_scipys(found: Agreement, prediction: np.ndarray, target: np.ndarray) -> None:
    expected = {
        "n": len(prediction),
        "MSE": np.mean((prediction - target) ** 2),
        "LCC": stats.pearsonr(prediction, target).statistic,
        "SRCC": stats.spearmanr(prediction, target).statistic,
        "KTAU": stats.kendalltau(prediction, target).statistic,
        "bias": np.mean(prediction - target),
        "debiased_mse": np.var(prediction - target),
    }
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected)


def test_every_axis_and_domain_equals_scipy() -> None:
    rows, scores = case()
    found = evaluate(rows, scores)
    predictions, labels = arrays(rows, scores)
    domains = np.array([row.domain for row in rows])
    for part in ("all", "speech", "music"):
        chosen = np.full(30, True) if part == "all" else domains == part
        for i, axis in enumerate(AXES):
            assert_is_scipys(only(found, axis, part), predictions[chosen, i], labels[chosen, i])
    assert len(found) == 3 * 5 * 2


def test_systems_are_compared_by_their_means() -> None:
    rows, scores = case()
    predictions, labels = arrays(rows, scores)
    system = np.arange(30) % 5
    means = [np.array([values[system == i].mean(axis=0) for i in range(5)]) for values in (predictions, labels)]
    found = evaluate(rows, scores)
    for i, axis in enumerate(AXES):
        assert_is_scipys(only(found, axis, level="system"), means[0][:, i], means[1][:, i])


def test_the_composite_is_the_mean_of_the_axes_before_any_metric() -> None:
    rows, scores = case()
    predictions, labels = (values.mean(axis=1) for values in arrays(rows, scores))
    found = evaluate(rows, scores)
    assert_is_scipys(only(found, "composite"), predictions, labels)
    system = np.arange(30) % 5
    means = [np.array([values[system == i].mean() for i in range(5)]) for values in (predictions, labels)]
    assert_is_scipys(only(found, "composite", level="system"), *means)


def test_the_composite_is_over_clips_that_have_all_four() -> None:
    rows, scores = case()
    rows = [replace(row, labels=(math.nan, *row.labels[1:])) if i < 4 else row for i, row in enumerate(rows)]
    scores = [replace(item, PQ=math.nan) if i in (2, 9) else item for i, item in enumerate(scores)]
    found = evaluate(rows, scores)
    assert [only(found, axis).n for axis in (*AXES, "composite")] == [26, 30, 30, 28, 25]
    kept = [i for i in range(30) if i not in (0, 1, 2, 3, 9)]
    assert only(found, "composite") == only(evaluate([rows[i] for i in kept], [scores[i] for i in kept]), "composite")


def test_axes_can_be_chosen() -> None:
    rows, scores = case()
    found = evaluate(rows, scores, axes=("PQ", "composite"))
    assert {item.axis for item in found} == {"PQ", "composite"}
    assert found == [item for item in evaluate(rows, scores) if item.axis in ("PQ", "composite")]


def test_what_nobody_was_asked_or_nothing_scored_is_said() -> None:
    rows, scores = case()
    assert missing_axes(rows, scores) == []
    unasked = [replace(row, labels=(math.nan, *row.labels[1:])) for row in rows]
    silent = [replace(item, PC=math.nan) for item in scores]
    assert missing_axes(unasked, silent) == [
        "no clip has a label of CE",
        "no clip has a score of PC",
        "the composite is not evaluated: no clip has labels and scores of all four axes",
    ]
    only_pq = [replace(row, labels=(math.nan,) * 3 + row.labels[3:]) for row in rows]
    assert missing_axes(only_pq, scores, AXES) == ["no clip has a label of CE or CU or PC"]
    assert missing_axes(unasked, silent, ("CU", "PC")) == ["no clip has a score of PC"]
    half = [replace(row, labels=(*row.labels[:3], math.nan if i % 2 else 5.0)) for i, row in enumerate(rows)]
    other = [item if i % 2 else Scores() for i, item in enumerate(scores)]
    assert "no clip has both a label and a score of PQ" in missing_axes(half, other)
    assert labelled(unasked) == ["CU", "PC", "PQ"]


# --- two models


def versus(found: list[Comparison], axis: str, metric: str, level: str = "utterance") -> Comparison:
    (one,) = [x for x in found if (x.axis, x.metric, x.part, x.level) == (axis, metric, "all", level)]
    return one


@pytest.mark.slow
def test_comparison_has_both_figures_and_their_difference() -> None:
    rows, good = case(noise=0.5)
    _, poor = case(noise=3.0)
    found = compare(rows, good, poor)
    assert len(found) == 3 * 5 * 2 * 6
    for level in ("utterance", "system"):
        for axis in (*AXES, "composite"):
            a, b = only(evaluate(rows, good), axis, level=level), only(evaluate(rows, poor), axis, level=level)
            for metric in ALL_METRICS:
                one = versus(found, axis, metric, level)
                expected = getattr(a, metric), getattr(b, metric), getattr(a, metric) - getattr(b, metric)
                assert (one.first, one.second, one.difference) == pytest.approx(expected)
                assert one.n == a.n


@pytest.mark.slow
def test_the_better_model_is_better_in_most_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOOTSTRAP_SAMPLES", 30)
    rows, good = case(noise=0.3)
    _, poor = case(noise=4.0)
    there, back = compare(rows, good, poor), compare(rows, poor, good)
    for metric in ("MSE", "LCC", "SRCC", "KTAU", "debiased_mse"):
        a, b = versus(there, "PQ", metric), versus(back, "PQ", metric)
        assert a.better == 1
        assert b.better == 0
        assert (a.low, a.high) == pytest.approx((-b.high, -b.low))
        assert a.low > 0 or a.high < 0


@pytest.mark.slow
def test_a_model_against_itself_is_a_draw() -> None:
    rows, scores = case()
    for one in compare(rows, scores, scores):
        assert (one.difference, one.low, one.high, one.better) == (0, 0, 0, 0.5)


@pytest.mark.slow
def test_only_clips_that_both_have_scored_are_compared() -> None:
    rows, good = case()
    _, poor = case(noise=3.0)
    gappy = [Scores() if i < 3 else item for i, item in enumerate(good)]
    holey = [Scores() if i > 26 else item for i, item in enumerate(poor)]
    assert compare(rows, gappy, holey) == compare(rows[3:27], good[3:27], poor[3:27])


def test_an_undefined_comparison_is_null_in_json() -> None:
    rows, scores = case(1)
    one = versus(compare(rows, scores, scores), "PQ", "SRCC").to_json()
    assert json.loads(json.dumps(one, allow_nan=False))["better"] is None
    assert one["n"] == 1


@pytest.mark.slow
def test_rows_without_a_system_have_no_say_at_system_level() -> None:
    rows, scores = case()
    unnamed = [replace(row, system="") if i < 5 else row for i, row in enumerate(rows)]
    found = evaluate(unnamed, scores)
    expected = only(evaluate(rows[5:], scores[5:]), "PQ", level="system")
    assert only(found, "PQ", level="system") == expected
    assert only(found, "PQ").n == 30
    assert not [item for item in evaluate([replace(row, system="") for row in rows], scores) if item.level == "system"]


def test_a_single_domain_is_not_reported_twice() -> None:
    rows, scores = case()
    for domain in ("speech", ""):
        found = evaluate([replace(row, domain=domain) for row in rows], scores)
        assert {item.part for item in found} == {"all"}


@pytest.mark.slow
@pytest.mark.parametrize("error", [None, ClipError(next(iter(AUDIO_ERROR_CODES)), "why")])
def test_clips_without_a_score_are_left_out(error: ClipError | None) -> None:
    rows, scores = case()
    gaps = [Scores(id=item.id, error=error) if i in (3, 17) else item for i, item in enumerate(scores)]
    kept = [i for i in range(30) if i not in (3, 17)]
    assert evaluate(rows, gaps) == evaluate([rows[i] for i in kept], [scores[i] for i in kept])


def test_each_axis_counts_the_clips_that_were_rated_on_it() -> None:
    rows, scores = case()
    rows = [
        replace(row, labels=(math.nan, *row.labels[1:3], row.labels[3] if i < 7 else math.nan))
        for i, row in enumerate(rows)
    ]
    found = evaluate(rows, scores)
    assert {item.axis: item.n for item in found if (item.part, item.level) == ("all", "utterance")} == {
        "CU": 30,
        "PC": 30,
        "PQ": 7,
    }


def test_perfect_scores() -> None:
    rows, _ = case()
    found = evaluate(rows, [Scores().with_axes(np.array(row.labels)) for row in rows])
    for item in found:
        assert pytest.approx(0) == item.MSE
        assert pytest.approx([1, 1, 1]) == [item.LCC, item.SRCC, item.KTAU]
        assert item.SRCC_low == pytest.approx(1)


@pytest.mark.slow
def test_interval_contains_the_estimate_and_depends_on_the_seed() -> None:
    rows, scores = case(noise=2.0)
    found = evaluate(rows, scores, seed=1)
    assert found == evaluate(rows, scores, seed=1)
    assert found != evaluate(rows, scores, seed=2)
    one = only(found, "PQ")
    assert -1 <= one.SRCC_low < one.SRCC < one.SRCC_high <= 1


@pytest.mark.slow
def test_clips_of_a_group_are_drawn_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten copies of each clip, labelled as one song, hold no more information than one."""
    monkeypatch.setattr(module, "BOOTSTRAP_SAMPLES", 100)
    rows, scores = case(10, noise=2.0)
    songs = [replace(row, group=row.clip.id, system="") for row in rows] * 10
    strangers = [replace(row, group=str(i)) for i, row in enumerate(songs)]
    grouped, apart = (only(evaluate(part, scores * 10), "PQ") for part in (songs, strangers))
    assert grouped.SRCC == apart.SRCC
    assert grouped.SRCC_high - grouped.SRCC_low > 1.5 * (apart.SRCC_high - apart.SRCC_low)


def test_what_is_not_defined_is_null_in_json() -> None:
    rows, scores = case(1)
    found = [item.to_json() for item in evaluate(rows, scores)]
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)[0]["SRCC"] is None
    assert json.loads(text)[0]["n"] == 1
    assert json.loads(text)[0]["MSE"] > 0


def test_nothing_to_compare_gives_nothing() -> None:
    assert evaluate([], []) == []
    rows, _ = case(3)
    assert evaluate(rows, [Scores()] * 3) == []


def test_scores_of_other_clips_are_refused() -> None:
    rows, scores = case()
    with pytest.raises(ValueError, match="reshape"):
        evaluate(rows, scores[:-1])
