"""`mmmos experiment`: a table of configurations, trained and evaluated."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mmmos.cli.console import ConsoleProgress, stderr
from mmmos.cli.options import (
    AcceptOption,
    DataRoot,
    DeviceOption,
    DtypeOption,
    StrictOption,
    TrustOption,
    check_folder,
)
from mmmos.cli.train import SetOption
from mmmos.hub.options import LoadOptions


def experiment(
    name: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT",
            help="A TOML file of data, encoders and settings, or a bundled one: musdb18, paper, presets, random.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of runs and tables; the same call resumes it.")
    ],
    cache: Annotated[Path | None, typer.Option(help="Folder of the feature cache; by default OUTPUT-cache.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of worker processes; by default one per core.")
    ] = None,
    change: SetOption = [],  # noqa: B006
    labels: Annotated[Path | None, typer.Option(help="Folder of the label files; by default DATA_ROOT/labels.")] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006
    strict: StrictOption = False,
    data_root: DataRoot = None,
) -> None:
    """Train and compare a grid of configurations.

    Configurations share their encodings; the results are tables and ensembles.

    Exit status: 0 all runs finished, 1 some failed and the tables have the others, 2 wrong usage, 130 or 143
    interrupted.
    """
    from mmmos.experiments.config import bundled_experiments, find_experiment, read_experiment
    from mmmos.experiments.runs import run_experiment
    from mmmos.experiments.sets import read_sets
    from mmmos.features.source import EncoderSource
    from mmmos.processes import cores
    from mmmos.training import settings

    path = find_experiment(name)
    requested = read_experiment(path, dict(map(settings.parse_setting, change)))
    root = data_root or os.environ.get("MMMOS_DATA")
    folder = Path() if path in bundled_experiments().values() else path.parent
    sets = read_sets(requested.data, folder, root, labels, strict=strict)
    checkpoints = (name.partition("=")[2] or None for name in requested.encoders.values())
    check_folder(output, [path, labels, *sets.files, *checkpoints, *(row.clip.path for row in sets.rows)])
    source = EncoderSource((), LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license)))
    with ConsoleProgress(stderr) as progress:
        result = run_experiment(
            requested,
            sets,
            output,
            cache or output.parent / f"{output.resolve().name}-cache",
            source,
            workers=workers or cores(),
            progress=progress,
        )
    print(json.dumps(asdict(result) | {"lists": sets.lists}, allow_nan=False))
    raise typer.Exit(1 if result.failed else 0)
