"""Jobs in processes of their own: one that fails or dies is told, and takes no other with it."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from mmmos.errors import BulkError, MmmosError

Job = TypeVar("Job")
Shared = TypeVar("Shared")
Result = TypeVar("Result")

Tell = Callable[[Any], None]
"""What a job may call to tell of its progress while it is under way."""

STARTS = 3
"""Processes that may end one after another before any of them begins with a job."""


@dataclass(frozen=True)
class Over(Generic[Job, Result]):
    """A job that is over: with its result, or with the reason why there is none."""

    job: Job
    result: Result | None = None
    reason: str | None = None
    died: bool = False  # whether its process did, rather than raise an error


def run_in_processes(
    function: Callable[[Job, Shared], None], jobs: Sequence[Job], shared: Shared, workers: int
) -> Iterator[tuple[Job, str | None]]:
    """Call `function(job, shared)` for every job, in their order, as many at a time as there are workers.

    Gives each job when it is over, with the reason if it failed. Each process has one thread for torch, so
    that results do not depend on the number of workers. A process that dies is replaced.
    """
    waiting = deque(jobs)
    working: list[Worker[Job, None]] = []
    try:
        for _ in range(min(workers, len(jobs))):
            working.append(Worker(partial(_sharing, function, shared)))
            working[-1].submit(waiting.popleft())
        while any(worker.jobs for worker in working):
            for worker, over in finished(working):
                yield over.job, over.reason
                if waiting:
                    worker.submit(waiting.popleft())
    finally:
        for worker in working:
            worker.close()


def finished(
    workers: Sequence[Worker[Job, Result]], seconds: float | None = None
) -> list[tuple[Worker[Job, Result], Over[Job, Result]]]:
    """Wait until a process has something to say, at most so many seconds; the jobs that are over, if any are.

    Raises `BulkError` where a worker cannot start, and any that a job raises.
    """
    ready = wait([worker.pipe for worker in workers], seconds)
    told = [(worker, worker.take()) for worker in workers if worker.pipe in ready]
    return [(worker, over) for worker, over in told if over is not None]


def cores() -> int:
    """How many cores this process may use: not all of the machine's, where it was given some of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker(Generic[Job, Result]):
    """A process that does jobs one after another. One that dies is replaced, and only the job it was on is lost.

    `prepare` is called in the process, once, and gives the function that does a job.
    """

    def __init__(self, prepare: Callable[[Tell], Callable[[Job], Result]]) -> None:
        self._prepare = prepare
        self._in_vain = 0
        self.pipe: Connection
        self.jobs: deque[Job] = deque()  # that are not over, in their order
        self.told: Any = None  # what the job under way, or the last one, told of its progress
        self._start()

    @property
    def begun(self) -> Job | None:
        """The job that it is on."""
        return self.jobs[0] if self._begun and self.jobs else None

    def submit(self, job: Job) -> None:
        """Have a job done after those that wait."""
        self.jobs.append(job)
        self._send(job)

    def take(self) -> Over[Job, Result] | None:
        """Read one message of the process: a job that is over, or None for any other news."""
        try:
            kind, value = self.pipe.recv()
        except (EOFError, ConnectionError):
            return self._replace_dead()
        if kind == "begun":
            self._begun, self._in_vain = True, 0
        elif kind == "told":
            self.told = value
        elif isinstance(value, BulkError) or kind == "no start":
            raise value if isinstance(value, MmmosError) else BulkError(f"a worker cannot start: {value}")
        elif kind in ("done", "failed"):
            self._begun = False
            job = self.jobs.popleft()
            return Over(job, value) if kind == "done" else Over(job, reason=str(value))
        return None

    def restart(self) -> None:
        """Another process in place of this one, for the jobs that are not over."""
        self.close()
        self._start()
        for job in self.jobs:
            self._send(job)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.pipe.close()
        self._process.kill()
        self._process.join()

    def _replace_dead(self) -> Over[Job, Result] | None:
        self._process.join()
        how = f"its process died with status {self._process.exitcode}"
        lost = self.jobs.popleft() if self._begun else None
        self._in_vain += lost is None
        if self._in_vain == STARTS:
            raise BulkError(f"a worker cannot start: {how}, {STARTS} times before its first job")
        self.restart()
        return None if lost is None else Over(lost, reason=how, died=True)

    def _send(self, job: Job) -> None:
        with suppress(ConnectionError):  # it is dead, which `take` will find
            self.pipe.send(job)

    def _start(self) -> None:
        context = get_context("spawn")  # what torch has running in this process would not survive a fork
        self._begun = False
        self.pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_work, args=(theirs, self._prepare), daemon=True)
        self._process.start()
        theirs.close()


def _sharing(function: Callable[[Job, Shared], None], shared: Shared, tell: Tell) -> Callable[[Job], None]:
    import torch

    torch.set_num_threads(1)
    return lambda job: function(job, shared)


def _work(pipe: Connection, prepare: Callable[[Tell], Callable[[Any], Any]]) -> None:
    """The child: job after job until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # the parent has closed the pipe
        try:
            do = prepare(lambda news: pipe.send(("told", news)))
        except Exception as error:
            pipe.send(("no start", _sendable(error)))
            return
        while True:
            job = pipe.recv()
            pipe.send(("begun", None))
            try:
                answer = "done", do(job)
            except Exception as error:
                answer = "failed", _sendable(error)
            pipe.send(answer)


def _sendable(error: Exception) -> MmmosError | str:
    """The errors of this package as they are; of others, which may not survive the journey, what they say."""
    return error if isinstance(error, MmmosError) else f"{type(error).__name__}: {error}"


def _end_with_parent() -> None:
    """Leave once the parent is gone, even in the middle of a job: whoever starts it anew does not meet this one."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def peak_bytes_of(process: int) -> int:
    """Most memory that a process has had in use, or 0."""
    try:
        with open(f"/proc/{process}/status") as file:
            return next((1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM:")), 0)
    except OSError:  # it is gone, or there is no /proc
        return 0
