"""The choice of a map from scores to ratings."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from mmmos.training.maps import MAPS, Rated, choose_map


def rated(scores: np.ndarray, labels: np.ndarray, domains: list[str] | None = None, groups: int = 0) -> Rated:
    n = len(scores)
    names = np.array([f"g{i % groups if groups else i}" for i in range(n)])
    return Rated(scores, labels, np.array(domains or ["music"] * n), names, (0.0, 10.0), (1.0, 5.0))


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 9, 80)


def noise(n: int, size: float = 0.2) -> np.ndarray:
    return np.random.default_rng(1).normal(0, size, n)


def test_line_is_that_of_least_squares(scores: np.ndarray):
    labels = 2 + 0.3 * scores + noise(80)
    found = scipy.stats.linregress(scores, labels)
    knots = MAPS["line"](rated(scores, labels))
    assert knots.y == pytest.approx([found.intercept, found.intercept + 10 * found.slope])


def test_line_never_falls(scores: np.ndarray):
    labels = 4 - 0.3 * scores
    assert MAPS["line"](rated(scores, labels)).y == pytest.approx([labels.mean()] * 2)


def test_monotone_follows_a_curve(scores: np.ndarray):
    curve = 1 + 4 / (1 + np.exp(5 - scores))
    knots = MAPS["monotone"](rated(scores, curve))
    assert np.abs(knots(scores) - curve).max() < 0.02
    assert (knots.x[0], knots.x[-1]) == (0, 10)


def test_monotone_of_equal_scores_is_their_mean():
    knots = MAPS["monotone"](rated(np.full(6, 4.0), np.array([1.0, 2, 3, 3, 2, 1])))
    assert knots(np.array([0.0, 4, 10])).min() >= 1
    assert len(set(knots.x)) == len(knots.x)


def test_choose_map_keeps_scores_that_fit(scores: np.ndarray):
    found = choose_map(rated(scores, 1 + 0.4 * scores + noise(80)))
    assert (found.name, found.helps, found.informative) == ("rescale", False, True)


def test_choose_map_prefers_the_simplest(scores: np.ndarray):
    assert choose_map(rated(scores, 1.8 + 0.4 * scores + noise(80))).name == "shift"
    assert choose_map(rated(scores, 3 + 0.1 * scores + noise(80))).name == "line"
    assert choose_map(rated(scores, 1 + 4 / (1 + np.exp(3 * (5 - scores))) + noise(80))).name == "monotone"


def test_choose_map_divides_domains_that_differ(scores: np.ndarray):
    domains = ["music", "speech"] * 39 + ["sound"] * 2
    low = np.array([name == "speech" for name in domains])
    found = choose_map(rated(scores, 1.5 + 0.3 * scores - low + noise(80), domains))
    assert found.name.endswith(" by domain")
    assert set(found.maps) == {"", "music", "speech"}  # two clips of sound are too few
    five = np.array([5.0])
    assert found.maps["music"](five) - found.maps["speech"](five) == pytest.approx(1, abs=0.2)
    assert found.helps


def test_choose_map_of_unrelated_scores_is_not_informative(scores: np.ndarray):
    found = choose_map(rated(scores, 3 + noise(80, 0.5)))
    assert found.helps  # a constant is nearer than the scores
    assert not found.informative


def test_figures_hold_whole_groups_out():
    # The labels of a group are equal and have nothing to do with the scores of other groups.
    labels = np.tile(np.random.default_rng(2).uniform(1, 5, 4), 20)
    found = choose_map(rated(np.tile([1.0, 4.0, 6.0, 9.0], 20), labels, groups=4))
    assert found.folds == 4
    assert not found.informative
