"""`mmmos train`, `mmmos experiment` and `mmmos extract`: from human labels to models."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmmos.cli.console import ConsoleProgress
from mmmos.cli.options import (
    AcceptOption,
    BadRows,
    DataRoot,
    DeviceOption,
    DtypeOption,
    StrictOption,
    TrustOption,
    check_folder,
    notes,
)
from mmmos.cli.run_folder import Crewed, RayOption, ShardSizeOption, StallOption, WorkersOption, run_in_folder
from mmmos.errors import UsageError
from mmmos.io.remote import is_url

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.data.manifest import LabelledClip

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
    main_set: Annotated[str, typer.Option(help="Value of the column `set` whose scale the scores are on.")] = "",
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
    from mmmos.data.corpora import read_corpus
    from mmmos.data.manifest import shortened
    from mmmos.data.splits import stratum_columns
    from mmmos.data.trainable import choose_range, find_main_set
    from mmmos.training import settings
    from mmmos.training.fit import EncoderSource, choose_fit, train_folder
    from mmmos.training.summary import agreement_lines

    chosen = settings.preset(preset).changed(dict(map(settings.parse_setting, change)))
    if dev and (dev_share or stratify):
        raise UsageError("--dev names the clips to hold out: leave out --dev-share and --stratify")
    columns = stratum_columns(stratify) if stratify else {}
    bad, bad_held = BadRows(manifest, strict), BadRows(dev or "", strict)
    rows = read_corpus(manifest, data_root, columns=columns, label_range=None, on_bad_row=bad)
    held = read_corpus(dev, data_root, label_range=None, on_bad_row=bad_held) if dev else []
    lists = [bad.report(sum(row.list_rows for row in rows))]
    lists += [bad_held.report(sum(row.list_rows for row in held))] if dev else []
    main_set = find_main_set([*rows, *held], main_set)
    label_range = choose_range([row for row in (*rows, *held) if row.set == main_set], scale, _note)
    fraction = dev_share or (0.2 if choose_fit(fit, chosen, len(rows) + len(held)) == "gradient" else None)
    if stratify and fraction is None:
        raise UsageError("--stratify divides held-out clips and the closed form has none: add --dev-share")
    parts = (rows, held) if dev or fraction is None else _split(rows, fraction, seed, stratify)
    names = tuple(encoders.split(","))
    checkpoints = (name.partition("=")[2] or None for name in names)
    check_folder(output, [manifest, dev, *checkpoints, *(row.clip.path for row in (*rows, *held))])
    with ConsoleProgress(notes) as progress:
        result = train_folder(
            output,
            *parts,
            EncoderSource(names, device, _precision(dtype), trust_checkpoint, tuple(accept_license)),
            chosen,
            cache or output.parent / f"{output.resolve().name}-cache",
            fit=fit,
            label_range=label_range,
            seed=seed,
            main_set=main_set,
            note=_note,
            progress=progress,
        )
    for line in agreement_lines(result):
        _note(line)
    if lost := len(result.left_out):
        _note(f"{lost} of {len(rows) + len(held)} clips were left out: {shortened(result.left_out)}")
    print(json.dumps(asdict(result) | {"lists": lists}, allow_nan=False))


def _split(
    rows: Sequence[LabelledClip], fraction: float, seed: int, stratify: str | None
) -> tuple[list[LabelledClip], list[LabelledClip]]:
    from mmmos.data.manifest import split_groups
    from mmmos.data.splits import split_stratified

    if stratify:
        return split_stratified(rows, fraction, seed, stratify, _note)
    return split_groups(rows, fraction, seed)


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
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time; by default one per core.")] = None,
    change: SetOption = [],  # noqa: B006
    labels: Annotated[Path | None, typer.Option(help="Folder of the label files; by default DATA_ROOT/labels.")] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006
    data_root: DataRoot = None,
) -> None:
    """Train and compare a grid of configurations.

    Configurations share their encodings; the results are tables and ensembles.

    Exit status: 0 all runs finished, 1 some failed and the tables have the others, 2 wrong usage, 130 or 143
    interrupted.
    """
    from mmmos.experiments.config import bundled_experiments, find_experiment, read_experiment, read_sets
    from mmmos.experiments.runs import run_experiment
    from mmmos.processes import cores
    from mmmos.training import settings
    from mmmos.training.fit import EncoderSource

    path = find_experiment(name)
    asked = read_experiment(path, dict(map(settings.parse_setting, change)))
    root = data_root or os.environ.get("MMMOS_DATA")
    folder = Path() if path in bundled_experiments().values() else path.parent
    sets = read_sets(asked.data, folder, root, labels, _note)
    source = EncoderSource((), device, _precision(dtype), trust_checkpoint, tuple(accept_license))
    with ConsoleProgress(notes) as progress:
        result = run_experiment(
            asked,
            sets,
            output,
            cache or output.parent / f"{output.resolve().name}-cache",
            source,
            workers=workers or cores(),
            note=_note,
            progress=progress,
        )
    print(json.dumps(asdict(result), allow_nan=False))
    raise typer.Exit(1 if result.failed else 0)


def extract(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, patterns, lists, or - for paths on stdin.")],
    cache: Annotated[Path, typer.Option(help="Folder of the feature cache.")],
    encoders: EncodersOption = ENCODERS,
    keep: Annotated[
        Literal["frames", "pooled"], typer.Option(help="All frames, or only their mean and standard deviation.")
    ] = "frames",
    crop: Annotated[
        Literal["windows", "first", "random"], typer.Option(help="Which parts of clips over 10 s are encoded.")
    ] = "windows",
    crops: Annotated[int, typer.Option(min=1, help="Number of random crops.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the random crops.")] = 42,
    change: SetOption = [],  # noqa: B006
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006
    workers: WorkersOption = None,
    ray: RayOption = None,
    shard_size: ShardSizeOption = None,
    stall_minutes: StallOption = 30.0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of a run with workers; by default CACHE/run.")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Encode clips into a cache of features.

    `train` and `experiment` find them there.
    With --workers or --ray many processes share the work, and a folder holds one row per clip.
    """
    from mmmos.data.inputs import expand
    from mmmos.data.manifest import unlabelled
    from mmmos.training import settings
    from mmmos.training.fit import EncoderSource, Listener

    found = _files_alone(expand(inputs, None if data_root is None else str(data_root)))
    names = tuple(encoders.split(","))
    source = EncoderSource(names, device, _precision(dtype), trust_checkpoint, tuple(accept_license))
    chosen = settings.preset("paper").changed(dict(map(settings.parse_setting, change)))
    how = Crewed(workers, ray, shard_size, stall_minutes)
    if how.asked:
        from mmmos.bulk.tasks import ExtractTask

        task = ExtractTask(source, chosen, cache, keep, crop, crops, seed)
        folder = output or cache / "run"
        counts = run_in_folder(str(folder), found, task, how, "encoding")
        print(json.dumps({"cache": str(cache), "run": str(folder), "clips": counts.ok, "errors": counts.errors}))
        raise typer.Exit(1 if counts.errors else 0)
    if output is not None:
        raise UsageError("-o is for a run with --workers or --ray")
    rows = [unlabelled(clip) for clip in found]
    listener = Listener(source, chosen, cache, keep)
    with ConsoleProgress(notes) as progress:
        plans, left_out = listener.hear(rows, crop, crops, seed, _note, progress)
    told = {"cache": str(cache), "clips": len(plans), "crops": sum(len(plan.crops) for plan in plans)}
    print(json.dumps({**told, "left_out": left_out}))
    raise typer.Exit(1 if left_out else 0)


def _files_alone(clips: Iterable[Clip]) -> Iterator[Clip]:
    """The same clips. A feature is kept under the sha256 of its file, which at an address would be fetched for it."""
    for clip in clips:
        if is_url(clip.path or ""):
            raise UsageError(f"{clip.path} is an address; extract reads files, so copy it here first")
        yield clip


def _precision(dtype: str) -> Literal["float32", "bfloat16"]:
    return "bfloat16" if dtype == "bfloat16" else "float32"


def _note(line: str) -> None:
    notes.print(f"mmmos: {line}")
