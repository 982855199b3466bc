"""Worker processes: each job runs once, and a job that fails or crashes is reported and affects no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mmmos.errors import BulkError, UsageError
from mmmos.processes import JobResult, Report, Worker, cores, finished, run_in_processes

CRASHES = {"exits": "its process died with status 9", "is killed": f"its process died with status {-signal.SIGKILL}"}


def work(job: str, folder: Path) -> None:
    """Log that the job was started; then do what its name says."""
    import torch  # here, as the other processes of these tests do not need it

    with open(folder / "started", "a") as file:
        file.write(f"{job},{os.getpid()},{torch.get_num_threads()}\n")
    if "fails" in job:
        raise ValueError(job)
    if "exits" in job:
        os._exit(9)
    if "is killed" in job:
        os.kill(os.getpid(), signal.SIGKILL)


def started(folder: Path) -> list[list[str]]:
    return [line.split(",") for line in (folder / "started").read_text().splitlines()]


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_every_job_runs_once_despite_failures(tmp_path: Path) -> None:
    jobs = ["fails", "a", "exits", "b", "c", "is killed", "d"]
    over = dict(run_in_processes(work, jobs, tmp_path, workers=2))
    assert over == dict.fromkeys("abcd") | {"fails": "ValueError: fails"} | CRASHES
    found = started(tmp_path)
    assert sorted(job for job, _, _ in found) == sorted(jobs)
    assert {threads for _, _, threads in found} == {"1"}  # as with any number of workers
    assert len({process for _, process, _ in found}) > len(CRASHES)  # those that died were replaced
    assert str(os.getpid()) not in {process for _, process, _ in found}


@pytest.mark.slow
def test_one_worker_does_the_jobs_in_their_order(tmp_path: Path) -> None:
    assert list(run_in_processes(work, ["c", "a", "b"], tmp_path, workers=1)) == [("c", None), ("a", None), ("b", None)]
    assert [job for job, _, _ in started(tmp_path)] == ["c", "a", "b"]


def test_no_jobs_take_no_process(tmp_path: Path) -> None:
    assert list(run_in_processes(work, [], tmp_path, workers=2)) == []
    assert not (tmp_path / "started").exists()


@pytest.mark.slow
def test_pool_has_no_spare_processes_and_none_once_closed(tmp_path: Path) -> None:
    running = run_in_processes(work, ["a", "b"], tmp_path, workers=8)
    next(running)
    assert len(multiprocessing.active_children()) == 2
    running.close()  # type: ignore[attr-defined]  # a generator
    assert multiprocessing.active_children() == []


def test_what_a_process_cannot_be_given_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle"):
        list(run_in_processes(work, ["a", "b"], lambda: None, workers=2))


def prepare(failure: str, report: Report) -> Callable[[int], int]:
    """A function that halves even numbers."""
    if failure == "raises":
        raise UsageError("no such model")
    if failure == "dies":
        os._exit(3)

    def half(number: int) -> int:
        report(number)
        if number < 0:
            raise BulkError("the disk is full")
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number // 2

    return half


def all_results(worker: Worker[Any, Any]) -> list[JobResult[Any, Any]]:
    found = []
    while worker.jobs:
        found += [over for _, over in finished([worker])]
    return found


@pytest.mark.slow
def test_worker_gives_results_in_order_with_progress() -> None:
    with closing(Worker(partial(prepare, "well"))) as worker:
        for number in (4, 3, 8):
            worker.submit(number)
        assert all_results(worker) == [JobResult(4, 2), JobResult(3, reason="ValueError: 3 is odd"), JobResult(8, 4)]
        assert worker.report == 8
        assert finished([worker], seconds=0.01) == []
        worker.submit(6)
        worker.restart()
        worker.submit(2)
        assert all_results(worker) == [JobResult(6, 3), JobResult(2, 1)]


def prepare_reader(report: Report) -> Callable[[str], str | None]:
    return os.environ.get


@pytest.mark.slow
def test_worker_has_the_environment_of_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the first worker's start."""
    found = []
    for value in ("a", "b"):
        monkeypatch.setenv("MMMOS_TEST", value)
        with closing(Worker(prepare_reader)) as worker:
            for name in ("MMMOS_TEST", "PYTHONSAFEPATH", "PYTHONPATH"):
                worker.submit(name)
            found.append([result.result for result in all_results(worker)])
    kept = [os.environ.get(name) for name in ("PYTHONSAFEPATH", "PYTHONPATH")]
    assert found == [["a", *kept], ["b", *kept]]


@pytest.mark.slow
def test_a_worker_that_dies_between_two_jobs_loses_none() -> None:
    with closing(Worker(partial(prepare, "well"))) as worker:
        worker.submit(4)
        assert all_results(worker) == [JobResult(4, 2)]
        (process,) = multiprocessing.active_children()
        process.kill()
        process.join()
        worker.submit(6)
        assert all_results(worker) == [JobResult(6, 3)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failure", "job", "error", "why"),
    [
        ("raises", 2, UsageError, "no such model"),
        ("dies", 2, BulkError, "cannot start: its process died with status 3, 3 times"),
        ("well", -2, BulkError, "the disk is full"),
    ],
)
def test_what_is_no_jobs_fault_is_raised(failure: str, job: int, error: type[Exception], why: str) -> None:
    with closing(Worker(partial(prepare, failure))) as worker:
        worker.submit(job)
        with pytest.raises(error, match=why):
            all_results(worker)


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == 64
