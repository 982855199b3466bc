"""The metrics: error, correlation and rank correlation, per clip or per system.

Every metric takes predictions [N] and targets [N] and returns a float, computed in float64. It equals SciPy's
value, and is NaN, never 0, where the metric is undefined (fewer than two clips, or constant values).
Values that are not finite are refused with ValueError: drop the rows of clips without a score.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmmos.metrics.ranks import mean_ranks, tau_b
from mmmos.scores import AXES

Metric = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
"""A function of predictions [N] and targets [N]."""


def mse(prediction: ArrayLike, target: ArrayLike) -> float:
    """Mean squared error; NaN without clips.

    >>> round(mse([1, 2, 2, 4, 3], [1, 3, 2, 3, 5]), 6)
    1.2
    """
    p, t = checked(prediction, target)
    return float(np.mean((p - t) ** 2)) if len(p) else np.nan


def lcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Linear correlation coefficient, Pearson's r.

    >>> round(lcc([1, 2, 2, 4, 3], [1, 3, 2, 3, 5]), 6)
    0.650444
    """
    p, t = checked(prediction, target)
    return _pearson(p, t) if _varies(p) and _varies(t) else np.nan


def srcc(prediction: ArrayLike, target: ArrayLike) -> float:
    """Spearman's rank correlation coefficient: Pearson's r of the ranks; tied values get their mean rank.

    >>> round(srcc([1, 2, 2, 4, 3], [1, 3, 2, 3, 5]), 6)
    0.763158
    """
    p, t = checked(prediction, target)
    return _pearson(mean_ranks(p), mean_ranks(t)) if _varies(p) and _varies(t) else np.nan


def ktau(prediction: ArrayLike, target: ArrayLike) -> float:
    """Kendall's tau-b: concordant minus discordant pairs, corrected for ties.

    >>> round(ktau([1, 2, 2, 4, 3], [1, 3, 2, 3, 5]), 6)
    0.666667
    """
    p, t = checked(prediction, target)
    return tau_b(p, t) if _varies(p) and _varies(t) else np.nan


def bias(prediction: ArrayLike, target: ArrayLike) -> float:
    """Mean of prediction - target: above 0 if predictions are too high. NaN without clips.

    >>> bias([2, 4], [1, 2])
    1.5
    """
    p, t = checked(prediction, target)
    return float(np.mean(p - t)) if len(p) else np.nan


def debiased_mse(prediction: ArrayLike, target: ArrayLike) -> float:
    """Mean squared error after subtracting the bias: mse - bias^2.

    NaN for fewer than two clips: the error of a single clip is its bias.

    >>> debiased_mse([2, 4], [1, 2])
    0.25
    """
    p, t = checked(prediction, target)
    return float(np.var(p - t)) if len(p) > 1 else np.nan


def utterance_metrics(prediction: ArrayLike, target: ArrayLike) -> dict[str, float]:
    """The four metrics over clips.

    >>> {name: round(value, 3) for name, value in utterance_metrics([1, 2, 2, 4, 3], [1, 3, 2, 3, 5]).items()}
    {'MSE': 1.2, 'LCC': 0.65, 'SRCC': 0.763, 'KTAU': 0.667}
    """
    p, t = checked(prediction, target)
    return {name: metric(p, t) for name, metric in METRICS.items()}


def system_metrics(prediction: ArrayLike, target: ArrayLike, systems: ArrayLike) -> dict[str, float]:
    """The four metrics over systems; predictions and targets of a system are the means over its clips.

    Shape:
        - prediction, target, systems: [N]
    """
    p, t = checked(prediction, target)
    return utterance_metrics(system_means(p, systems), system_means(t, systems))


def system_means(values: ArrayLike, systems: ArrayLike) -> NDArray[np.float64]:
    """Arithmetic mean of each system, in the order of `np.unique(systems)`.

    Shape:
        - values, systems: [N]
        - returns: [G], one per distinct system

    >>> system_means([1, 2, 6], ["b", "a", "b"]).tolist()
    [2.0, 3.5]
    """
    x, names = np.asarray(values, dtype=np.float64), np.asarray(systems)
    if x.ndim != 1 or x.shape != names.shape:
        raise ValueError(f"values {x.shape} and systems {names.shape} must both be [N]")
    _, first, system = np.unique(names, return_index=True, return_inverse=True)
    # Relative to the system's first clip, so that the mean of equal values is exactly that value. A rounding
    # error would break ties between equal systems, and give constant ones a correlation instead of NaN.
    origin = x[first]
    return origin + np.bincount(system, x - origin[system]) / np.bincount(system)


def composite(values: ArrayLike) -> NDArray[np.float64]:
    """A clip's overall score: the mean of its four axes, computed before any metric.

    Shape:
        - values: [N, A], on the label scale
        - returns: [N]

    >>> composite([[1, 2, 3, 6]]).tolist()
    [3.0]
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != len(AXES):
        raise ValueError(f"values must be [N, {len(AXES)}], not {x.shape}")
    return np.asarray(x.mean(axis=1))


def distance_from_best(name: str, figure: ArrayLike) -> NDArray[np.float64]:
    """Distance of a metric's values from its best value: 0 is perfect, smaller is better.

    >>> [float(distance_from_best(name, -0.5)) for name in ("LCC", "bias")]
    [1.5, 0.5]
    """
    x = np.asarray(figure, dtype=np.float64)
    return 1 - x if name in ("LCC", "SRCC", "KTAU") else np.abs(x)


def checked(prediction: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64 [N]. Raises ValueError for other shapes, and for values that are not finite."""
    p, t = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if p.ndim != 1 or p.shape != t.shape:
        raise ValueError(f"prediction {p.shape} and target {t.shape} must both be [N]")
    if not (np.isfinite(p).all() and np.isfinite(t).all()):
        raise ValueError("prediction and target must be finite: drop the rows of clips without a score or label")
    return p, t


def _varies(x: NDArray[np.float64]) -> bool:
    return len(x) > 1 and bool((x != x[0]).any())


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Pearson's r of two arrays that vary. SciPy's function also computes a p-value and warns."""
    x, y = x - x.mean(), y - y.mean()
    x, y = x / np.abs(x).max(), y / np.abs(y).max()  # avoids underflow of the squares
    r = np.dot(x / np.linalg.norm(x), y / np.linalg.norm(y))
    return float(np.clip(r, -1.0, 1.0))  # rounding may exceed 1


METRICS: dict[str, Metric] = {"MSE": mse, "LCC": lcc, "SRCC": srcc, "KTAU": ktau}
"""Metrics by their names in result tables."""

ALL_METRICS: dict[str, Metric] = {**METRICS, "bias": bias, "debiased_mse": debiased_mse}
"""The metrics of result tables, the bias, and the error without it."""

LEVELS = ("utterance", "system")
"""The units of a metric: clips, or the means of systems."""
