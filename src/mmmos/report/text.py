"""Tables as text: agreement, comparisons and leaderboards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mmmos.metrics import LEVELS, METRICS
from mmmos.scores import SHOWN

if TYPE_CHECKING:
    from mmmos.evaluation.agreement import Agreement, Comparison
    from mmmos.evaluation.comparison import SystemDifference
    from mmmos.evaluation.leaderboard import Intervals, Rank
    from mmmos.evaluation.published import Published
    from mmmos.evaluation.track2 import Result


def printable(name: str) -> str:
    r"""A file name as one line of text: line breaks and bytes outside UTF-8 are escaped.

    >>> printable("a\nb.wav")
    'a\\nb.wav'
    """
    escaped = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)
    return escaped.encode("utf-8", "backslashreplace").decode()


def agreement_table(found: Sequence[Agreement]) -> str:
    """Agreement with the labels: one line of under 100 characters per axis and part, an empty line between parts."""
    lines = [f"{_SAMPLE_HEAD}{'MSE':>8}{'bias':>7}{'debiased':>10}{'LCC':>7}{'SRCC':>7}  {'95 %':<14}{'KTAU':>7}"]
    before = ""
    for item in found:
        figures = f"{_cell(item.MSE, 8)}{_cell(item.bias, 7, 2)}{_cell(item.debiased_mse, 10)}{_cell(item.LCC)}"
        interval = _interval(item.SRCC_low, item.SRCC_high, 2)
        lines += [""] * (item is not found[0] and item.part != before)
        before = item.part
        lines.append(f"{_sample(item)}{figures}{_cell(item.SRCC)}  {interval:<14}{_cell(item.KTAU)}")
    return "\n".join(lines)


def comparison_table(found: Sequence[Comparison]) -> str:
    """Two models' metrics, one line of under 100 characters per metric; A is the first model."""
    lines = [f"{_SAMPLE_HEAD} {'metric':<13}{'A':>7}{'B':>7}{'A - B':>8}  {'95 %':<16}{'A better':>9}"]
    before = None
    for item in found:
        sample = _sample(item)
        values = f"{_cell(item.first)}{_cell(item.second)}{_cell(item.difference, 8)}"
        better = "-" if math.isnan(item.better) else f"{item.better:.1%}"
        shown = sample if sample != before else " " * len(sample)
        lines.append(f"{shown} {item.metric:<13}{values}  {_interval(item.low, item.high, 3):<16}{better:>9}")
        before = sample
    return "\n".join(lines)


def difference_table(found: Sequence[SystemDifference], detect: float) -> str:
    """Differences of systems: one line of under 100 characters per axis and part, a heading for every two systems."""
    head = f"{'axis':<5}{'part':<10}{'n':>6}{'A':>7}{'B':>7}{'A - B':>8}  {'95 %':<16}{'effect':>7}{'A > B':>7}{'p':>8}"
    lines: list[str] = []
    before: tuple[str, str] | None = None
    for item in found:
        if (item.first, item.second) != before:
            before = item.first, item.second
            names = f"A  {printable(item.first)}\nB  {printable(item.second)}"
            lines += [*([""] if lines else []), names, f"{head}{f'for {detect:g}':>9}"]
        n = f"{item.n:>6}" if item.paired else f"{min(item.n, item.n_second):>6}"
        means = f"{_cell(item.first_mean, 7, 2)}{_cell(item.second_mean, 7, 2)}{_cell(item.difference, 8)}"
        effect = f"{_cell(item.effect, 7, 2)}{_cell(item.superiority, 7, 2)}"
        needed = item.clips_for(detect)
        p = "<.001" if item.p_holm < 0.001 else f"{item.p_holm:.3f}"
        clips = "-" if needed is None else str(needed)
        interval = f"{_interval(item.low, item.high, 3):<16}"
        lines.append(f"{item.axis:<5}{printable(item.part)[:9]:<10}{n}{means}  {interval}{effect}{p:>8}{clips:>9}")
    return "\n".join(lines)


_SAMPLE_HEAD = f"{'axis':<10}{'part':<11}{'level':<10}{'n':>5}"


def _sample(item: Agreement | Comparison) -> str:
    part = printable(item.part)
    return f"{item.axis:<10}{part if len(part) <= 10 else part[:9] + '…':<11}{item.level:<10}{item.n:>5}"


