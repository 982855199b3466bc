"""`mmmos extract`: encoder features of many clips, into a cache."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmmos.cli.console import ConsoleProgress, stderr
from mmmos.cli.options import AcceptOption, DataRoot, DeviceOption, DtypeOption, TrustOption
from mmmos.cli.run_folder import RayOption, RunOptions, ShardSizeOption, StallOption, WorkersOption, run_in_folder
from mmmos.cli.train import ENCODERS, EncodersOption, SetOption
from mmmos.errors import UsageError
from mmmos.hub.options import LoadOptions
from mmmos.io.remote import is_url

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip


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
    from mmmos.features.extractor import FeatureExtractor
    from mmmos.features.source import EncoderSource
    from mmmos.training import settings

    found = _files_alone(expand(inputs, None if data_root is None else str(data_root)))
    names = tuple(encoders.split(","))
    source = EncoderSource(names, LoadOptions(device, dtype, trust_checkpoint, tuple(accept_license)))
    chosen = settings.get_preset("paper").replace(dict(map(settings.parse_setting, change)))
    run = RunOptions(workers, ray, shard_size, stall_minutes)
    if run.use_workers:
        from mmmos.bulk.tasks import ExtractTask

        task = ExtractTask(source, chosen, cache, keep, crop, crops, seed)
        folder = output or cache / "run"
        counts = run_in_folder(str(folder), found, task, run, "encoding")
        print(json.dumps({"cache": str(cache), "run": str(folder), "clips": counts.ok, "errors": counts.errors}))
        raise typer.Exit(1 if counts.errors else 0)
    if output is not None:
        raise UsageError("-o is for a run with --workers or --ray")
    extractor = FeatureExtractor.load(source, chosen.encoder_options, cache, keep)
    with ConsoleProgress(stderr) as progress:
        extracted = extractor.prepare(list(found), crop, crops, seed, progress)
    count = sum(len(plan.crops) for plan in extracted.plans)
    report = {"cache": str(cache), "clips": len(extracted.plans), "crops": count, "left_out": extracted.left_out}
    print(json.dumps(report))
    raise typer.Exit(1 if extracted.left_out else 0)


def _files_alone(clips: Iterable[Clip]) -> Iterator[Clip]:
    """The same clips. A feature is kept under the sha256 of its file, which at an address would be fetched for it."""
    for clip in clips:
        if is_url(clip.path or ""):
            raise UsageError(f"{clip.path} is an address; extract reads files, so copy it here first")
        yield clip
