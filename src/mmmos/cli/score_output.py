"""Where `mmmos score` writes rows in this process: a file, a table on a terminal, or a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer
from rich.console import Console

from mmmos.cli.console import ConsoleProgress, is_animated, stderr
from mmmos.cli.options import check_output
from mmmos.cli.score_table import score_table
from mmmos.errors import UsageError
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.scores import LABEL_RANGE, LabelRange

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.scores import Scores


@contextmanager
def output_file(
    file: Path | None, form: Literal["mmmos", "audiobox"], inputs: Iterable[str], overwrite: bool
) -> Iterator[None]:
    """Check and lock the output file, if there is one. Raises `UsageError`."""
    from mmmos.inference.rows import check_target
    from mmmos.io.atomic import locked

    if file is None:
        yield
        return
    check_target(file, form)
    with locked(file):
        check_output(file, inputs, overwrite)
        yield


@contextmanager
def rows_to(
    output: Path | None,
    form: Literal["mmmos", "audiobox"],
    append: bool,
    clips: Sequence[Clip],
    label_range: LabelRange = LABEL_RANGE,
    segments: bool = False,
    others: Collection[str] = (),
) -> Iterator[tuple[Callable[[Scores], None], Progress]]:
    """Where rows go, and the progress: a file, a table on a terminal, or JSONL into a pipe.

    `others` are the starts of the columns of other models.
    """
    from mmmos.inference.rows import open_rows

    if output is None and form == "mmmos" and sys.stdout is not None and sys.stdout.isatty():
        console = Console(highlight=False, markup=False, emoji=False)
        names = [clip.id for clip in clips]
        timed = segments or any(clip.start_time > 0 for clip in clips)
        # Rows scroll by above the bar if one console prints both.
        with (
            ConsoleProgress(console if is_animated(console) else stderr) as progress,
            score_table(console, names, label_range, timed) as write,
        ):
            yield write, progress
        return
    if output is None and sys.stdout is None:
        raise UsageError("standard output is closed; name a file with -o")
    try:
        with open_rows(output or sys.stdout, form, append, others) as write:
            if output is None and sys.stdout.isatty():
                yield write, NO_PROGRESS  # a bar would run into the rows
                return
            with ConsoleProgress(stderr) as progress:
                yield write, progress
    except BrokenPipeError:  # `head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(141) from None
