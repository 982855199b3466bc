"""Means over the runs of an experiment as tables, with the paper's numbers next to them.

A table has a row for each configuration, encoder subset or strategy and a group of columns for each set; a cell is the
mean over runs with different seeds. `mmmos.experiments.tables` writes the tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmmos.errors import UsageError
from mmmos.experiments.results import AXIS_TITLES, BIAS, Result, converged
from mmmos.metrics import LEVELS, METRICS
from mmmos.paper import COLUMNS, ROWS, TableKey, printed

GroupKey = tuple[str, str]
"""A set, and the level of its metrics."""


RequestedRows = Mapping[str, Sequence[str]]
"""Table -> the requested rows."""


COUNTED = dict(zip(LEVELS, ("clips", "systems"), strict=True))
"""Level -> the noun for its items."""


SUBJECTS = {
    "I": "Production Complexity, next to other entries",
    "II": "Which encoders (loss UT, aggregator MLP)",
    "III": "Which loss and aggregator",
    "IV": "Which ensemble",
}
"""Table of the paper -> its subject."""


@dataclass(frozen=True)
class Entry:
    """One cell: the mean over its runs, and its rank in the column."""

    mean: float  # NaN without a run, or if the metric is undefined in one
    std: float  # sample standard deviation over the runs; NaN for fewer than two
    runs: int
    of: int  # the largest number of runs of any row
    paper: float | None  # the value that the paper prints
    rank: int = 0  # 1 best of the column, 2 second, 0 neither
    converged: bool = True  # whether the row's MSE on the set is well below that of a constant

    @property
    def status(self) -> str:
        """`"ok"`, `"undefined"`, or `"failed"` without a run."""
        return ("undefined" if math.isnan(self.mean) else "ok") if self.runs else "failed"


@dataclass(frozen=True)
class Group:
    """The columns of one set."""

    set: str
    level: str
    metrics: tuple[str, ...]
    n: tuple[int, int]  # smallest and largest number of clips or systems


@dataclass(frozen=True)
class ResultTable:
    """A table, independent of any format."""

    title: str
    part: str  # distinguishes tables of one title: the axis of the metrics
    name: str  # `table` of the results
    axis: str
    groups: tuple[Group, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]  # a row's entries are in the order of the groups' metrics

    @property
    def columns(self) -> tuple[tuple[Group, str], ...]:
        """Group and metric of each column."""
        return tuple((group, metric) for group in self.groups for metric in group.metrics)


def tabulate(
    results: Sequence[Result],
    name: str,
    axis: str = "composite",
    groups: Sequence[GroupKey] | None = None,
    rows: Sequence[str] | None = None,
    bias: bool = False,
    paper: bool = True,
) -> ResultTable:
    """The table of one name and axis.

    Its rows are `rows`, by default the paper's, then other rows in order of appearance. Its groups are `groups`, by
    default the paper's groups that have results; for a table that is not in the paper, all groups. Systems and Test
    have the `BIAS` columns next to the paper's metrics, other groups only with `bias`. With `paper`, the paper's
    numbers are next to ours; leave it out for other data. Raises `UsageError` for two results of one row, set, level
    and seed.
    """
    ours = [result for result in results if (result.table, result.axis) == (name, axis)]
    runs: dict[tuple[str, GroupKey], list[Result]] = {}
    for result in ours:
        runs.setdefault((result.row, (result.set, result.level)), []).append(result)
    for found in runs.values():
        if len({result.seed for result in found}) < len(found):
            raise UsageError(f"two results of table {name}, {found[0].row}, {found[0].set} have the same seed")
    order = list(dict.fromkeys((*(_paper_rows(name) if rows is None else rows), *(row for row, _ in runs))))
    made = [_group(ours, key, bias) for key in (_paper_groups(ours, name) if groups is None else groups)]
    columns = []
    for group in made:
        cells = [runs.get((row, (group.set, group.level)), []) for row in order]
        for metric in group.metrics:
            theirs = [
                printed(TableKey(name, row, group.set, group.level, axis, metric)) if paper else None for row in order
            ]
            entries = column([[getattr(run, metric) for run in cell] for cell in cells], theirs, metric)
            columns.append([replace(one, converged=_converged(cell)) for one, cell in zip(entries, cells, strict=True)])
    title = f"Table {name}: {SUBJECTS[name]}" if name in SUBJECTS else name
    rows_of = [tuple(entries[i] for entries in columns) for i in range(len(order))]
    return ResultTable(title, AXIS_TITLES[axis], name, axis, tuple(made), tuple(zip(order, rows_of, strict=True)))


def column(values: Sequence[Sequence[float]], paper: Sequence[float | None], metric: str) -> list[Entry]:
    """One column, from the values of each row's runs and the values that the paper prints.

    Ranks compare the printed digits, so that values printed alike have the same rank. Lower is better for errors,
    closer to 0 for the bias. An undefined value has no rank.

    >>> [(entry.mean, entry.rank) for entry in column([[0.5], [0.7, 0.9], [0.8], []], [None] * 4, "SRCC")]
    [(0.5, 2), (0.8, 1), (0.8, 1), (nan, 0)]
    """
    means = [float(np.mean(runs)) if runs else math.nan for runs in values]
    shown = [_badness(mean, metric) for mean in means]
    best = sorted({x for x in shown if not math.isnan(x)})[:2]
    return [
        Entry(
            mean,
            float(np.std(runs, ddof=1)) if len(runs) > 1 else math.nan,
            len(runs),
            max(map(len, values)),
            number,
            best.index(bad) + 1 if bad in best else 0,
        )
        for runs, mean, bad, number in zip(values, means, shown, paper, strict=True)
    ]


def every_table(
    results: Sequence[Result], requested: RequestedRows | None = None, bias: bool = False, paper: bool = True
) -> list[ResultTable]:
    """The paper's tables, then others; each for the composite, then for the other axes that have results.

    A table of the paper has only the paper's sets; results of other sets or levels follow in a separate table.
    `requested` has the requested rows by table; rows without a run are shown as failed.
    """
    requested = requested or {}
    there = {*requested, *(result.table for result in results)}
    names = [name for name in ROWS if name in there]
    names += [name for name in dict.fromkeys((*requested, *(result.table for result in results))) if name not in ROWS]
    tables = []
    for name in names:
        ours = [result for result in results if result.table == name]
        axes = {result.axis for result in ours} or {"composite"}
        for axis in (axis for axis in AXIS_TITLES if axis in axes):
            main = tabulate(ours, name, axis, rows=requested.get(name), bias=bias, paper=paper)
            tables.append(main)
            shown = {(group.set, group.level) for group in main.groups}
            rest = [key for key in _groups([r for r in ours if r.axis == axis]) if key not in shown]
            if rest:
                other = tabulate(ours, name, axis, rest, requested.get(name), bias, paper)
                tables.append(replace(other, part=f"{other.part}, other sets"))
    return tables


def _converged(runs: Sequence[Result]) -> bool:
    """Whether every run of a cell has converged."""
    return all(converged(run.MSE, run.constant_MSE) for run in runs)


def _badness(mean: float, metric: str) -> float:
    shown = round(mean, 3)
    return abs(shown) if metric == "bias" else shown if "MSE" in metric else -shown


def _group(ours: Sequence[Result], key: GroupKey, bias: bool) -> Group:
    sizes = [result.n for result in ours if (result.set, result.level) == key] or [0]
    more = bias or "system" in key or "Test" in key
    return Group(*key, (*METRICS, *(BIAS if more else ())), (min(sizes), max(sizes)))


def _groups(ours: Sequence[Result]) -> list[GroupKey]:
    return list(dict.fromkeys((result.set, result.level) for result in ours))


def _paper_groups(ours: Sequence[Result], name: str) -> list[GroupKey]:
    """The paper's groups that have results; else all groups that have results; else the paper's."""
    there, paper = _groups(ours), COLUMNS.get(name, ())
    return [key for key in paper if key in there] or there or list(paper)


def _paper_rows(name: str) -> tuple[str, ...]:
    """Rows that should have results; Table I has entries of other teams, which are not run."""
    return () if name == "I" else ROWS.get(name, ())
