"""What people read on a terminal: scores, agreement and standings as tables, a progress bar."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from mmmos.scores import Scores

if TYPE_CHECKING:
    from rich.console import Console

    from mmmos.bulk.engine import Counts
    from mmmos.evaluate import Agreement, Comparison
    from mmmos.leaderboard import Place, Published, Result

SHOWN = ("PQ", "PC", "CE", "CU")
"""The order of the axes for people, as the paper prints them."""


def score_table(out: IO[str], columns: int) -> Callable[[Scores], None]:
    """A function that prints one clip a line, under a head that is printed now.

    `columns` is the width of the terminal in characters. A tilde marks a score that rests on nobody's ratings
    of such clips.
    """
    width = min(max(columns - 52, 20), 60)
    print(f"{'clip':<{width}}" + "".join(f"{axis:>7}" for axis in SHOWN) + "  notes", file=out)

    def write(scores: Scores) -> None:
        end = "" if math.isnan(scores.end_time) else f"{scores.end_time:.0f}"
        part = f" {scores.start_time:.0f}-{end} s" if scores.start_time > 0 else ""
        name = printable(scores.id)
        room = width - len(part)
        name = (name if len(name) <= room else f"…{name[1 - room :]}") + part
        cells = "".join(f"{_score(scores, axis):>7}" for axis in SHOWN)
        kind = [scores.domain] if scores.domain else []
        remark = (
            f"{scores.error.code}: {scores.error.message}" if scores.error else ", ".join([*kind, *scores.warnings])
        )
        print(f"{name:<{width}}{cells}  {printable(remark)}".rstrip(), file=out, flush=True)

    return write


def _score(scores: Scores, axis: str) -> str:
    if math.isnan(scores[axis]):
        return "-"
    rated = getattr(scores, f"{axis}_basis") in (None, "human", "distilled-human")
    return f"{'' if rated else '~'}{scores[axis]:.2f}"


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

    First the model beside the ceiling on every axis, then beside the published rows on theirs.
    """
    of = {(item.axis, item.level): item for item in results}
    axes = [axis for axis in (*SHOWN, "composite", "mean_of_axes") if (axis, "utterance") in of]
    own: Grid = []
    for axis in axes:
        pair = [of[axis, level] for level in _LEVELS]
        own.append((axis, [_cell(item.figures[name]) for item in pair for name in _METRICS]))
        own.append(("  ceiling", [_cell(item.ceiling[name]) for item in pair for name in _METRICS]))
        shares = (item.reached(name) for item in pair for name in _METRICS)
        own.append(("  reached", ["-" if math.isnan(share) else f"{share:.1%}" for share in shares]))
    grids = {"This model and the ceiling that the raters' noise sets": own}
    for axis in (axis for axis in axes if any(row.axis == axis for row in rows)):
        found = {(row.team, row.level): row.figures for row in rows if row.axis == axis}
        ranks = {(item.level, item.metric): f"{item.rank} of {item.of}" for item in places if item.axis == axis}
        grid: Grid = []
        for team in dict.fromkeys(team for team, _ in found):
            values = [found.get((team, level), {}).get(name) for level in _LEVELS for name in _METRICS]
            grid.append((printable(team), [_cell(math.nan if value is None else value) for value in values]))
        grid.append(("this model", [_cell(of[axis, level].figures[name]) for level in _LEVELS for name in _METRICS]))
        grid.append(("  place", [ranks.get((level, name), "-") for level in _LEVELS for name in _METRICS]))
        grids[f"{axis} beside the published rows"] = grid
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


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of clips done.

    On a terminal it moves a bar with rate and time left; elsewhere, and for no clips, it does nothing.
    """
    if not console.is_terminal or not total:
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.speed:.1f} clips/s" if task.speed else "")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


def counts_line(counts: Counts) -> str:
    """How far a run in shards is, with the clips a second of this call and the time left at that rate."""
    of = f"{counts.shards}/{counts.all_shards} shards, {counts.clips}/{counts.all_clips} clips"
    line = f"{of}, {counts.ok} ok, {counts.errors} errors"
    if not counts.new_clips or not counts.seconds:
        return line
    rate = counts.new_clips / counts.seconds
    left = round((counts.all_clips - counts.clips) / rate / 60)
    return f"{line}, {rate:.1f} clips/s" + (
        f", {left // 60}:{left % 60:02d} h left" if counts.clips < counts.all_clips else ""
    )


LINE_SECONDS = 30.0
"""How often a line tells of a run where there is no bar."""


@contextmanager
def counted(console: Console, what: str) -> Iterator[Callable[[Counts], None]]:
    """A function to call with how far a run in shards is: a bar on a terminal, else a line now and then."""
    if not console.is_terminal:
        last = time.monotonic()

        def tell(counts: Counts) -> None:
            nonlocal last
            if time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                console.print(f"mmmos: {what}: {counts_line(counts)}")

        yield tell
        return
    from rich.progress import BarColumn, Progress, TextColumn

    with Progress(BarColumn(10), TextColumn("{task.description}"), console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda counts: bar.update(
            task, description=counts_line(counts), completed=counts.clips, total=counts.all_clips
        )


@contextmanager
def stages(console: Console) -> Iterator[Callable[[str, float, float], None]]:
    """A function to call with a stage of the work, how much of it is done and how much there is.

    On a terminal each stage has a bar with the time left; elsewhere it does nothing.
    """
    if not console.is_terminal:
        yield lambda what, done, total: None
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    left = (TextColumn("time left"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), *left)
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=console, transient=True) as bars:

        def update(what: str, done: float, total: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what)
            bars.update(tasks[what], completed=done, total=total)

        yield update
