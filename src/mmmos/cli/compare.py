"""`mmmos compare`: which of several systems has the higher scores, without labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmmos.cli.evaluate import write_report
from mmmos.cli.options import (
    AcceptOption,
    DeviceOption,
    DtypeOption,
    ModelOption,
    OverwriteOption,
    StrictOption,
    TrustOption,
    check_output,
    open_predictor,
    score_clips,
)
from mmmos.errors import UsageError
from mmmos.hub.options import LoadOptions
from mmmos.io.atomic import write_text
from mmmos.io.remote import is_url

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.evaluation.verdict import SystemComparison
    from mmmos.scores import Scores

logger = logging.getLogger(__name__)


def compare(
    results: Annotated[
        list[str],
        typer.Argument(help="Rows (.jsonl, .csv, .parquet), folders of runs or of audio, each as PATH or NAME=PATH."),
    ],
    model: ModelOption = "lite",
    split: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Compare rows with different values of this column.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Rows with the same value, as song or speaker, are one clip.")
    ] = None,
    detect: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS", help="Give the clips needed to find this difference; by default 2 % of the scale."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write it here: .json or .csv.")] = None,
    overwrite: OverwriteOption = False,
    strict: StrictOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
) -> None:
    """Compare systems by their scores, without labels.

    Prints one sentence, then for every two systems the difference on each axis, over all clips and by domain: clip by
    clip where they have the same clips, with intervals, effect size, a p value corrected for the number of tests, and
    the number of clips needed. --model scores folders of audio.
    """
    from mmmos.bulk.results import compare_results, read_systems

    if output:
        if output.suffix not in (".json", ".csv"):
            raise UsageError(f"{output}: a comparison is written as .json or .csv")
        check_output(output, [path for path in results if not is_url(path)], overwrite)
    options = LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license))

    def score(clips: Sequence[Clip]) -> list[Scores]:
        with open_predictor(model, options) as predictor:
            return score_clips(predictor, clips)

    found = compare_results(read_systems(results, split, strict, score), detect, group)
    if output and output.suffix == ".csv":
        write_text(output, _csv(found))
    else:
        from mmmos.report.text import difference_table

        text = f"{found.sentence}\n\n{difference_table(found.differences, found.detect)}"
        write_report(found.to_json(), text, output)
    for sentence in found.notes:
        logger.info(sentence)


def _csv(found: SystemComparison) -> str:
    from mmmos.io.delimited import csv_text

    rows = [item.to_json(found.detect) for item in found.differences]
    return csv_text(list(rows[0]), (row.values() for row in rows))
