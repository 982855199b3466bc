"""The worker interface of a bulk run, and local worker processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from errno import ENOENT
from functools import partial
from typing import TYPE_CHECKING, Protocol

import pyarrow

from mmmos.bulk.commits import publish_part
from mmmos.bulk.plan import Plan, clips_of, list_name
from mmmos.bulk.stores import publishing
from mmmos.errors import BulkError
from mmmos.inference.rows import encodable
from mmmos.processes import Report, Worker, cores, finished, peak_bytes_of
from mmmos.scores import ClipError
from mmmos.wording import counted

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.bulk.stores import Store
    from mmmos.bulk.tasks import Task, Work

IN_FLIGHT = 2
"""Most jobs per worker at a time: one that is running, and the next one."""

HEARTBEAT_SECONDS = 0.25
"""Shortest time between two heartbeats of a worker."""


@dataclass(frozen=True)
class Job:
    """A whole shard, which the worker publishes, or one clip of it, whose row goes back to the driver."""

    shard: int
    clip: int | None = None  # its number in the shard
    error: ClipError | None = None  # the row then has this error, and the clip's file is not touched


@dataclass(frozen=True)
class Running:
    """A running job and its progress, which changes with every window of audio."""

    job: Job
    clips: int = 0  # finished
    windows: int = 0  # finished, of the clip after those


@dataclass(frozen=True)
class Result:
    """The result of a job."""

    rows: int
    ok: int
    errors: int
    row: pyarrow.Table | None  # one row, of a job on one clip
    seconds: float
    peak_bytes: int  # peak memory of the worker and its decoders; 0 if unknown


@dataclass(frozen=True)
class Outcome:
    """A finished job. Without a result, the worker died or the job raised an error."""

    job: Job
    result: Result | None
    died: bool = False
    reason: str = ""


class WorkerPool(Protocol):
    """A pool of workers. Each job runs once, on any worker; a worker that dies is replaced.

    If a worker dies, its running job fails, and the jobs that waited for it run on another worker.
    """

    size: int  # number of workers

    def submit(self, job: Job) -> None:
        """Give a job to a worker. At most `IN_FLIGHT` jobs per worker are unfinished at a time."""
        ...

    def wait(self, seconds: float) -> list[Outcome]:
        """Wait at most `seconds` for finished jobs. Returns as soon as there is one.

        Raises `MmmosError` if the run cannot continue: a worker cannot start, or cannot publish (a `BulkError`
        of `work_on`). No job is at fault then.
        """
        ...

    def running(self) -> list[Running]:
        """The running jobs with their last known progress. A change shows that a worker is alive."""
        ...

    def close(self) -> None:
        """End the workers, also in the middle of a job."""
        ...


class Heartbeats:
    """Sends the progress of a worker's job, at most a few times a second."""

    def __init__(self, send: Callable[[Running], None] = lambda running: None) -> None:
        self._send, self._last = send, time.monotonic()
        self.running: Running | None = None

    def begin(self, job: Job) -> None:
        """The worker begins a job."""
        self.running = Running(job)

    def start(self, stage: str, total: float, unit: str = "clips", done: float = 0) -> None:
        """Nothing: a job has one stage."""

    def advance(self, count: float = 1) -> None:
        """`count` more clips are finished."""
        assert self.running is not None
        self._update(replace(self.running, clips=self.running.clips + int(count), windows=0))

    def windows(self, count: int = 1) -> None:
        """`count` more windows of the clip in progress are finished."""
        assert self.running is not None
        self._update(replace(self.running, windows=self.running.windows + count))

    def update(self, done: float, windows: int = 0, detail: str = "") -> None:
        """`done` clips are finished, and `windows` of the next."""
        assert self.running is not None
        self._update(replace(self.running, clips=int(done), windows=windows))

    def _update(self, running: Running) -> None:
        self.running = running
        if time.monotonic() - self._last >= HEARTBEAT_SECONDS:
            self._last = time.monotonic()
            self._send(running)