def _cell(value: float, width: int = 7, digits: int = 3) -> str:
    return f"{'-':>{width}}" if math.isnan(value) else f"{value:>{width}.{digits}f}"


def _interval(low: float, high: float, digits: int) -> str:
    return "-" if math.isnan(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"


TextTable = list[tuple[str, list[str]]]
"""The lines of a table: name and cells."""


def leaderboard_tables(
    results: Sequence[Result], rows: Sequence[Published], ranks: Sequence[Rank], intervals: Intervals
) -> dict[str, TextTable]:
    """The tables of a leaderboard by title; every line has utterance columns, then system columns.

    The first table compares the model with the noise ceiling on every axis, the others with the published rows.
    """
    of = {(item.axis, item.level): item for item in results}
    axes = [axis for axis in (*SHOWN, "composite", "mean_of_axes") if (axis, "utterance") in of]
    own: TextTable = []
    for axis in axes:
        pair = [of[axis, level] for level in LEVELS]
        own.append((axis, [_cell(item.figures[name]) for item in pair for name in METRICS]))
        for end, name in enumerate(("  95 %: from", "  to")):
            limits = (intervals.get((axis, level, metric)) for level in LEVELS for metric in METRICS)
            own.append((name, [_cell(found[end] if found else math.nan) for found in limits]))
        own.append(("  ceiling", [_cell(item.ceiling[name]) for item in pair for name in METRICS]))
        fractions = (item.fraction_of_ceiling(name) for item in pair for name in METRICS)
        own.append(("  reached", ["-" if math.isnan(x) else f"{x:.1%}" for x in fractions]))
    tables = {"This model and the ceiling that the raters' noise sets": own}
    for axis in (axis for axis in axes if any(row.axis == axis for row in rows)):
        found = {(row.team, row.level): row.figures for row in rows if row.axis == axis}
        ranked = {(item.level, item.metric): f"{item.rank} of {item.of}" for item in ranks if item.axis == axis}
        table: TextTable = []
        for team in dict.fromkeys(team for team, _ in found):
            figures = [found.get((team, level), {}).get(name, math.nan) for level in LEVELS for name in METRICS]
            table.append((printable(team), [_cell(value) for value in figures]))
        table.append(("this model", [_cell(of[axis, level].figures[name]) for level in LEVELS for name in METRICS]))
        table.append(("  rank", [ranked.get((level, name), "-") for level in LEVELS for name in METRICS]))
        tables[f"{axis} next to the published rows"] = table
    return tables


def table_text(title: str, table: TextTable) -> str:
    """A leaderboard table in columns of under 100 characters."""
    head = "".join(f"{name:>8}" for name in METRICS)
    lines = [title, f"{'':<14}{'utterance':>12}{'':<20}  {'system':>9}", f"{'':<14}{head}  {head}"]
    for name, cells in table:
        values = [f"{cell.strip():>8}" for cell in cells]
        lines.append(f"{name[:14]:<14}{''.join(values[:4])}  {''.join(values[4:])}")
    return "\n".join(lines)


def table_markdown(title: str, table: TextTable) -> str:
    """A leaderboard table as Markdown."""
    columns = [f"{level} {name}" for level in LEVELS for name in METRICS]
    lines = [f"## {title}", "", f"| | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    for name, cells in table:
        safe = name.strip().replace("|", "\\|")
        lines.append(f"| {safe} | {' | '.join(cell.strip() for cell in cells)} |")
    return "\n".join(lines)


def ensemble_table(
    weights: Mapping[str, Mapping[str, float]], figures: Mapping[str, Mapping[str, Mapping[str, float | None]]]
) -> str:
    """The weight of each model in an ensemble, and its SRCC and MSE on the lists that it was chosen by."""
    width = max(map(len, (*weights, "ensemble")))
    head = "".join(f"{f'{which} {name}':>10}" for which in figures for name in ("SRCC", "MSE"))
    lines = [f"{'model':<{width}}{'weight':>8}{head}"]
    for model in (*weights, *(["ensemble"] if figures else [])):
        values = [found[model][name] for found in figures.values() for name in ("SRCC", "MSE")]
        cells = "".join(_cell(math.nan if value is None else value, 10) for value in values)
        weight = _cell(max(weights[model].values()), 8) if model in weights else " " * 8
        lines.append(f"{printable(model):<{width}}{weight}{cells}")
    return "\n".join(lines)
