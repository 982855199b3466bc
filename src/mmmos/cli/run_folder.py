"""Commands that give their work to a crew: options, and a run in a folder from its lock to its last line."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmmos.cli.console import ConsoleProgress, stderr
from mmmos.cli.options import warn_uncalibrated
from mmmos.errors import UsageError
from mmmos.io.remote import is_url

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.bulk.driver import Counts
    from mmmos.bulk.plan import Plan
    from mmmos.bulk.stores import Store
    from mmmos.bulk.tasks import Task
    from mmmos.bulk.workers import WorkerPool

logger = logging.getLogger(__name__)

WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Processes of a run in a folder; by default one per core or GPU.")
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Run on a Ray cluster; `local` starts one here."),
]
ShardSizeOption = Annotated[
    int | None, typer.Option(min=1, help="Clips published together; by default 1000, or what the run already has.")
]
StallOption = Annotated[
    float, typer.Option(min=0.01, help="Stop a run in a folder after so many minutes without progress.")
]

LEASE_SECONDS = 600.0
"""Age at which a file that is half written is nobody's any more."""


@dataclass(frozen=True)
class RunOptions:
    """The options above, as they were given."""

    workers: int | None
    ray: str | None
    shard_size: int | None
    stall_minutes: float

    @property
    def asked(self) -> bool:
        """Whether any of them says that the run is one in a folder."""
        return any(option is not None for option in (self.workers, self.ray, self.shard_size))


def folder_of(output: str | None, how: RunOptions) -> str | None:
    """The folder or address that rows go to, None if it is a file.

    A folder is told by its looks (it ends with "/", is an address or is there), or by what it is to be worked on with.
    Raises `UsageError` where a crew is to write anything else.
    """
    if output is not None and (output.endswith("/") or is_url(output) or Path(output).is_dir()):
        return output
    if not how.asked:
        return None
    if output is None or Path(output).suffix:
        raise UsageError(
            "--workers, --ray and --shard-size write a folder: give -o FOLDER/ (mmmos merge makes one file of it)"
        )
    return output


def run_in_folder(folder: str, clips: Iterable[Clip], task: Task, how: RunOptions, what: str) -> Counts:
    """Plan a run or go on with it, and have it worked on. Raises `UsageError` and `BulkError`."""
    from mmmos.bulk.driver import run_shards
    from mmmos.bulk.plan import make_plan
    from mmmos.bulk.stores import open_store

    store = open_store(folder)
    if not is_url(store.url):
        _check_folder(Path(store.url))
    with store.lock():
        plan = make_plan(store, clips, task.describe(), how.shard_size)
        store.sweep(LEASE_SECONDS)  # not before the folder is known to be a run's
        if plan.task.get("calibrated") is False:
            warn_uncalibrated(plan.task["model"])
        with closing(_crew(store, plan, task, how)) as crew, ConsoleProgress(stderr) as progress:
            _note_idle(store, plan, crew.size)
            report = report_counts(progress, what)
            counts = run_shards(store, plan, crew, report=report, stall_s=60 * how.stall_minutes)
    logger.info("%s in %s: %s", what, store.url, summary(counts))
    return counts


def report_counts(progress: ConsoleProgress, what: str) -> Callable[[Counts], None]:
    """Show the counts of a run, those of shards in progress too."""
    started = False

    def report(counts: Counts) -> None:
        nonlocal started
        if not started:  # what is published then is the work of earlier commands
            progress.start(what, counts.all_clips, "clips", counts.clips)
            started = True
        detail = f"{counts.errors:,} errors" if counts.errors else ""
        progress.update(counts.clips + counts.unpublished, counts.windows, detail)

    return report


def summary(counts: Counts) -> str:
    """What a run has done at its end."""
    shards = f"{counts.shards:,} of {counts.all_shards:,} shards, {counts.clips:,} of {counts.all_clips:,} clips"
    line = f"{shards}, {counts.ok:,} ok, {counts.errors:,} errors, {counts.seconds:.0f} s"
    if counts.new_clips and counts.seconds:
        line += f", {counts.new_clips / counts.seconds:.1f} clips/s"
    if counts.peak_bytes:
        line += f", at most {counts.peak_bytes / 1e9:.1f} GB per worker"
    if counts.lost:
        line += f", {counts.lost} worker failure{'s' * (counts.lost > 1)}"
    return line


def _check_folder(folder: Path) -> None:
    """Raises `UsageError` where a file is in the way of a folder, and for a folder of other files than a run's."""
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if there.exists() and not there.is_dir():
        raise UsageError(f"{there} is a file; give a folder")
    if folder.is_dir() and not (folder / "_run").is_dir():
        for name in sorted(name for name in os.listdir(folder) if not name.startswith(".")):
            raise UsageError(f"{folder} is a folder of other files, such as {name}; give a new folder, or a file")


def _note_idle(store: Store, plan: Plan, workers: int) -> None:
    """Tell of workers that have nothing to do, as long as little is lost by beginning anew."""
    from mmmos.bulk.commits import committed
    from mmmos.bulk.stores import publishing

    if not 0 < plan.shards < workers:
        return
    with publishing(store):
        if committed(store):
            return
    idle = workers - plan.shards
    logger.warning(
        f"{plan.shards} shard{'s' * (plan.shards > 1)} for {workers} workers, so {idle}"
        f" {'have' if idle > 1 else 'has'} nothing to do; another folder and a smaller --shard-size share it out"
    )


def _crew(store: Store, plan: Plan, task: Task, how: RunOptions) -> WorkerPool:
    if how.ray is not None:
        from mmmos.bulk.ray_workers import HEARTBEAT_SECONDS, RayWorkers

        heartbeat_seconds = min(HEARTBEAT_SECONDS, 60 * how.stall_minutes / 4)
        return RayWorkers(store, plan, task, how.ray, how.workers, heartbeat_seconds=heartbeat_seconds)
    from mmmos.bulk.workers import LocalWorkers

    return LocalWorkers(store, plan, task, how.workers)
