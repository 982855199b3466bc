"""The rank of a model among published results of AudioMOS Challenge 2025 Track 2.

The published results on PC are the eleven rows of the paper's Table I; a user may add others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mmmos.data.manifest import preview
from mmmos.errors import ManifestError, UsageError
from mmmos.evaluation.agreement import EVALUATED_AXES, MEAN_OF_AXES
from mmmos.evaluation.predictions import read_predictions
from mmmos.evaluation.rating_scales import scores_scale
from mmmos.evaluation.track2 import (
    Interval,
    Result,
    Truth,
    align,
    evaluate_track2,
    intervals,
    read_truth,
    test_id,
)
from mmmos.io.bad_rows import BadRows, naming
from mmmos.io.delimited import to_float
from mmmos.io.lists import read_rows
from mmmos.metrics import ALL_METRICS, LEVELS, METRICS, distance_from_best
from mmmos.paper import COLUMNS, ENTRIES, printed_figures
from mmmos.scores import LABEL_RANGE, Scores, scale_name
from mmmos.wording import agree, counted

PRINTED_DIGITS = 3
"""Metrics are ranked as they are printed: equal digits are a tie."""

ABOVE_CEILING = 1.01
"""The largest plausible fraction of the ceiling's LCC: a model that knows only true scores stays below it."""


@dataclass(frozen=True)
class Published:
    """A row of the published table, on one axis at one level."""

    team: str
    axis: str
    level: str
    figures: Mapping[str, float]  # by metric: all four in Table I; a user's row may have fewer


@dataclass(frozen=True)
class Rank:
    """The rank of one metric among the published ones."""

    axis: str
    level: str
    metric: str
    rank: int  # 1 is best; equal values share the better rank
    of: int  # number of values, including this one


@dataclass(frozen=True)
class Leaderboard:
    """A model's results on the test set next to the published ones."""

    results: tuple[Result, ...]
    published: tuple[Published, ...]
    ranks: tuple[Rank, ...]
    clips: int  # with a score
    missing: tuple[str, ...]  # ids of the others
    remarks: tuple[str, ...]  # sentences for the user
    lists: Mapping[str, Any] = field(default_factory=dict)  # rows that files leave out
    intervals: Mapping[tuple[str, str, str], Interval] = field(default_factory=dict)  # by axis, level, metric

    def to_json(self) -> dict[str, Any]:
        """All fields except the clips; None for an undefined metric."""
        return to_json(self.results, self.published, self.ranks) | {"notes": list(self.remarks)}


def rank_file(
    predictions: Path,
    labels: Path | None,
    others: Path | None,
    *,
    partial: bool = False,
    strict: bool = False,
    with_intervals: bool = False,
) -> Leaderboard:
    """Evaluate and rank a file of scores of the test set.

    `labels` is the raters' file, by default the published one. A bad row is left out, logged and counted, or refused if
    `strict`. `with_intervals` adds intervals of the model's figures. Raises the errors of `make_leaderboard`.
    """
    bad_labels = BadRows(labels or "the raters' file", strict)
    truth = read_truth(labels, bad_labels)
    bad = BadRows(predictions, strict)
    given = read_predictions(predictions, bad)
    lists = {"labels": bad_labels.report(len(truth.ids)), "scores": bad.report(len(given))}
    with naming(predictions):
        found = make_leaderboard(
            truth, given, str(predictions), others, partial=partial, bad_rows=None if strict else len(bad.reasons)
        )
    own = intervals(truth, align(truth, given)[0]) if with_intervals else {}
    return replace(found, lists=lists, intervals=own)


def make_leaderboard(
    truth: Truth,
    predictions: Sequence[Scores],
    source: str,
    others: Path | None = None,
    *,
    partial: bool = False,
    bad_rows: int | None = None,
) -> Leaderboard:
    """Evaluate predictions of the test set and rank them among the published results and those in `others`.

    `source` names the predictions in messages. Without `partial`, a clip may lack a score only if its row has none or,
    for at most `bad_rows` clips, if its row could not be read; with `bad_rows` None, no clip may lack one. Raises
    `UsageError` for other clips without a score, `ManifestError` for unusable rows.
    """
    values, missing = align(truth, predictions)
    few = f"{counted(len(missing), 'clip', of=len(truth.ids))} {agree(len(missing), 'has')} no score"
    without_row = {*missing} - {test_id(scores) for scores in predictions}
    incomplete = missing if bad_rows is None else len(without_row) > bad_rows
    if incomplete and not partial:
        raise UsageError(f"{source}: {few}: {preview(missing)}; --partial evaluates the others")
    were = agree(len(missing), "was")
    remarks = [f"{few} and {were} left out: not comparable with rows of the whole set"] if missing else []
    scale = scale_name(LABEL_RANGE)
    if (own := scores_scale(predictions, source)) not in (None, scale):
        remarks.append(f"scores are on the scale {own}, labels on {scale}: MSE and ranks by MSE do not compare")
    results, rows = evaluate_track2(truth, values), published(others)
    if not any(result.axis == "composite" for result in results):
        remarks.append("an axis has no score at all, so there is no composite and no mean of axes")
    above = [
        item.axis for item in results if item.level == "utterance" and item.fraction_of_ceiling("LCC") > ABOVE_CEILING
    ]
    if above:
        remarks.append(f"{', '.join(above)}: above what the raters' noise allows; were these labels seen in training?")
    ranks, clips = rank_results(results, rows), len(truth.ids) - len(missing)
    return Leaderboard(tuple(results), tuple(rows), tuple(ranks), clips, tuple(missing), tuple(remarks))


