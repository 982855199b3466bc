"""Ridge regression: exact where it can be, chosen on whole groups, and never worse than the prior by much."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmos.training.ridge import (
    DECAYS,
    PRIOR_WEIGHTS,
    Sample,
    _ridge,
    agreement,
    cross_validate,
    fit_linear,
    group_folds,
)


def sample(n: int = 60, dim: int = 8, noise: float = 0.0, prior: str | None = None, seed: int = 0) -> Sample:
    """Labels that are a linear function of the inputs, on 1-5, three clips a group."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((n, dim)) / dim**0.5
    labels = 3 + inputs @ np.linspace(-1, 1, dim) + noise * rng.standard_normal(n)
    priors = {None: None, "same": 10 * labels - 7, "noise": rng.standard_normal(n), "constant": np.full(n, 4.0)}
    groups = np.array([f"song {i // 3}" for i in range(n)])
    return Sample(inputs, labels, priors[prior], groups, np.full(n, ""), "")


@pytest.mark.slow
@pytest.mark.parametrize("prior", [None, "noise", "constant"])
@pytest.mark.parametrize("dim", [8, 100])
def test_linear_relation_is_recovered_despite_a_useless_prior(prior: str | None, dim: int) -> None:
    known = sample(n=240, dim=dim, prior=prior)
    fitted = fit_linear(known)
    assert fitted.prior_weight == 0.0
    assert fitted.decay == DECAYS[-1]
    np.testing.assert_allclose(fitted.direction, np.linspace(-1, 1, dim), atol=2e-3)
    np.testing.assert_allclose(fitted.predict(known.inputs, known.prior), known.labels, atol=1e-2)


def test_prior_on_another_scale_is_followed_exactly() -> None:
    known = replace(sample(noise=1.0), prior=None)
    known = replace(known, prior=10 * known.labels - 7)
    fitted = fit_linear(known)
    assert (fitted.prior_weight, round(fitted.slope, 6), round(fitted.intercept, 6)) == (1.0, 0.1, 0.7)
    assert not fitted.direction.any()
    assert cross_validate(known).figures()["SRCC"] == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_good_prior_of_few_clips_is_not_lost(seed: int) -> None:
    """30 clips, 200 inputs that say nothing, a prior that says much: no worse than a straight line through it."""
    rng = np.random.default_rng(seed)
    known = sample(n=30, dim=200, noise=0.0, seed=seed)
    labels = rng.uniform(1, 5, 30)
    known = replace(known, labels=labels, prior=labels + rng.normal(0, 0.5, 30))
    truth = rng.uniform(1, 5, 500)
    inputs, prior = rng.standard_normal((500, 200)) / 200**0.5, truth + rng.normal(0, 0.5, 500)
    slope, constant = np.polyfit(known.prior, labels, 1)
    line = np.mean((slope * prior + constant - truth) ** 2)
    assert np.mean((fit_linear(known).predict(inputs, prior) - truth) ** 2) <= 1.05 * line


def corrected(n: int, size: float) -> Sample:
    """Labels that are a prior on another scale, with a linear correction of this size."""
    rng = np.random.default_rng(n)
    known = sample(n=n, dim=40)
    prior = rng.normal(5, 1, n)
    labels = 1 + 0.5 * prior + size * (known.labels - 3) + rng.normal(0, 0.1, n)
    return replace(known, prior=prior, labels=labels)


def test_warm_start_corrects_the_prior():
    known = corrected(240, 1.0)
    error = {warm: cross_validate(replace(known, warm=warm)).figures()["MSE"] or 0.0 for warm in (False, True)}
    assert error[True] < 0.05 < error[False]
    fitted = fit_linear(replace(known, warm=True))
    assert fitted.slope == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(fitted.predict(known.inputs, known.prior), known.labels, atol=0.5)


def test_warm_start_of_a_good_prior_is_a_line():
    fitted = fit_linear(replace(corrected(60, 0.0), warm=True))
    assert (fitted.prior_weight, fitted.direction.any()) == (1.0, False)
    assert fitted.slope == pytest.approx(0.5, abs=0.05)


def test_unrelated_labels_give_strong_decay() -> None:
    known = sample(n=60, dim=100)
    known = replace(known, labels=np.random.default_rng(3).permutation(known.labels))
    figures = cross_validate(known).figures()
    assert figures["std"] < 0.5 * figures["label_std"]
    assert figures["MSE"] < 1.5 * figures["constant_MSE"]


@pytest.mark.parametrize("shape", [(5, 12), (12, 5), (6, 6)])
def test_both_gram_matrices_solve_the_normal_equations(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    inputs, labels = rng.standard_normal(shape), rng.standard_normal(shape[0])
    for decay, found in zip(DECAYS, _ridge(inputs, labels), strict=True):
        expected = np.linalg.solve(inputs.T @ inputs + decay * np.eye(shape[1]), inputs.T @ labels)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40), st.integers(2, 6))
def test_folds_cut_no_group_and_depend_on_names_alone(groups: list[str], count: int) -> None:
    folds = group_folds(groups, np.full(len(groups), True), count)
    assert all(len(set(folds[np.array(groups) == name])) == 1 for name in set(groups))
    assert set(folds) == set(range(min(count, len(set(groups)))))
    turned = group_folds(groups[::-1], np.full(len(groups), True), count)
    np.testing.assert_array_equal(turned[::-1], folds)


def test_no_group_is_in_the_fit_that_predicts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group's clips are alike in one input that says nothing elsewhere: only a fit on that group could use it."""
    known = sample(n=60, dim=30)
    inputs = np.zeros((60, 20))
    inputs[np.arange(60), np.arange(60) // 3] = 1.0
    effect = np.repeat(np.random.default_rng(0).standard_normal(20), 3)
    found = cross_validate(replace(known, inputs=inputs, labels=3 + effect))
    assert abs(found.figures()["LCC"] or 0.0) < 0.5
    assert found.folds == 5


def test_other_sets_teach_differences_and_no_offset() -> None:
    own, other = sample(n=30, noise=0.0), sample(n=90, seed=1)
    both = Sample(
        np.concatenate([own.inputs, other.inputs + 5]),
        np.concatenate([own.labels, 1000 + 40 * other.labels]),
        None,
        np.concatenate([own.groups, [f"other {name}" for name in other.groups]]),
        np.array(["own"] * 30 + ["other"] * 90),
        "own",
    )
    fitted = fit_linear(both)
    assert np.mean(fitted.predict(own.inputs, None)) == pytest.approx(own.labels.mean())
    assert np.corrcoef(fitted.direction, np.linspace(-1, 1, 8))[0, 1] > 0.99
    assert len(cross_validate(both).labels) == 30


def test_figures_are_those_of_the_constant_where_it_is_predicted() -> None:
    labels = np.array([1.0, 2.0, 4.0])
    found: dict[str, Any] = agreement(np.full(3, 2.0), labels, np.full(3, 2.0))
    assert found["SRCC"] is found["LCC"] is None
    assert found["MSE"] == found["constant_MSE"] == pytest.approx(5 / 3, abs=1e-4)
    assert PRIOR_WEIGHTS[0] == 1.0
