"""The data of a report's page: every row in columns, groups, comparisons, models and evidence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from mmmos.audio.warnings import WARNINGS
from mmmos.errors import AUDIO_ERROR_CODES
from mmmos.evaluation.comparison import SystemDifference, compare_systems
from mmmos.evaluation.pairing import pair_clips
from mmmos.evaluation.verdict import sentence_of
from mmmos.report.systems import System, groupings
from mmmos.scores import AXIS_NAMES, BASES, LABEL_RANGE, SHOWN, Scores, parse_scale

COMPARED = 8
"""Most systems of which every two are compared; beyond that, each is compared with the first."""

_DIGITS = 4


def report_data(title: str, systems: Sequence[System], sources: Sequence[str | None]) -> dict[str, Any]:
    """What the page's script draws. `sources` are the addresses of the audio of all rows."""
    scores = [item for system in systems for item in system.scores]
    warnings, errors = _codes(w for s in scores for w in s.warnings), _codes(s.error.code for s in scores if s.error)
    low, high = scale_of(scores)
    compared = _compare(systems)
    return {
        "title": title,
        "axes": [{"key": axis, "name": AXIS_NAMES[axis]} for axis in SHOWN if any(_known(s[axis]) for s in scores)],
        "scale": [low, high],
        "scales": sorted({item.scale for item in scores if item.scale}),
        "systems": [system.name for system in systems],
        "groups": {name: _coded(values) for name, values in groupings(systems).items()},
        "rows": {
            "id": [item.id for item in scores],
            "path": [None if item.path == item.id else item.path for item in scores],
            "start": [_number(item.start_time) for item in scores],
            "end": [_number(item.end_time) for item in scores],
            "seconds": [_number(seconds(item)) for item in scores],
            "system": [number for number, system in enumerate(systems) for _ in system.rows],
            "source": _coded([source or "" for source in sources]),
            "warnings": [[warnings[word] for word in item.warnings] for item in scores],
            "error": [None if item.error is None else errors[item.error.code] for item in scores],
            "message": [None if item.error is None else item.error.message for item in scores],
            **{axis: [_number(item[axis]) for item in scores] for axis in SHOWN},
            **{f"{axis}_std": [_number(getattr(item, f"{axis}_std")) for item in scores] for axis in SHOWN},
        },
        "reference": _reference_rows(systems),
        "warnings": [{"name": name, "meaning": WARNINGS.get(name, "")} for name in warnings],
        "errors": [{"name": name, "meaning": AUDIO_ERROR_CODES.get(name, "")} for name in errors],
        "comparisons": [_comparison(item) for item in compared],
        "sentence": _sentence(systems, compared),
        "models": _models(systems),
        "evidence": _evidence(systems),
        "bases": BASES,
    }


def scale_of(scores: Iterable[Scores]) -> tuple[float, float]:
    """The widest rating scale of the scores, which the axes of charts show; 0 to 10 if no row names one.

    A score beyond it widens it to whole numbers.
    """
    ranges = [found for name in {item.scale for item in scores} if name and (found := parse_scale(name))]
    low, high = (min(r[0] for r in ranges), max(r[1] for r in ranges)) if ranges else LABEL_RANGE
    values = [item[axis] for item in scores for axis in SHOWN if _known(item[axis])]
    return math.floor(min([low, *values])), math.ceil(max([high, *values]))


def seconds(scores: Scores) -> float:
    """Length of the segment that was scored, s; NaN if the row does not give it."""
    start = scores.start_time if _known(scores.start_time) else 0.0
    end = scores.end_time if _known(scores.end_time) else scores.duration
    return end - start


def _compare(systems: Sequence[System]) -> list[SystemDifference]:
    by_name = {system.name: system.scores for system in systems}
    first, *others = by_name
    if len(by_name) <= COMPARED:
        return compare_systems(by_name)
    return compare_systems(by_name, pairs=[(other, first) for other in others])


def _sentence(systems: Sequence[System], compared: Sequence[SystemDifference]) -> str:
    """Which system has the higher scores; empty if not every two are compared, or if several models scored them."""
    models = {item.provenance.model_sha256 for system in systems for item in system.scores if item.provenance}
    if not compared or len(systems) > COMPARED or len(models) > 1:
        return ""
    return sentence_of([system.name for system in systems], compared)


def _comparison(item: SystemDifference) -> dict[str, Any]:
    return {name: _number(value, 8) if isinstance(value, float) else value for name, value in vars(item).items()}


def _reference_rows(systems: Sequence[System]) -> list[int | None]:
    """For each row, the row of the same clip in the first system; None in that system, and without a pair."""
    first, *others = systems
    found: list[int | None] = [None] * sum(len(system.rows) for system in systems)
    begin = len(first.rows)
    for system in others:
        pairs = pair_clips(first.scores, system.scores)
        for reference, row in zip(*pairs, strict=True) if pairs else ():
            found[begin + int(row)] = int(reference)
        begin += len(system.rows)
    return found


def _models(systems: Sequence[System]) -> list[dict[str, Any]]:
    """What produced the rows of each system."""
    found = []
    for system in systems:
        origins = Counter((item.provenance, item.scale) for item in system.scores if item.provenance)
        for (origin, scale), rows in origins.most_common():
            if origin:
                found.append({"system": system.name, "rows": rows, "scale": scale, **vars(origin)})
    return found


def _evidence(systems: Sequence[System]) -> list[dict[str, Any]]:
    """Numbers of clips by system, domain and axis for each kind of evidence."""
    found: dict[tuple[str, str], dict[str, Counter[str]]] = {}
    for system in systems:
        for item in system.scores:
            for axis in SHOWN:
                if basis := getattr(item, f"{axis}_basis"):
                    by_axis = found.setdefault((system.name, item.domain or ""), {axis: Counter() for axis in SHOWN})
                    by_axis[axis][basis] += 1
    return [{"system": system, "domain": domain, **by_axis} for (system, domain), by_axis in found.items()]


def _codes(names: Iterable[str]) -> dict[str, int]:
    """A number for each name, the most frequent first."""
    return {name: code for code, (name, _) in enumerate(Counter(names).most_common())}


def _coded(values: Sequence[Hashable]) -> dict[str, list[Any]]:
    """Distinct values in the order of their first row, and the number of each row's value."""
    names = {name: code for code, name in enumerate(dict.fromkeys(values))}
    return {"names": list(names), "codes": [names[value] for value in values]}


def _known(value: float) -> bool:
    return math.isfinite(value)


def _number(value: float, digits: int = _DIGITS) -> float | None:
    return round(value, digits) if math.isfinite(value) else None
