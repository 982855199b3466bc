"""Messages and progress on stderr. Progress is a bar on a terminal, elsewhere a line per minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

LINE_SECONDS = 60.0
"""Interval of the lines where there is no bar. A shorter run prints none."""

LONG_CLIP_WINDOWS = 6
"""From this number on, the windows of the clip in progress are shown: it takes longer than others."""

MIN_RATE_SECONDS = 1.0
"""Shortest time that a rate is computed of."""

STAGE_COLUMNS = 10
"""Width of a stage's name, with the gap after it."""


class StderrConsole(Console):
    """A console on stderr: lines break between words on a terminal, and not at all in a log."""

    def print(self, *objects: Any, **options: Any) -> None:
        """See `Console.print`."""
        super().print(*objects, soft_wrap=not self.file.isatty(), **options)


stderr = StderrConsole(stderr=True, highlight=False, markup=False, emoji=False)


class StderrHandler(logging.Handler):
    """Prints log records as `mmmos: ...`, above the progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record. An error of stderr is raised."""
        stderr.print(f"mmmos: {record.getMessage()}")


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Print what the package logs, from level INFO on, while the block runs."""
    logger, handler = logging.getLogger("mmmos"), StderrHandler(logging.INFO)
    before = logger.level
    logger.setLevel(min(logger.getEffectiveLevel(), logging.INFO))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class ConsoleProgress:
    """Shows the progress of each stage of the work on a console, as a context manager.

    A bar needs a terminal that can move its cursor; it disappears when the work is done. `clock` gives s.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._bars: Bars | None = None
        self._tasks: dict[str, Any] = {}
        self._stage, self._unit = "", "clips"
        self._total = self._first = self._done = 0.0
        self._windows, self._detail = 0, ""
        self._began = self._printed = clock()

    def __enter__(self) -> ConsoleProgress:
        if is_animated(self._console):
            self._bars = _bars(self._console, _bar_width(self._console))
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def start(self, stage: str, total: float, unit: str = "clips", done: float = 0) -> None:
        """A stage of `total` units begins, of which earlier calls have finished `done`."""
        self._stage, self._total, self._unit = stage, total, unit
        self._first = self._done = done
        self._windows, self._detail = 0, ""
        self._began = self._clock()
        if self._bars is not None and stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, line="")
        self._show()

    def advance(self, count: float = 1) -> None:
        """`count` more units of the stage are finished."""
        self._done, self._windows = self._done + count, 0
        self._show()

    def windows(self, count: int = 1) -> None:
        """`count` more windows of the clip in progress are finished."""
        self._windows += count
        self._show()

    def update(self, done: float, windows: int = 0, detail: str = "") -> None:
        """Units that are finished, windows of the clip in progress, and more to show."""
        self._done, self._windows, self._detail = done, windows, detail
        self._show()

    def _show(self) -> None:
        if self._bars is not None:
            task, bar = self._tasks[self._stage], _bar_width(self._console)
            width = self._console.width - STAGE_COLUMNS - (bar + 1 if bar else 0)
            self._bars.update(task, completed=self._done, total=self._total or None, line=self._line(width))
        elif self._clock() - self._printed >= LINE_SECONDS:
            self._printed = self._clock()
            self._console.print(f"mmmos: {self._stage}: {self._line()}")

    def _line(self, width: int | None = None) -> str:
        seconds = self._clock() - self._began
        counts = self._done, self._total, self._unit
        return progress_line(*counts, self._done - self._first, seconds, self._windows, self._detail, width)


def progress_line(
    done: float,
    total: float,
    unit: str,
    new: float,
    seconds: float,
    windows: int = 0,
    detail: str = "",
    width: int | None = None,
) -> str:
    """Count, rate and time left. What does not fit in `width` characters is left out, the count and the time last.

    `new` units were finished in the last `seconds`; `windows` of the clip in progress are finished.

    >>> progress_line(38, 120, "clips", 38, 390)
    '38 of 120 clips, 5.8 clips/min, 14 min left'
    """
    count = f"{done:.0f} %" if unit == "%" else f"{done:,.0f} of {total:,.0f} {unit}"
    inside = f"{windows:,} windows of the next" if windows >= LONG_CLIP_WINDOWS else ""
    pace, left = "", ""
    if new > 0 and seconds >= MIN_RATE_SECONDS:
        pace = "" if unit == "%" else _rate(new / seconds, unit)
        left = f"{duration((total - done) * seconds / new)} left" if done < total else ""
    elif inside and seconds >= MIN_RATE_SECONDS:
        pace = _rate(windows / seconds, "windows")
    parts = [count, detail, inside, pace, left]
    for dropped in (1, 3, 2, 4):
        if width is None or len(", ".join(filter(None, parts))) <= width:
            break
        parts[dropped] = ""
    return ", ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """A time in the two largest units that matter.

    >>> duration(40), duration(840), duration(12_000), duration(280_000)
    ('under 1 min', '14 min', '3 h 20 min', '3 d 5 h')
    """
    minutes = round(seconds / 60)
    if seconds < 60:
        return "under 1 min"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def is_animated(console: Console) -> bool:
    """Whether a bar can be drawn: `FORCE_COLOR` gives a pipe colours, but no cursor."""
    return console.file.isatty() and console.is_terminal and not console.is_dumb_terminal


def _rate(per_second: float, unit: str) -> str:
    for factor, name in ((1, "s"), (60, "min")):
        if per_second * factor >= 1:
            return f"{per_second * factor:.1f} {unit}/{name}"
    return f"{per_second * 3600:.1f} {unit}/h"


def _bar_width(console: Console) -> int:
    return 20 if console.width >= 80 else 10 if console.width >= 60 else 0


def _bars(console: Console, width: int) -> Bars:
    from rich.progress import BarColumn, Progress, TextColumn

    bar = (BarColumn(width),) if width else ()
    columns = (TextColumn("{task.description}"), *bar, TextColumn("{task.fields[line]}"))
    options: dict[str, Any] = {"transient": True, "redirect_stdout": False, "refresh_per_second": 5}
    return Progress(*columns, console=console, **options)
