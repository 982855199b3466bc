"""Runs in which processes really die: workers by a clip or by the system, the driver at any moment."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bulk_toys import ToyTask, clips_named, parts, rows_of, touched
from conftest import music
from mmmos.bulk.crew import LocalCrew
from mmmos.bulk.engine import Counts, run_shards
from mmmos.bulk.plan import committed, make_plan, read_plan
from mmmos.bulk.stores import Store, open_store
from mmmos.encoders import load_encoder
from mmmos.errors import BulkError
from mmmos.hub import About, Member, save_model
from mmmos.model import EncoderSpec, ModelConfig, QualityModel
from mmmos.scores import Scale

CLIPS, SHARD = 60, 4


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_clip_that_kills_its_worker_gets_a_row_and_costs_one_shard(tmp_path):
    store, log = open_store(tmp_path / "run"), tmp_path / "log"
    task = ToyTask(str(log))
    names = [*"abcdefghij", "kills", *"klmnop", "raises"]
    plan = make_plan(store, clips_named(*names), task.describe(), SHARD)
    with closing(LocalCrew(store, plan, task, 2)) as crew:
        counts = run_shards(store, plan, crew)
    calm = open_store(tmp_path / "calm")
    make_plan(calm, clips_named(*names), task.describe(), SHARD)
    with closing(LocalCrew(calm, plan, task, 1)) as crew:
        run_shards(calm, plan, crew)
    rows = {row["id"]: row["error_code"] for row in rows_of(store, plan)}
    assert rows == dict.fromkeys(rows) | {"10-kills": "worker_crashed", "17-raises": "scoring_failed"}
    assert len(rows) == len(names) == counts.clips
    assert parts(store, plan) == parts(calm, plan)
    times = Counter(touched(log))
    assert times["10-kills"] == 2 * 3  # once with its shard and twice alone, in both runs
    assert {clip for clip, count in times.items() if count > 2} <= {
        clip.id for shard in (2, 4) for clip in clips_named(*names)[SHARD * shard : SHARD * (shard + 1)]
    }


@pytest.mark.slow
def test_a_worker_that_the_system_kills_costs_at_most_its_shard(tmp_path):
    store, log = open_store(tmp_path / "run"), tmp_path / "log"
    task = ToyTask(str(log), seconds=0.02)
    plan = make_plan(store, clips_named(*["a"] * CLIPS), task.describe(), SHARD)
    killed: list[int] = []

    def kill_one(counts: Counts) -> None:
        if counts.shards >= 4 * (len(killed) + 1) and len(killed) < 2:
            process = int(log.read_text().split()[-1])
            if process not in killed:
                killed.append(process)
                os.kill(process, signal.SIGKILL)

    with closing(LocalCrew(store, plan, task, 2)) as crew:
        counts = run_shards(store, plan, crew, progress=kill_one)
    assert len(killed) == 2
    assert counts.clips == CLIPS == len(rows_of(store, plan))
    assert counts.errors == 0
    assert sum(Counter(touched(log)).values()) - CLIPS <= SHARD * len(killed)


@pytest.mark.parametrize(
    ("starts", "why"), [("raises", "RuntimeError: no such weights"), ("dies", "status -9, 3 times")]
)
def test_a_worker_that_cannot_start_is_no_clips_fault(tmp_path, starts, why):
    store = open_store(tmp_path)
    task = ToyTask(starts=starts)
    plan = make_plan(store, clips_named(*"abc"), task.describe(), SHARD)
    with closing(LocalCrew(store, plan, task, 1)) as crew, pytest.raises(BulkError, match=why):
        run_shards(store, plan, crew)
    assert store.names("_run/deaths") == []


def test_a_worker_that_hangs_ends_the_run_once_nothing_else_is_left(tmp_path):
    store = open_store(tmp_path)
    task = ToyTask()
    plan = make_plan(store, clips_named("hangs", "b", "c"), task.describe(), 1)
    with closing(LocalCrew(store, plan, task, 2)) as crew, pytest.raises(BulkError, match="no clip was finished"):
        run_shards(store, plan, crew, stall_s=2.0)
    assert sorted(committed(store)) == [1, 2] or sorted(committed(store)) == [1]  # one may have waited behind it


class Command:
    """`mmmos score` on the same list, again and again."""

    def __init__(self, folder: Path) -> None:
        torch.manual_seed(0)
        encoder = load_encoder("spectrum")
        spec = EncoderSpec("spectrum", encoder.columns, encoder.fingerprint(), encoder.settings())
        model = QualityModel(ModelConfig((spec,))).eval()
        save_model(folder / "model", Member(model, Scale((5.0,) * 4, (1.0,) * 4)), About(), "# toy\n")
        self.folder, self.list = folder, folder / "list.jsonl"
        self.started: list[subprocess.Popen[str]] = []
        soundfile.write(folder / "long.wav", np.tile(music(CLIPS, 44_100)[:, None], (1, 2)), 44_100)
        (folder / "empty.wav").write_bytes(b"")
        self.write_list(CLIPS)

    def write_list(self, clips: int) -> None:
        """Twenty seconds each, so that a shard takes a while."""
        rows = [{"id": f"clip {i}", "path": str(self.folder / "long.wav"), "start_time": i / 2} for i in range(clips)]
        rows = [row | {"end_time": row["start_time"] + 20} for row in rows]
        rows[7]["path"] = str(self.folder / "empty.wav")
        self.list.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(self, out: str, workers: int = 2) -> subprocess.Popen[str]:
        words = ["score", self.list, "-o", self.folder / out, "--workers", workers, "--shard-size", 2]
        words += ["--model", self.folder / "model"]
        started = subprocess.Popen(
            [sys.executable, "-m", "mmmos", *map(str, words)], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.started.append(started)
        return started

    def run(self, out: str, workers: int = 2) -> tuple[int, str]:
        process = self.start(out, workers)
        _, err = process.communicate(timeout=120)
        return process.returncode, err

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


def wait_for(store: Store, shards: int, process: subprocess.Popen[str]) -> None:
    """Until so many shards are published."""
    while len(store.names("_run/commits")) < shards:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


def children_of(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    with closing(Command(tmp_path)) as command:
        yield command


@pytest.mark.slow
def test_a_run_whose_driver_and_workers_are_killed_is_the_run_that_was_left_alone(tmp_path, command):
    assert command.run("calm", workers=1)[0] == 1  # one clip is empty
    store = open_store(tmp_path / "wild")
    kept: dict[str, int] = {}
    for number, how in enumerate((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)):
        process = command.start("wild")
        wait_for(store, len(store.names("_run/commits")) + 2, process)
        family = children_of(process.pid)
        if number == 2:
            process.send_signal(signal.SIGSTOP)  # so that it is still there when the other looks
            status, err = command.run("wild")
            assert (status, "another run is at work" in err) == (2, True)
            process.send_signal(signal.SIGCONT)
        time.sleep(random.uniform(0, 0.05))
        process.send_signal(how)
        err = process.communicate(timeout=60)[1]
        assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 128 + signal.SIGTERM), err
        until = time.monotonic() + 20
        while any(map(alive, family)) and time.monotonic() < until:
            time.sleep(0.01)
        assert not any(map(alive, family)), "workers end with their driver"
        now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "wild").glob("part-*")}
        assert now.items() >= kept.items(), "what was published is not done again"
        kept = {f"part-{shard:05d}.parquet": now[f"part-{shard:05d}.parquet"] for shard in committed(store)}
    command.write_list(CLIPS - 1)
    status, err = command.run("wild")
    assert (status, f"another list ({CLIPS} clips, now {CLIPS - 1})" in err) == (2, True)
    command.write_list(CLIPS)
    process = command.start("wild")
    wait_for(store, len(committed(store)) + 1, process)
    os.kill(max(children_of(process.pid)), signal.SIGKILL)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 1, err
    assert "59 ok, 1 errors" in err
    plan = read_plan(store)
    assert parts(store, plan) == parts(open_store(tmp_path / "calm"), plan)
    assert [row["id"] for row in rows_of(store, plan)] == [f"clip {i}" for i in range(CLIPS)]
    assert not list((tmp_path / "wild").rglob(".*.part"))
