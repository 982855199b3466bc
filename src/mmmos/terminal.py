"""What people read on a terminal: scores as a table, agreement as a table, a progress bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from mmmos.scores import Scores

if TYPE_CHECKING:
    from rich.console import Console

    from mmmos.evaluate import Agreement

SHOWN = ("PQ", "PC", "CE", "CU")
"""The order of the axes for people, as the paper prints them."""


def score_table(out: IO[str], columns: int) -> Callable[[Scores], None]:
    """A function that prints one clip a line, under a head that is printed now.

    `columns` is the width of the terminal in characters.
    """
    width = min(max(columns - 48, 20), 60)
    print(f"{'clip':<{width}}" + "".join(f"{axis:>6}" for axis in SHOWN) + "  notes", file=out)

    def write(scores: Scores) -> None:
        end = "" if math.isnan(scores.end_time) else f"{scores.end_time:.0f}"
        part = f" {scores.start_time:.0f}-{end} s" if scores.start_time > 0 else ""
        name = printable(scores.id)
        room = width - len(part)
        name = (name if len(name) <= room else f"…{name[1 - room :]}") + part
        cells = "".join("     -" if math.isnan(scores[axis]) else f"{scores[axis]:6.2f}" for axis in SHOWN)
        remark = f"{scores.error.code}: {scores.error.message}" if scores.error else ", ".join(scores.warnings)
        print(f"{name:<{width}}{cells}  {printable(remark)}".rstrip(), file=out, flush=True)

    return write


def printable(name: str) -> str:
    r"""A file name as one line of text: line breaks and bytes that are no UTF-8 spelled out.

    >>> printable("a\nb.wav")
    'a\\nb.wav'
    """
    escaped = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)
    return escaped.encode("utf-8", "backslashreplace").decode()


def agreement_table(found: Sequence[Agreement]) -> str:
    """Agreement with the labels, one axis and part a line."""
    head = f"{'axis':<5}{'part':<14}{'level':<11}{'n':>5}{'MSE':>8}{'bias':>7}{'LCC':>7}{'SRCC':>7}"
    lines = [f"{head}  {'95 %':<15}{'KTAU':>6}"]
    for item in found:
        interval = f"[{item.SRCC_low:.2f}, {item.SRCC_high:.2f}]"
        lines.append(
            f"{item.axis:<5}{item.part:<14}{item.level:<11}{item.n:>5}{item.MSE:>8.3f}{item.bias:>7.2f}"
            f"{item.LCC:>7.3f}{item.SRCC:>7.3f}  {interval:<15}{item.KTAU:>6.3f}"
        )
    return "\n".join(lines)


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
