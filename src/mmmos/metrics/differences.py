"""Differences of means: intervals, effect sizes, tests, and the number of clips that a difference needs."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
"""Bootstrap resamples of an interval."""

_BLOCK = 1 << 20  # random numbers at a time

_LARGE = 10_000
"""Beyond this number of clips the t distribution is the normal one."""


def bootstrap_means(values: ArrayLike, samples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Means of bootstrap resamples of the rows, each over the values that are not NaN.

    Rows must be independent: clips of one song or one talker are averaged first (`group_means`).

    Shape:
        - values: [N, K]
        - returns: [samples, K], NaN if a resample has no value
    """
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    known = np.isfinite(rows)
    parts = np.hstack([np.where(known, rows, 0.0), known])  # sums and counts of each unit
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


def mean_intervals(means: NDArray[np.float64], level: float = 0.95) -> list[tuple[float, float]]:
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


def group_means(values: ArrayLike, groups: ArrayLike) -> NDArray[np.float64]:
    """The mean of each group of rows, over the values that are not NaN; groups in the order of their first row.

    Shape:
        - values: [N, K]; groups: [N]
        - returns: [G, K], NaN if a group has no value

    >>> group_means([[1.0], [3.0], [5.0]], ["b", "b", "a"]).tolist()
    [[2.0], [5.0]]
    """
    rows = np.asarray(values, dtype=np.float64)
    _, first, unit = np.unique(np.asarray(groups), return_index=True, return_inverse=True)
    if len(first) == len(rows):
        return rows
    known = np.isfinite(rows)
    sums, counts = np.zeros((len(first), rows.shape[1])), np.zeros((len(first), rows.shape[1]))
    np.add.at(sums, unit, np.where(known, rows, 0.0))
    np.add.at(counts, unit, known)
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = (sums / counts)[np.argsort(first)]
    return means


def clips_needed(effect: float, *, paired: bool, power: float = 0.8, level: float = 0.05) -> int | None:
    """The fewest pairs, or clips in each of two groups, with which a t test finds an effect in standard deviations.

    From the noncentral t distribution; `power` is the probability of finding it, `level` that of a false alarm (two
    sides). None for an effect of 0 or NaN.

    >>> clips_needed(0.5, paired=True), clips_needed(0.5, paired=False)
    (34, 64)
    """
    from scipy.stats import nct, norm, t

    if not 0 < abs(effect) < math.inf:
        return None

    def found(n: int) -> bool:
        freedom, shift = (n - 1, abs(effect) * math.sqrt(n)) if paired else (2 * n - 2, abs(effect) * math.sqrt(n / 2))
        return bool(nct.sf(t.isf(level / 2, freedom), freedom, shift) >= power)

    z = (norm.isf(level / 2) - norm.isf(power)) / effect
    n = max(2, math.floor(z * z * (1 if paired else 2)))  # of the normal distribution: at most a few too low
    while n < _LARGE and not found(n):
        n += 1
    return n
