"""`mmmos score`: clips in, rows out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmmos.cli.options import (
    AcceptOption,
    BackendOption,
    DataRoot,
    DeviceOption,
    ModelsOption,
    OverwriteOption,
    ScoringDtypeOption,
    StrictOption,
    TrustOption,
    check_output,
    columns_of,
    open_predictors,
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
from mmmos.errors import ManifestError, UsageError
from mmmos.hub.options import LoadOptions
from mmmos.wording import agree, counted

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.audio.decoder import Decoder
    from mmmos.inference.several import Predictors
    from mmmos.io.lists import OnBadRow
    from mmmos.scores import Scores

logger = logging.getLogger(__name__)


def score(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, patterns, lists (.jsonl, .json, .csv, .tsv, .scp, .txt), .tar, or - for stdin."
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", help="Write rows here: .jsonl, .csv or .parquet; FOLDER/ or an address for many clips."
        ),
    ] = None,
    model: ModelsOption = ["lite"],  # noqa: B006, typer makes a new list each time
    segments: Annotated[bool, typer.Option("--segments", help="One row for each 10-second window.")] = False,
    hop: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Start of the next window of --segments; under 10: overlap.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the segments of one clip over time: .png, .svg, .pdf or .html.")
    ] = None,
    form: Annotated[
        Literal["mmmos", "audiobox"], typer.Option("--format", help="audiobox prints only its four keys.")
    ] = "mmmos",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the scores in OUTPUT.jsonl, score the rest.")] = False,
    overwrite: OverwriteOption = False,
    strict: StrictOption = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Windows at a time; 1 on a CPU, 16 on a GPU.")] = None,
    device: DeviceOption = "auto",
    dtype: ScoringDtypeOption = "auto",
    backend: BackendOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006
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
    -o FOLDER/ many processes share the work, rows are published in parts, and the same command resumes the run. With
    several --model, clips are decoded once; the columns of each model after the first begin with its name.

    Exit status: 0 every clip scored, 1 some rows are errors, 2 wrong usage, 3 the run could not continue, 130 or 143
    interrupted.
    """
    from mmmos.data.inputs import expand

    if not segments and (plot or hop is not None):
        raise UsageError(f"{'--plot' if plot else '--hop'} needs --segments")
    others = columns_of(model)
    if others and (plot or form != "mmmos"):
        raise UsageError(f"{'--plot' if plot else '--format audiobox'} takes one model; leave out the other --model")
    options = LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license), backend=backend)
    run = RunOptions(workers, ray, shard_size, stall_minutes)
    skipped, on_bad_row = _bad_rows(strict)
    found = expand(inputs, None if data_root is None else str(data_root), on_bad_row)
    if folder := folder_of(output, run):
        if segments or plot or form != "mmmos" or resume or overwrite:
            raise UsageError(
                f"{folder} is a folder: --segments, --plot, --format, --resume and --overwrite need a file output"
                " (folders resume automatically)"
            )
        from mmmos.bulk.tasks import ScoreTask

        task = ScoreTask(model[0], options, batch_size, others=tuple(others.items()))
        failed = run_in_folder(folder, _at_paths(found), task, run, "scoring").errors
    else:
        target = _Target(None if output is None else Path(output), form, segments, resume, overwrite, hop, plot)
        open_models = partial(open_predictors, model[0], others, options, batch_size)
        failed = _score_to(target, inputs, found, skipped, open_models)
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
    hop: float | None  # s, of segments
    plot: Path | None  # of the segments of the only clip


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
    open_models: Callable[[], Predictors],
) -> int:
    """Score clips in this process. Returns the number of clips that cannot be scored."""
    from mmmos.cli.score_output import output_file, rows_to
    from mmmos.data.inputs import named_files
    from mmmos.inference.resume import not_done

    file, form, segments, resume = target.file, target.form, target.segments, target.resume
    if resume and (file is None or file.suffix not in (".jsonl", ".json") or segments or form != "mmmos"):
        raise UsageError("--resume needs -o OUTPUT.jsonl, without --segments or --format")
    with output_file(file, form, named_files(inputs), resume or target.overwrite):
        clips = [replace(clip, hop=target.hop) for clip in found]
        if target.plot:
            _check_plot(target.plot, clips, [*named_files(inputs), file], target.overwrite)
        if not clips and skipped:
            raise UsageError(f"nothing to score: {_left_out(skipped)}")
        if not clips:
            logger.warning("nothing to score in %s", " ".join(inputs))
            with rows_to(file, form, resume, []):
                return 0
        models = open_models()
        if resume and file:
            listed = len(clips)
            clips = not_done(clips, file, models.first.provenance, models.provenance_of_others)
            if kept := listed - len(clips):
                logger.info("%s %s a score in %s", counted(kept, "clip", of=listed), agree(kept, "has"), file)
        failed, label_range = 0, models.first.model.info.label_range
        drawn: list[Scores] = []
        with models, rows_to(file, form, resume, clips, label_range, segments, models.others) as (write, progress):
            progress.start("scoring", len(clips))
            for scores in models.stream(clips, segments=segments, progress=progress):
                write(scores)
                failed += any(one.error is not None for one in (scores, *dict(scores.others).values()))
                drawn += [scores] if target.plot else []
        if target.plot and not failed:
            _draw(target.plot, clips[0], drawn, models.first.decoder)
    if failed:
        logger.warning("%s could not be scored; the rows say why", counted(failed, "clip", of=len(clips)))
    if skipped:
        logger.warning("%s", _left_out(skipped))
    return failed


def _check_plot(plot: Path, clips: Sequence[Clip], others: Iterable[str | Path | None], overwrite: bool) -> None:
    """Raise `UsageError` if a timeline of these clips cannot be drawn."""
    from mmmos.report.timeline import check_timeline

    check_timeline(plot)
    check_output(plot, others, overwrite)
    if len(clips) != 1:
        raise UsageError(f"--plot draws one clip, not {len(clips)}: name one file")


def _draw(plot: Path, clip: Clip, drawn: Sequence[Scores], decoder: Decoder) -> None:
    """Write the timeline of a clip's segments."""
    from mmmos.report.timeline import make_timeline, write_timeline

    write_timeline(plot, make_timeline(clip, drawn, decoder))


def _left_out(skipped: Sequence[ManifestError]) -> str:
    return f"{counted(len(skipped), 'row')} of lists {agree(len(skipped), 'was')} left out"


def _at_paths(clips: Iterable[Clip]) -> Iterator[Clip]:
    """The same clips. Raises `UsageError` for the bytes of a pipe, which a run in a folder cannot read again."""
    for clip in clips:
        if clip.path is None:
            raise UsageError(f"{clip.id} is a pipe of audio; a run in a folder takes files, so save it as one")
        yield clip
