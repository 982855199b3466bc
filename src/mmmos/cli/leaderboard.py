"""`mmmos leaderboard`: the rank of a model on AudioMOS Challenge 2025 Track 2."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from mmmos.cli.evaluate import write_report
from mmmos.cli.options import OverwriteOption, StrictOption, check_output
from mmmos.errors import UsageError
from mmmos.io.atomic import write_text

logger = logging.getLogger(__name__)

LEADERBOARD_SUFFIXES = (".json", ".md", ".csv")
"""Suffixes of a leaderboard file."""


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
    partial: Annotated[
        bool, typer.Option("--partial", help="Evaluate the clips with a score, if some have none.")
    ] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write it here: .json, .md or .csv.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with every row: .html.")] = None,
    name: Annotated[str, typer.Option(help="Name of the model on the page.")] = "this model",
    overwrite: OverwriteOption = False,
    strict: StrictOption = False,
) -> None:
    """Rank predictions of the AudioMOS 2025 Track 2 test set.

    Compares them with the published systems and with the noise ceiling, which the raters' disagreement sets.
    """
    from mmmos.data.label_files import find_label_file
    from mmmos.evaluation.leaderboard import rank_file, to_csv
    from mmmos.report.leaderboard import write_leaderboard
    from mmmos.report.page import check_page
    from mmmos.report.text import leaderboard_tables, table_markdown, table_text

    if output:
        if output.suffix not in LEADERBOARD_SUFFIXES:
            raise UsageError(f"{output}: figures are written as {', '.join(LEADERBOARD_SUFFIXES)}")
        check_output(output, [predictions, labels or find_label_file("track2_test"), others], overwrite)
    if html:
        check_page(html)
        check_output(html, [predictions, labels or find_label_file("track2_test"), others, output], overwrite)
    found = rank_file(predictions, labels, others, partial=partial, strict=strict)
    if html:
        write_leaderboard(html, found, name)
    tables = leaderboard_tables(found.results, found.published, found.ranks, found.intervals)
    if output and output.suffix == ".md":
        write_text(output, "\n\n".join([*(table_markdown(*item) for item in tables.items()), *found.remarks]) + "\n")
    elif output and output.suffix == ".csv":
        write_text(output, to_csv(found.results, found.intervals))
    else:
        report = {"predictions": str(predictions), "clips": found.clips, "missing": found.missing}
        text = "\n\n".join(table_text(*item) for item in tables.items())
        write_report(report | {"lists": found.lists} | found.to_json(), text, output)
    for sentence in found.remarks:
        logger.info(sentence)
