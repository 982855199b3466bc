"""Systems compared without labels: pairs, intervals, superiority and Holm's correction, against references."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from mmmos.evaluation.comparison import compare_systems
from mmmos.evaluation.pairing import pair_clips
from mmmos.metrics.differences import (
    bootstrap_means,
    clips_needed,
    group_means,
    holm,
    paired_p,
    superiority_of_pairs,
    superiority_of_samples,
)
from mmmos.scores import Scores


def system(values: np.ndarray, names: list[str] | None = None, folder: str = "a") -> list[Scores]:
    names = names or [f"{folder}/{i}.wav" for i in range(len(values))]
    return [Scores(id=name, path=name).with_axes(np.full(4, value)) for name, value in zip(names, values, strict=True)]


def step_down(p: list[float]) -> list[float]:
    """Holm's adjusted p by definition: the smallest level at which the step-down procedure rejects the hypothesis."""
    adjusted = []
    for own in p:
        before = [other for other in p if other <= own]
        adjusted.append(min(1.0, max((len(p) - sorted(p).index(x)) * x for x in before)))
    return adjusted


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_its_definition(p: list[float]):
    assert holm(p) == pytest.approx(step_down(p))


def test_holm_equals_r():
    # p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") in R
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])


def test_holm_ignores_nan():
    found = holm([0.02, math.nan, 0.01])
    assert found[[0, 2]] == pytest.approx([0.02, 0.02])
    assert math.isnan(found[1])


def test_superiority_of_samples_counts_pairs():
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 6, 40), rng.integers(0, 7, 25)
    counted = np.mean([(a > b) + 0.5 * (a == b) for a in x for b in y])
    assert superiority_of_samples(x, y)[0] == pytest.approx(counted)


def test_superiority_of_equal_samples_is_a_half():
    assert superiority_of_samples(np.ones(5), np.ones(7)) == (0.5, 1.0)
    assert superiority_of_pairs(np.zeros(4)) == 0.5
    assert paired_p(np.zeros(4)) == 1.0


def test_bootstrap_means_have_the_standard_error():
    values = np.random.default_rng(2).normal(3, 2, (400, 1))
    means = bootstrap_means(values, samples=4000)
    assert means.mean() == pytest.approx(values.mean(), abs=0.02)
    assert means.std() == pytest.approx(values.std() / 20, rel=0.05)


