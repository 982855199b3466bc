"""Systems compared by their scores, without labels: which is better, by how much, and how certain that is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePath

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmmos.scores import SHOWN, Scores

RESAMPLES = 2000
"""Bootstrap resamples of an interval."""

_BLOCK = 1 << 20  # random numbers at a time

Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Row numbers in the first and in the second system, of equal length."""


@dataclass(frozen=True)
class SystemDifference:
    """Two systems on one axis."""

    first: str
    second: str
    axis: str
    paired: bool  # whether the same clips are compared
    n: int  # pairs, or scored clips of the first system
    n_second: int  # pairs, or scored clips of the second system
    difference: float  # mean of first - second, points
    low: float  # 95 % bootstrap interval
    high: float
    superiority: float  # probability that the first is better on a clip; a tie counts as half
    p: float  # two-sided: Wilcoxon's signed-rank test of pairs, else Mann and Whitney's test
    p_holm: float  # corrected for the number of tests


def compare_systems(
    systems: Mapping[str, Sequence[Scores]],
    axes: Sequence[str] = SHOWN,
    pairs: Iterable[tuple[str, str]] | None = None,
    seed: int = 0,
) -> list[SystemDifference]:
    """Every two systems, or the named `pairs`, on every axis that both have scores on.

    The p values are corrected over all of these tests.

    Clips are paired as by `pair_clips`; systems without common clips are compared as independent samples.
    """
    found: list[SystemDifference] = []
    for first, second in combinations(systems, 2) if pairs is None else pairs:
        ours, theirs = systems[first], systems[second]
        same = pair_clips(ours, theirs)
        a, b = (np.array([[scores[axis] for axis in axes] for scores in rows]) for rows in (ours, theirs))
        estimate = _independent(a, b, seed) if same is None else _paired(a[same[0]], b[same[1]], seed)
        for axis, values in zip(axes, estimate, strict=True):
            if values is not None:
                found.append(SystemDifference(first, second, axis, same is not None, *values, math.nan))
    corrected = holm([item.p for item in found])
    return [SystemDifference(**{**vars(item), "p_holm": float(p)}) for item, p in zip(found, corrected, strict=True)]


_Estimate = tuple[int, int, float, float, float, float, float]
"""The fields of `SystemDifference` from `n` to `p`."""


def _paired(a: NDArray[np.float64], b: NDArray[np.float64], seed: int) -> list[_Estimate | None]:
    differences = a - b
    intervals = _intervals(bootstrap_means(differences, seed=seed))
    found: list[_Estimate | None] = []
    for column, (low, high) in zip(differences.T, intervals, strict=True):
        known = column[np.isfinite(column)]
        n = len(known)
        p = paired_p(known)
        found.append((n, n, float(known.mean()), low, high, superiority_of_pairs(known), p) if n else None)
    return found


def _independent(a: NDArray[np.float64], b: NDArray[np.float64], seed: int) -> list[_Estimate | None]:
    intervals = _intervals(bootstrap_means(a, seed=seed) - bootstrap_means(b, seed=seed + 1))
    found: list[_Estimate | None] = []
    for ours, theirs, (low, high) in zip(a.T, b.T, intervals, strict=True):
        x, y = ours[np.isfinite(ours)], theirs[np.isfinite(theirs)]
        if not len(x) or not len(y):
            found.append(None)
            continue
        superiority, p = superiority_of_samples(x, y)
        found.append((len(x), len(y), float(x.mean() - y.mean()), low, high, superiority, p))
    return found


def pair_clips(first: Sequence[Scores], second: Sequence[Scores]) -> Pairs | None:
    """The rows of the same clips in two systems; None if there are too few to compare pairs.

    A clip has the same id in both systems, or else the same path below the folder that all clips of its system are in,
    or else the same file name without suffix; and the same segment. The first of these rules that pairs at least half
    of the smaller system is used. Ids that occur twice are not paired.
    """
    for key in (_by_id, _by_path, _by_name):
        ours, theirs = (_unique(key(rows)) for rows in (first, second))
        common = [name for name in ours if name in theirs]
        if common and 2 * len(common) >= min(len(first), len(second)):
            return np.array([ours[name] for name in common]), np.array([theirs[name] for name in common])
    return None


