"""A model's place on AudioMOS Challenge 2025 Track 2: its figures, the published rows, the raters' ceiling.

The test set is 36 systems of 85 clips. Its labels are public, its audio is the organisers' to give: a user
brings predictions. On PC a place is among the eleven rows of the paper's Table I.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.data.label_files import label_file
from mmmos.data.manifest import preview
from mmmos.data.ratings import read_ratings
from mmmos.errors import ManifestError
from mmmos.evaluation.agreement import EVALUATED_AXES
from mmmos.evaluation.ceiling import ceilings
from mmmos.io.delimited import to_float
from mmmos.io.lists import OnBadRow, read_rows, refuse
from mmmos.metrics import ALL_METRICS, METRICS, composite, distance_from_best, system_means
from mmmos.paper import COLUMNS, ENTRIES, printed_figures
from mmmos.scores import AXES, Scores

LEVELS = ("utterance", "system")
MEAN = "mean_of_axes"
"""Each figure's mean over the four axes: the other reading of one figure for four axes, beside the composite's."""

PRINTED_DIGITS = 3
"""Figures are compared as they are printed: what differs behind is a tie."""

ABOVE_CEILING = 1.01
"""Share of the ceiling's LCC that nobody reaches who knows of a clip no more than its true score."""

_ID = re.compile(r"audiomos2025-track2-sys([A-Za-z0-9]{5})-utt[A-Za-z0-9]{6}")


@dataclass(frozen=True)
class Truth:
    """What the raters said of the test set."""

    ids: tuple[str, ...]
    systems: tuple[str, ...]  # of each clip
    ratings: NDArray[np.float64]  # [N, A, R]


@dataclass(frozen=True)
class Result:
    """A model on one axis at one level."""

    axis: str  # of EVALUATED_AXES, or MEAN
    level: str  # of LEVELS
    n: int  # clips, or systems
    figures: Mapping[str, float]  # by metric
    ceiling: Mapping[str, float]  # what a perfect predictor is expected to get

    def fraction_of_ceiling(self, metric: str) -> float:
        """Share of the ceiling: figure / ceiling, for an MSE ceiling / figure, so that 1 is all there is to get."""
        figure, best = self.figures[metric], self.ceiling[metric]
        if metric == "MSE":
            return best / figure if figure > 0 else math.nan
        return figure / best if best > 0 else math.nan


@dataclass(frozen=True)
class Published:
    """A row of the published table, on one axis at one level."""

    team: str
    axis: str
    level: str
    figures: Mapping[str, float]  # by metric: all four of Table I, those given of a user's row


@dataclass(frozen=True)
class Place:
    """Where a figure stands among the published ones."""

    axis: str
    level: str
    metric: str
    rank: int  # 1 is best; equal figures share the better rank
    of: int  # figures, this one among them


def read_truth(path: str | Path | None = None, on_bad_row: OnBadRow = refuse) -> Truth:
    """The raters' file, given or found (and fetched where it is not). Raises `ManifestError`, as `read_ratings`."""
    path = label_file("track2_test") if path is None else Path(path)
    ids, ratings = read_ratings(path, on_bad_row)
    systems = [_ID.fullmatch(name) for name in ids]
    wrong = [name for name, found in zip(ids, systems, strict=True) if not found]
    if wrong or not ids:
        raise ManifestError(f"{path} is not of the Track 2 test set: {preview(wrong) or 'it is empty'}")
    return Truth(tuple(ids), tuple(found[1] for found in systems if found), ratings)


def test_id(scores: Scores) -> str | None:
    """The test id in the id or the path of scores."""
    found = _ID.search(scores.id) or _ID.search(scores.path or "")
    return found[0] if found else None


def align(truth: Truth, predictions: Sequence[Scores]) -> tuple[NDArray[np.float64], list[str]]:
    """Predictions [N, A] in the order of the truth, and the ids without one on every axis that is predicted at all.

    A row is known by the test id in its id or path, whatever folder and suffix stand around it. Rows of other
    clips are passed over. Raises `ManifestError` for two rows of a clip.
    """
    place = {name: i for i, name in enumerate(truth.ids)}
    values = np.full((len(place), len(AXES)), np.nan)
    seen: dict[str, str] = {}
    for scores in predictions:
        name = test_id(scores)
        if name is None or name not in place:
            continue
        if name in seen:
            places = f" ({seen[name]} and {scores.origin})" if scores.origin else ""
            raise ManifestError(f"two rows have scores of {name}{places}")
        seen[name] = scores.origin
        values[place[name]] = [scores[axis] for axis in AXES]
    if not seen:
        raise ManifestError("no row is of the Track 2 test set: ids are audiomos2025-track2-sysXXXXX-uttYYYYYY")
    predicted = np.asarray(np.isfinite(values).any(axis=0))
    if not predicted.any():
        raise ManifestError("no row of the Track 2 test set has a score")
    lacking = ~np.isfinite(values[:, predicted]).all(axis=1)
    return values, [name for name, lacks in zip(truth.ids, lacking, strict=True) if lacks]