def test_bootstrap_means_agree_with_scipy():
    values = np.random.default_rng(3).exponential(1, (60, 1))
    low, high = np.quantile(bootstrap_means(values, samples=8000), [0.025, 0.975])
    reference = scipy.stats.bootstrap(
        (values[:, 0],), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (low, high) == pytest.approx(tuple(reference), abs=0.03)


def test_group_means_average_known_values():
    values = [[1.0, np.nan], [3.0, np.nan], [5.0, 2.0], [np.nan, 4.0]]
    found = group_means(values, ["b", "b", "a", "a"])
    assert found[:, 0].tolist() == [2.0, 5.0]
    assert math.isnan(found[0, 1])
    assert found[1, 1] == 3.0


@pytest.mark.parametrize(
    ("effect", "pairs", "clips"), [(0.2, 199, 394), (0.5, 34, 64), (0.8, 15, 26)], ids=["small", "medium", "large"]
)
def test_clips_needed_equals_published_tables(effect: float, pairs: int, clips: int):
    # G*Power 3.1, t tests of means, two-sided, alpha .05, power .80
    assert clips_needed(effect, paired=True) == clips_needed(-effect, paired=True) == pairs
    assert clips_needed(effect, paired=False) == clips


def test_clips_needed_gives_its_power():
    n, effect = clips_needed(0.4, paired=True), 0.4
    draws = np.random.default_rng(8).normal(effect, 1, (4000, n or 0))
    assert np.mean(scipy.stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.02)


def test_clips_needed_without_an_effect_is_none():
    assert clips_needed(0.0, paired=True) is clips_needed(math.nan, paired=False) is None
    assert clips_needed(1e-4, paired=True) == pytest.approx((1.959964 + 0.841621) ** 2 * 1e8, rel=1e-4)


def test_bootstrap_means_ignore_nan():
    values = np.array([[1.0, np.nan], [1.0, 2.0], [1.0, np.nan], [1.0, 2.0]])
    means = bootstrap_means(values, samples=200)
    assert (means[:, 0] == 1).all()
    assert set(means[~np.isnan(means[:, 1]), 1]) == {2.0}


def test_compare_systems_finds_a_constant_difference():
    rng = np.random.default_rng(5)
    quality = rng.uniform(2, 8, 80)
    found = compare_systems({"a": system(quality + 0.3), "b": system(quality + rng.normal(0, 0.1, 80))})
    assert [item.axis for item in found] == ["PQ", "PC", "CE", "CU"]
    item = found[0]
    assert item.paired
    assert item.n == 80
    assert item.low < item.difference < item.high
    assert item.difference == pytest.approx(0.3, abs=0.05)
    assert item.superiority > 0.95
    assert item.p == pytest.approx(scipy.stats.wilcoxon(item_differences(quality)).pvalue, rel=1e-6)
    assert item.p_holm == pytest.approx(min(1, 4 * item.p))


def item_differences(quality: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(5)
    assert (rng.uniform(2, 8, 80) == quality).all()
    return (quality + 0.3) - (quality + rng.normal(0, 0.1, 80))


def test_compare_systems_without_common_clips():
    rng = np.random.default_rng(6)
    first, second = system(rng.normal(6, 1, 50), folder="x"), system(rng.normal(5, 1, 70), folder="y")
    second = [Scores(id=f"other{i}").with_axes(np.full(4, s.PQ)) for i, s in enumerate(second)]
    item = compare_systems({"x": first, "y": second}, axes=["PQ"])[0]
    assert not item.paired
    assert (item.n, item.n_second) == (50, 70)
    a, b = np.array([s.PQ for s in first]), np.array([s.PQ for s in second])
    assert item.difference == pytest.approx(a.mean() - b.mean())
    width = 1.96 * math.sqrt(a.var() / 50 + b.var() / 70)
    assert (item.low, item.high) == pytest.approx((item.difference - width, item.difference + width), abs=0.05)


def test_compare_systems_averages_segments():
    rng = np.random.default_rng(7)
    quality = rng.normal(5, 1, 12).repeat(30)
    rows = [
        [Scores(id=f"{i // 30}", start_time=10.0 * (i % 30), PQ=q + shift) for i, q in enumerate(quality)]
        for shift in (0.0, 0.0)
    ]
    rows[0] = [replace(s, PQ=s.PQ + d) for s, d in zip(rows[0], rng.normal(0, 1, 12).repeat(30), strict=True)]
    item = compare_systems({"a": rows[0], "b": rows[1]}, axes=["PQ"])[0]
    per_file = np.array([s.PQ for s in rows[0]]).reshape(12, 30).mean(1) - quality[::30]
    assert item.n == 12
    assert item.p == pytest.approx(scipy.stats.wilcoxon(per_file).pvalue)
    assert item.difference == pytest.approx(per_file.mean())
    assert item.effect == pytest.approx(per_file.mean() / per_file.std(ddof=1))


def test_compare_systems_draws_named_groups():
    ours, theirs = system(np.arange(6.0)), system(np.arange(6.0) + 1)
    songs = ["x", "x", "x", "y", "y", "z"]
    item = compare_systems({"a": ours, "b": theirs}, axes=["PQ"], groups={"a": songs, "b": songs})[0]
    assert (item.n, item.difference) == (3, -1.0)
    assert item.clips_for(0.5) is None  # all differences are equal


def test_compare_systems_by_domain():
    rng = np.random.default_rng(8)
    names = [f"{i}.wav" for i in range(40)]
    ours, theirs = system(rng.normal(5, 1, 40), names), system(rng.normal(5, 1, 40), names)
    ours = [replace(s, domain=("music", "speech")[i % 2]) for i, s in enumerate(ours)]
    found = compare_systems({"a": ours, "b": theirs}, axes=["PQ"], by_domain=True)
    assert [(item.part, item.n) for item in found] == [("all", 40), ("music", 20), ("speech", 20)]
    music = [a.PQ - b.PQ for a, b in zip(ours[::2], theirs[::2], strict=True)]
    assert found[1].difference == pytest.approx(np.mean(music))
    assert found[0].p_holm == found[0].p
    assert [item.p_holm for item in found[1:]] == pytest.approx(step_down([item.p for item in found[1:]]))


def test_compare_systems_leaves_out_domains_of_one_clip():
    ours = [replace(s, domain="music" if i else "sound") for i, s in enumerate(system(np.arange(5.0)))]
    found = compare_systems({"a": ours, "b": system(np.ones(5))}, axes=["PQ"], by_domain=True)
    assert [item.part for item in found] == ["all", "music"]


def test_compare_systems_of_one_clip_has_no_interval():
    item = compare_systems({"a": system(np.array([5.0])), "b": system(np.array([4.0]))}, axes=["PQ"])[0]
    assert item.to_json(0.2) | {"low": None, "high": None, "effect": None, "clips_for_detect": None} == item.to_json(
        0.2
    )
    assert (item.difference, item.p) == (1.0, 1.0)


def test_compare_systems_leaves_out_axes_without_scores():
    rows = [Scores(id=str(i), PQ=float(i)) for i in range(5)]
    assert [item.axis for item in compare_systems({"a": rows, "b": rows})] == ["PQ"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["1.wav", "2.wav", "3.wav"], ["3.wav", "1.wav", "2.wav"]),
        (["old/x/1.wav", "old/y/1.wav"], ["new/v2/x/1.wav", "new/v2/y/1.wav"]),
        (["a/1.wav", "a/b/2.wav"], ["1.mp3", "2.flac"]),
    ],
    ids=["id", "path", "name"],
)
def test_pair_clips_finds_the_same_clips(first: list[str], second: list[str]):
    ours, theirs = system(np.zeros(len(first)), first), system(np.zeros(len(second)), second)
    pairs = pair_clips(ours, theirs)
    assert pairs is not None
    named = [(ours[i].id.split("/")[-1][0], theirs[j].id.split("/")[-1][0]) for i, j in zip(*pairs, strict=True)]
    assert len(named) == len(first)
    assert all(a == b for a, b in named)


def test_pair_clips_respects_segments_and_repeated_ids():
    ours = [Scores(id="a", start_time=t) for t in (0.0, 10.0)]
    assert [list(rows) for rows in pair_clips(ours, ours[::-1]) or ()] == [[0, 1], [1, 0]]
    assert pair_clips([Scores(id="a"), Scores(id="a")], [Scores(id="a")]) is None
