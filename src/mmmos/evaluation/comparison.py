"""Systems compared by their scores, without labels: which is better, by how much, and how certain that is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.evaluation.pairing import files_of, pair_clips
from mmmos.metrics.differences import (
    bootstrap_means,
    clips_needed,
    group_means,
    holm,
    mean_intervals,
    paired_p,
    superiority_of_pairs,
    superiority_of_samples,
)
from mmmos.scores import SHOWN, Scores

ALL = "all"
"""The part of the clips that is not a domain."""

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class SystemDifference:
    """Two systems on one axis, over all clips or over those of one domain.

    A clip is a file, or all files of a group: rows of one clip (segments) are averaged first.
    """

    first: str
    second: str
    axis: str
    paired: bool  # whether the same clips are compared
    n: int  # pairs, or scored clips of the first system
    n_second: int  # pairs, or scored clips of the second system
    first_mean: float  # points
    second_mean: float
    difference: float  # mean of first - second, points
    low: float  # 95 % bootstrap interval; NaN for a single clip
    high: float
    deviation: float  # standard deviation of the pairs' differences, or that within the systems; NaN for a single clip
    superiority: float  # probability that the first is better on a clip; a tie counts as half
    p: float  # two-sided: Wilcoxon's signed-rank test of pairs, else Mann and Whitney's test
    p_holm: float = math.nan  # corrected for the number of tests
    part: str = ALL  # or a domain

    @property
    def effect(self) -> float:
        """The difference in standard deviations, Cohen's d; NaN where all differences are equal."""
        return self.difference / self.deviation if self.deviation > 0 else math.nan

    def clips_for(self, points: float) -> int | None:
        """The number of pairs, or of clips of each system, with which a difference of so many points is found.

        It is for a t test at the 5 % level that finds it in 80 % of experiments; None if it cannot be estimated.
        """
        return clips_needed(points / self.deviation, paired=self.paired) if self.deviation > 0 else None

    def to_json(self, detect: float) -> dict[str, Any]:
        """The fields, the effect and the clips needed for `detect` points; None for an undefined value."""
        values = asdict(self) | {"effect": self.effect, "detect": detect, "clips_for_detect": self.clips_for(detect)}
        return {
            name: (round(value, 8) if math.isfinite(value) else None) if isinstance(value, float) else value
            for name, value in values.items()
        }


def lowest_p(item: SystemDifference) -> float:
    """The lowest p value that the test of a difference can have with so many clips, before it is corrected."""
    if item.paired:
        return 2.0 ** (1 - item.n)
    return 2 / math.comb(item.n + item.n_second, item.n)


def compare_systems(
    systems: Mapping[str, Sequence[Scores]],
    axes: Sequence[str] = SHOWN,
    pairs: Iterable[tuple[str, str]] | None = None,
    seed: int = 0,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    by_domain: bool = False,
) -> list[SystemDifference]:
    """Every two systems, or the named `pairs`, on every axis that both have scores on.

    Clips are paired as by `pair_clips`; systems without common clips are compared as independent samples. `groups`
    names the clip of each row of each system, by default its file. With `by_domain` each domain with two rows follows,
    if there are several domains; a pair has the domain of its first clip. The p values are corrected over all tests of
    all clips; those of domains, which look at the same clips again, over all tests of domains.
    """
    found: list[SystemDifference] = []
    for first, second in combinations(systems, 2) if pairs is None else pairs:
        names = [files_of(systems[name]) if groups is None else groups[name] for name in (first, second)]
        for part, a, b, paired in _parts(systems[first], systems[second], names, axes, by_domain):
            estimate = _paired(a, seed) if paired else _independent(a, b, seed)
            for axis, values in zip(axes, estimate, strict=True):
                if values is not None:
                    found.append(SystemDifference(first, second, axis, paired, *values, part=part))
    corrected = np.empty(len(found))
    whole = np.array([item.part == ALL for item in found], dtype=bool)
    for family in (whole, ~whole):
        corrected[family] = holm(np.array([item.p for item in found])[family])
    return [replace(item, p_holm=float(p)) for item, p in zip(found, corrected, strict=True)]


def _parts(
    ours: Sequence[Scores],
    theirs: Sequence[Scores],
    names: Sequence[Sequence[str]],
    axes: Sequence[str],
    by_domain: bool,
) -> Iterator[tuple[str, _Array, _Array, bool]]:
    """The scores of all clips, then of each domain: [N, A] of each system, or [N, 2 A] and nothing for pairs."""
    a, b = (np.array([[scores[axis] for axis in axes] for scores in rows]) for rows in (ours, theirs))
    domains = [np.array([scores.domain or "" for scores in rows]) for rows in (ours, theirs)]
    clips = [np.asarray(own) for own in names]
    same = pair_clips(ours, theirs)
    if same is not None:
        a, clips, domains = np.hstack([a[same[0]], b[same[1]]]), [clips[0][same[0]]], [domains[0][same[0]]]
    known = sorted({name for own in domains for name in own} - {""}) if by_domain else []
    parts = [part for part in known if len(known) > 1 and all((own == part).sum() > 1 for own in domains)]
    for part in (ALL, *parts):
        rows = [own == part if part != ALL else np.full(len(own), True) for own in domains]
        if same is not None:
            yield part, group_means(a[rows[0]], clips[0][rows[0]]), np.empty((0, len(axes))), True
        else:
            both = (group_means(v[r], c[r]) for v, r, c in zip((a, b), rows, clips, strict=True))
            yield part, *both, False


_Estimate = tuple[int, int, float, float, float, float, float, float, float, float]
"""The fields of `SystemDifference` from `n` to `p`."""


def _paired(both: _Array, seed: int) -> list[_Estimate | None]:
    """An estimate for each axis of pairs [N, 2 A]."""
    a, b = np.hsplit(both, 2)
    differences = a - b
    intervals = mean_intervals(bootstrap_means(differences, seed=seed))
    found: list[_Estimate | None] = []
    for ours, theirs, interval in zip(a.T, b.T, intervals, strict=True):
        known = np.isfinite(ours - theirs)
        x, y = ours[known], theirs[known]
        n, d = len(x), x - y
        if not n:
            found.append(None)
            continue
        means = float(x.mean()), float(y.mean()), float(d.mean())
        deviation, limits = (float(d.std(ddof=1)), interval) if n > 1 else (math.nan, (math.nan, math.nan))
        found.append((n, n, *means, *limits, deviation, superiority_of_pairs(d), paired_p(d)))
    return found


def _independent(a: _Array, b: _Array, seed: int) -> list[_Estimate | None]:
    """An estimate for each axis of two systems, [N, A] and [M, A]."""
    intervals = mean_intervals(bootstrap_means(a, seed=seed) - bootstrap_means(b, seed=seed + 1))
    found: list[_Estimate | None] = []
    for ours, theirs, interval in zip(a.T, b.T, intervals, strict=True):
        x, y = ours[np.isfinite(ours)], theirs[np.isfinite(theirs)]
        if not len(x) or not len(y):
            found.append(None)
            continue
        means = float(x.mean()), float(y.mean()), float(x.mean() - y.mean())
        deviation, limits = math.nan, (math.nan, math.nan)
        if min(len(x), len(y)) > 1:
            deviation, limits = math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2), interval
        found.append((len(x), len(y), *means, *limits, deviation, *superiority_of_samples(x, y)))
    return found
