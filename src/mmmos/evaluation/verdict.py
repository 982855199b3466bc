"""The result of comparing systems: one sentence for people, notes, and the differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mmmos.errors import UsageError
from mmmos.evaluation.comparison import ALL, SystemDifference, compare_systems, lowest_p
from mmmos.evaluation.pairing import repeated
from mmmos.evaluation.rating_scales import scores_scale
from mmmos.scores import AXES, LABEL_RANGE, SHOWN, Scores, parse_scale
from mmmos.wording import agree, counted

SIGNIFICANT = 0.05
"""A difference is found if its corrected p value is below this."""

DETECT_FRACTION = 0.02
"""The difference whose sample size is given by default, as a fraction of the length of the scale."""


@dataclass(frozen=True)
class SystemComparison:
    """Systems compared, two at a time."""

    systems: tuple[str, ...]
    scale: str | None  # of all scores; None if no row names it
    detect: float  # the difference whose sample size is given, points
    differences: tuple[SystemDifference, ...]
    notes: tuple[str, ...]  # sentences for the user

    @property
    def sentence(self) -> str:
        """Which system has the higher scores, on all clips."""
        return sentence_of(self.systems, self.differences)

    def __str__(self) -> str:
        return self.sentence

    def to_json(self) -> dict[str, Any]:
        """All fields; None for an undefined value."""
        return {
            "sentence": self.sentence,
            "systems": list(self.systems),
            "scale": self.scale,
            "differences": [item.to_json(self.detect) for item in self.differences],
            "notes": list(self.notes),
        }


def compare_scores(
    systems: Mapping[str, Sequence[Scores]],
    *,
    detect: float | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> SystemComparison:
    """Compare every two systems on every axis, over all clips and by domain.

    `detect` is the difference, in points, whose sample size is given; by default 2 % of the scale. `groups` names the
    clip or group of each row of each system. Raises `UsageError` for fewer than two systems, for scores on several
    scales or of several models, and for systems without a common axis.
    """
    if len(systems) < 2:
        raise UsageError(
            "a comparison needs at least two systems; name two results, or the column that divides one (--split)"
        )
    scale = _common_scale(systems)
    _check_models(systems)
    low, high = (parse_scale(scale) if scale else None) or LABEL_RANGE
    points = DETECT_FRACTION * (high - low) if detect is None else detect
    if not 0 < points < math.inf:
        raise UsageError(f"the difference to detect is a number of points above 0, not {points:g}")
    found = compare_systems(systems, seed=seed, groups=groups, by_domain=True)
    if not found:
        raise UsageError(
            f"{' and '.join(list(systems)[:2])} have no axis with scores in common, so nothing is compared"
        )
    return SystemComparison(tuple(systems), scale, points, tuple(found), tuple(_notes(systems, found)))


def _common_scale(systems: Mapping[str, Sequence[Scores]]) -> str | None:
    """The scale of all scores, or None. Raises `UsageError` for several."""
    known = [(name, scale) for name, rows in systems.items() if (scale := scores_scale(rows, name))]
    for (first, scale), (name, other) in pairwise(known):
        if other != scale:
            raise UsageError(f"scores of {first} are on the scale {scale}, those of {name} on {other}: use one model")
    return known[0][1] if known else None


def _check_models(systems: Mapping[str, Sequence[Scores]]) -> None:
    """Raise `UsageError` for scores of several models, whose difference is not that of the systems."""
    seen: dict[str, tuple[str, str]] = {}  # sha256 -> system and model
    for name, rows in systems.items():
        for scores in rows:
            if scores.provenance and scores.error is None:
                seen.setdefault(scores.provenance.model_sha256, (name, scores.provenance.model))
    if len(seen) > 1:
        (one, other), digests = list(seen.values())[:2], list(seen)
        raise UsageError(
            f"{one[0]} has scores of {one[1]} ({digests[0][:8]}), {other[0]} of {other[1]} ({digests[1][:8]}): another"
            " model gives other scores, so score all systems with one model; `mmmos evaluate --against` compares models"
        )


def _notes(systems: Mapping[str, Sequence[Scores]], found: Sequence[SystemDifference]) -> Iterable[str]:
    for name, rows in systems.items():
        count = sum(all(math.isnan(scores[axis]) for axis in AXES) for scores in rows)
        if count:
            yield f"{name}: {counted(count, 'row', of=len(rows))} {agree(count, 'has')} no score"
        if twice := repeated(rows):
            rest = "not paired, and averaged where systems have no clips in common"
            yield f"{name}: {counted(twice, 'row')} of a clip that is listed before: {rest}"
    for item in found:
        if item.part == ALL and item.axis == found[0].axis:
            sizes = [len(systems[name]) for name in (item.first, item.second)]
            if item.paired and item.n < max(sizes):
                yield f"{item.first} and {item.second}: {counted(item.n, 'pair')} of {sizes[0]:,} and {sizes[1]:,} rows"
            if not item.paired:
                yield f"{item.first} and {item.second} have different clips: a difference may be that of the clips"
            tests = [other for other in found if other.part == ALL]
            seen = any((o.first, o.second) == (item.first, item.second) and o.p_holm < SIGNIFICANT for o in tests)
            if lowest_p(item) * len(tests) >= SIGNIFICANT and not seen:
                what = "pairs" if item.paired else "clips"
                yield f"{item.first} and {item.second}: too few {what} for any test to find a difference; score more"


def sentence_of(systems: Sequence[str], found: Sequence[SystemDifference]) -> str:
    """Which of two or more systems has the higher scores, on all clips; `found` has every two of them."""
    return _of_two(found) if len(systems) == 2 else _of_several(systems, found)


def _of_two(found: Sequence[SystemDifference]) -> str:
    own = [item for item in found if item.part == ALL]
    seen = [item for item in own if item.p_holm < SIGNIFICANT]
    first, second = own[0].first, own[0].second
    clips = f"{counted(max(item.n for item in own), 'pair')} of clips" if own[0].paired else "clips that differ"
    open_axes = _and([item.axis for item in own if item not in seen])
    if not seen:
        return f"On {clips}, no difference is found between {first} and {second} on {open_axes}."
    # The sentence begins with the system that is higher on more axes.
    sign = 1.0 if sum(math.copysign(1, item.difference) for item in seen) >= 0 else -1.0
    first, second = (first, second) if sign > 0 else (second, first)
    by_sign: list[list[str]] = [[], []]
    for item in seen:
        by_sign[sign * item.difference < 0].append(f"{item.axis} ({sign * item.difference:+.2f})")
    more = f" and lower on {_and(by_sign[1])}" if by_sign[1] else ""
    rest = f"; on {open_axes} no difference is found" if open_axes else ""
    return f"On {clips}, {first} scores higher than {second} on {_and(by_sign[0])}{more}{rest}."


def _of_several(systems: Sequence[str], found: Sequence[SystemDifference]) -> str:
    leaders: dict[str, list[str]] = {}  # the systems that no other one exceeds -> axes
    for axis in SHOWN:
        own = [item for item in found if item.part == ALL and item.axis == axis]
        lower = {item.second if item.difference > 0 else item.first for item in own if item.p_holm < SIGNIFICANT}
        named = {name for item in own for name in (item.first, item.second)} - lower
        if own:
            leaders.setdefault(_and([name for name in systems if name in named]) if lower else "", []).append(axis)
    open_axes, count = _and(leaders.pop("", [])), len(systems)
    if not leaders:
        return f"No difference is found between the {count} systems on {open_axes}."
    parts = ", ".join(f"{names} on {_and(axes)}" for names, axes in leaders.items())
    rest = f"; on {open_axes} no difference is found" if open_axes else ""
    return f"None of the {count} systems scores higher than {parts}{rest}."


def _and(words: Sequence[str]) -> str:
    """Words as a list in a sentence.

    >>> _and(["PQ"]), _and(["PQ", "CE", "CU"])
    ('PQ', 'PQ, CE and CU')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
