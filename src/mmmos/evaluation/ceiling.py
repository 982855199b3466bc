"""The noise ceiling: how well a perfect predictor would agree with the mean of R ratings.

A perfect predictor knows each clip's true score, the mean over all possible raters. The label, the mean over R raters,
differs from the true score, so even a perfect predictor does not reach MSE 0 or LCC 1:

    variance of the labels  =  variance of the true scores  +  error variance of a mean of R ratings
                               └── reliability × the left side ──┘   └── within-clip variance / R ──┘
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmmos.metrics import composite, ktau, srcc, system_means
from mmmos.scores import AXES

DRAWS = 200
"""Simulated sets of labels that the expected SRCC and KTAU are averaged over."""

_EM_STEPS = 30  # few: more steps would turn the distribution of true scores into spikes that the labels do not support
_GRID = 200
_NEIGHBOURS = 1 / 30  # fraction of the clips whose rating variances are averaged


@dataclass(frozen=True)
class Ceiling:
    """The expected metrics of a perfect predictor on one axis, at one level."""

    axis: str  # of AXES, or "composite"
    level: str  # "utterance" or "system"
    n: int  # clips, or systems
    reliability: float  # of a label: fraction of true variance; ICC(1,k) at utterance level
    MSE: float  # error variance of a label
    LCC: float
    SRCC: float
    KTAU: float


def ceilings(ratings: ArrayLike, systems: Sequence[str] = (), seed: int = 0) -> list[Ceiling]:
    """The ceiling of every axis and of the composite, per clip and, if systems are given, per system.

    A rater's composite is the mean of the four ratings at the same index: the errors of one rater on the four axes are
    correlated, so they do not cancel in the composite as those of four different raters would.

    Shape:
        - ratings: [N, A, R]; an index of R is the same rater on all axes
        - systems: [N]
    """
    x = np.asarray(ratings, dtype=np.float64)
    if x.ndim != 3 or x.shape[1] != len(AXES) or (len(systems) and len(systems) != len(x)):
        raise ValueError(f"ratings must be [N, {len(AXES)}, R] and systems [N], not {x.shape} and {len(systems)}")
    by_rater = {axis: x[:, i] for i, axis in enumerate(AXES)}
    by_rater["composite"] = composite(np.moveaxis(x, 1, 2).reshape(-1, len(AXES))).reshape(len(x), x.shape[2])
    return [found for axis, own in by_rater.items() for found in ceilings_of(axis, own, systems, seed)]


def ceilings_of(axis: str, ratings: NDArray[np.float64], systems: Sequence[str] = (), seed: int = 0) -> list[Ceiling]:
    """The ceiling of one axis per clip and, if systems are given, per system.

    Shape:
        - ratings: [N, R]
        - systems: [N]
    """
    means, errors = ratings.mean(axis=1), error_variances(ratings)
    found = [_ceiling(axis, "utterance", means, errors, _unit(ratings) / ratings.shape[1], seed)]
    if len(systems):
        # The error of a mean over C clips has the variance (mean of the clips' error variances) / C.
        _, counts = np.unique(systems, return_counts=True)
        of_systems = system_means(means, systems), system_means(errors, systems) / counts
        found.append(_ceiling(axis, "system", *of_systems, 0.0, seed))
    return found


def reliability(ratings: ArrayLike) -> float:
    """The fraction of true variance in the clips' mean ratings: ICC(1,k), one-way random effects.

    It is (MSB - MSW) / MSB of the mean squares between and within clips (Shrout and Fleiss 1979), which equals the
    Spearman-Brown formula for the mean of R ratings. 0 if noise alone explains the differences of the clips; NaN for
    fewer than two clips or ratings, or no variance.

    Shape:
        - ratings: [N, R]

    >>> reliability([[1, 1], [5, 5]]), round(reliability([[1, 3], [5, 7]]), 3)
    (1.0, 0.875)
    """
    x = np.asarray(ratings, dtype=np.float64)
    return _reliability(x.mean(axis=1), error_variances(x))


def reliability_of(ratings: Sequence[Sequence[float]]) -> float:
    """`reliability` of clips with different numbers of ratings, over those that have two or more.

    >>> round(reliability_of([[1, 3], [5, 7], [4]]), 3)
    0.875
    """
    several = [np.asarray(values, dtype=np.float64) for values in ratings if len(values) > 1]
    means = np.array([values.mean() for values in several])
    return _reliability(means, np.array([values.var(ddof=1) / len(values) for values in several]))


def error_variances(ratings: ArrayLike) -> NDArray[np.float64]:
    """Variance of each clip's mean rating over draws of its raters: within-clip variance (ddof 1) / R.

    Shape:
        - ratings: [N, R]
        - returns: [N], NaN where R is 1
    """
    x = np.asarray(ratings, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"ratings must be [N, R], not {x.shape}")
    raters = x.shape[1]
    return np.asarray(x.var(axis=1, ddof=1) / raters if raters > 1 else np.full(len(x), np.nan))


def true_scores(means: ArrayLike, errors: ArrayLike, step: float = 0.0) -> tuple[NDArray[np.float64], ...]:
    """N scores distributed like the true scores, and the error variance of a label at each score.

    Errors make the distribution of labels wider than that of the true scores. Maximum likelihood finds the distribution
    that gives the labels when blurred by errors as large as those of clips with similar labels (EM on a grid from a
    uniform start, stopped early to stay smooth); the N scores are its quantiles.

    Shape:
        - means: [N], the labels
        - errors: [N], error variance of each label
        - returns: scores [N] in ascending order, error variances [N]
    """
    m, e = np.asarray(means, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    order = np.argsort(m, kind="stable")
    width = max(1, round(len(m) * _NEIGHBOURS)) // 2 * 2 + 1
    padded = np.pad(e[order], width // 2, mode="reflect") if len(m) > width else e[order]
    smoothed = np.convolve(padded, np.full(width, 1 / width), mode="valid") if len(m) > width else padded
    edges = np.linspace(m.min(), m.max(), _GRID + 1)
    grid = (edges[:-1] + edges[1:]) / 2
    at_grid = np.interp(grid, m[order], smoothed)
    blur = (
        at_grid + (step**2 + (edges[1] - edges[0]) ** 2) / 12
    )  # adds the variances of rounding and of the grid's cells
    labels, counts = np.unique(m, return_counts=True)
    likelihood = np.exp(-((labels[:, None] - grid) ** 2) / (2 * blur)) / np.sqrt(blur)  # [labels, grid]
    density = np.full(_GRID, 1 / _GRID)
    for _ in range(_EM_STEPS):
        weights = likelihood * density
        density = counts / len(m) @ (weights / weights.sum(axis=1, keepdims=True))
    below = np.concatenate([[0.0], np.cumsum(density)])
    scores = np.interp((np.arange(len(m)) + 0.5) / len(m), below / below[-1], edges)
    return scores, np.interp(scores, grid, at_grid)


def shrunk(means: ArrayLike, errors: ArrayLike) -> NDArray[np.float64]:
    """The labels shrunk to their mean until their variance is that of the true scores; [N] -> [N].

    >>> shrunk([2.0, 4.0, 6.0], [1.0, 1.0, 1.0]).round(3).tolist()
    [2.268, 4.0, 5.732]
    """
    m, e = np.asarray(means, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    return np.asarray(m.mean() + math.sqrt(_reliability(m, e)) * (m - m.mean()))


def _ceiling(
    axis: str, level: str, means: NDArray[np.float64], errors: NDArray[np.float64], step: float, seed: int
) -> Ceiling:
    """MSE and LCC follow from the variances; SRCC and KTAU are means over new labels drawn around likely true scores.

    True scores of clips, which are many and noisy, come from `true_scores`; those of systems, which are few and
    precise, from `shrunk`.
    """
    true_fraction, n = _reliability(means, errors), len(means)
    if not true_fraction > 0:  # no true variance: a perfect predictor is constant
        return Ceiling(axis, level, n, true_fraction, _mean(errors), np.nan, np.nan, np.nan)
    scores, noise = true_scores(means, errors, step) if level == "utterance" else (shrunk(means, errors), errors)
    rng = np.random.default_rng(seed)
    orders = []
    for _ in range(DRAWS):
        labels = scores + rng.standard_normal(n) * np.sqrt(noise)
        labels = np.round(labels / step) * step if step else labels
        orders.append((srcc(scores, labels), ktau(scores, labels)))
    expected = np.mean(orders, axis=0)
    return Ceiling(axis, level, n, true_fraction, _mean(errors), math.sqrt(true_fraction), *map(float, expected))


def _reliability(means: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    variance = float(means.var(ddof=1)) if len(means) > 1 else np.nan
    return float(np.maximum(0.0, 1 - _mean(errors) / variance)) if variance > 0 else np.nan


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else np.nan


def _unit(ratings: NDArray[np.float64]) -> float:
    """The step of the ratings: 1 for whole numbers, 1/4 for composites of whole numbers, 0 for others."""
    return next((unit for unit in (1.0, 0.25) if not (ratings % unit).any()), 0.0)
