"""`mmmos evaluate`: how far scores and human labels agree."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from mmmos.cli.options import (
    AcceptOption,
    DataRoot,
    DeviceOption,
    DtypeOption,
    ModelOption,
    TrustOption,
    notes,
    open_predictor,
)
from mmmos.errors import UsageError
from mmmos.terminal import agreement_table, progress


def evaluate(
    manifest: Annotated[Path, typer.Argument(help="Labelled clips.")],
    model: ModelOption = "lite",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the figures here, as JSON.")] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
    data_root: DataRoot = None,
) -> None:
    """Compare a model's scores with human labels: MSE, LCC, SRCC, KTAU, bias, with intervals."""
    from mmmos.evaluate import evaluate as agreement
    from mmmos.manifest import read_labels, shortened, split_present

    rows, missing = split_present(read_labels(manifest, data_root))
    if missing:
        notes.print(f"mmmos: {len(missing)} listed clips are missing and left out: {shortened(missing)}")
    if not rows:
        raise UsageError(f"{manifest}: none of the {len(missing)} listed clips is there")
    if output and not output.parent.is_dir():
        raise UsageError(f"{output}: there is no folder {output.parent}")
    predictor = open_predictor(model, device, dtype, trust_checkpoint, accept_license)
    scores = []
    with predictor, progress(notes, "scoring", len(rows)) as advance:
        for number, item in enumerate(predictor.stream(row.clip for row in rows), start=1):
            scores.append(item)
            advance(number)
    found = agreement(rows, scores)
    unscored = sum(math.isnan(item.PQ) for item in scores)
    figures = {"model": model, "manifest": str(manifest), "clips": len(rows), "missing": missing, "unscored": unscored}
    figures["agreement"] = [part.to_json() for part in found]
    if output:
        output.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    elif sys.stdout.isatty():
        print(agreement_table(found))
    else:
        print(json.dumps(figures, allow_nan=False))
    if unscored:
        notes.print(f"mmmos: {unscored} of {len(rows)} clips have no score and were left out")
