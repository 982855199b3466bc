"""`mmmos ratings`: from the answers of a listening test to a list of rated clips."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmmos.cli.evaluate import write_report
from mmmos.cli.options import OverwriteOption, StrictOption, check_output
from mmmos.errors import UsageError
from mmmos.io.atomic import write_text
from mmmos.wording import counted

if TYPE_CHECKING:
    from mmmos.evaluation.raters import ClipRating, RatingSummary

logger = logging.getLogger(__name__)


def ratings(
    answers: Annotated[
        Path,
        typer.Argument(help="A row per rating (path, rater, score), a column per rater, or a test program's file."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Write the rated clips here: .csv.")],
    scale: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="Lowest and highest possible rating, as 1 5.")
    ],
    axis: Annotated[Literal["CE", "CU", "PC", "PQ"], typer.Option(help="What was rated.")] = "PQ",
    form: Annotated[
        Literal["auto", "long", "wide", "webmushra", "p808_votes", "p808"], typer.Option(help="Seen from the columns.")
    ] = "auto",
    paths: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Paths of webMUSHRA's stimuli, as 'audio/{trial}_{stimulus}.wav'."),
    ] = None,
    remove_bias: Annotated[
        bool, typer.Option("--remove-bias", help="Subtract how much higher each rater rates than the others.")
    ] = False,
    strict: StrictOption = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Turn raters' answers into a list of rated clips.

    Writes the mean rating of each clip, for calibrate, train and evaluate. Prints how reliable the means are, what
    agreement perfect scores would have with them, and how many ratings per clip a reliable mean takes.
    """
    from mmmos.data.answers import read_answers
    from mmmos.evaluation.raters import rate
    from mmmos.io.bad_rows import BadRows

    if output.suffix != ".csv":
        raise UsageError(f"{output}: rated clips are written as .csv")
    if not scale[0] < scale[1]:
        raise UsageError(f"a scale has two numbers, the lower first, not {scale[0]:g} and {scale[1]:g}")
    check_output(output, [answers], overwrite)
    bad = BadRows(answers, strict)
    found = read_answers(answers, scale, paths, form, bad)
    report = bad.report(len({answer.line for answer in found}))
    clips, summary = rate(found, remove_bias)
    write_text(output, _csv(clips, axis))
    for line in _lines(summary):
        logger.info(line)
    head = {"output": str(output), "axis": axis, "scale": list(scale)}
    text = f"{output}: {counted(len(clips), 'clip')} with a mean rating of {axis}"
    write_report(head | summary.to_json() | {"list": report}, text, None)


def _csv(clips: Sequence[ClipRating], axis: str) -> str:
    from mmmos.io.delimited import csv_text

    named = list(dict.fromkeys(name for clip in clips for name, _ in clip.text))
    rows = []
    for clip in clips:
        text = dict(clip.text)
        std = f"{clip.std:.4f}" if clip.std == clip.std else ""
        rows.append([clip.clip, f"{clip.mean:.6g}", clip.raters, std, *(text.get(name, "") for name in named)])
    return csv_text(["path", axis, "n_raters", "std", *named], rows)


def _lines(found: RatingSummary) -> list[str]:
    counts = [counted(*pair) for pair in ((found.ratings, "rating"), (found.clips, "clip"), (found.raters, "rater"))]
    lines = ["{} of {} by {}".format(*counts)]
    values = found.to_json()
    if values["reliability"] is None:
        why = "no clip has two raters" if values["ceiling_mse"] is None else "the means of the clips do not differ"
        return [*lines, f"{why}: reliability and noise ceiling are undefined"]
    needed = ", ".join(f"{target}: {count or 'undefined'}" for target, count in found.raters_needed.items())
    lines.append(
        f"reliability of the means {found.reliability:.2f}; perfect scores would have LCC {found.ceiling_lcc:.2f} and"
        f" MSE {found.ceiling_mse:.2f}; ratings per clip for a reliability of {needed}"
    )
    return lines
