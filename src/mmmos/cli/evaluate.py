"""`mmmos evaluate`: how far scores and human labels agree."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmmos.cli.console import ConsoleProgress, stderr
from mmmos.cli.options import (
    AcceptOption,
    BadRows,
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
from mmmos.errors import ManifestError, UsageError
from mmmos.hub.options import LoadOptions
from mmmos.io.atomic import write_text
from mmmos.report.text import agreement_table, comparison_table
from mmmos.scores import AXES
from mmmos.wording import agree, counted

if TYPE_CHECKING:
    from mmmos.data.manifest import LabelledClip
    from mmmos.inference.predictor import Predictor
    from mmmos.scores import Scores

logger = logging.getLogger(__name__)


def evaluate(
    context: typer.Context,
    manifest: Annotated[Path, typer.Argument(help="Labelled clips.")],
    model: ModelOption = "lite",
    scores: Annotated[
        Path | None, typer.Option(help="Scores from this file, .jsonl, .csv or .parquet, in place of a model's.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Another model, or a file of its scores, to compare with on the same clips.")
    ] = None,
    axis: Annotated[
        list[str] | None, typer.Option(help="CE, CU, PC, PQ or composite; may be given again. All if not given.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw scores over labels: .png, .pdf or .svg. Needs mmmos[plot].")
    ] = None,
    scale: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="LOW HIGH", help="Lowest and highest rating of the labels; as the scores' scale by default."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the figures here, as JSON.")] = None,
    overwrite: OverwriteOption = False,
    strict: StrictOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
    data_root: DataRoot = None,
) -> None:
    """Compare scores with human labels.

    Prints MSE, LCC, SRCC, KTAU and bias, with intervals. With --against it compares two models on the same clips: the
    difference of each metric, with its interval.
    """
    from mmmos.data.corpora import read_list
    from mmmos.evaluation.agreement import compare
    from mmmos.evaluation.agreement import evaluate as agreement
    from mmmos.evaluation.listed import choose_axes
    from mmmos.evaluation.rating_scales import find_scales
    from mmmos.report.plots import plot as draw

    options = LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license))
    named = context.get_parameter_source("model")
    if scores and named and named.name == "COMMANDLINE":
        raise UsageError("--scores stands in place of --model; --against compares two")
    bad = BadRows(manifest, strict)
    rows = read_list(manifest, data_root, label_range=None, on_bad_row=bad)
    axes = choose_axes(axis or [], rows, manifest)
    lists = {"labels": bad.report(sum(row.list_rows for row in rows))}
    inputs = [manifest, scores, None if scores else model, against, *(row.clip.path for row in rows)]
    _check_outputs(output, plot, inputs, overwrite)
    by_file = [scores is not None, against is None or _is_table(against)]
    missing: list[str] = []
    if not all(by_file):  # a model needs the audio
        rows, missing = _with_audio(rows, manifest)

    def open_model(name: str) -> Predictor:
        return open_predictor(name, options)

    first = str(scores or model)
    found, trained, lists["scores"] = _scores_of(first, by_file[0], rows, axes, open_model, strict)
    figures: dict[str, Any] = {"model": None if scores else model, "scores": str(scores) if scores else None}
    unscored = sum(all(math.isnan(item[name]) for name in AXES) for item in found)
    figures |= {"manifest": str(manifest), "clips": len(rows), "missing": missing, "unscored": unscored}
    figures["trained_on"] = trained
    other: list[Scores] = []
    if against:
        other, trained, lists["against"] = _scores_of(against, by_file[1], rows, axes, open_model, strict)
        figures["against_trained_on"] = trained
    scales = find_scales(rows, scale, [(first, found), *([(against, other)] if against else [])])
    parts = scales.mask(agreement(rows, found, axes=axes))
    text = agreement_table(parts)
    figures |= {"scale": scales.scores[0], "label_scale": scales.labels}
    figures["lists"] = {name: found for name, found in lists.items() if found}
    figures["raters"] = _raters(rows)
    figures["agreement"] = [part.to_json() for part in parts]
    if against:
        compared = scales.same_scale(compare(rows, found, other, axes=axes))
        figures |= {"against": against, "against_scale": scales.scores[1]}
        figures["comparison"] = [item.to_json() for item in compared]
        text = f"A  {first}\nB  {against}\n\nA and the labels\n{text}\n\nA and B\n{comparison_table(compared)}"
    if plot:
        draw(plot, rows, found, f"{Path(first).name} against {manifest.name}", axes, scales.comparable[0])
    write_report(figures, text, output)
    for sentence in scales.notes:
        logger.info(f"{sentence}")
    if unscored:
        clips, have, were = counted(unscored, "clip", of=len(rows)), agree(unscored, "has"), agree(unscored, "was")
        logger.info(f"{clips} {have} no score and {were} left out")


def _check_outputs(
    output: Path | None, plot: Path | None, inputs: Sequence[str | Path | None], overwrite: bool
) -> None:
    """Raise `UsageError` where figures or a picture cannot be written, or would replace an input."""
    from mmmos.report.plots import check_plot

    if output:
        check_output(output, inputs, overwrite)
    if plot:
        check_plot(plot)
        check_output(plot, inputs, overwrite)
        if output and output.resolve() == plot.resolve():
            raise UsageError(f"{plot} cannot hold both the figures (-o) and the picture (--plot)")


def _raters(rows: Sequence[LabelledClip]) -> dict[str, dict[str, Any]]:
    """The reliability of the raters' mean on each axis, with a note."""
    from mmmos.evaluation.listed import rater_reliability

    found = rater_reliability(rows)
    for axis, one in found.items():
        shown = "undefined" if one["reliability"] is None else f"{one['reliability']:.2f}"
        logger.info(f"{axis}: {one['ratings']} ratings of {one['clips']} clips, reliability of their mean {shown}")
    return found