def _unique(keys: Sequence[Hashable]) -> dict[Hashable, int]:
    counts = Counter(keys)
    return {key: row for row, key in enumerate(keys) if counts[key] == 1}


def _segment(scores: Scores) -> float:
    return round(scores.start_time, 3) if math.isfinite(scores.start_time) else 0.0


def _by_id(rows: Sequence[Scores]) -> list[Hashable]:
    return [(scores.id, _segment(scores)) for scores in rows]


def _by_path(rows: Sequence[Scores]) -> list[Hashable]:
    paths = [PurePath(scores.path or scores.id).parts for scores in rows]
    shared = 0
    while len({path[: shared + 1] for path in paths}) == 1 and all(len(path) > shared + 1 for path in paths):
        shared += 1
    return [(path[shared:], _segment(scores)) for path, scores in zip(paths, rows, strict=True)]


def _by_name(rows: Sequence[Scores]) -> list[Hashable]:
    return [(PurePath(scores.path or scores.id).stem, _segment(scores)) for scores in rows]


def bootstrap_means(
    values: ArrayLike, groups: ArrayLike | None = None, samples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Means of bootstrap resamples of the rows, each over the values that are not NaN.

    With `groups`, whole groups of rows are drawn: clips of one song or one talker are not independent.

    Shape:
        - values: [N, K]; groups: [N]
        - returns: [samples, K], NaN if a resample has no value
    """
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    known = np.isfinite(rows)
    parts = np.hstack([np.where(known, rows, 0.0), known])  # sums and counts of each unit
    if groups is not None:
        _, unit = np.unique(np.asarray(groups), return_inverse=True)
        summed = np.zeros((unit.max(initial=-1) + 1, parts.shape[1]))
        np.add.at(summed, unit, parts)
        parts = summed
    n, columns = len(parts), rows.shape[1]
    if not n:
        return np.full((samples, columns), np.nan)
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // n)
    found = []
    for begin in range(0, samples, step):
        size = min(step, samples - begin)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        found.append(times @ parts)
    totals = np.concatenate(found)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = totals[:, :columns] / totals[:, columns:]
    return means


def _intervals(means: NDArray[np.float64], level: float = 0.95) -> list[tuple[float, float]]:
    """The central interval of each column."""

    def interval(column: NDArray[np.float64]) -> tuple[float, float]:
        known = column[np.isfinite(column)]
        if not len(known):
            return math.nan, math.nan
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    return [interval(column) for column in means.T]


def superiority_of_pairs(differences: ArrayLike) -> float:
    """The fraction of pairs in which the first is better; a tie counts as half. NaN without pairs.

    >>> superiority_of_pairs([0.5, 0.1, 0.0, -0.2])
    0.625
    """
    values = np.asarray(differences, dtype=np.float64)
    return float(np.mean((np.sign(values) + 1) / 2)) if len(values) else math.nan


def superiority_of_samples(first: ArrayLike, second: ArrayLike) -> tuple[float, float]:
    """The probability that a clip of the first sample is better than one of the second, and its two-sided p value.

    The first is Mann and Whitney's U divided by the number of pairs of clips (Vargha and Delaney's A).
    """
    from scipy.stats import mannwhitneyu

    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    found = mannwhitneyu(x, y, alternative="two-sided")
    return float(found.statistic) / (len(x) * len(y)), _p(float(found.pvalue))


def paired_p(differences: ArrayLike) -> float:
    """The two-sided p value of Wilcoxon's signed-rank test; ties are left out. NaN without pairs."""
    from scipy.stats import wilcoxon

    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        return math.nan
    values = values[values != 0]
    return _p(float(wilcoxon(values).pvalue)) if len(values) else 1.0


def _p(value: float) -> float:
    return 1.0 if math.isnan(value) else value  # of samples that are all equal


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P values corrected for their number by Holm's step-down procedure (1979), in the order given; NaN stays NaN.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[: int(np.isfinite(p).sum())]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected = np.full(p.shape, np.nan)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected
