"""Who works on the shards of a run: what is asked of a worker, what comes back, and workers on this machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow

from mmmos.bulk.plan import Plan, clips_of, publish_part, publishing
from mmmos.decoder import peak_bytes_of
from mmmos.pool import Tell, Worker, finished
from mmmos.scores import ClipError

if TYPE_CHECKING:
    from mmmos.bulk.stores import Store
    from mmmos.bulk.tasks import Task, Work

IN_FLIGHT = 2
"""Jobs that a worker is given at most: one that it is on, and one that it need not wait for."""

BEAT_SECONDS = 1.0
"""How often a worker tells that it is alive."""


@dataclass(frozen=True)
class Job:
    """A whole shard, which the worker publishes itself, or one clip of it, whose row comes back to the driver."""

    shard: int
    clip: int | None = None  # its number in the shard
    lost: ClipError | None = None  # what the row is to say; the clip's file is then not touched


@dataclass(frozen=True)
class Result:
    """What came of a job."""

    rows: int
    ok: int
    errors: int
    row: pyarrow.Table | None  # one row, of a job on one clip
    seconds: float
    peak_bytes: int  # the most memory that the worker's process has had in use so far; 0 where the system does not tell


@dataclass(frozen=True)
class Outcome:
    """A job that is over. Without a result the worker died, or the work raised an error."""

    job: Job
    result: Result | None
    died: bool = False
    reason: str = ""


class Crew(Protocol):
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

    def beats(self) -> int:
        """Clips that the workers have finished, as far as it is known: as long as it changes they are alive."""
        ...

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        ...


class Beats:
    """Counts the clips that a worker has finished, and tells of them once a second."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell, self._count, self._last = tell, 0, time.monotonic()

    def counted(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The same rows."""
        for row in rows:
            yield row
            self._count += 1
            if time.monotonic() - self._last > BEAT_SECONDS:
                self._last = time.monotonic()
                self._tell(self._count)


def work_on(store: Store, plan: Plan, work: Work, job: Job, beats: Beats | None = None) -> Result:
    """In the worker: do a job. A whole shard is published; of one clip the row is given back.

    Raises `BulkError` if the store fails, and whatever the work raises.
    """
    started = time.monotonic()
    with publishing(store):
        clips = clips_of(store, plan, job.shard)
    if job.clip is not None:
        clip = clips[job.clip]
        rows = [work.failed(clip, job.lost.code, job.lost.message)] if job.lost else list(work.rows([clip]))
    else:
        found = work.rows(clips)
        rows = list(beats.counted(found) if beats else found)
    wanted = 1 if job.clip is not None else len(clips)
    if len(rows) != wanted:
        raise ValueError(f"{wanted} clips gave {len(rows)} rows")
    table = pyarrow.Table.from_pylist(rows, work.schema)
    if job.clip is None:
        publish_part(store, plan, job.shard, table)
    ok = table.column("error_code").null_count
    single = table if job.clip is not None else None
    return Result(len(rows), ok, len(rows) - ok, single, time.monotonic() - started, peak_bytes_of(os.getpid()))


class LocalCrew:
    """Processes on this machine, started as there are jobs for them: one a GPU, or one a core, if not said otherwise.

    Where the task is for any GPU, and there are several, the workers share them out.
    """

    def __init__(self, store: Store, plan: Plan, task: Task, workers: int | None = None) -> None:
        self._gpus = _gpus() if plan.task.get("settings", {}).get("device") == "cuda" else []
        self.size = workers or len(self._gpus) or os.cpu_count() or 1
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

    def beats(self) -> int:
        """Clips that the workers have finished, as far as they told."""
        return sum(worker.told or 0 for worker in self._workers)

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
    work, beats = task.start(), Beats(tell)
    return lambda job: work_on(store, plan, work, job, beats)
