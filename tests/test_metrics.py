"""The metrics against SciPy and torchmetrics, where they are undefined, per system, and the bootstrap's promises."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torchmetrics.functional import kendall_rank_corrcoef, pearson_corrcoef, spearman_corrcoef

from mmmos.metrics import (
    ALL_METRICS,
    METRICS,
    bias,
    bootstrap,
    composite,
    debiased_mse,
    distance_from_best,
    ktau,
    lcc,
    mse,
    paired_bootstrap,
    srcc,
    system_means,
    system_metrics,
    utterance_metrics,
)
from mmmos.metrics.ranks import mean_ranks

CORRELATIONS = {"LCC": lcc, "SRCC": srcc, "KTAU": ktau}
TOY = ([1, 2, 2, 4, 3], [1, 3, 2, 3, 5])

# Tenths, as means of ten whole ratings are: ties are common.
ratings = st.integers(0, 100).map(lambda k: k / 10)
pairs = st.integers(2, 30).flatmap(
    lambda n: st.tuples(st.lists(ratings, min_size=n, max_size=n), st.lists(ratings, min_size=n, max_size=n))
)


def noisy(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.normal(5, 2, n)
    return target + rng.normal(0.3, 1, n), target


# --- against references


def test_toy():
    assert utterance_metrics(*TOY) == pytest.approx(
        {"MSE": 1.2, "LCC": 0.650444, "SRCC": 0.763158, "KTAU": 0.666667}, abs=5e-7
    )
    assert list(utterance_metrics(*TOY)) == list(METRICS) == ["MSE", "LCC", "SRCC", "KTAU"]
    assert all(type(value) is float for value in utterance_metrics(*TOY).values())


@pytest.mark.slow
@given(pair=pairs)
def test_against_scipy(pair):
    p, t = pair
    assume(len(set(p)) > 1)
    assume(len(set(t)) > 1)
    assert lcc(p, t) == pytest.approx(scipy.stats.pearsonr(p, t).statistic, abs=1e-12)
    assert srcc(p, t) == pytest.approx(scipy.stats.spearmanr(p, t).statistic, abs=1e-12)
    assert ktau(p, t) == pytest.approx(scipy.stats.kendalltau(p, t).statistic, abs=1e-12)
    assert mse(p, t) == pytest.approx(np.square(np.subtract(p, t)).mean(), abs=1e-12)


@given(pair=pairs)
def test_tau_b_by_its_definition(pair):
    p, t = np.array(pair[0]), np.array(pair[1])
    order = [(np.sign(p[i] - p[j]), np.sign(t[i] - t[j])) for i, j in combinations(range(len(p)), 2)]
    untied = math.sqrt(sum(a != 0 for a, _ in order) * sum(b != 0 for _, b in order))
    expected = sum(a * b for a, b in order) / untied if untied else math.nan
    assert ktau(p, t) == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("decimals", [0, 1, 6], ids=["many ties", "some ties", "no ties"])
def test_against_torchmetrics(decimals):
    p, t = (x.round(decimals) for x in noisy(60))
    tensors = torch.tensor(p), torch.tensor(t)
    assert lcc(p, t) == pytest.approx(pearson_corrcoef(*tensors).item(), abs=1e-9)
    assert srcc(p, t) == pytest.approx(spearman_corrcoef(*tensors).item(), abs=1e-6)
    assert ktau(p, t) == pytest.approx(kendall_rank_corrcoef(*tensors, variant="b").item(), abs=1e-6)


@pytest.mark.parametrize(("n", "decimals"), [(2, 6), (37, 0), (300, 1), (300, 6), (70_000, 2)])
def test_rank_correlations_of_any_size_are_scipys(n, decimals):
    p, t = (x.round(decimals) for x in noisy(n))
    assert srcc(p, t) == pytest.approx(scipy.stats.spearmanr(p, t).statistic, abs=1e-14)
    assert ktau(p, t) == scipy.stats.kendalltau(p, t).statistic
    np.testing.assert_array_equal(mean_ranks(p), scipy.stats.rankdata(p))


def test_bias_and_what_is_left_without_it():
    p, t = noisy(50)
    assert bias(p, t) == pytest.approx(p.mean() - t.mean())
    assert debiased_mse(p, t) == pytest.approx(mse(p - bias(p, t), t)) == pytest.approx(mse(p, t) - bias(p, t) ** 2)
    assert debiased_mse(p + 3, t) == pytest.approx(debiased_mse(p, t))


@pytest.mark.parametrize("metric", CORRELATIONS.values(), ids=CORRELATIONS)
def test_correlations_keep_within_one(metric):
    x = np.array([0.1, 0.2, 0.7, 1e-9, 3.3])
    assert metric(x, x) == pytest.approx(1)
    assert metric(x, -x) == pytest.approx(-1)
    assert metric(x, 3 * x + 1) <= 1
    assert lcc(1e-200 * x, x) == pytest.approx(1)  # its squares are below the smallest float64


# --- where there is no answer


@pytest.mark.parametrize("metric", CORRELATIONS.values(), ids=CORRELATIONS)
@pytest.mark.parametrize(
    ("prediction", "target"),
    [([], []), ([1], [2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0.1, 0.1, 0.1]), ([0.1] * 3, [0.1] * 3)],
    ids=["empty", "one", "constant prediction", "constant target", "both constant"],
)
def test_undefined_is_nan(metric, prediction, target):
    assert math.isnan(metric(prediction, target))


def test_errors_of_few_clips():
    assert math.isnan(mse([], []))
    assert math.isnan(bias([], []))
    assert math.isnan(debiased_mse([], []))
    assert math.isnan(debiased_mse([3], [1]))
    assert mse([3], [1]) == 4
    assert bias([3], [1]) == 2


@pytest.mark.parametrize("metric", [*METRICS.values(), bias, debiased_mse])
def test_what_is_not_finite_is_refused(metric):
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="finite"):
            metric([1, bad], [1, 2])
        with pytest.raises(ValueError, match="finite"):
            metric([1, 2], [1, bad])


@pytest.mark.parametrize("metric", [*METRICS.values(), bias, debiased_mse])
def test_shapes_are_never_broadcast(metric):
    for prediction, target in [([1, 2], [1]), ([[1, 2]], [[1, 2]]), (1, 1), ([1, 2], [[1], [2]])]:
        with pytest.raises(ValueError, match=r"\[N\]"):
            metric(prediction, target)


def test_float32_is_computed_in_float64():
    p, t = (x.astype(np.float32) for x in noisy(200))
    expected = utterance_metrics(p.astype(np.float64), t.astype(np.float64))
    assert utterance_metrics(p, t) == expected


# --- systems


def grouped(values: list[float], systems: list[str]) -> list[float]:
    return [fmean(v for v, s in zip(values, systems, strict=True) if s == name) for name in sorted(set(systems))]


@pytest.mark.slow
@given(pair=pairs, data=st.data())
def test_system_metrics_are_those_of_the_means(pair, data):
    p, t = pair
    systems = data.draw(st.lists(st.sampled_from("ABCDE"), min_size=len(p), max_size=len(p)))
    assert system_means(p, systems) == pytest.approx(grouped(p, systems), abs=1e-12)
    exact = utterance_metrics(system_means(p, systems), system_means(t, systems))
    assert system_metrics(p, t, systems) == pytest.approx(exact, nan_ok=True)


def test_system_metrics_worked():
    p, t = [1, 3, 4, 4, 9, 0], [2, 2, 3, 5, 1, 8]
    systems = ["x", "x", "y", "y", "z", "z"]  # p: 2, 4, 4.5   t: 2, 4, 4.5
    assert system_metrics(p, t, systems) == pytest.approx({"MSE": 0, "LCC": 1, "SRCC": 1, "KTAU": 1})
    one_each = system_metrics(*TOY, systems=list("abcde"))
    assert one_each == pytest.approx(utterance_metrics(*TOY))


def test_equal_systems_stay_equal():
    # 0.1 + 0.1 + 0.1 is not 0.3: a plain mean would make the larger system differ in its last bit
    systems = ["a"] * 3 + ["b"] + ["c"] * 7
    assert set(system_means([0.1] * 11, systems)) == {0.1}
    metrics = system_metrics([0.1] * 11, list(range(11)), systems)
    assert math.isnan(metrics["LCC"])
    assert math.isnan(metrics["SRCC"])
    assert math.isnan(metrics["KTAU"])


def test_systems_are_checked():
    with pytest.raises(ValueError, match="systems"):
        system_means([1, 2, 3], ["a", "b"])
    with pytest.raises(ValueError, match="finite"):
        system_metrics([1, math.nan], [1, 2], ["a", "b"])
    assert system_means([], []).tolist() == []
    assert all(math.isnan(value) for value in system_metrics([], [], []).values())


def test_composite():
    values = np.arange(12.0).reshape(3, 4)
    assert composite(values).tolist() == [1.5, 5.5, 9.5]
    assert composite(np.zeros((0, 4))).shape == (0,)
    for wrong in (np.zeros(4), np.zeros((4, 3)), np.zeros((2, 3, 4))):
        with pytest.raises(ValueError, match=r"\[N, 4\]"):
            composite(wrong)


# --- bootstrap


@pytest.mark.slow
def test_bootstrap_of_a_mean_is_as_wide_as_theory_says():
    p, t = noisy(300)
    low, high = bootstrap(bias, p, t, samples=4000)
    error = p - t
    half = 1.96 * error.std() / math.sqrt(300)
    assert (low, high) == pytest.approx((error.mean() - half, error.mean() + half), abs=0.05 * half)


@pytest.mark.slow
def test_bootstrap_covers():
    hits = 0
    for seed in range(200):
        p, t = noisy(40, seed)  # the true bias is 0.3
        low, high = bootstrap(bias, p, t, samples=200, level=0.9, seed=seed)
        hits += low <= 0.3 <= high
    assert 0.82 <= hits / 200 <= 0.95  # nominal 0.90; a percentile interval of 40 clips is a little narrow


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_bootstrap_holds_the_metric_and_repeats(metric):
    p, t = noisy(100)
    low, high = bootstrap(metric, p, t, samples=200)
    assert low < metric(p, t) < high
    assert (low, high) == bootstrap(metric, p, t, samples=200)
    assert (low, high) != bootstrap(metric, p, t, samples=200, seed=1)
    inner_low, inner_high = bootstrap(metric, p, t, samples=200, level=0.5)
    assert low < inner_low < inner_high < high


@pytest.mark.slow
def test_groups_are_drawn_whole():
    p, t = (np.repeat(x, 8) for x in noisy(20))  # 20 songs, 8 clips alike in each
    songs = np.repeat(np.arange(20), 8)
    by_clip, by_song = bootstrap(srcc, p, t), bootstrap(srcc, p, t, groups=songs)
    assert by_song[1] - by_song[0] > 1.5 * (by_clip[1] - by_clip[0])
    assert by_song == pytest.approx(bootstrap(srcc, p[::8], t[::8]))  # as if each song were one clip

    def sees_whole_groups(prediction, target):
        _, counts = np.unique(prediction, return_counts=True)
        assert (counts % 8 == 0).all()
        return mse(prediction, target)

    order = np.random.default_rng(0).permutation(160)  # groups need not lie together
    bootstrap(sees_whole_groups, p[order], t[order], groups=songs[order].astype(str), samples=50)


def test_each_clip_its_own_group_is_no_group():
    p, t = noisy(30)
    assert bootstrap(lcc, p, t, samples=100) == bootstrap(lcc, p, t, groups=np.arange(30), samples=100)


def test_undefined_resamples_are_left_out():
    # half of all resamples of two clips hold one clip twice, and have no correlation
    assert bootstrap(lcc, [1, 2], [1, 2], samples=100) == pytest.approx((1, 1))
    for p, t in (([], []), ([1], [1]), ([2, 2, 2], [1, 2, 3])):
        low, high = bootstrap(lcc, p, t, samples=20)
        assert math.isnan(low)
        assert math.isnan(high)


@pytest.mark.parametrize(
    "options", [{"samples": 0}, {"level": 0.0}, {"level": 1.0}, {"level": 95}, {"groups": ["a"]}], ids=str
)
def test_bootstrap_is_checked(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        bootstrap(mse, [1, 2], [1, 2], **options)


# --- two models on the same clips


def two_models(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two models with one large error in common and a small one each, the second's larger."""
    rng = np.random.default_rng(seed)
    target, common = rng.normal(5, 2, n), rng.normal(0, 2, n)
    return target + common + rng.normal(0, 0.3, n), target + common + rng.normal(0, 0.6, n), target


