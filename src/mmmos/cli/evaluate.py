"""`mmmos evaluate`: how far scores and human labels agree."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmmos.cli.options import (
    AcceptOption,
    BackendOption,
    DataRoot,
    DeviceOption,
    ModelOption,
    OverwriteOption,
    ScoringDtypeOption,
    StrictOption,
    TrustOption,
    check_output,
    open_predictor,
    score_clips,
)
from mmmos.errors import UsageError
from mmmos.hub.options import LoadOptions
from mmmos.io.atomic import write_text

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.evaluation.list_evaluation import ListEvaluation, ScoreClips, ScoreSource

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
    dtype: ScoringDtypeOption = "auto",
    backend: BackendOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
    data_root: DataRoot = None,
) -> None:
    """Compare scores with human labels.

    Prints MSE, LCC, SRCC, KTAU and bias, with intervals. With --against it compares two models on the same clips: the
    difference of each metric, with its interval.
    """
    from mmmos.data.corpora import read_reported
    from mmmos.evaluation.list_evaluation import ScoreSource, evaluate_list
    from mmmos.evaluation.predictions import is_table
    from mmmos.report.plots import plot as draw

    options = LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license), backend=backend)
    named = context.get_parameter_source("model")
    if scores and named and named.name == "COMMANDLINE":
        raise UsageError("--scores stands in place of --model; --against compares two")
    rows, labels = read_reported(manifest, strict, data_root)
    inputs = [manifest, scores, None if scores else model, against, *(row.clip.path for row in rows)]
    _check_outputs(output, plot, inputs, overwrite)
    sources = [ScoreSource(str(scores or model), scores is not None)]
    sources += [ScoreSource(against, is_table(against))] if against else []
    score = _scorer(options)
    found = evaluate_list(rows, manifest, sources, score, axes=axis or (), scale=scale, strict=strict)
    figures = {"model": None if scores else model, "scores": str(scores) if scores else None, "manifest": str(manifest)}
    if plot:
        title = f"{Path(sources[0].name).name} against {manifest.name}"
        draw(plot, found.rows, found.models[0].scores, title, found.axes, found.scales.comparable[0])
    write_report(figures | found.to_json(labels, against), _text(found, sources), output)
    for sentence in found.notes:
        logger.info(sentence)


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


def _text(found: ListEvaluation, sources: Sequence[ScoreSource]) -> str:
    """The tables for a terminal."""
    from mmmos.report.text import agreement_table, comparison_table

    text = agreement_table(found.agreement)
    if found.comparison is None:
        return text
    names = "\n".join(f"{letter}  {source.name}" for letter, source in zip("AB", sources, strict=True))
    return f"{names}\n\nA and the labels\n{text}\n\nA and B\n{comparison_table(found.comparison)}"


def _scorer(options: LoadOptions) -> ScoreClips:
    """A function that scores clips with a model, with a progress bar."""
    from mmmos.evaluation.list_evaluation import ModelScores
    from mmmos.features.cache import count_used

    def score(name: str, clips: Sequence[Clip]) -> ModelScores:
        predictor = open_predictor(name, options)
        digests = predictor.model.info.trained_on
        trained_on = count_used(clips, digests) if digests else None
        with predictor:
            return ModelScores(score_clips(predictor, clips), trained_on)

    return score


def write_report(figures: dict[str, Any], text: str, output: Path | None) -> None:
    """Figures to a file, a table to a terminal, or JSON into a pipe."""
    if output:
        write_text(output, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    elif sys.stdout.isatty():
        print(text)
    else:
        print(json.dumps(figures, allow_nan=False))
