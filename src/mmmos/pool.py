"""Jobs in processes of their own: one that fails or dies is told, and takes no other with it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

import torch

Job = TypeVar("Job")
Shared = TypeVar("Shared")


def run_in_processes(
    function: Callable[[Job, Shared], None], jobs: Sequence[Job], shared: Shared, workers: int
) -> Iterator[tuple[Job, str | None]]:
    """Call `function(job, shared)` for every job, in their order, as many at a time as there are workers.

    Gives each job when it is over, with the reason if it failed. Each process has one thread for torch, so
    that results do not depend on the number of workers. A process that dies is replaced.
    """
    waiting = list(reversed(jobs))
    working = [_Worker(function, shared) for _ in range(min(workers, len(jobs)))]
    try:
        for worker in working:
            worker.begin(waiting.pop())
        while busy := [worker for worker in working if worker.job is not None]:
            ready = wait([worker.pipe for worker in busy])
            for worker in [worker for worker in busy if worker.pipe in ready]:
                job, error = worker.end()
                yield job, error
                if waiting:
                    worker.begin(waiting.pop())
    finally:
        for worker in working:
            worker.close()


class _Worker(Generic[Job, Shared]):
    """One process, and the job it is on."""

    def __init__(self, function: Callable[[Job, Shared], None], shared: Shared) -> None:
        self._function, self._shared = function, shared
        self.job: Job | None = None
        self._start()

    def begin(self, job: Job) -> None:
        if not self._process.is_alive():
            self.close()
            self._start()
        self.job = job
        self.pipe.send(job)

    def end(self) -> tuple[Job, str | None]:
        """The job that is over, and why it failed if it did."""
        job, self.job = self.job, None
        assert job is not None
        try:
            return job, self.pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            return job, f"its process died with status {self._process.exitcode}"

    def close(self) -> None:
        self.pipe.close()
        self._process.kill()
        self._process.join()

    def _start(self) -> None:
        context = get_context("spawn")  # what torch has running in this process would not survive a fork
        self.pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=_work, args=(theirs, self._function, self._shared), daemon=True
        )
        self._process.start()
        theirs.close()


def _work(pipe: Connection, function: Callable[[Any, Any], None], shared: Any) -> None:
    """The child: job after job until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    while True:
        try:
            job = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            function(job, shared)
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")
        else:
            pipe.send(None)


def _end_with_parent() -> None:
    """Leave once the parent is gone, even in the middle of a job: whoever starts it anew does not meet this one."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
