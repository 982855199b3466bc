"""Jobs in processes: each is done once, and what fails or dies is told and costs no other job."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmmos.pool import run_in_processes

DEATHS = {"exits": "its process died with status 9", "is killed": f"its process died with status {-signal.SIGKILL}"}


def work(job: str, folder: Path) -> None:
    """Note that the job was begun; then do what its name says."""
    with open(folder / "begun", "a") as file:
        file.write(f"{job},{os.getpid()},{torch.get_num_threads()}\n")
    if "fails" in job:
        raise ValueError(job)
    if "exits" in job:
        os._exit(9)
    if "is killed" in job:
        os.kill(os.getpid(), signal.SIGKILL)


def begun(folder: Path) -> list[list[str]]:
    return [line.split(",") for line in (folder / "begun").read_text().splitlines()]


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_every_job_is_done_once_and_what_fails_or_dies_costs_no_other(tmp_path: Path) -> None:
    jobs = ["fails", "a", "exits", "b", "c", "is killed", "d"]
    over = dict(run_in_processes(work, jobs, tmp_path, workers=2))
    assert over == dict.fromkeys("abcd") | {"fails": "ValueError: fails"} | DEATHS
    found = begun(tmp_path)
    assert sorted(job for job, _, _ in found) == sorted(jobs)
    assert {threads for _, _, threads in found} == {"1"}  # as with any number of workers
    assert len({process for _, process, _ in found}) > len(DEATHS)  # those that died were replaced
    assert str(os.getpid()) not in {process for _, process, _ in found}


def test_one_worker_does_the_jobs_in_their_order(tmp_path: Path) -> None:
    assert list(run_in_processes(work, ["c", "a", "b"], tmp_path, workers=1)) == [("c", None), ("a", None), ("b", None)]
    assert [job for job, _, _ in begun(tmp_path)] == ["c", "a", "b"]


def test_no_jobs_take_no_process(tmp_path: Path) -> None:
    assert list(run_in_processes(work, [], tmp_path, workers=2)) == []
    assert not (tmp_path / "begun").exists()


def test_there_are_no_more_processes_than_jobs_and_none_once_it_is_closed(tmp_path: Path) -> None:
    running = run_in_processes(work, ["a", "b"], tmp_path, workers=8)
    next(running)
    assert len(multiprocessing.active_children()) == 2
    running.close()
    assert multiprocessing.active_children() == []


def test_what_a_process_cannot_be_given_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="pickle"):
        list(run_in_processes(work, ["a", "b"], lambda: None, workers=2))
