"""Bootstrap intervals of metrics, and of their difference between two models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmmos.metrics.functions import Metric, checked, distance_from_best


def bootstrap(
    metric: Metric,
    prediction: ArrayLike,
    target: ArrayLike,
    groups: ArrayLike | None = None,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a metric (Efron 1979): its low and high end.

    Clips of one song or one talker are not independent. Pass their `groups` to draw whole groups with
    replacement: drawing single clips would give too narrow an interval.

    Resamples on which the metric is undefined are ignored; NaN, NaN if it is undefined on all of them.

    Shape:
        - prediction, target, groups: [N]

    >>> from mmmos.metrics import bias
    >>> bootstrap(bias, [1.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    (1.0, 1.0)
    """
    p, t = checked(prediction, target)
    values = np.array([metric(p[rows], t[rows]) for rows in _resamples(len(p), groups, samples, seed, level)])
    return _interval(values, level)


@dataclass(frozen=True)
class Difference:
    """The difference of a metric between two models on the same clips."""

    difference: float  # first - second
    low: float  # low and high end of its interval
    high: float
    better: float  # fraction of the resamples in which the first is better; a tie counts as half


def paired_bootstrap(
    metrics: Mapping[str, Metric],
    first: ArrayLike,
    second: ArrayLike,
    target: ArrayLike,
    groups: ArrayLike | None = None,
    samples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Difference]:
    """Compare metrics of two models on bootstrap resamples of the clips that both have scored.

    Each resample has the same clips for both models, so that errors on hard clips cancel: the interval of the
    difference is much narrower than two separate intervals suggest. Groups are drawn as in `bootstrap`.

    Shape:
        - first, second, target, groups: [N]

    >>> from mmmos.metrics import mse
    >>> paired_bootstrap({"MSE": mse}, [1.0, 2.0], [2.0, 3.0], [1.0, 2.0])["MSE"]
    Difference(difference=-1.0, low=-1.0, high=-1.0, better=1.0)
    """
    a, t = checked(first, target)
    b, _ = checked(second, target)
    drawn: dict[str, list[tuple[float, float]]] = {name: [] for name in metrics}
    for rows in _resamples(len(t), groups, samples, seed, level):
        for name, metric in metrics.items():
            drawn[name].append((metric(a[rows], t[rows]), metric(b[rows], t[rows])))
    found = {}
    for name, metric in metrics.items():
        pairs = np.array(drawn[name]).reshape(-1, 2)
        pairs = pairs[~np.isnan(pairs).any(axis=1)]
        gain = distance_from_best(name, pairs[:, 1]) - distance_from_best(name, pairs[:, 0])
        better = float(np.mean((np.sign(gain) + 1) / 2)) if len(pairs) else np.nan
        found[name] = Difference(metric(a, t) - metric(b, t), *_interval(pairs[:, 0] - pairs[:, 1], level), better)
    return found


def _resamples(
    clips: int, groups: ArrayLike | None, samples: int, seed: int, level: float
) -> Iterator[NDArray[np.intp]]:
    """Row numbers of each resample; no resamples without clips."""
    names = np.arange(clips) if groups is None else np.asarray(groups)
    if names.shape != (clips,):
        raise ValueError(f"groups {names.shape} must be [N] as prediction {(clips,)}")
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"samples must be at least 1 and level between 0 and 1, not {samples} and {level}")
    if not clips:
        return
    _, group = np.unique(names, return_inverse=True)
    order, sizes = np.argsort(group, kind="stable"), np.bincount(group)
    members = np.split(order, np.cumsum(sizes)[:-1])
    rng = np.random.default_rng(seed)
    for _ in range(samples):
        drawn = rng.integers(len(members), size=len(members))
        # If each clip is its own group, skip the concatenation, which takes most of the time.
        yield order[drawn] if len(members) == clips else np.concatenate([members[j] for j in drawn])


def _interval(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Low and high end of the central fraction `level` of the defined values."""
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
