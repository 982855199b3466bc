"""Work on a Ray cluster: machines and drivers are killed, and the rows are those of one process that nothing befell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmmos.audio.clip import Clip
from mmmos.bulk import driver, ray_workers
from mmmos.bulk.commits import committed, part_name
from mmmos.bulk.driver import Counts, run_shards
from mmmos.bulk.plan import Plan, make_plan
from mmmos.bulk.ray_cluster import OBJECT_BYTES, reach
from mmmos.bulk.ray_workers import RayWorkers
from mmmos.bulk.stores import LocalStore, Store, open_store
from mmmos.bulk.tasks import ScoreTask
from mmmos.bulk.workers import Job, work_on
from mmmos.errors import BulkError, MissingExtraError, UsageError
from mmmos.progress import NoProgress
from tests.bulk_toys import (
    FakeWorkers,
    HungTime,
    ToyTask,
    WindowWatch,
    clips_named,
    parts,
    rows_of,
    tiny_model,
    touched,
)

NOBODY = "127.0.0.1:1"
"""An address at which nothing answers."""


def waited_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true thing that `what` gives."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)
    return found


class Machines:
    """A cluster of two machines on one, each of two CPU slots."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        health_checks = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 300,
            "health_check_failure_threshold": 3,
        }
        options = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": OBJECT_BYTES}
        self.cluster = Cluster(initialize_head=True, head_node_args=options | {"_system_config": health_checks})
        self.address: str = self.cluster.address
        self.head = self.cluster.head_node
        self.others: list[Any] = []
        self.add()

    def add(self) -> None:
        node = self.cluster.add_node(num_cpus=2, object_store_memory=OBJECT_BYTES)
        self.others.append(node)

    def kill(self) -> None:
        """Take the newest machine away, as a power cut does."""
        self.cluster.remove_node(self.others.pop(), allow_graceful=False)

    def workers(self, *nodes: Any) -> set[int]:
        """The processes of actors on these machines, or on all."""
        homes = {node.all_processes["raylet"][0].process.pid for node in nodes or (self.head, *self.others)}
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended
                name, parent = (path / "cmdline").read_bytes(), (path / "stat").read_text().split(") ")[-1].split()[1]
                if name.startswith(b"ray::RayActor") and int(parent) in homes:
                    found.add(int(path.name))
        return found


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        found = Machines()
        yield found
        found.cluster.shutdown()


@pytest.fixture(autouse=True)
def _no_long_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(ray_workers, "RESIZE_SECONDS", 0.2)


def run(store: Store, plan: Plan, task: Any, address: str, workers: int | None = None, **options: Any) -> Counts:
    with closing(RayWorkers(store, plan, task, address, workers)) as workers:
        return run_shards(store, plan, workers, **options)