class Lists:
    """The clips of a run's shards. Keeps those of the last shard, for clips that are processed one by one."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store, self._plan = store, plan
        self._last: tuple[int, list[Clip]] | None = None

    def clips(self, shard: int) -> list[Clip]:
        """The clips of a shard. Raises `BulkError` if they cannot be read."""
        if self._last is None or self._last[0] != shard:
            self._last = shard, self._read(shard)
        return self._last[1]

    def _read(self, shard: int) -> list[Clip]:
        with publishing(self._store):
            try:
                clips = clips_of(self._store, self._plan, shard)
                if len(clips) != self._plan.rows(shard):
                    raise ValueError(f"{len(clips)} of {self._plan.rows(shard)} clips of shard {shard}")
            except (OSError, ValueError, LookupError, pyarrow.ArrowException) as error:
                if isinstance(error, OSError) and error.errno not in (None, ENOENT):
                    raise  # the disk or the server is at fault, not the file
                raise BulkError(
                    f"{self._store.url}: the list of clips is damaged, {list_name(shard)}: {error}; remove that file"
                    " if it exists, and run the same command again, which writes it"
                ) from error
        return clips


def work_on(
    store: Store, plan: Plan, work: Work, job: Job, heartbeats: Heartbeats | None = None, lists: Lists | None = None
) -> Result:
    """Run a job in a worker. A whole shard is published; the row of a single clip is returned.

    Raises `BulkError` if the store fails, and any error of the work.
    """
    started, heartbeats = time.monotonic(), heartbeats or Heartbeats()
    heartbeats.begin(job)
    clips = (lists or Lists(store, plan)).clips(job.shard)
    if job.clip is not None:
        clip, error = clips[job.clip], job.error
        rows = [work.failed(clip, error.code, error.message)] if error else list(work.rows([clip], heartbeats))
    else:
        rows = list(work.rows(clips, heartbeats))
    expected = 1 if job.clip is not None else len(clips)
    if len(rows) != expected:
        raise ValueError(f"{counted(expected, 'clip')} gave {counted(len(rows), 'row')}")
    # A later command may name the model `./tiny` for `tiny`; rows have the name from the first command.
    model = {"model": encodable(plan.task["model"])} if "model" in work.schema.names else {}
    table = pyarrow.Table.from_pylist([row | model for row in rows], work.schema)
    if job.clip is None:
        publish_part(store, plan, job.shard, table)
    ok = table.column("error_code").null_count
    single = table if job.clip is not None else None
    peak = peak_bytes_of(os.getpid()) + work.child_bytes()
    return Result(len(rows), ok, len(rows) - ok, single, time.monotonic() - started, peak)


class LocalWorkers:
    """Processes on this machine, started on demand: by default one per GPU, or one per core.

    A task for `cuda` runs on all GPUs; each worker gets one of them.
    """

    def __init__(self, store: Store, plan: Plan, task: Task, workers: int | None = None) -> None:
        self._gpus: list[str] = []
        if plan.task.get("settings", {}).get("device") == "cuda":
            from mmmos.encoders.device import visible_gpus  # imports torch, which the driver of a CPU run does not need

            self._gpus = visible_gpus()
        self.size = workers or len(self._gpus) or cores()
        self._ready = partial(_prepare, store, plan, task)
        self._workers: list[Worker[Job, Result]] = []

    def submit(self, job: Job) -> None:
        """Give a job to the worker with the fewest jobs, or to a new one."""
        if len(self._workers) < self.size and all(worker.jobs for worker in self._workers):
            gpu = self._gpus[len(self._workers) % len(self._gpus)] if self._gpus else None
            self._workers.append(Worker(partial(self._ready, gpu)))
        min(self._workers, key=lambda worker: len(worker.jobs)).submit(job)

    def wait(self, seconds: float) -> list[Outcome]:
        """Finished jobs. A worker whose job raised an error is replaced, as its process may have lost the GPU."""
        until = time.monotonic() + seconds
        while True:
            outcomes = []
            for worker, result in finished(self._workers, max(until - time.monotonic(), 0)):
                outcomes.append(Outcome(result.job, result.result, result.died, result.reason or ""))
                if result.result is None and not result.died:
                    worker.restart()
            if outcomes or time.monotonic() >= until:
                return outcomes

    def running(self) -> list[Running]:
        """The running jobs, as of the workers' last heartbeats."""
        running = [(worker.running, worker.report) for worker in self._workers if worker.running is not None]
        return [report if report and report.job == job else Running(job) for job, report in running]

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()


def _prepare(store: Store, plan: Plan, task: Task, gpu: str | None, report: Report) -> Callable[[Job], Result]:
    """In the worker process: load the model, and return the function that runs a job."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when CUDA is first used
    work, heartbeats, lists = task.start(), Heartbeats(report), Lists(store, plan)
    return lambda job: work_on(store, plan, work, job, heartbeats, lists)