def _scores_of(
    name: str,
    from_file: bool,
    rows: Sequence[LabelledClip],
    axes: Sequence[str],
    open_model: Callable[[str], Predictor],
    strict: bool,
) -> tuple[list[Scores], int | None, dict[str, Any]]:
    """Scores of the clips from a file or a model, how many of them it was trained on, if it says, and rows left out."""
    from mmmos.evaluation.agreement import missing_axes
    from mmmos.features.cache import count_used

    trained = None
    left_out: dict[str, Any] = {}
    if from_file:
        found, left_out = _read(Path(name), rows, strict)
    else:
        predictor = open_model(name)
        if digests := predictor.model.info.trained_on:
            trained = count_used([row.clip for row in rows], digests)
        found = _stream(predictor, rows)
    for sentence in missing_axes(rows, found, axes):
        logger.info(f"{name}: {sentence}")
    if trained:
        logger.warning(
            f"warning: {name} was trained on {trained} of these {len(rows)} clips: its figures say little about"
            " other clips; evaluate on clips that it has not seen"
        )
    return found, trained, left_out


def _is_table(name: str) -> bool:
    from mmmos.evaluation.predictions import SUFFIXES

    return Path(name).suffix.lower() in SUFFIXES and not Path(name).is_dir()


def _with_audio(rows: list[LabelledClip], manifest: Path) -> tuple[list[LabelledClip], list[str]]:
    """The rows whose clip is there, and the paths of the others."""
    from mmmos.data.manifest import preview
    from mmmos.data.splits import split_present

    present, missing = split_present(rows)
    if missing:
        clips = f"{counted(len(missing), 'listed clip')} {agree(len(missing), 'is')}"
        logger.info(f"{clips} missing and left out: {preview(missing)}")
    if not present:
        raise UsageError(f"{manifest}: none of its clips is there ({counted(len(missing), 'clip')} listed)")
    return present, missing


def _read(path: Path, rows: Sequence[LabelledClip], strict: bool) -> tuple[list[Scores], dict[str, Any]]:
    """The scores of the listed clips in a file, and what is left out, with a note."""
    from mmmos.data.manifest import preview
    from mmmos.evaluation.listed import list_scores
    from mmmos.evaluation.predictions import read_predictions

    bad = BadRows(path, strict)
    given = read_predictions(path, bad)
    report = bad.report(len(given))
    with naming(path):
        found = list_scores(rows, given, path)
    without = found.without_row
    if without:
        logger.info(f"{path} has no row of {counted(len(without), 'clip', of=len(rows))}: {preview(without)}")
    if found.other_rows:
        others = counted(found.other_rows, "row", of=len(given))
        logger.info(f"{others} of {path} {agree(found.other_rows, 'is')} of clips that are not listed")
    return found.scores, report | {"clips_without_row": without, "rows_of_other_clips": found.other_rows}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with its rows."""
    try:
        yield
    except ManifestError as error:
        raise ManifestError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _stream(predictor: Predictor, rows: Sequence[LabelledClip]) -> list[Scores]:
    with predictor, ConsoleProgress(stderr) as progress:
        progress.start("scoring", len(rows))
        return list(predictor.stream((row.clip for row in rows), progress=progress))


def write_report(figures: dict[str, Any], text: str, output: Path | None) -> None:
    """Figures to a file, a table to a terminal, or JSON into a pipe."""
    if output:
        write_text(output, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    elif sys.stdout.isatty():
        print(text)
    else:
        print(json.dumps(figures, allow_nan=False))
