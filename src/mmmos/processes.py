"""A pool of worker processes: a job that fails or crashes is reported and does not affect the others."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from mmmos.errors import BulkError, MmmosError

Job = TypeVar("Job")
Shared = TypeVar("Shared")
Result = TypeVar("Result")

Report = Callable[[Any], None]
"""Sends a job's progress to the parent process."""

MAX_FAILED_STARTS = 3
"""How many times in a row a worker's process may end before its first job."""


@dataclass(frozen=True)
class JobResult(Generic[Job, Result]):
    """A finished job, with its result or with the reason for its failure."""

    job: Job
    result: Result | None = None
    reason: str | None = None
    died: bool = False  # whether its process died; else the job raised an error


def run_in_processes(
    function: Callable[[Job, Shared], None], jobs: Sequence[Job], shared: Shared, workers: int
) -> Iterator[tuple[Job, str | None]]:
    """Call `function(job, shared)` for every job, in order, in `workers` processes.

    Yields each finished job with None, or with its error message. Each process has one thread for torch, so
    that results do not depend on the number of workers. A process that dies is replaced.
    """
    waiting = deque(jobs)
    pool: list[Worker[Job, None]] = []
    try:
        for _ in range(min(workers, len(jobs))):
            pool.append(Worker(partial(_prepare, function, shared)))
            pool[-1].submit(waiting.popleft())
        while any(worker.jobs for worker in pool):
            for worker, result in finished(pool):
                yield result.job, result.reason
                if waiting:
                    worker.submit(waiting.popleft())
    finally:
        for worker in pool:
            worker.close()


def finished(
    workers: Sequence[Worker[Job, Result]], seconds: float | None = None
) -> list[tuple[Worker[Job, Result], JobResult[Job, Result]]]:
    """Wait at most `seconds` for messages of the workers. Returns the jobs that finished, with their workers.

    Raises `BulkError` if a worker cannot start, and any `BulkError` of a job.
    """
    ready = wait([worker.pipe for worker in workers], seconds)
    results = [(worker, worker.receive()) for worker in workers if worker.pipe in ready]
    return [(worker, result) for worker, result in results if result is not None]


def cores() -> int:
    """How many cores this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Worker(Generic[Job, Result]):
    """A process that runs jobs one after another. If it dies it is replaced, and only the job in progress fails.

    `prepare` is called once in the process and returns the function that runs a job.
    """

    def __init__(self, prepare: Callable[[Report], Callable[[Job], Result]]) -> None:
        self._prepare = prepare
        self._failed_starts = 0
        self.pipe: Connection
        self.jobs: deque[Job] = deque()  # unfinished, in order
        self.report: Any = None  # the last one of the job in progress, or of the job before it
        self._start()

    @property
    def running(self) -> Job | None:
        """The job in progress."""
        return self.jobs[0] if self._is_running and self.jobs else None

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self.jobs.append(job)
        self._send(job)

    def receive(self) -> JobResult[Job, Result] | None:
        """Read one message of the process. Returns a finished job, or None for any other message."""
        try:
            kind, value = self.pipe.recv()
        except (EOFError, ConnectionError):
            return self._replace_dead()
        if kind == "running":
            self._is_running, self._failed_starts = True, 0
        elif kind == "report":
            self.report = value
        elif isinstance(value, BulkError) or kind == "no start":
            raise value if isinstance(value, MmmosError) else BulkError(f"a worker cannot start: {value}")
        elif kind in ("done", "failed"):
            self._is_running = False
            job = self.jobs.popleft()
            return JobResult(job, value) if kind == "done" else JobResult(job, reason=str(value))
        return None

    def restart(self) -> None:
        """Replace the process, and send it the unfinished jobs."""
        self.close()
        self._start()
        for job in self.jobs:
            self._send(job)

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self.pipe.close()
        self._process.kill()
        self._process.join()

    def _replace_dead(self) -> JobResult[Job, Result] | None:
        self._process.join()
        reason = f"its process died with status {self._process.exitcode}"
        failed = self.jobs.popleft() if self._is_running else None
        self._failed_starts += failed is None
        if self._failed_starts == MAX_FAILED_STARTS:
            raise BulkError(f"a worker cannot start: {reason}, {MAX_FAILED_STARTS} times before its first job")
        self.restart()
        return None if failed is None else JobResult(failed, reason=reason, died=True)

    def _send(self, job: Job) -> None:
        with suppress(ConnectionError):  # it is dead, which `receive` will find
            self.pipe.send(job)

    def _start(self) -> None:
        self._is_running = False
        self.pipe, child_end = get_context().Pipe()
        self._process = _started(_work, child_end, self._prepare, dict(os.environ))
        child_end.close()


def _started(function: Callable[..., None], *arguments: object) -> BaseProcess:
    """A new process that calls a function with these arguments.

    On Linux it is a fork of a process that has imported torch but not used it: torch takes seconds to import, and the
    threads that it starts when used do not survive a fork. Elsewhere, system libraries do not survive one either.
    """
    context: ForkServerContext | SpawnContext
    if sys.platform == "linux":
        context = get_context("forkserver")
        context.set_forkserver_preload(["pyarrow", "torch"])
    else:
        context = get_context("spawn")
    process = context.Process(target=function, args=arguments, daemon=True)
    # What is imported before this process's `sys.path` arrives is from there, too, not from the working folder.
    with _environment(PYTHONSAFEPATH="1", PYTHONPATH=os.pathsep.join(filter(None, sys.path))):
        process.start()
    return process


@contextmanager
def _environment(**variables: str) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _prepare(function: Callable[[Job, Shared], None], shared: Shared, report: Report) -> Callable[[Job], None]:
    import torch

    torch.set_num_threads(1)
    return lambda job: function(job, shared)


def _work(pipe: Connection, prepare: Callable[[Report], Callable[[Any], Any]], environment: dict[str, str]) -> None:
    """The child process: runs jobs until the pipe closes."""
    os.environ.clear()
    os.environ.update(environment)  # that of its parent now, not when the process was that it is a fork of
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # the parent has closed the pipe
        try:
            run = prepare(lambda value: pipe.send(("report", value)))
        except Exception as error:
            pipe.send(("no start", _sendable(error)))
            return
        while True:
            job = pipe.recv()
            pipe.send(("running", None))
            try:
                message = "done", run(job)
            except Exception as error:
                message = "failed", _sendable(error)
            pipe.send(message)


def _sendable(error: Exception) -> MmmosError | str:
    """An error of this package itself; of any other, which may not be picklable, its message."""
    return error if isinstance(error, MmmosError) else f"{type(error).__name__}: {error}"


def _end_with_parent() -> None:
    """Exit once the parent is gone, even in the middle of a job, before the parent is started again."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def peak_bytes_of(process: int) -> int:
    """Peak memory of a process, bytes; 0 if unknown."""
    try:
        with open(f"/proc/{process}/status") as file:
            return next((1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM:")), 0)
    except OSError:  # it is gone, or there is no /proc
        return 0
