"""`mmmos train`: from human labels to a model."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from mmmos.cli.options import AcceptOption, DataRoot, DeviceOption, TrustOption, notes
from mmmos.terminal import progress


def train(
    manifest: Annotated[
        Path, typer.Argument(help="Labelled clips: CSV or JSONL with a path and any of CE, CU, PC, PQ.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the new model; the same call resumes it.")],
    dev: Annotated[
        Path | None, typer.Option(help="Labelled clips to stop on; if not given, a share of MANIFEST.")
    ] = None,
    dev_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Share of MANIFEST held out to stop on; no group is split.")
    ] = 0.2,
    encoders: Annotated[
        str, typer.Option(help="Names, comma-separated; NAME=PATH for a checkpoint.")
    ] = "distillmos,musicnn",
    cache: Annotated[Path | None, typer.Option(help="Where features are kept; OUTPUT/cache if not given.")] = None,
    loss: Annotated[Literal["con", "ut", "dcq", "ccc"], typer.Option(help="Training loss.")] = "ut",
    other_loss: Annotated[
        Literal["con", "ut", "dcq", "ccc"], typer.Option(help="Loss of rows of sets other than --main-set.")
    ] = "con",
    main_set: Annotated[str, typer.Option(help="Value of the column `set` whose scale the scores are on.")] = "",
    pool: Annotated[Literal["mean", "mean_std"], typer.Option(help="Statistics over time.")] = "mean_std",
    embed_norm: Annotated[
        Literal["l2", "none", "layernorm"], typer.Option(help="How each encoder's vector is normalised.")
    ] = "none",
    standardize: Annotated[bool, typer.Option(help="z-score the pooled values on the training rows.")] = True,
    head_layers: Annotated[int, typer.Option(min=1, help="Layers of each head.")] = 1,
    hidden: Annotated[int | None, typer.Option(min=1, help="Width of a head's layers before the last.")] = None,
    dropout: Annotated[float, typer.Option(min=0, max=0.9, help="Before each layer of a head.")] = 0.0,
    lr: Annotated[float, typer.Option(min=0, help="Learning rate of AdamW.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option(min=0, help="Weight decay of AdamW.")] = 0.1,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips of a training step.")] = 32,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs.")] = 300,
    patience: Annotated[
        int, typer.Option(min=1, help="Epochs without a better development loss before it stops.")
    ] = 20,
    seed: Annotated[int, typer.Option(help="Of the split, the weights and the order of clips.")] = 42,
    device: DeviceOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
    data_root: DataRoot = None,
) -> None:
    """Train a model on human labels, each clip encoded once."""
    from mmmos.aggregators import FusionConfig
    from mmmos.fitting import Trust, train_folder
    from mmmos.heads import HeadConfig
    from mmmos.manifest import read_labels, split_groups
    from mmmos.train import TrainConfig

    rows = read_labels(manifest, data_root)
    parts = (rows, read_labels(dev, data_root)) if dev else split_groups(rows, dev_share, seed)
    how = TrainConfig(
        loss=loss,
        other_loss=other_loss,
        main_set=main_set,
        lr=lr,
        weight_decay=weight_decay,
        batch_size=batch_size,
        epochs=epochs,
        patience=patience,
        seed=seed,
    )
    with progress(notes, "encoding", len(rows)) as advance:
        result = train_folder(
            output,
            parts[0],
            parts[1],
            encoders.split(","),
            FusionConfig(pool, embed_norm, standardize),
            HeadConfig(head_layers, hidden, dropout),
            how,
            cache or output / "cache",
            note=lambda line: notes.print(f"mmmos: {line}"),
            encoded=lambda done, _: advance(done),
            trust=Trust(device, trust_checkpoint, tuple(accept_license)),
        )
    print(json.dumps(asdict(result), allow_nan=False))
