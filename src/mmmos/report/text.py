"""Tables as text: agreement, comparisons and standings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmmos.scores import SHOWN

if TYPE_CHECKING:
    from mmmos.evaluation.agreement import Agreement, Comparison
    from mmmos.evaluation.leaderboard import Place, Published, Result


def printable(name: str) -> str:
    r"""A file name as one line of text: line breaks and bytes that are no UTF-8 spelled out.

    >>> printable("a\nb.wav")
    'a\\nb.wav'
    """
    escaped = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)
    return escaped.encode("utf-8", "backslashreplace").decode()


def agreement_table(found: Sequence[Agreement]) -> str:
    """Agreement with the labels, one axis and part a line of under 100 characters; a gap between parts."""
    lines = [f"{_PLACE_HEAD}{'MSE':>8}{'bias':>7}{'debiased':>10}{'LCC':>7}{'SRCC':>7}  {'95 %':<14}{'KTAU':>7}"]
    before = ""
    for item in found:
        figures = f"{_cell(item.MSE, 8)}{_cell(item.bias, 7, 2)}{_cell(item.debiased_mse, 10)}{_cell(item.LCC)}"
        interval = _interval(item.SRCC_low, item.SRCC_high, 2)
        lines += [""] * (item is not found[0] and item.part != before)
        before = item.part
        lines.append(f"{_place(item)}{figures}{_cell(item.SRCC)}  {interval:<14}{_cell(item.KTAU)}")
    return "\n".join(lines)


def comparison_table(found: Sequence[Comparison]) -> str:
    """Two models' figures, one metric a line of under 100 characters; A is the first."""
    lines = [f"{_PLACE_HEAD} {'metric':<13}{'A':>7}{'B':>7}{'A - B':>8}  {'95 %':<16}{'A better':>9}"]
    before = None
    for item in found:
        place = _place(item)
        values = f"{_cell(item.first)}{_cell(item.second)}{_cell(item.difference, 8)}"
        share = "-" if math.isnan(item.better) else f"{item.better:.1%}"
        shown = place if place != before else " " * len(place)
        lines.append(f"{shown} {item.metric:<13}{values}  {_interval(item.low, item.high, 3):<16}{share:>9}")
        before = place
    return "\n".join(lines)


_PLACE_HEAD = f"{'axis':<10}{'part':<11}{'level':<10}{'n':>5}"


def _place(item: Agreement | Comparison) -> str:
    part = printable(item.part)
    return f"{item.axis:<10}{part if len(part) <= 10 else part[:9] + '…':<11}{item.level:<10}{item.n:>5}"


def _cell(value: float, width: int = 7, digits: int = 3) -> str:
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:>{width}.{digits}f}"


def _interval(low: float, high: float, digits: int) -> str:
    return "-" if math.isnan(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"


Grid = list[tuple[str, list[str]]]
"""Names of lines, each with its cells."""


def standing_grids(results: Sequence[Result], rows: Sequence[Published], places: Sequence[Place]) -> dict[str, Grid]:
    """A leaderboard as tables by their titles, each with utterance then system columns in every line.

    First the model next to the ceiling on every axis, then next to the published rows on theirs.
    """
    of = {(item.axis, item.level): item for item in results}
    axes = [axis for axis in (*SHOWN, "composite", "mean_of_axes") if (axis, "utterance") in of]
    own: Grid = []
    for axis in axes:
        pair = [of[axis, level] for level in _LEVELS]
        own.append((axis, [_cell(item.figures[name]) for item in pair for name in _METRICS]))
        own.append(("  ceiling", [_cell(item.ceiling[name]) for item in pair for name in _METRICS]))
        shares = (item.fraction_of_ceiling(name) for item in pair for name in _METRICS)
        own.append(("  reached", ["-" if math.isnan(share) else f"{share:.1%}" for share in shares]))
    grids = {"This model and the ceiling that the raters' noise sets": own}
    for axis in (axis for axis in axes if any(row.axis == axis for row in rows)):
        found = {(row.team, row.level): row.figures for row in rows if row.axis == axis}
        ranks = {(item.level, item.metric): f"{item.rank} of {item.of}" for item in places if item.axis == axis}
        grid: Grid = []
        for team in dict.fromkeys(team for team, _ in found):
            figures = [found.get((team, level), {}).get(name, math.nan) for level in _LEVELS for name in _METRICS]
            grid.append((printable(team), [_cell(value) for value in figures]))
        grid.append(("this model", [_cell(of[axis, level].figures[name]) for level in _LEVELS for name in _METRICS]))
        grid.append(("  place", [ranks.get((level, name), "-") for level in _LEVELS for name in _METRICS]))
        grids[f"{axis} next to the published rows"] = grid
    return grids


def grid_text(title: str, grid: Grid) -> str:
    """A grid in columns of under 100 characters."""
    head = "".join(f"{name:>8}" for name in _METRICS)
    lines = [title, f"{'':<14}{'utterance':>12}{'':<20}  {'system':>9}", f"{'':<14}{head}  {head}"]
    for name, cells in grid:
        values = [f"{cell.strip():>8}" for cell in cells]
        lines.append(f"{name[:14]:<14}{''.join(values[:4])}  {''.join(values[4:])}")
    return "\n".join(lines)


def grid_markdown(title: str, grid: Grid) -> str:
    """The same as a Markdown table."""
    columns = [f"{level} {name}" for level in _LEVELS for name in _METRICS]
    lines = [f"## {title}", "", f"| | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    for name, cells in grid:
        safe = name.strip().replace("|", "\\|")
        lines.append(f"| {safe} | {' | '.join(cell.strip() for cell in cells)} |")
    return "\n".join(lines)


_LEVELS = ("utterance", "system")
_METRICS = ("MSE", "LCC", "SRCC", "KTAU")
