"""`mmmos train`: from human labels to a model."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmmos.cli.console import ConsoleProgress, stderr
from mmmos.cli.evaluate import write_report
from mmmos.cli.options import (
    AcceptOption,
    DataRoot,
    DeviceOption,
    DtypeOption,
    StrictOption,
    TrustOption,
    check_folder,
)
from mmmos.hub.options import LoadOptions
from mmmos.wording import agree, counted

if TYPE_CHECKING:
    from mmmos.model.system import ScoringModel
    from mmmos.training.summary import Fitted

logger = logging.getLogger(__name__)

SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="NAME=VALUE", help="Change a setting, as lr=1e-3 or loss=ccc."),
]
EncodersOption = Annotated[str, typer.Option(help="Names, comma-separated; NAME=PATH for a checkpoint.")]
ENCODERS = "yamnet,student"  # those of lite


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
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="MODEL", help="Correct the scores of this model, as lite, rather than replacing them."
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
    from mmmos.features.source import EncoderSource
    from mmmos.model.load import load_model
    from mmmos.training import settings
    from mmmos.training.fit import train_folder
    from mmmos.training.lists import HoldOut, read_training_lists

    chosen = settings.get_preset(preset).replace(dict(map(settings.parse_setting, change)))
    lists = read_training_lists(
        manifest,
        HoldOut(dev, dev_share, stratify),
        chosen,
        fit=fit,
        folder=output,
        primary_dataset=main_set,
        scale=scale,
        seed=seed,
        strict=strict,
        data_root=data_root,
    )
    options = LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license))
    model = load_model(start, options) if start else None
    names, clips = _encoders(encoders, model), [row.clip for row in (*lists.train, *lists.dev)]
    checkpoints = (name.partition("=")[2] or None for name in names)
    check_folder(output, [manifest, dev, *checkpoints, *(clip.path for clip in clips)])
    with ConsoleProgress(stderr) as progress:
        result = train_folder(
            output,
            lists.train,
            lists.dev,
            EncoderSource(names, options),
            chosen,
            cache or output.parent / f"{output.resolve().name}-cache",
            fit=fit,
            label_range=lists.label_range,
            seed=seed,
            primary_dataset=lists.primary_dataset,
            start=model,
            progress=progress,
        )
    _report(result, len(clips))
    text = f"{output}: a model trained on {counted(result.train_clips, 'clip')}"
    write_report(asdict(result) | {"lists": lists.reports}, text, None)


def _encoders(encoders: str, start: ScoringModel | None) -> tuple[str, ...]:
    """The named encoders; those of the model that training begins with if none are named."""
    if start is not None and encoders == ENCODERS:
        return tuple(f"{spec.name}={spec.checkpoint}" if spec.checkpoint else spec.name for spec in start.encoders)
    return tuple(encoders.split(","))


def _report(result: Fitted, clips: int) -> None:
    """Log the agreement on held-out clips, and the clips that were left out."""
    from mmmos.data.manifest import preview
    from mmmos.training.summary import agreement_lines

    for line in agreement_lines(result):
        logger.info(line)
    if lost := len(result.left_out):
        left = counted(lost, "clip", of=clips)
        logger.warning("%s %s left out: %s", left, agree(lost, "was"), preview(result.left_out))
