"""The page of a leaderboard: the published rows and the user's, ranked, next to the noise ceiling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from mmmos.evaluation.leaderboard import Leaderboard, interval_of
from mmmos.evaluation.track2 import Result
from mmmos.io.atomic import write_text
from mmmos.metrics import LEVELS, METRICS
from mmmos.report.page import page
from mmmos.scores import AXIS_NAMES, SHOWN

_AXES = (*SHOWN, "composite", "mean_of_axes")
_COLUMNS = [(level, metric) for level in LEVELS for metric in METRICS]


def write_leaderboard(path: Path, board: Leaderboard, name: str) -> None:
    """Write the page atomically; `name` is that of the user's row."""
    compared = [axis for axis in _AXES if any(row.axis == axis for row in board.published)]
    notes = "".join(f'<p class="note">{escape(remark)}</p>' for remark in board.remarks)
    body = f"""<main>
<h1>{escape(name)} on AudioMOS Challenge 2025, Track 2</h1>
<p class="quiet">{board.clips:,} clips of the test set. Click a header to sort a table. MSE is better when it is
lower, LCC, SRCC and KTAU when they are higher.</p>
{notes}
{"".join(_compared(axis, board, name) for axis in compared)}
<section class="long">
<h2>Figures of {escape(name)} and the noise ceiling</h2>
<p class="quiet">The ceiling is what a perfect predictor would reach: raters disagree, so no model can reproduce their
means. Intervals: 95 %, bootstrap of whole systems.</p>
<div class="scroll">{_own(board)}</div>
</section>
</main>"""
    data = [_strips(axis, board, name) for axis in compared]
    title = f"Leaderboard: {name}"
    write_text(
        path, page(title, body, data, ["base.css", "leaderboard.css"], ["charts.js", "leaderboard.js", "sort.js"])
    )


def _compared(axis: str, board: Leaderboard, name: str) -> str:
    """The published rows on one axis with the user's row, best system SRCC first."""
    rows: dict[str, dict[tuple[str, str], float]] = {}
    for row in board.published:
        if row.axis == axis:
            rows.setdefault(row.team, {}).update({(row.level, key): value for key, value in row.figures.items()})
    cells = [
        (
            -_order(found),
            _line(escape(team), [f'<td data-sort="{_raw(found.get(c))}">{_text(found.get(c))}</td>' for c in _COLUMNS]),
        )
        for team, found in rows.items()
    ]
    own = _of(board, axis)
    mine = [_own_cell(board, own[level], metric) for level, metric in _COLUMNS]
    order = -_order({(level, metric): own[level].figures[metric] for level, metric in _COLUMNS})
    cells.append((order, _line(f"{escape(name)}", mine, "mine")))
    lines = "".join(line for _, line in sorted(cells, key=lambda item: item[0]))
    ceiling = "".join(f"<td>{_text(own[level].ceiling[metric])}</td>" for level, metric in _COLUMNS)
    return f"""<section class="long">
<h2>{axis} {AXIS_NAMES.get(axis, "")}</h2>
<p class="quiet">Published rows (on PC those of the MMMOS paper's Table I) and {escape(name)}, by SRCC over systems.</p>
<div class="strips grid" data-axis="{axis}"></div>
<div class="scroll"><table class="sortable">{_head()}<tbody>{lines}</tbody>
<tfoot><tr><th class="words">noise ceiling</th>{ceiling}</tr></tfoot></table></div>
</section>
"""


def _order(figures: dict[tuple[str, str], float]) -> float:
    value = figures.get(("system", "SRCC"), math.nan)
    return -math.inf if math.isnan(value) else round(value, 3)


def _own_cell(board: Leaderboard, result: Result, metric: str) -> str:
    """A figure with its interval and rank."""
    value = result.figures[metric]
    low, high = interval_of(board.intervals, result, metric)
    small = "" if math.isnan(low) else f"<small>{low:.3f} to {high:.3f}</small>"
    rank = next((r for r in board.ranks if (r.axis, r.level, r.metric) == (result.axis, result.level, metric)), None)
    small += f"<small>rank {rank.rank} of {rank.of}</small>" if rank else ""
    return f'<td data-sort="{_raw(value)}"><b>{_text(value)}</b>{small}</td>'


def _own(board: Leaderboard) -> str:
    """The user's figures on every axis, with the ceiling below each."""
    lines = []
    for axis in _AXES:
        own = _of(board, axis)
        if not own:
            continue
        cells = []
        for level, metric in _COLUMNS:
            result = own[level]
            fraction = result.fraction_of_ceiling(metric)
            best = f"<small>ceiling {_text(result.ceiling[metric])}</small>"
            reached = "" if math.isnan(fraction) else f"<small>reached {fraction:.1%}</small>"
            low, high = interval_of(board.intervals, result, metric)
            interval = "" if math.isnan(low) else f"<small>{low:.3f} to {high:.3f}</small>"
            value = result.figures[metric]
            cells.append(f'<td data-sort="{_raw(value)}"><b>{_text(value)}</b>{interval}{best}{reached}</td>')
        lines.append(_line(axis.replace("_", " "), cells))
    return f'<table class="sortable">{_head()}<tbody>{"".join(lines)}</tbody></table>'


def _strips(axis: str, board: Leaderboard, name: str) -> dict[str, Any]:
    """What the page draws for each metric: the published values, the user's with its interval, and the ceiling."""
    own = _of(board, axis)
    strips = []
    for level, metric in _COLUMNS:
        interval = [_finite(x) for x in interval_of(board.intervals, own[level], metric)]
        others = [
            {"team": row.team, "value": row.figures[metric]}
            for row in board.published
            if (row.axis, row.level) == (axis, level) and metric in row.figures
        ]
        figures = {"value": _finite(own[level].figures[metric]), "ceiling": _finite(own[level].ceiling[metric])}
        strips.append({"level": level, "metric": metric, "others": others, "interval": interval, **figures})
    return {"axis": axis, "name": name, "strips": strips}


def _of(board: Leaderboard, axis: str) -> dict[str, Result]:
    return {item.level: item for item in board.results if item.axis == axis}


def _head() -> str:
    levels = "".join(
        f'<th colspan="{len(METRICS)}" scope="colgroup" class="start words">{level}</th>' for level in LEVELS
    )
    names = "".join(
        f'<th scope="col" data-first="{"ascending" if metric == "MSE" else "descending"}">{metric}</th>'
        for _, metric in _COLUMNS
    )
    return f'<thead><tr><th rowspan="2"></th>{levels}</tr><tr>{names}</tr></thead>'


def _line(name: str, cells: Sequence[str], kind: str = "") -> str:
    return f'<tr class="{kind}"><th scope="row" class="words">{name}</th>{"".join(cells)}</tr>'


def _text(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3f}"  # noqa: RUF001


def _raw(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6f}"


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