@pytest.mark.slow
def test_two_machines_publish_what_one_process_does(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(driver, "MAX_ATTEMPTS", 1)
    names = [*"abcdefgh", "kills", "empty", "raises", *"ijk"]
    task, stores = ToyTask(), [open_store(tmp_path / name) for name in ("ray", "here")]
    for store in stores:
        plan = make_plan(store, clips_named(*names), task.describe(), 3)
    counts = run(stores[0], plan, task, machines.address, 2)
    assert run_shards(stores[1], plan, FakeWorkers(stores[1], plan)).failures == counts.failures
    assert parts(stores[0], plan) == parts(stores[1], plan)
    assert [row["id"] for row in rows_of(stores[0], plan)] == [clip.id for clip in clips_named(*names)]
    assert (counts.ok, counts.errors) == (len(names) - 3, 3)


@pytest.mark.slow
def test_ray_workers_follow_machines_that_leave_and_join(machines: Machines, tmp_path: Path):
    store, log, no_longer = open_store(tmp_path / "run"), tmp_path / "log", tmp_path / "joined"
    log.touch()
    task = ToyTask(log=str(log), seconds=0.3, until=str(no_longer))
    clips = clips_named(*["a"] * 60)
    plan = make_plan(store, clips, task.describe(), 2)

    class Killer(NoProgress):
        """Kills the newest machine when it is at work."""

        killed = False

        def update(self, done: float, windows: int = 0, detail: str = "") -> None:
            at_work = {int(line.split()[1]) for line in log.read_text().splitlines()}
            if not at_work & machines.workers(machines.others[-1]):
                return
            if self.killed:
                no_longer.touch()  # the one that has joined is at work
            else:
                self.killed = True
                machines.kill()
                machines.add()

    counts = run(store, plan, task, machines.address, progress=Killer())
    assert (no_longer.exists(), counts.ok) == (True, 60)
    assert [row["id"] for row in rows_of(store, plan)] == [clip.id for clip in clips]
    times = Counter(touched(log))
    assert 1 <= counts.failures <= 2  # a machine has two slots
    assert sum(times.values()) <= 60 + plan.shard_size * counts.failures


@pytest.mark.slow
def test_ray_worker_answers_with_windows_of_a_clip_in_progress(machines: Machines, tmp_path: Path):
    """By which the driver knows that it does not hang (test_driver.py)."""
    store, seen = open_store(tmp_path / "run"), tmp_path / "seen"
    task = ToyTask(seconds=6000.0, until=str(seen), windows=60_000)
    plan = make_plan(store, clips_named("long"), task.describe())
    with closing(RayWorkers(store, plan, task, machines.address, 1, heartbeat_seconds=0.1)) as workers:
        counts = run_shards(store, plan, workers, progress=WindowWatch(seen), stall_s=600.0)
    assert (counts.ok, counts.failures) == (1, 0)


@pytest.mark.slow
def test_hung_ray_worker_ends_the_run(machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store, task = open_store(tmp_path), ToyTask()
    plan = make_plan(store, clips_named("hangs"), task.describe())
    with closing(RayWorkers(store, plan, task, machines.address, 1, heartbeat_seconds=0.1)) as workers:
        monkeypatch.setattr(driver, "time", HungTime(workers))
        with pytest.raises(BulkError, match="no window of audio was finished"):
            run_shards(store, plan, workers, stall_s=0.1)
    assert store.names("_run/deaths") == ["00000.json"]


def start(*words: object) -> subprocess.Popen[bytes]:
    call = [sys.executable, "-m", "mmmos", *map(str, words)]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_killed_driver_ends_its_workers_and_the_run_resumes(
    machines: Machines, make_file: Callable[..., Path], tmp_path: Path
):
    model, audio, listed = tiny_model(tmp_path / "model"), make_file("a.wav", seconds=3.0), tmp_path / "list.jsonl"
    clips = [Clip(f"{i}", str(audio), i / 20, i / 20 + 0.5) for i in range(24)]
    stuck = tmp_path / "b.wav"
    clips[9] = replace(clips[9], path=str(stuck))
    os.mkfifo(stuck)  # the first run hangs there
    keys = ("id", "path", "start_time", "end_time")
    listed.write_text("".join(json.dumps({key: getattr(clip, key) for key in keys}) + "\n" for clip in clips))
    folder = tmp_path / "run"
    words = ("score", listed, "-o", f"{folder}/", "--model", model, "--shard-size", 2, "--workers", 1, "--ray")
    process, store = start(*words, machines.address), LocalStore(str(folder))
    waited_for(lambda: len(store.names("_run/commits")) == 4)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    waited_for(lambda: not machines.workers())
    done = {name: os.stat(folder / name).st_mtime_ns for name in map(part_name, committed(store))}
    assert len(done) == 4

    stuck.unlink()
    stuck.symlink_to(audio)
    process = start(*words, "local")  # another process: Ray starts no cluster where one was connected to
    out, err = process.communicate(timeout=180)
    assert (process.returncode, out) == (0, b""), err
    assert {name: os.stat(folder / name).st_mtime_ns for name in done} == done
    task, alone = ScoreTask(str(model)), open_store(tmp_path / "alone")
    plan = make_plan(alone, clips, task.describe(), 2)
    work = task.start()
    for shard in range(plan.shards):
        work_on(alone, plan, work, Job(shard))
    work.close()
    assert parts(store, plan) == parts(alone, plan)
    assert [row["id"] for row in rows_of(store, plan)] == [clip.id for clip in clips]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "said"),
    [
        (ToyTask(starts="raises"), "a worker cannot start: RuntimeError: no such weights"),
        (ToyTask(starts="dies"), "2 workers ended while they started"),
    ],
)
def test_workers_that_cannot_start_end_the_run(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: ToyTask, said: str
):
    monkeypatch.setattr(ray_workers, "MAX_FAILED_STARTS", 2)
    store = open_store(tmp_path)
    plan = make_plan(store, clips_named("a"), task.describe())
    with pytest.raises(BulkError, match=said):
        run(store, plan, task, machines.address)


@pytest.mark.slow
def test_ray_workers_report_a_cluster_that_cannot_work(
    machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    store, task = open_store(tmp_path), ToyTask()
    plan = make_plan(store, clips_named("a"), task.describe())
    wants_gpu = replace(plan, task=plan.task | {"settings": {"device": "cuda"}})
    with (
        pytest.raises(BulkError, match=r"no worker has started .* 0 of 0 GPUs free\); one takes 1 CPU and a GPU"),
        closing(RayWorkers(store, wants_gpu, task, machines.address, start_seconds=0.1)) as workers,
    ):
        run_shards(store, wants_gpu, workers)
    with closing(RayWorkers(store, plan, ToyTask(seconds=600), machines.address, 1)) as workers:
        monkeypatch.setattr(ray_workers, "HEAD_SECONDS", 0)
        monkeypatch.setattr(ray_workers, "reach", lambda address: reach(NOBODY))
        with pytest.raises(
            BulkError, match=f"the head of the Ray cluster at {machines.address} is unreachable: .*refused"
        ):
            run_shards(store, plan, workers)
    monkeypatch.undo()
    other = replace(plan, task=plan.task | {"model_sha256": "1" * 64})
    with pytest.raises(UsageError, match=r"has model_sha256 0000.*, the driver 1111.*"):
        run(store, other, task, machines.address)


@pytest.mark.slow
def test_ray_workers_refuse_an_address_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store, task = open_store(tmp_path), ToyTask()
    plan = make_plan(store, clips_named("a"), task.describe())
    with pytest.raises(BulkError, match=f"no Ray cluster answers at {NOBODY}"):
        RayWorkers(store, plan, task, NOBODY)
    for wrong in ("nonsense", "ray://127.0.0.1:1", "127.0.0.1:http"):
        with pytest.raises(UsageError, match="give local, auto or HOST:PORT"):
            RayWorkers(store, plan, task, wrong)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mmmos\[ray\]'"):
        RayWorkers(store, plan, task, "local")
