"""Bulk runs of `score` and `extract`: their options, and a run in a folder from lock to summary."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmmos.cli.console import ConsoleProgress, stderr
from mmmos.cli.options import warn_uncalibrated
from mmmos.errors import UsageError
from mmmos.io.remote import is_url
from mmmos.wording import agree, counted

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.bulk.driver import Counts
    from mmmos.bulk.plan import Plan
    from mmmos.bulk.stores import Store
    from mmmos.bulk.tasks import Task
    from mmmos.bulk.workers import WorkerPool

logger = logging.getLogger(__name__)

WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Number of worker processes, for -o FOLDER/; by default one per core or GPU.")
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Run on a Ray cluster; `local` starts one here."),
]
ShardSizeOption = Annotated[int | None, typer.Option(min=1, help="Clips per part; by default 1000, or as the run has.")]
StallOption = Annotated[float, typer.Option(min=0.01, help="Stop the run after this many minutes without progress.")]

LEASE_SECONDS = 600.0
"""Age from which a temporary file belongs to no living process."""


@dataclass(frozen=True)
class RunOptions:
    """The options above."""

    workers: int | None
    ray: str | None
    shard_size: int | None
    stall_minutes: float

    @property
    def use_workers(self) -> bool:
        """Whether an option requires a run in a folder."""
        return any(option is not None for option in (self.workers, self.ray, self.shard_size))


def folder_of(output: str | None, options: RunOptions) -> str | None:
    """The output if it is a folder or an address; None if it is a file.

    A folder ends with "/" or exists, or the options require one. Raises `UsageError` if they do and it is a file.
    """
    if output is not None and (output.endswith("/") or is_url(output) or Path(output).is_dir()):
        return output
    if not options.use_workers:
        return None
    if output is None or Path(output).suffix:
        raise UsageError(
            "--workers, --ray and --shard-size write a folder: give -o FOLDER/ (mmmos merge makes one file of it)"
        )
    return output


def run_in_folder(folder: str, clips: Iterable[Clip], task: Task, options: RunOptions, what: str) -> Counts:
    """Start or resume a run, and wait until it ends. Raises `UsageError` and `BulkError`."""
    from mmmos.bulk.driver import run_shards
    from mmmos.bulk.plan import make_plan
    from mmmos.bulk.stores import open_store

    store = open_store(folder)
    if not is_url(store.url):
        _check_folder(Path(store.url))
    with store.lock():
        plan = make_plan(store, clips, task.describe(), options.shard_size)
        store.remove_stale(LEASE_SECONDS)  # only once the folder is known to be a run's
        for model in (plan.task, *plan.task.get("others", [])):
            if model.get("calibrated") is False:
                warn_uncalibrated(model["model"])
        with closing(_start_workers(store, plan, task, options)) as workers, ConsoleProgress(stderr) as progress:
            _warn_of_idle_workers(store, plan, workers.size)
            stall_s = 60 * options.stall_minutes
            counts = run_shards(store, plan, workers, progress=progress, stage=what, stall_s=stall_s)
    logger.info("%s in %s: %s", what, store.url, summary(counts))
    return counts


def summary(counts: Counts) -> str:
    """A line on what a finished run has done."""
    shards = counted(counts.shards, "shard", of=counts.all_shards)
    clips = counted(counts.clips, "clip", of=counts.all_clips)
    line = f"{shards}, {clips}, {counts.ok:,} ok, {counted(counts.errors, 'error')}, {counts.seconds:.0f} s"
    if counts.new_clips and counts.seconds:
        line += f", {counts.new_clips / counts.seconds:.1f} clips/s"
    if counts.peak_bytes:
        line += f", at most {counts.peak_bytes / 1e9:.1f} GB per worker"
    if counts.failures:
        line += f", {counted(counts.failures, 'worker failure')}"
    return line


def _check_folder(folder: Path) -> None:
    """Raise `UsageError` if the folder, or a parent, is a file, or if it has files that are not a run's."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if existing.exists() and not existing.is_dir():
        raise UsageError(f"{existing} is a file; name a folder")
    if folder.is_dir() and not (folder / "_run").is_dir():
        for name in sorted(name for name in os.listdir(folder) if not name.startswith(".")):
            raise UsageError(f"{folder} has other files, such as {name}; name a new folder, or a file")


def _warn_of_idle_workers(store: Store, plan: Plan, workers: int) -> None:
    """Warn of idle workers if nothing is published yet, so that starting again costs little."""
    from mmmos.bulk.commits import committed
    from mmmos.bulk.stores import publishing

    if not 0 < plan.shards < workers:
        return
    with publishing(store):
        if committed(store):
            return
    idle = workers - plan.shards
    logger.warning(
        f"{counted(plan.shards, 'shard')} for {counted(workers, 'worker')}, so {idle:,} {agree(idle, 'has')} nothing to"
        " do; use another folder and a smaller --shard-size"
    )


def _start_workers(store: Store, plan: Plan, task: Task, options: RunOptions) -> WorkerPool:
    if options.ray is not None:
        from mmmos.bulk.ray_workers import HEARTBEAT_SECONDS, RayWorkers

        heartbeat_seconds = min(HEARTBEAT_SECONDS, 60 * options.stall_minutes / 4)
        return RayWorkers(store, plan, task, options.ray, options.workers, heartbeat_seconds=heartbeat_seconds)
    from mmmos.bulk.workers import LocalWorkers

    return LocalWorkers(store, plan, task, options.workers)