def judge(truth: Truth, predictions: NDArray[np.float64], seed: int = 0) -> list[Result]:
    """Figures and ceiling on every axis, the composite and the mean of the axes, over the clips that are predicted.

    Systems' labels are the means of the same clips as their scores. An axis nobody predicted is left out, and
    with it the composite and the mean.

    Shape:
        - predictions: [N, A], NaN where there is none
    """
    axes = np.asarray(np.isfinite(predictions).any(axis=0))
    rows = np.isfinite(predictions[:, axes]).all(axis=1)
    p, ratings = predictions[rows], truth.ratings[rows]
    systems = np.array(truth.systems)[rows]
    t = ratings.mean(axis=2)
    best = {(found.axis, found.level): found for found in ceilings(ratings, list(systems), seed)}
    columns = {axis: (p[:, i], t[:, i]) for i, axis in enumerate(AXES) if axes[i]}
    if axes.all():
        columns["composite"] = composite(p), composite(t)
    results = []
    for level in LEVELS:
        for axis, pair in columns.items():
            x, y = pair if level == "utterance" else (system_means(values, systems) for values in pair)
            figures = {name: metric(x, y) for name, metric in ALL_METRICS.items()}
            ceiling = {name: getattr(best[axis, level], name) for name in METRICS}
            results.append(Result(axis, level, len(x), figures, ceiling))
        if axes.all():
            results.append(_mean(results[-len(columns) : -1]))
    return results


def published(others: Path | None = None) -> list[Published]:
    """Table I of the MMMOS paper, PC only, and the rows that a user adds.

    `others` is CSV with team, axis, level and any of the metrics. Raises `ManifestError` for another value than the
    one that is there.
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


def places(results: Sequence[Result], rows: Sequence[Published]) -> list[Place]:
    """The rank of every figure on the axes and levels that published rows are of."""
    found = []
    for result in results:
        others = [row for row in rows if (row.axis, row.level) == (result.axis, result.level)]
        for name in METRICS if others else ():
            theirs = [row.figures[name] for row in others if name in row.figures]
            ours = float(distance_from_best(name, round(result.figures[name], PRINTED_DIGITS)))
            if math.isnan(ours):
                continue
            # A billionth: 1 - 0.991 need not be the same from both sides.
            better = sum(float(distance_from_best(name, value)) < ours - 1e-9 for value in theirs)
            found.append(Place(result.axis, result.level, name, rank=1 + better, of=1 + len(theirs)))
    return found


def to_json(results: Sequence[Result], rows: Sequence[Published], found: Sequence[Place]) -> dict[str, Any]:
    """All of it, null for what is not defined."""
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
        "places": [asdict(place) for place in found],
    }


def to_csv(results: Sequence[Result]) -> str:
    """The model's figures, one axis and level a line."""
    names = [*ALL_METRICS, *(f"ceiling_{name}" for name in METRICS), *(f"reached_{name}" for name in METRICS)]
    lines = [["axis", "level", "n", *names]]
    for item in results:
        values = [*item.figures.values(), *item.ceiling.values(), *(item.fraction_of_ceiling(name) for name in METRICS)]
        cells = [f"{value:.6f}" if math.isfinite(value) else "" for value in values]
        lines.append([item.axis, item.level, str(item.n), *cells])
    return "".join(",".join(line) + "\n" for line in lines)


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in figures.items()}


def _mean(results: Sequence[Result]) -> Result:
    """The mean of the four axes' figures, and of their ceilings."""
    figures = {name: float(np.mean([item.figures[name] for item in results])) for name in ALL_METRICS}
    ceiling = {name: float(np.mean([item.ceiling[name] for item in results])) for name in METRICS}
    return replace(results[0], axis=MEAN, figures=figures, ceiling=ceiling)


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
        if axis not in (*EVALUATED_AXES, MEAN) or level not in LEVELS:
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
        raise ManifestError(f"{where}: {name} is not one: {text!r}")
    return value
