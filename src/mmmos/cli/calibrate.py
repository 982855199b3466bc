"""`mmmos calibrate`: a model's scores on the scale of one's own ratings."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mmmos.cli.evaluate import write_report
from mmmos.cli.options import (
    AcceptOption,
    DataRoot,
    DeviceOption,
    DtypeOption,
    ModelOption,
    StrictOption,
    TrustOption,
    check_folder,
    score_clips,
)
from mmmos.hub.options import LoadOptions
from mmmos.wording import agree, counted

logger = logging.getLogger(__name__)


def calibrate(
    ratings: Annotated[Path, typer.Argument(help="Rated clips: CSV or JSONL with a path and any of CE, CU, PC, PQ.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the calibrated model.")],
    model: ModelOption = "lite",
    scale: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Lowest and highest possible rating; seen from the labels if not given."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Clips with the same value are held out together; group, else system."),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
    strict: StrictOption = False,
    data_root: DataRoot = None,
) -> None:
    """Put a model's scores on the scale of your ratings.

    Fits a shift, a line or a monotone map for each axis, for each domain where that helps, chosen by cross-validation,
    and writes a model folder that scores with it. Reports where a map does not help.
    """
    from mmmos.data.corpora import read_reported
    from mmmos.data.manifest import preview
    from mmmos.data.splits import split_present
    from mmmos.data.trainable import choose_range
    from mmmos.errors import UsageError
    from mmmos.inference.predictor import open_predictor
    from mmmos.training.calibrate import calibrate_folder, check_calibratable

    rows, report = read_reported(ratings, strict, data_root, columns={"group": group} if group else {})
    label_range = choose_range(rows, scale)
    check_folder(output, [ratings, *(row.clip.path for row in rows)])
    present, missing = split_present(rows)
    if missing:
        clips, are = counted(len(missing), "listed clip", of=len(rows)), agree(len(missing), "is")
        logger.warning("%s %s missing: %s", clips, are, preview(missing))
    if not present:
        raise UsageError(f"{ratings}: none of its clips is there; --data-root gives the start of relative paths")
    options = LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license))
    with open_predictor(model, options) as predictor:
        check_calibratable(predictor.model, output)
        scores = score_clips(predictor, [row.clip for row in present])
        result = calibrate_folder(output, present, scores, predictor, str(ratings), label_range)
    text = f"{output}: {model} on the scale of the ratings of {counted(len(present), 'clip')}"
    write_report(asdict(result) | {"missing": missing, "list": report}, text, None)
