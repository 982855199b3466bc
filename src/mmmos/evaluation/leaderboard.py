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
from mmmos.errors import UsageError
from mmmos.evaluation.predictions import read_predictions
from mmmos.evaluation.published import Published, published
from mmmos.evaluation.rating_scales import scores_scale
from mmmos.evaluation.track2 import (
    INTERVAL_SAMPLES,
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
from mmmos.metrics import ALL_METRICS, METRICS, distance_from_best
from mmmos.scores import LABEL_RANGE, Scores, scale_name
from mmmos.wording import agree, counted

PRINTED_DIGITS = 3
"""Metrics are ranked as they are printed: equal digits are a tie."""

ABOVE_CEILING = 1.01
"""The largest plausible fraction of the ceiling's LCC: a model that knows only true scores stays below it."""


Intervals = Mapping[tuple[str, str, str], Interval]
"""95 % intervals by axis, level and metric."""


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
    intervals: Intervals = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All fields except the clips; None for an undefined metric."""
        return to_json(self.results, self.published, self.ranks, self.intervals) | {"notes": list(self.remarks)}


def rank_file(
    predictions: Path,
    labels: Path | None,
    others: Path | None,
    *,
    partial: bool = False,
    strict: bool = False,
) -> Leaderboard:
    """Evaluate and rank a file of scores of the test set.

    `labels` is the raters' file, by default the published one. A bad row is left out, logged and counted, or refused if
    `strict`. Raises the errors of `make_leaderboard`.
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
    return replace(found, lists=lists, intervals=intervals(truth, align(truth, given)[0], INTERVAL_SAMPLES))


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


def interval_of(found: Intervals, result: Result, metric: str) -> Interval:
    """The interval of a figure; NaN, NaN without one."""
    return found.get((result.axis, result.level, metric), (math.nan, math.nan))


def to_json(
    results: Sequence[Result], rows: Sequence[Published], ranks: Sequence[Rank], found: Intervals
) -> dict[str, Any]:
    """Results with their intervals, published rows and ranks; None for an undefined value."""
    return {
        "results": [
            {
                **{"axis": item.axis, "level": item.level, "n": item.n},
                **_finite(item.figures),
                "low": _finite({name: interval_of(found, item, name)[0] for name in METRICS}),
                "high": _finite({name: interval_of(found, item, name)[1] for name in METRICS}),
                "ceiling": _finite(item.ceiling),
                "reached": _finite({name: item.fraction_of_ceiling(name) for name in METRICS}),
            }
            for item in results
        ],
        "published": [{"team": row.team, "axis": row.axis, "level": row.level, **row.figures} for row in rows],
        "places": [asdict(item) for item in ranks],
    }


def to_csv(results: Sequence[Result], found: Intervals) -> str:
    """The model's metrics as CSV, one line for each axis and level."""
    kinds = ("ceiling", "reached", "low", "high")
    names = [*ALL_METRICS, *(f"{kind}_{name}" for kind in kinds for name in METRICS)]
    lines = [["axis", "level", "n", *names]]
    for item in results:
        values = [*item.figures.values(), *item.ceiling.values(), *(item.fraction_of_ceiling(name) for name in METRICS)]
        values += [interval_of(found, item, name)[end] for end in (0, 1) for name in METRICS]
        cells = [f"{value:.6f}" if math.isfinite(value) else "" for value in values]
        lines.append([item.axis, item.level, str(item.n), *cells])
    return "".join(",".join(line) + "\n" for line in lines)


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in figures.items()}
