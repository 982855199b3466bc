"""`mmmos leaderboard`: a system's rank on AudioMOS Challenge 2025 Track 2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmmos.cli.evaluate import _give, _naming
from mmmos.cli.options import BadRows, OverwriteOption, StrictOption, check_output, notes
from mmmos.errors import UsageError
from mmmos.io.atomic import write_text
from mmmos.report.text import grid_markdown, grid_text, standing_grids
from mmmos.scores import LABEL_RANGE, scale_name

LEADERBOARD_SUFFIXES = (".json", ".md", ".csv")
"""File names that a leaderboard is written as."""


def leaderboard(
    predictions: Annotated[
        Path, typer.Argument(help="Scores of the AudioMOS 2025 Track 2 test set: .csv, .jsonl or .parquet.")
    ],
    labels: Annotated[
        Path | None, typer.Option(help="The raters' file; found in MMMOS_DATA/labels, else fetched, if not given.")
    ] = None,
    others: Annotated[
        Path | None, typer.Option(help="More published rows: CSV of team, axis, level, MSE, LCC, SRCC, KTAU.")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Judge the clips there are, if some are missing.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write it here: .json, .md or .csv.")] = None,
    overwrite: OverwriteOption = False,
    strict: StrictOption = False,
) -> None:
    """Rank predictions of the AudioMOS 2025 Track 2 test set.

    Compares them with the published systems and with the ceiling that the raters' noise sets.
    """
    from mmmos.data.label_files import find_label_file
    from mmmos.data.manifest import preview
    from mmmos.evaluation.leaderboard import (
        ABOVE_CEILING,
        align,
        judge,
        places,
        published,
        read_truth,
        test_id,
        to_csv,
        to_json,
    )
    from mmmos.evaluation.predictions import read_predictions
    from mmmos.evaluation.rating_scales import scores_scale

    if output:
        if output.suffix not in LEADERBOARD_SUFFIXES:
            raise UsageError(f"{output}: figures are written as {', '.join(LEADERBOARD_SUFFIXES)}")
        check_output(output, [predictions, labels or find_label_file("track2_test"), others], overwrite)
    bad_labels = BadRows(labels or "the raters' file", strict)
    truth = read_truth(labels, bad_labels)
    bad = BadRows(predictions, strict)
    given = read_predictions(predictions, bad)
    lists = {"labels": bad_labels.report(len(truth.ids)), "scores": bad.report(len(given))}
    with _naming(predictions):
        values, missing = align(truth, given)
    few = f"{len(missing)} of {len(truth.ids)} clips have no score"
    absent = {*missing} - {test_id(scores) for scores in given}  # the others have a row without a score
    if (len(absent) > len(bad.reasons) or (missing and strict)) and not partial:
        raise UsageError(f"{predictions}: {few}: {preview(missing)}; --partial judges the others")
    said = [f"{few} and were left out: not comparable with rows of the whole set"] if missing else []
    if (own := scores_scale(given, str(predictions))) not in (None, (scale := scale_name(LABEL_RANGE))):
        said.append(f"scores are on the scale {own}, labels on {scale}: MSE and ranks by MSE do not compare")
    results, rows = judge(truth, values), published(others)
    found = places(results, rows)
    if not any(result.axis == "composite" for result in results):
        said.append("an axis has no score at all, so there is no composite and no mean of axes")
    above = [
        item.axis for item in results if item.level == "utterance" and item.fraction_of_ceiling("LCC") > ABOVE_CEILING
    ]
    if above:
        said.append(f"{', '.join(above)}: above what the raters' noise allows; were these labels seen in training?")
    report = {
        "predictions": str(predictions),
        "clips": len(truth.ids) - len(missing),
        "missing": missing,
        "lists": lists,
    }
    report |= to_json(results, rows, found) | {"notes": said}
    grids = standing_grids(results, rows, found)
    if output and output.suffix == ".md":
        write_text(output, "\n\n".join([*(grid_markdown(*item) for item in grids.items()), *said]) + "\n")
    elif output and output.suffix == ".csv":
        write_text(output, to_csv(results))
    else:
        _give(report, "\n\n".join(grid_text(*item) for item in grids.items()), output)
    for sentence in said:
        notes.print(f"mmmos: {sentence}")