def test_paired_is_the_bootstrap_of_the_difference():
    a, b, t = two_models(60)
    found = paired_bootstrap(ALL_METRICS, a, b, t, samples=50)
    assert list(found) == list(ALL_METRICS)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(60, size=60) for _ in range(50)]
    for name, metric in ALL_METRICS.items():
        apart = np.array([metric(a[rows], t[rows]) - metric(b[rows], t[rows]) for rows in drawn])
        expected = metric(a, t) - metric(b, t), *np.quantile(apart, [0.025, 0.975])
        assert (found[name].difference, found[name].low, found[name].high) == pytest.approx(expected)
        if name == "MSE":
            assert found[name].better == np.mean(apart < 0)
        elif name in METRICS:
            assert found[name].better == np.mean(apart > 0)


@pytest.mark.slow
def test_what_two_models_share_does_not_widen_the_interval():
    a, b, t = two_models()
    paired = paired_bootstrap({"LCC": lcc}, a, b, t)["LCC"]
    widths = [high - low for low, high in (bootstrap(lcc, x, t) for x in (a, b))]
    assert paired.high - paired.low < 0.4 * math.hypot(*widths)


@pytest.mark.slow
def test_paired_covers():
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        target, a, b = rng.normal(5, 1, 50), rng.normal(0, 1, 50), rng.normal(0, 1.5, 50)
        found = paired_bootstrap({"MSE": mse}, target + a, target + b, target, samples=200, level=0.9, seed=seed)
        hits += found["MSE"].low <= 1 - 1.5**2 <= found["MSE"].high
    assert 0.80 <= hits / 200 <= 0.95


