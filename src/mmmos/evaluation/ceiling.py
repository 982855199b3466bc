"""The ceiling that the raters' own noise sets: how well a perfect predictor would agree with the mean of R ratings.

A perfect predictor knows each clip's true score, the mean over all raters there could be. The label is the
mean over R of them, so it misses the true score, and even a perfect predictor does not reach MSE 0 or LCC 1:

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
"""New sets of labels that the expected SRCC and KTAU are means over."""

_EM_STEPS = 30  # few: more would sharpen the spread of true scores into spikes that the labels do not show
_GRID = 200
_NEIGHBOURS = 1 / 30  # share of the clips whose rating variance is averaged


@dataclass(frozen=True)
class Ceiling:
    """What a perfect predictor is expected to get on one axis, at one level."""

    axis: str  # of AXES, or "composite"
    level: str  # "utterance" or "system"
    n: int  # clips, or systems
    reliability: float  # of a label: share of its variance that is true; ICC(1,k) at utterance level
    MSE: float  # error variance of a label
    LCC: float
    SRCC: float
    KTAU: float


def ceilings(ratings: ArrayLike, systems: Sequence[str] = (), seed: int = 0) -> list[Ceiling]:
    """The ceiling of every axis and of the composite, per clip and, where systems are named, per system.

    A rater's composite is the mean of the four ratings at that rater's place in the lists: one rater's
    errors on the four axes go together, so they do not cancel in the composite as four strangers' would.

    Shape:
        - ratings: [N, A, R], the same rater at the same place of the four lists
        - systems: [N]
    """
    x = np.asarray(ratings, dtype=np.float64)
    if x.ndim != 3 or x.shape[1] != len(AXES) or (len(systems) and len(systems) != len(x)):
        raise ValueError(f"ratings must be [N, {len(AXES)}, R] and systems [N], not {x.shape} and {len(systems)}")
    by_rater = {axis: x[:, i] for i, axis in enumerate(AXES)}
    by_rater["composite"] = composite(np.moveaxis(x, 1, 2).reshape(-1, len(AXES))).reshape(len(x), x.shape[2])
    found = []
    for axis, ratings_of in by_rater.items():
        means, errors = ratings_of.mean(axis=1), error_variances(ratings_of)
        step = _unit(ratings_of) / ratings_of.shape[1]
        found.append(_ceiling(axis, "utterance", means, errors, step, seed))
        if len(systems):
            # The error of a mean over C clips is theirs averaged, with variance (mean of theirs) / C.
            _, counts = np.unique(systems, return_counts=True)
            of_systems = system_means(means, systems), system_means(errors, systems) / counts
            found.append(_ceiling(axis, "system", *of_systems, 0.0, seed))
    return found


def reliability(ratings: ArrayLike) -> float:
    """Share of the variance of the clips' mean ratings that is true: ICC(1,k), one-way random effects.

    It is (MSB - MSW) / MSB of the mean squares between and within clips (Shrout and Fleiss 1979), which is
    Spearman and Brown's step from the reliability of one rating to that of the mean of R. 0 where the clips
    differ no more than the noise makes them; NaN for fewer than two clips or ratings, or no variance.

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
    """N scores that are spread as the true scores are, and the error variance of a label at each.

    Labels are spread wider than true scores, by the errors. The spread that, blurred by errors of the size
    found among clips with labels alike, gives the labels is fitted by maximum likelihood (EM on a grid from a
    flat start, stopped early to stay smooth); the N scores are its quantiles.

    Shape:
        - means: [N], the labels
        - errors: [N], error variance of each
        - returns: two of [N], in rising order of the scores
    """
    m, e = np.asarray(means, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    order = np.argsort(m, kind="stable")
    width = max(1, round(len(m) * _NEIGHBOURS)) // 2 * 2 + 1
    padded = np.pad(e[order], width // 2, mode="reflect") if len(m) > width else e[order]
    alike = np.convolve(padded, np.full(width, 1 / width), mode="valid") if len(m) > width else padded
    edges = np.linspace(m.min(), m.max(), _GRID + 1)
    grid = (edges[:-1] + edges[1:]) / 2
    at_grid = np.interp(grid, m[order], alike)
    blur = at_grid + (step**2 + (edges[1] - edges[0]) ** 2) / 12  # of rounding, and of the grid's own cells
    labels, counts = np.unique(m, return_counts=True)
    likelihood = np.exp(-((labels[:, None] - grid) ** 2) / (2 * blur)) / np.sqrt(blur)  # [labels, grid]
    share = np.full(_GRID, 1 / _GRID)
    for _ in range(_EM_STEPS):
        weights = likelihood * share
        share = counts / len(m) @ (weights / weights.sum(axis=1, keepdims=True))
    below = np.concatenate([[0.0], np.cumsum(share)])
    scores = np.interp((np.arange(len(m)) + 0.5) / len(m), below / below[-1], edges)
    return scores, np.interp(scores, grid, at_grid)


def shrunk(means: ArrayLike, errors: ArrayLike) -> NDArray[np.float64]:
    """The labels pulled to their mean until their variance is that of the true scores; [N] to [N].

    >>> shrunk([2.0, 4.0, 6.0], [1.0, 1.0, 1.0]).round(3).tolist()
    [2.268, 4.0, 5.732]
    """
    m, e = np.asarray(means, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    return np.asarray(m.mean() + math.sqrt(_reliability(m, e)) * (m - m.mean()))


def _ceiling(
    axis: str, level: str, means: NDArray[np.float64], errors: NDArray[np.float64], step: float, seed: int
) -> Ceiling:
    """MSE and LCC follow from the variances; SRCC and KTAU are means over new labels drawn around likely true scores.

    Clips are many and noisy: `true_scores`. Systems are few, their labels precise: those, `shrunk`.
    """
    true_share, n = _reliability(means, errors), len(means)
    if not true_share > 0:  # nothing to know: a perfect predictor says the same of every clip
        return Ceiling(axis, level, n, true_share, _mean(errors), np.nan, np.nan, np.nan)
    scores, noise = true_scores(means, errors, step) if level == "utterance" else (shrunk(means, errors), errors)
    rng = np.random.default_rng(seed)
    orders = []
    for _ in range(DRAWS):
        labels = scores + rng.standard_normal(n) * np.sqrt(noise)
        labels = np.round(labels / step) * step if step else labels
        orders.append((srcc(scores, labels), ktau(scores, labels)))
    expected = np.mean(orders, axis=0)
    return Ceiling(axis, level, n, true_share, _mean(errors), math.sqrt(true_share), *map(float, expected))


def _reliability(means: NDArray[np.float64], errors: NDArray[np.float64]) -> float:
    variance = float(means.var(ddof=1)) if len(means) > 1 else np.nan
    return float(np.maximum(0.0, 1 - _mean(errors) / variance)) if variance > 0 else np.nan


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else np.nan


def _unit(ratings: NDArray[np.float64]) -> float:
    """What all the ratings are multiples of: 1 for whole numbers, a quarter for composites of them, 0 for neither."""
    return next((unit for unit in (1.0, 0.25) if not (ratings % unit).any()), 0.0)
