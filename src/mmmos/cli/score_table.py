"""The table of scores that people read: aligned at every width, with what stands behind a score."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mmmos.report.text import printable
from mmmos.scores import SHOWN, LabelRange, Scores, parse_scale, scale_name

NARROW = 60
"""Columns of a terminal below which scores stand closer, and notes on lines of their own."""

NAME_COLUMNS, NOTES_COLUMNS = 18, 20
"""Width that a clip's name, then the notes, have before the other gets more."""

SEGMENT_COLUMNS = 12
"""Of a segment's times, as in ` 100-110 s`."""

LOW, HIGH = 0.35, 0.75
"""Fractions of the scale below and above which a score has a colour."""

MARK = "~ no listeners rated such clips: the score rests on weaker evidence"
"""Explains the mark of a score, where one has it."""


@contextmanager
def score_table(
    console: Console, names: Collection[str], label_range: LabelRange, segments: bool = False
) -> Iterator[Callable[[Scores], None]]:
    """A function that prints one clip's scores, under a header that is printed now.

    `names` are the ids of all clips that will come, which set the width of their column, and `segments` says whether
    their times are shown; `label_range` is the scale. A line at the end explains the mark `~`, if a score had it.
    """
    low, high = label_range
    title = f"clip (scores {scale_name(label_range)})"
    longest = max((cell_len(printable(name)) for name in names), default=0) + SEGMENT_COLUMNS * segments
    columns = Columns(console.width, max(longest, len(title)))
    title = title if len(title) <= columns.name else f"clip ({scale_name(label_range)})"
    head = "".join(f"{axis:>{columns.cell}}" for axis in SHOWN) + "  notes" * bool(columns.notes)
    console.print(Text(f"{_padded(title, columns.name)}{head}", style="bold"), crop=False, soft_wrap=True)
    marked = False

    def write(scores: Scores) -> None:
        nonlocal marked
        others = () if scores.error else scores.others
        for one in (scores, *(_below(name, other, scores.scale) for name, other in others)):
            marked |= any(_is_marked(one, axis) for axis in SHOWN)
            for line in _lines(one, columns, *(parse_scale(one.scale or "") or (low, high)), console):
                line.rstrip()
                console.print(line, crop=False, soft_wrap=True)

    yield write
    if marked:
        console.print(MARK, style="dim")


def _below(name: str, scores: Scores, scale: str | None) -> Scores:
    """The scores of another model as a line of their own, with its name, and its scale if it is not the first one's."""
    return replace(scores, id=f"  {name}" + f" ({scores.scale})" * (scores.scale != scale), start_time=0.0)


class Columns:
    """Widths for a terminal of so many characters: of the name, of one score, and of the notes, 0 if they go below."""

    def __init__(self, terminal: int, longest: int) -> None:
        self.terminal = max(terminal, 20)
        self.cell = 7 if terminal >= NARROW else 6
        room = self.terminal - len(SHOWN) * self.cell
        self.name = min(longest, max(room - 2 - NOTES_COLUMNS, NAME_COLUMNS))
        self.notes = room - self.name - 2
        if terminal < NARROW:
            self.name, self.notes = max(min(longest, room), 8), 0


def _lines(scores: Scores, columns: Columns, low: float, high: float, console: Console) -> Iterator[Text]:
    """A clip's line, and those that its notes need below."""
    name = Text(_padded(_name(scores, columns.name), columns.name))
    if scores.error is not None:
        message = Text(printable(f"{scores.error.code}: {scores.error.message}"), style="red")
        room = max(columns.terminal - columns.name - 2, 12)
        yield from _hanging(Text.assemble(name, "  "), message, room, columns.name + 2, console)
        return
    line = name
    for axis in SHOWN:
        line = Text.assemble(line, _cell(scores, axis, columns.cell, low, high))
    notes = Text.assemble(scores.domain or "", ", " if scores.domain and scores.warnings else "")
    notes.append(printable(", ".join(scores.warnings)), style="yellow")
    if columns.notes:
        indent = columns.terminal - columns.notes
        yield from _hanging(Text.assemble(line, "  "), notes, columns.notes, indent, console)
    else:
        yield line
        yield from _hanging(Text("  "), notes, columns.terminal - 2, 2, console) if notes else ()


def _hanging(start: Text, text: Text, room: int, indent: int, console: Console) -> Iterator[Text]:
    """Text after the start of its first line, the others below it."""
    first, *others = text.wrap(console, room) if text else (text,)
    yield Text.assemble(start, first)
    for line in others:
        yield Text.assemble(" " * indent, line)


def _name(scores: Scores, width: int) -> str:
    end = "" if math.isnan(scores.end_time) else f"{scores.end_time:.0f}"
    part = f" {scores.start_time:.0f}-{end} s" if scores.start_time > 0 else ""
    return shortened(printable(scores.id), width - len(part)) + part


def shortened(name: str, width: int) -> str:
    """A name in so many columns of a terminal: its start, and more of its end, where a path has the file.

    >>> shortened("corpus/speaker_12/take_003.wav", 20)
    'corpus…/take_003.wav'
    """
    if cell_len(name) <= width:
        return name
    file = cell_len(name.rpartition("/")[2])
    end = min(max(file, 2 * width // 3), width - 1 - min(4, width // 3))
    tail = _end(name, end)
    return f"{_start(name, width - 1 - cell_len(tail))}…{tail}"


def _start(text: str, width: int) -> str:
    while cell_len(text) > width:
        text = text[: min(width, len(text) - 1)]
    return text


def _end(text: str, width: int) -> str:
    while cell_len(text) > width:
        text = text[max(len(text) - max(width, 0), 1) :]
    while text and unicodedata.combining(text[0]):  # its letter is gone
        text = text[1:]
    return text


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _is_marked(scores: Scores, axis: str) -> bool:
    rests_on = getattr(scores, f"{axis}_basis")
    return not math.isnan(scores[axis]) and rests_on not in (None, "human", "distilled-human")


def _cell(scores: Scores, axis: str, width: int, low: float, high: float) -> Text:
    """A score in colour; complexity is neither good nor bad, so it has none."""
    if math.isnan(scores[axis]):
        return Text(f"{'-':>{width}}")
    fraction = (scores[axis] - low) / (high - low)
    colour = "" if axis == "PC" else "red" if fraction < LOW else "green" if fraction > HIGH else ""
    return Text(f"{'~' * _is_marked(scores, axis)}{scores[axis]:.2f}".rjust(width), style=colour)
