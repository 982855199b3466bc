"""Progress on the console: a bar, or a line a minute, with the time left."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mmmos.bulk.driver import Counts
from mmmos.cli import console
from mmmos.cli.console import ConsoleProgress, duration, is_animated, progress_line
from mmmos.cli.run_folder import summary


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines_of(work: Callable[[ConsoleProgress, Clock], None]) -> list[str]:
    """What a console that is not a terminal shows of some work."""
    out, clock = io.StringIO(), Clock()
    with ConsoleProgress(Console(file=out, width=200), clock) as progress:
        work(progress, clock)
    return out.getvalue().splitlines()


def test_lines_come_once_a_minute_with_count_rate_and_time_left():
    def work(progress: ConsoleProgress, clock: Clock) -> None:
        progress.start("scoring", 120)
        for _ in range(50):
            clock.now += 10.0
            progress.advance()

    lines = lines_of(work)
    assert len(lines) == 8  # of 500 s
    assert lines[0] == "mmmos: scoring: 6 of 120 clips, 6.0 clips/min, 19 min left"
    assert lines[-1] == "mmmos: scoring: 48 of 120 clips, 6.0 clips/min, 12 min left"


def test_a_run_under_a_minute_prints_nothing():
    def work(progress: ConsoleProgress, clock: Clock) -> None:
        progress.start("scoring", 59)
        for _ in range(59):
            clock.now += 1.0
            progress.advance()

    assert lines_of(work) == []


def test_a_long_clip_is_counted_in_windows():
    def work(progress: ConsoleProgress, clock: Clock) -> None:
        progress.start("scoring", 2)
        for _ in range(240):
            clock.now += 0.5
            progress.windows()
        progress.advance()
        clock.now += 60
        progress.windows()

    assert lines_of(work) == [
        "mmmos: scoring: 0 of 2 clips, 120 windows of the next, 2.0 windows/s",
        "mmmos: scoring: 0 of 2 clips, 240 windows of the next, 2.0 windows/s",
        "mmmos: scoring: 1 of 2 clips, 20.0 clips/h, 3 min left",
    ]


def test_earlier_work_has_no_part_in_the_rate():
    def work(progress: ConsoleProgress, clock: Clock) -> None:
        progress.start("training", 100, "%", 40)
        clock.now += 60
        progress.advance(30)

    assert lines_of(work) == ["mmmos: training: 70 %, 1 min left"]


def test_terminal_has_a_temporary_bar_for_each_stage():
    out, clock = Terminal(), Clock()
    with ConsoleProgress(Console(file=out, width=100), clock) as progress:
        progress.start("encoding", 4)
        clock.now += 60
        progress.advance(2)
        progress.start("training", 10, "epochs")
        progress.advance(3)
        progress._bars.refresh()
        shown = out.getvalue()
    for text in ("encoding", "2 of 4 clips, 2.0 clips/min, 1 min left", "training", "3 of 10 epochs"):
        assert text in shown
    assert out.getvalue().endswith("\x1b[2K")  # the last line is erased


@pytest.mark.parametrize("width", [40, 60])
def test_a_bar_fits_a_narrow_terminal(width):
    out, clock = Terminal(), Clock()
    with ConsoleProgress(Console(file=out, width=width, color_system=None), clock) as progress:
        progress.start("scoring", 100_000)
        clock.now += 600
        progress.advance(40_000)
        progress._bars.refresh()
    text = out.getvalue()
    assert "40,000 of 100,000 clips" in text
    assert ("15 min left" in text) == (width == 60)


@pytest.mark.parametrize(
    ("environment", "animated"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({"TERM": "xterm", "NO_COLOR": "1"}, True)],
)
def test_a_dumb_terminal_gets_lines(monkeypatch, environment, animated):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_animated(Console(file=Terminal())) == animated


def test_colours_in_a_pipe_bring_no_bar(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not is_animated(Console(file=io.StringIO()))


@given(st.integers(0, 10**6), st.integers(0, 10**7), st.integers(0, 10**5), st.floats(0, 1e6), st.integers(20, 120))
def test_a_line_fits_its_width_and_keeps_the_count(done, more, windows, seconds, width):
    line = progress_line(done, done + more, "clips", done, seconds, windows, "12 errors", width)
    count = f"{done:,} of {done + more:,} clips"
    assert line.startswith(count)
    assert len(line) <= max(width, len(count))


@given(st.floats(0, 1e9))
def test_durations_are_right_to_a_minute_or_an_hour(seconds):
    sizes = {"min": 60, "h": 3600, "d": 86_400}
    text = duration(seconds)
    if text == "under 1 min":
        assert seconds < 60
        return
    words = text.split()
    total = sum(int(number) * sizes[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    assert abs(total - seconds) <= (30 if words[-1] == "min" else 3600)
    assert all(int(number) < 60 for number, unit in zip(words[::2], words[1::2], strict=True) if unit == "min")


def test_update_shows_clips_windows_and_detail():
    def work(progress: ConsoleProgress, clock: Clock) -> None:
        progress.start("scoring", 1_000_000)
        clock.now += 800
        progress.update(12_040, 7, "10 errors")

    assert lines_of(work) == [
        "mmmos: scoring: 12,040 of 1,000,000 clips, 10 errors, 7 windows of the next, 15.1 clips/s, 18 h 14 min left"
    ]


def test_the_summary_of_a_run_has_its_counts():
    counts = Counts(1000, 1000, 1_000_000, 1_000_000, 999_990, 10, 2, 12_000, 800.0, 1_500_000_000)
    assert summary(counts) == (
        "1,000 of 1,000 shards, 1,000,000 of 1,000,000 clips, 999,990 ok, 10 errors, 800 s, 15.0 clips/s,"
        " at most 1.5 GB per worker, 2 worker failures"
    )


def test_lines_are_a_minute_apart():
    assert console.LINE_SECONDS == 60
