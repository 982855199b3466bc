"""Weights that sum to 1, and the weighted mean against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmmos.ensemble import STRATEGIES, combine

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 8), st.just(4))


def drawn(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions [M, N, A] from 0 to 10, and weights [M, A] with columns that sum to 1."""
    rng = np.random.default_rng(seed)
    weights = rng.random((shape[0], shape[2])) + 1e-3
    return rng.uniform(0, 10, shape), weights / weights.sum(axis=0)


@pytest.mark.parametrize("name", STRATEGIES)
@given(shape=SHAPES, seed=st.integers(0, 999))
def test_weights_of_each_axis_sum_to_1(name: str, shape: tuple[int, int, int], seed: int) -> None:
    predictions, _ = drawn(shape, seed)
    targets = np.random.default_rng(seed).uniform(0, 10, shape[1:])
    weights = STRATEGIES[name](predictions, targets)
    assert weights.shape == (shape[0], shape[2])
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=0), 1)


@given(SHAPES, st.integers(0, 999))
def test_combination_is_numpys_weighted_average(shape: tuple[int, int, int], seed: int) -> None:
    predictions, weights = drawn(shape, seed)
    mean, std = combine(predictions, weights)
    for axis in range(4):
        average = np.average(predictions[:, :, axis], axis=0, weights=weights[:, axis])
        variance = np.average((predictions[:, :, axis] - average) ** 2, axis=0, weights=weights[:, axis])
        np.testing.assert_allclose(mean[:, axis], average)
        if shape[0] > 1:
            np.testing.assert_allclose(std[:, axis], np.sqrt(variance), atol=1e-12)


@given(SHAPES, st.integers(0, 999))
def test_order_of_members_does_not_matter(shape: tuple[int, int, int], seed: int) -> None:
    predictions, weights = drawn(shape, seed)
    order = np.random.default_rng(seed).permutation(shape[0])
    for ours, other in zip(combine(predictions, weights), combine(predictions[order], weights[order]), strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-12)


def test_a_single_member_has_no_spread() -> None:
    predictions, weights = drawn((1, 5, 4), 0)
    mean, std = combine(predictions, weights)
    np.testing.assert_array_equal(mean, predictions[0])
    assert np.isnan(std).all()


def test_a_member_without_weight_is_not_heard() -> None:
    predictions, weights = drawn((3, 5, 4), 0)
    weights[2], weights[:2] = 0, 0.5
    changed = predictions.copy()
    changed[2] = 99
    for ours, other in zip(combine(predictions, weights), combine(changed, weights), strict=True):
        np.testing.assert_array_equal(ours, other)


def test_members_that_agree_have_no_spread_but_a_number() -> None:
    predictions, weights = drawn((1, 5, 4), 0)
    mean, std = combine(np.repeat(predictions, 3, axis=0), np.repeat(weights / 3, 3, axis=0))
    np.testing.assert_allclose(mean, predictions[0])
    np.testing.assert_allclose(std, 0, atol=1e-12)
