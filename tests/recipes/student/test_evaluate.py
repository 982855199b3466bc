"""Ridge regression against its normal equations, folds by group, and agreement."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from recipes.student.evaluate import Ridge, crossed, fit, folds_of, interval, srcc


def test_ridge_equals_the_normal_equations() -> None:
    rng = np.random.default_rng(0)
    x, y, new = rng.normal(3, 2, (30, 8)), rng.normal(1, 1, (30, 2)), rng.normal(3, 1, (5, 8))
    z = (x - x.mean(0)) / (x.std(0) + 1e-6)
    weights = np.linalg.solve(z.T @ z + 10 * np.eye(8), z.T @ (y - y.mean(0)))
    expected = (new - x.mean(0)) / (x.std(0) + 1e-6) @ weights + y.mean(0)
    np.testing.assert_allclose(Ridge(x, y).predict(new, 10.0), expected, atol=1e-8)


def test_folds_keep_groups_together() -> None:
    groups = [f"song {i % 13}" for i in range(100)]
    folds = folds_of(groups, 5)
    assert set(folds) == set(range(5))
    assert all(
        len({fold for fold, other in zip(folds, groups, strict=True) if other == group}) == 1 for group in groups
    )


def test_crossed_predicts_what_is_there_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    groups = [f"{i // 4}" for i in range(120)]
    x = rng.normal(size=(120, 20))
    y = x[:, :1] + 0.1 * rng.normal(size=(120, 1))
    folds = folds_of(groups, 5)
    assert srcc(crossed(x, y, groups, folds)[:, 0], y[:, 0]) > 0.95
    assert srcc(crossed(x, rng.normal(size=(120, 1)), groups, folds)[:, 0], y[:, 0]) < 0.3
    assert fit(x, y, groups)[1] <= 10


@pytest.mark.slow
def test_srcc_equals_scipy_s_and_lies_in_its_interval() -> None:
    rng = np.random.default_rng(2)
    a = rng.integers(0, 9, 60).astype(float)
    b = a + rng.normal(0, 3, 60)
    assert srcc(a, b) == pytest.approx(spearmanr(a, b).statistic)
    low, high = interval(a, b, [str(i // 3) for i in range(60)])
    assert low < srcc(a, b) < high
