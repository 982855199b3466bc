"""Who works on the shards of a run: what is asked of a worker, what comes back, and workers on this machine."""

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
from mmmos.processes import Tell, Worker, cores, finished, peak_bytes_of
from mmmos.scores import ClipError

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip
    from mmmos.bulk.stores import Store
    from mmmos.bulk.tasks import Task, Work

IN_FLIGHT = 2
"""Jobs that a worker is given at most: one that it is on, and one that it need not wait for."""

HEARTBEAT_SECONDS = 0.25
"""Shortest time between two heartbeats of a worker."""


@dataclass(frozen=True)
class Job:
    """A whole shard, which the worker publishes itself, or one clip of it, whose row comes back to the driver."""

    shard: int
    clip: int | None = None  # its number in the shard
    lost: ClipError | None = None  # what the row is to say; the clip's file is then not touched


@dataclass(frozen=True)
class Running:
    """A job that a worker is on, and its progress: it changes with every window of audio."""

    job: Job
    clips: int = 0  # finished
    windows: int = 0  # finished, of the clip after those


@dataclass(frozen=True)
class Result:
    """What came of a job."""

    rows: int
    ok: int
    errors: int
    row: pyarrow.Table | None  # one row, of a job on one clip
    seconds: float
    peak_bytes: int  # the most memory that the worker and its decoders took so far; 0 where the system does not tell


@dataclass(frozen=True)
class Outcome:
    """A job that is over. Without a result the worker died, or the work raised an error."""

    job: Job
    result: Result | None
    died: bool = False
    reason: str = ""


class WorkerPool(Protocol):
    """Workers. Each job is done once, on any of them; a worker that dies is replaced.

    A death is an outcome of the one job that the worker was on; what waited behind it goes to another.
    """

    size: int  # how many workers there are

    def submit(self, job: Job) -> None:
        """Give a job to a worker. There are at most `IN_FLIGHT` a worker that are not over."""
        ...

    def wait(self, seconds: float) -> list[Outcome]:
        """Jobs that are over, as soon as there is one; none if there is none after so many seconds.

        Raises `MmmosError` where the run cannot go on: a worker cannot start, or cannot publish (`BulkError`
        out of `work_on`). Neither is a job's fault.
        """
        ...

    def running(self) -> list[Running]:
        """The jobs that a worker is on, as far as is known; the others wait behind them. A change is a sign of life."""
        ...

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        ...


class Heartbeats:
    """The progress of a worker in its job, sent a few times a second at most."""

    def __init__(self, send: Callable[[Running], None] = lambda running: None) -> None:
        self._send, self._last = send, time.monotonic()
        self.running: Running | None = None

    def begin(self, job: Job) -> None:
        """The worker begins a job."""
        self.running = Running(job)

    def start(self, stage: str, total: float, unit: str = "clips", done: float = 0) -> None:
        """Nothing: a job has one stage."""

    def advance(self, count: float = 1) -> None:
        """So many more clips are finished."""
        assert self.running is not None
        self._beat(replace(self.running, clips=self.running.clips + int(count), windows=0))

    def windows(self, count: int = 1) -> None:
        """So many more windows of the clip in progress are finished."""
        assert self.running is not None
        self._beat(replace(self.running, windows=self.running.windows + count))

    def _beat(self, running: Running) -> None:
        self.running = running
        if time.monotonic() - self._last >= HEARTBEAT_SECONDS:
            self._last = time.monotonic()
            self._send(running)


class Lists:
    """The clips of a run's shards. The last shard's are kept: clips that are done one by one are of the same."""

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
                    raise  # the disk or the server, not what is on it
                raise BulkError(
                    f"{self._store.url}: the list of clips is damaged, {list_name(shard)}: {error}; remove that file,"
                    " if it is there, and run the same command again, which writes it anew"
                ) from error
        return clips


def work_on(
    store: Store, plan: Plan, work: Work, job: Job, heartbeats: Heartbeats | None = None, lists: Lists | None = None
) -> Result:
    """In the worker: do a job. A whole shard is published; of one clip the row is given back.

    Raises `BulkError` if the store fails, and whatever the work raises.
    """
    started, heartbeats = time.monotonic(), heartbeats or Heartbeats()
    heartbeats.begin(job)
    clips = (lists or Lists(store, plan)).clips(job.shard)
    if job.clip is not None:
        clip = clips[job.clip]
        rows = [work.failed(clip, job.lost.code, job.lost.message)] if job.lost else list(work.rows([clip], heartbeats))
    else:
        rows = list(work.rows(clips, heartbeats))
    wanted = 1 if job.clip is not None else len(clips)
    if len(rows) != wanted:
        raise ValueError(f"{wanted} clips gave {len(rows)} rows")
    # Whoever goes on with a run may call its model `./tiny` for `tiny`; rows say what the first one called it.
    named = {"model": encodable(plan.task["model"])} if "model" in work.schema.names else {}
    table = pyarrow.Table.from_pylist([row | named for row in rows], work.schema)
    if job.clip is None:
        publish_part(store, plan, job.shard, table)
    ok = table.column("error_code").null_count
    single = table if job.clip is not None else None
    peak = peak_bytes_of(os.getpid()) + work.beside_bytes()
    return Result(len(rows), ok, len(rows) - ok, single, time.monotonic() - started, peak)


class LocalWorkers:
    """Processes on this machine, started as there are jobs for them: one a GPU, or one a core, if not said otherwise.

    Where the task is for any GPU, and there are several, the workers share them out.
    """

    def __init__(self, store: Store, plan: Plan, task: Task, workers: int | None = None) -> None:
        self._gpus = _gpus() if plan.task.get("settings", {}).get("device") == "cuda" else []
        self.size = workers or len(self._gpus) or cores()
        self._ready = partial(_prepare, store, plan, task)
        self._workers: list[Worker[Job, Result]] = []

    def submit(self, job: Job) -> None:
        """Give it to the worker that has the least to do, or to a new one."""
        if len(self._workers) < self.size and all(worker.jobs for worker in self._workers):
            gpu = self._gpus[len(self._workers) % len(self._gpus)] if self._gpus else None
            self._workers.append(Worker(partial(self._ready, gpu)))
        min(self._workers, key=lambda worker: len(worker.jobs)).submit(job)

    def wait(self, seconds: float) -> list[Outcome]:
        """Jobs that are over. A worker whose job raised an error is replaced: a GPU may be lost to its process."""
        until = time.monotonic() + seconds
        while True:
            outcomes = []
            for worker, over in finished(self._workers, max(until - time.monotonic(), 0)):
                outcomes.append(Outcome(over.job, over.result, over.died, over.reason or ""))
                if over.result is None and not over.died:
                    worker.restart()
            if outcomes or time.monotonic() >= until:
                return outcomes

    def running(self) -> list[Running]:
        """The jobs that a worker is on, by its last heartbeat."""
        at_work = [(worker.begun, worker.told) for worker in self._workers if worker.begun is not None]
        return [told if told and told.job == job else Running(job) for job, told in at_work]

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()


def _gpus() -> list[str]:
    """The GPUs that processes of ours may use, each by what CUDA_VISIBLE_DEVICES calls it."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named[:count] if len(named) >= count else [str(number) for number in range(count)]


def _prepare(store: Store, plan: Plan, task: Task, gpu: str | None, tell: Tell) -> Callable[[Job], Result]:
    """In the worker's process: load the model, and be ready for jobs."""
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read when CUDA is first used
    work, heartbeats, lists = task.start(), Heartbeats(tell), Lists(store, plan)
    return lambda job: work_on(store, plan, work, job, heartbeats, lists)
