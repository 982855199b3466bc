"""`mmmos score`: clips in, rows out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from mmmos.cli.console import ConsoleProgress, is_animated, stderr
from mmmos.cli.options import (
    AcceptOption,
    DataRoot,
    DeviceOption,
    DtypeOption,
    ModelOption,
    OverwriteOption,
    StrictOption,
    TrustOption,
    check_output,
    open_predictor,
)
from mmmos.cli.run_folder import (
    RayOption,
    RunOptions,
    ShardSizeOption,
    StallOption,
    WorkersOption,
    folder_of,
    run_in_folder,
)
from mmmos.cli.score_table import score_table
from mmmos.errors import ManifestError, UsageError
from mmmos.hub.options import LoadOptions
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.scores import LABEL_RANGE, LabelRange
from mmmos.wording import agree, counted

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.inference.predictor import Predictor
    from mmmos.io.lists import OnBadRow
    from mmmos.scores import Scores

logger = logging.getLogger(__name__)


def score(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Files, folders, patterns, lists (.jsonl, .json, .csv, .tsv, .scp, .txt), or - for stdin."),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", help="Write rows here: .jsonl, .csv or .parquet; FOLDER/ or an address for many clips."
        ),
    ] = None,
    model: ModelOption = "lite",
    segments: Annotated[bool, typer.Option("--segments", help="One row for each 10-second window.")] = False,
    form: Annotated[
        Literal["mmmos", "audiobox"], typer.Option("--format", help="audiobox prints only its four keys.")
    ] = "mmmos",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the scores in OUTPUT.jsonl, score the rest.")] = False,
    overwrite: OverwriteOption = False,
    strict: StrictOption = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Windows at a time; 1 on a CPU, 16 on a GPU.")] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
    workers: WorkersOption = None,
    ray: RayOption = None,
    shard_size: ShardSizeOption = None,
    stall_minutes: StallOption = 30.0,
    data_root: DataRoot = None,
) -> None:
    """Score clips: quality, complexity, enjoyment, usefulness.

    Prints a table on a terminal, JSON lines into a pipe, or writes a file with -o. PQ is production quality, PC
    production complexity, CE content enjoyment, CU content usefulness, on the rating scale of the model: 0 to 10 unless
    its own labels had another. A clip that cannot be scored gets a row with an error; the others get their scores. With
    -o FOLDER/ many processes share the work, rows are published in parts, and the same command resumes the run.

    Exit status: 0 every clip scored, 1 some rows are errors, 2 wrong usage, 3 the run could not continue, 130 or 143
    interrupted.
    """
    from mmmos.data.inputs import expand

    options = LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license))
    run = RunOptions(workers, ray, shard_size, stall_minutes)
    skipped, on_bad_row = _bad_rows(strict)
    found = expand(inputs, None if data_root is None else str(data_root), on_bad_row)
    if folder := folder_of(output, run):
        if segments or form != "mmmos" or resume or overwrite:
            raise UsageError(
                f"{folder} is a folder: --segments, --format, --resume and --overwrite need a file output (folders"
                " resume automatically)"
            )
        from mmmos.bulk.tasks import ScoreTask

        task = ScoreTask(model, options, batch_size)
        failed = run_in_folder(folder, _at_paths(found), task, run, "scoring").errors
    else:
        target = _Target(None if output is None else Path(output), form, segments, resume, overwrite)
        failed = _score_to(target, inputs, found, skipped, lambda: open_predictor(model, options, batch_size))
    if failed or skipped:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Target:
    """Where rows go, and how."""

    file: Path | None  # None for stdout
    form: Literal["mmmos", "audiobox"]
    segments: bool
    resume: bool
    overwrite: bool


def _bad_rows(strict: bool) -> tuple[list[ManifestError], OnBadRow]:
    """Bad rows of lists, and the function that adds to them, or that raises the error if `strict`."""
    from mmmos.io.lists import refuse

    skipped: list[ManifestError] = []

    def skip(error: ManifestError) -> None:
        skipped.append(error)
        logger.warning("%s: this row is left out", error)

    return skipped, refuse if strict else skip


def _score_to(
    target: _Target,
    inputs: Sequence[str],
    found: Iterable[Clip],
    skipped: Sequence[ManifestError],
    open_model: Callable[[], Predictor],
) -> int:
    """Score clips in this process. Returns the number of clips that cannot be scored."""
    from mmmos.data.inputs import named_files
    from mmmos.inference.resume import not_done

    file, form, segments, resume = target.file, target.form, target.segments, target.resume
    if resume and (file is None or file.suffix not in (".jsonl", ".json") or segments or form != "mmmos"):
        raise UsageError("--resume needs -o OUTPUT.jsonl, without --segments or --format")
    with _output(file, form, named_files(inputs), resume or target.overwrite):
        clips = list(found)
        if not clips and skipped:
            raise UsageError(f"nothing to score: {_left_out(skipped)}")
        if not clips:
            logger.warning("nothing to score in %s", " ".join(inputs))
            with _rows_to(file, form, resume, []):
                return 0
        predictor = open_model()
        if resume and file:
            clips = not_done(clips, file, predictor.provenance)
        failed, label_range = 0, predictor.model.info.label_range
        with predictor, _rows_to(file, form, resume, clips, label_range, segments) as (write, progress):
            progress.start("scoring", len(clips))
            for scores in predictor.stream(clips, segments=segments, progress=progress):
                write(scores)
                failed += scores.error is not None
    if failed:
        logger.warning("%s could not be scored; the rows say why", counted(failed, "clip", of=len(clips)))
    if skipped:
        logger.warning("%s", _left_out(skipped))
    return failed


def _left_out(skipped: Sequence[ManifestError]) -> str:
    return f"{counted(len(skipped), 'row')} of lists {agree(len(skipped), 'was')} left out"


def _at_paths(clips: Iterable[Clip]) -> Iterator[Clip]:
    """The same clips. Raises `UsageError` for the bytes of a pipe, which a run in a folder cannot read again."""
    for clip in clips:
        if clip.path is None:
            raise UsageError(f"{clip.id} is a pipe of audio; a run in a folder takes files, so save it as one")
        yield clip


@contextmanager
def _output(
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
def _rows_to(
    output: Path | None,
    form: Literal["mmmos", "audiobox"],
    append: bool,
    clips: Sequence[Clip],
    label_range: LabelRange = LABEL_RANGE,
    segments: bool = False,
) -> Iterator[tuple[Callable[[Scores], None], Progress]]:
    """Where rows go, and the progress: a file, a table on a terminal, or JSONL into a pipe."""
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
        with open_rows(output or sys.stdout, form, append) as write:
            if output is None and sys.stdout.isatty():
                yield write, NO_PROGRESS  # a bar would run into the rows
                return
            with ConsoleProgress(stderr) as progress:
                yield write, progress
    except BrokenPipeError:  # `head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(141) from None
