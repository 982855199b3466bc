"""`mmmos train`, `mmmos experiment` and `mmmos extract`: from human labels to models."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmmos.cli.console import ConsoleProgress, stderr
from mmmos.cli.options import (
    AcceptOption,
    BadRows,
    DataRoot,
    DeviceOption,
    DtypeOption,
    StrictOption,
    TrustOption,
    check_folder,
)
from mmmos.errors import UsageError
from mmmos.hub.options import LoadOptions
from mmmos.wording import agree, counted

if TYPE_CHECKING:
    from mmmos.data.manifest import LabelledClip

logger = logging.getLogger(__name__)

SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="NAME=VALUE", help="Change a setting, as lr=1e-3 or loss=ccc."),
]
EncodersOption = Annotated[str, typer.Option(help="Names, comma-separated; NAME=PATH for a checkpoint.")]
ENCODERS = "distillmos,musicnn,spectrum,dnsmos"  # those of lite


def train(
    manifest: Annotated[
        Path, typer.Argument(help="Labelled clips: CSV or JSONL with a path and any of CE, CU, PC, PQ.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the new model; the same call resumes it.")],
    fit: Annotated[
        Literal["auto", "closed_form", "gradient"],
        typer.Option(
            help="closed_form: ridge regression, cross-validated; gradient: epoch by epoch. auto: closed_form below"
            " 2000 clips with the settings of the preset small."
        ),
    ] = "auto",
    scale: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Lowest and highest possible rating; seen from the labels if not given."),
    ] = None,
    dev: Annotated[
        Path | None, typer.Option(help="Other labelled clips: gradient stops on them, closed_form reports them.")
    ] = None,
    dev_share: Annotated[
        float | None,
        typer.Option(
            min=0.01, max=0.9, help="Fraction of MANIFEST to hold out as --dev, whole groups. gradient: 0.2 by default."
        ),
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Hold out --dev-share of each value of this column of MANIFEST, as system.",
        ),
    ] = None,
    encoders: EncodersOption = ENCODERS,
    preset: Annotated[
        str, typer.Option(help="Settings to begin with: small, paper, official_code or best (docs/SETTINGS.md).")
    ] = "small",
    change: SetOption = [],  # noqa: B006, typer makes a new list each time
    main_set: Annotated[str, typer.Option(help="Dataset (column `set`) whose rating scale the model outputs.")] = "",
    cache: Annotated[Path | None, typer.Option(help="Folder of the feature cache; by default OUTPUT-cache.")] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Seed of the split, the crops, the weights and the order of clips.")
    ] = 42,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006
    strict: StrictOption = False,
    data_root: DataRoot = None,
) -> None:
    """Train a model on human ratings.

    Prints how well held-out clips are predicted, next to a constant's squared error. On fewer than 2000 clips the heads
    are a ridge regression on the encoders of lite, with lite's own scores to begin with.
    """
    from mmmos.data.corpora import read_list
    from mmmos.data.manifest import preview
    from mmmos.data.splits import stratum_columns
    from mmmos.data.trainable import choose_range, find_primary_dataset
    from mmmos.features.source import EncoderSource
    from mmmos.training import settings
    from mmmos.training.fit import train_folder
    from mmmos.training.method import choose_fit
    from mmmos.training.summary import agreement_lines

    chosen = settings.get_preset(preset).replace(dict(map(settings.parse_setting, change)))
    if dev and (dev_share or stratify):
        raise UsageError("--dev names the clips to hold out: leave out --dev-share and --stratify")
    columns = stratum_columns(stratify) if stratify else {}
    bad, bad_held = BadRows(manifest, strict), BadRows(dev or "", strict)
    rows = read_list(manifest, data_root, columns=columns, label_range=None, on_bad_row=bad)
    held = read_list(dev, data_root, label_range=None, on_bad_row=bad_held) if dev else []
    lists = [bad.report(sum(row.list_rows for row in rows))]
    lists += [bad_held.report(sum(row.list_rows for row in held))] if dev else []
    primary = find_primary_dataset([*rows, *held], main_set)
    label_range = choose_range([row for row in (*rows, *held) if row.set == primary], scale)
    method = choose_fit(fit, chosen, len(rows) + len(held), output)
    fraction = dev_share or (0.2 if method == "gradient" else None)
    if stratify and fraction is None:
        raise UsageError("--stratify divides held-out clips and the closed form has none: add --dev-share")
    parts = (rows, held) if dev or fraction is None else _split(rows, fraction, seed, stratify)
    names = tuple(encoders.split(","))
    checkpoints = (name.partition("=")[2] or None for name in names)
    check_folder(output, [manifest, dev, *checkpoints, *(row.clip.path for row in (*rows, *held))])
    with ConsoleProgress(stderr) as progress:
        result = train_folder(
            output,
            *parts,
            EncoderSource(names, LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license))),
            chosen,
            cache or output.parent / f"{output.resolve().name}-cache",
            fit=fit,
            label_range=label_range,
            seed=seed,
            primary_dataset=primary,
            progress=progress,
        )
    for line in agreement_lines(result):
        logger.info(line)
    if lost := len(result.left_out):
        clips = counted(lost, "clip", of=len(rows) + len(held))
        logger.warning("%s %s left out: %s", clips, agree(lost, "was"), preview(result.left_out))
    print(json.dumps(asdict(result) | {"lists": lists}, allow_nan=False))


def _split(
    rows: Sequence[LabelledClip], fraction: float, seed: int, stratify: str | None
) -> tuple[list[LabelledClip], list[LabelledClip]]:
    from mmmos.data.splits import split_groups, split_stratified

    if stratify:
        return split_stratified(rows, fraction, seed, stratify)
    return split_groups(rows, fraction, seed)
