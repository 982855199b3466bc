"""The axes, the rater reliability and the scores of a list of labelled clips, for an evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmmos.data.manifest import LabelledClip
from mmmos.errors import UsageError
from mmmos.evaluation.agreement import EVALUATED_AXES, labelled
from mmmos.evaluation.ceiling import reliability_of
from mmmos.evaluation.matching import matched
from mmmos.scores import AXES, Scores


@dataclass(frozen=True)
class ListedScores:
    """The scores of a file, in the order of a list of clips."""

    scores: list[Scores]  # one per listed clip; empty if the file has none
    without_row: list[str]  # ids of the clips without a row in the file
    other_rows: int  # number of rows of clips outside the list


def choose_axes(named: Sequence[str], rows: Sequence[LabelledClip], manifest: Path) -> tuple[str, ...]:
    """The named axes, by default all. Raises `UsageError` for an unknown axis and for one without a label."""
    for axis in named:
        if axis not in EVALUATED_AXES:
            raise UsageError(f"no axis is called {axis!r}; there are {', '.join(EVALUATED_AXES)}")
        if axis not in labelled(rows):
            raise UsageError(f"{manifest}: no row has a label of {axis}")
    return tuple(axis for axis in EVALUATED_AXES if not named or axis in named)


def rater_reliability(rows: Sequence[LabelledClip]) -> dict[str, dict[str, Any]]:
    """Axis with several raters -> clips, ratings, and the reliability of their mean, None if it is undefined."""
    found: dict[str, dict[str, Any]] = {}
    for i, axis in enumerate(AXES):
        ratings = [row.ratings[i] for row in rows if row.ratings and row.ratings[i]]
        if any(len(values) > 1 for values in ratings):
            value = reliability_of(ratings)
            reliability = round(value, 6) if math.isfinite(value) else None
            found[axis] = {"clips": len(ratings), "ratings": sum(map(len, ratings)), "reliability": reliability}
    return found


def list_scores(rows: Sequence[LabelledClip], given: Sequence[Scores], path: Path) -> ListedScores:
    """The scores of a file in the order of the list. Raises `UsageError` if no row belongs to a listed clip."""
    found = matched(rows, given)
    without = [row.clip.id for row, scores in zip(rows, found, strict=True) if scores is None]
    if len(without) == len(rows):
        raise UsageError(f"{path}: none of its rows ({len(given):,}) is of a listed clip, by id, path or file name")
    others = len({id(scores) for scores in given} - {id(scores) for scores in found})
    scores = [scores or Scores(id=row.clip.id) for row, scores in zip(rows, found, strict=True)]
    return ListedScores(scores, without, others)