@pytest.mark.slow
def test_paired_draws_groups_whole():
    a, b, t = (np.repeat(x, 8) for x in two_models(20))
    songs = np.repeat(np.arange(20), 8)
    apart, whole = (paired_bootstrap({"SRCC": srcc}, a, b, t, groups)["SRCC"] for groups in (None, songs))
    assert whole.high - whole.low > 1.5 * (apart.high - apart.low)


def test_bias_is_better_where_it_is_nearer_to_zero():
    t = np.arange(20.0)
    found = paired_bootstrap({"bias": bias}, t - 0.1, t + 0.5, t, samples=20)["bias"]
    assert found.difference == pytest.approx(-0.6)
    assert found.better == 1
    assert paired_bootstrap({"bias": bias}, t - 1, t + 0.5, t, samples=20)["bias"].better == 0


def test_paired_without_an_answer():
    for t in ([], [1], [2, 2, 2]):
        found = paired_bootstrap({"LCC": lcc}, t, t, t, samples=20)["LCC"]
        assert all(math.isnan(x) for x in (found.difference, found.low, found.high, found.better))
    with pytest.raises(ValueError, match="finite"):
        paired_bootstrap(METRICS, [1, 2], [1, math.nan], [1, 2])
    with pytest.raises(ValueError, match=r"\[N\]"):
        paired_bootstrap(METRICS, [1, 2], [1, 2, 3], [1, 2])


@pytest.mark.parametrize("name", ALL_METRICS)
def test_shortfall_is_zero_for_a_perfect_model_alone(name):
    t = np.arange(9.0)
    assert distance_from_best(name, ALL_METRICS[name](t, t)) == pytest.approx(0)
    assert distance_from_best(name, ALL_METRICS[name](np.roll(t, 1) - 1, t)) > 0
    assert math.isnan(distance_from_best(name, math.nan))


@pytest.mark.slow
def test_importing_metrics_does_not_import_scipy_stats():
    code = "import sys, mmmos.metrics; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