def published(others: Path | None = None) -> list[Published]:
    """The rows of Table I of the MMMOS paper, which has PC only, and a user's rows.

    `others` is CSV with team, axis, level and any of the metrics. Raises `ManifestError` for a
    value that differs from a published one.
    """
    found = {
        (_team(row), "PC", level): printed_figures("I", row, name, level)
        for row in ENTRIES
        for name, level in COLUMNS["I"]
    }
    for line, key, figures in _read_others(others) if others else ():
        there = found.setdefault(key, {})
        for name, value in figures.items():
            if there.setdefault(name, value) != value:
                raise ManifestError(f"{others}, line {line}: {name} of {key[0]} is {there[name]} already, not {value}")
    return [Published(*key, figures) for key, figures in found.items()]


def rank_results(results: Sequence[Result], rows: Sequence[Published]) -> list[Rank]:
    """The rank of every metric on the axes and levels of the published rows."""
    ranks = []
    for result in results:
        others = [row for row in rows if (row.axis, row.level) == (result.axis, result.level)]
        for name in METRICS if others else ():
            theirs = [row.figures[name] for row in others if name in row.figures]
            ours = float(distance_from_best(name, round(result.figures[name], PRINTED_DIGITS)))
            if math.isnan(ours):
                continue
            # The tolerance covers rounding errors in differences such as 1 - 0.991.
            better = sum(float(distance_from_best(name, value)) < ours - 1e-9 for value in theirs)
            ranks.append(Rank(result.axis, result.level, name, rank=1 + better, of=1 + len(theirs)))
    return ranks


def to_json(results: Sequence[Result], rows: Sequence[Published], ranks: Sequence[Rank]) -> dict[str, Any]:
    """Results, published rows and ranks; None for an undefined metric."""
    return {
        "results": [
            {
                **{"axis": item.axis, "level": item.level, "n": item.n},
                **_finite(item.figures),
                "ceiling": _finite(item.ceiling),
                "reached": _finite({name: item.fraction_of_ceiling(name) for name in METRICS}),
            }
            for item in results
        ],
        "published": [{"team": row.team, "axis": row.axis, "level": row.level, **row.figures} for row in rows],
        "places": [asdict(item) for item in ranks],
    }


def to_csv(results: Sequence[Result]) -> str:
    """The model's metrics as CSV, one line for each axis and level."""
    names = [*ALL_METRICS, *(f"ceiling_{name}" for name in METRICS), *(f"reached_{name}" for name in METRICS)]
    lines = [["axis", "level", "n", *names]]
    for item in results:
        values = [*item.figures.values(), *item.ceiling.values(), *(item.fraction_of_ceiling(name) for name in METRICS)]
        cells = [f"{value:.6f}" if math.isfinite(value) else "" for value in values]
        lines.append([item.axis, item.level, str(item.n), *cells])
    return "".join(",".join(line) + "\n" for line in lines)


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in figures.items()}


def _team(row: str) -> str:
    return "MMMOS" if row == "Ours" else row


def _read_others(path: Path) -> list[tuple[int, tuple[str, str, str], dict[str, float]]]:
    found = []
    needed = ("team", "axis", "level")
    for line, row in read_rows(path, needed, known=METRICS):
        where = f"{path}, line {line}"
        if not row.keys() >= {*needed}:
            there = ", ".join(row)
            raise ManifestError(
                f"{path}, line 1: the columns are {there}; expected are team, axis, level, any of {', '.join(METRICS)}"
            )
        axis, level = row["axis"].strip(), row["level"].strip()
        if axis not in (*EVALUATED_AXES, MEAN_OF_AXES) or level not in LEVELS:
            raise ManifestError(f"{where}: no axis and level is called {axis!r} and {level!r}")
        figures = {name: _figure(row[name], name, where) for name in METRICS if (row.get(name) or "").strip()}
        found.append((line, (_team(row["team"].strip()), axis, level), figures))
    return found


def _figure(text: Any, name: str, where: str) -> float:
    try:
        value = to_float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value < math.inf if name == "MSE" else -1 <= value <= 1):
        raise ManifestError(f"{where}: {name} cannot be {text!r}")
    return value
