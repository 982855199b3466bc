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
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmmos.bulk import driver
from mmmos.bulk.commits import committed
from mmmos.bulk.driver import run_shards
from mmmos.bulk.plan import make_plan, read_plan
from mmmos.bulk.stores import Store, open_store
from mmmos.bulk.workers import LocalWorkers
from mmmos.errors import BulkError
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
from tests.sounds import music

CLIPS, SHARD = 60, 4

LISTED = 20
"""Clips of a run that is killed as a command, two to a shard."""

STUCK = (5, 6), tuple(range(8, LISTED, 2))
"""Those whose decoder hangs: of the third and fourth shard in the first run, of all that follow in the second."""

WORKERS = 2


@pytest.fixture(autouse=True)
def _no_long_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "POLL_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_clip_that_kills_its_worker_gets_a_row(tmp_path):
    store, log = open_store(tmp_path / "run"), tmp_path / "log"
    task = ToyTask(str(log))
    names = [*"abcdefghij", "kills", *"klmnop", "raises"]
    plan = make_plan(store, clips_named(*names), task.describe(), SHARD)
    with closing(LocalWorkers(store, plan, task, 2)) as workers:
        counts = run_shards(store, plan, workers)
    calm = open_store(tmp_path / "calm")
    make_plan(calm, clips_named(*names), task.describe(), SHARD)
    run_shards(calm, plan, FakeWorkers(calm, plan))
    rows = {row["id"]: row["error_code"] for row in rows_of(store, plan)}
    assert rows == dict.fromkeys(rows) | {"10-kills": "worker_crashed", "17-raises": "scoring_failed"}
    assert len(rows) == len(names) == counts.clips
    assert parts(store, plan) == parts(calm, plan)
    times = Counter(touched(log))
    assert times["10-kills"] == 3  # once with its shard and twice alone
    assert {clip for clip, count in times.items() if count > 1} <= {
        clip.id for shard in (2, 4) for clip in clips_named(*names)[SHARD * shard : SHARD * (shard + 1)]
    }


@pytest.mark.slow
def test_a_worker_that_the_system_kills_costs_at_most_its_shard(tmp_path):
    store, log = open_store(tmp_path / "run"), tmp_path / "log"
    task = ToyTask(str(log), seconds=0.02)
    plan = make_plan(store, clips_named(*["a"] * CLIPS), task.describe(), SHARD)
    killed: list[int] = []

    class Killer(NoProgress):
        def update(self, done: float, windows: int = 0, detail: str = "") -> None:
            if done >= 4 * SHARD * (len(killed) + 1) and len(killed) < 2:
                process = int(log.read_text().split()[-1])
                if process not in killed:
                    killed.append(process)
                    os.kill(process, signal.SIGKILL)

    with closing(LocalWorkers(store, plan, task, 2)) as workers:
        counts = run_shards(store, plan, workers, progress=Killer())
    assert len(killed) == 2
    assert counts.clips == CLIPS == len(rows_of(store, plan))
    assert counts.errors == 0
    assert sum(Counter(touched(log)).values()) - CLIPS <= SHARD * len(killed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("starts", "why"), [("raises", "RuntimeError: no such weights"), ("dies", "status -9, 3 times")]
)
def test_a_worker_that_cannot_start_is_no_clips_fault(tmp_path, starts, why):
    store = open_store(tmp_path)
    task = ToyTask(starts=starts)
    plan = make_plan(store, clips_named(*"abc"), task.describe(), SHARD)
    with closing(LocalWorkers(store, plan, task, 1)) as workers, pytest.raises(BulkError, match=why):
        run_shards(store, plan, workers)
    assert store.names("_run/deaths") == []


@pytest.mark.slow
def test_hanging_worker_ends_the_run_at_last(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    task = ToyTask()
    plan = make_plan(store, clips_named("hangs", "b", "c"), task.describe(), 1)
    with closing(LocalWorkers(store, plan, task, 2)) as workers:
        monkeypatch.setattr(driver, "time", HungTime(workers))
        with pytest.raises(BulkError, match="no window of audio was finished"):
            run_shards(store, plan, workers, stall_s=0.1)
    assert set(committed(store)) <= {1, 2}  # one may have waited behind it, on a busy machine both
    assert store.names("_run/deaths") == ["00000.json"]  # which is not held against that one


@pytest.mark.slow
def test_worker_sends_windows_of_a_clip_in_progress(tmp_path):
    """By which the driver knows that it does not hang (test_driver.py)."""
    store, seen = open_store(tmp_path / "run"), tmp_path / "seen"
    task = ToyTask(seconds=6000.0, until=str(seen), windows=60_000)
    plan = make_plan(store, clips_named("long"), task.describe())
    with closing(LocalWorkers(store, plan, task, 1)) as workers:
        counts = run_shards(store, plan, workers, progress=WindowWatch(seen), stall_s=600.0)
    assert (counts.ok, counts.failures) == (1, 0)


class Command:
    """`mmmos score` on the same list, again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.list = folder, folder / "list.jsonl"
        self.model = tiny_model(folder / "model")
        self.started: list[subprocess.Popen[str]] = []
        for path in (folder / "all.wav", *map(self.path, (*STUCK[0], *STUCK[1]))):
            soundfile.write(path, np.tile(music(10, 44_100)[:, None], (1, 2)), 44_100)
        (folder / "empty.wav").write_bytes(b"")
        self.write_list(LISTED)

    def path(self, clip: int) -> Path:
        return self.folder / f"{clip}.wav"

    def write_list(self, clips: int) -> None:
        """Half a second each."""
        rows = [{"id": f"clip {i}", "path": str(self.folder / "all.wav"), "start_time": i / 4} for i in range(clips)]
        rows = [row | {"end_time": row["start_time"] + 0.5} for row in rows]
        for clip in (*STUCK[0], *STUCK[1]):
            rows[clip]["path"] = str(self.path(clip))
        rows[7]["path"] = str(self.folder / "empty.wav")
        self.list.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def words(self, out: str, workers: int = 1) -> list[object]:
        words: list[object] = ["score", self.list, "-o", f"{self.folder / out}/", "--workers", workers]
        words += ["--shard-size", 2]
        return [*words, "--model", self.model]

    def start(self, out: str) -> subprocess.Popen[str]:
        """In a process that may be killed."""
        call = [sys.executable, "-m", "mmmos", *map(str, self.words(out, workers=WORKERS))]
        self.started.append(subprocess.Popen(call, stderr=subprocess.PIPE, text=True, start_new_session=True))
        return self.started[-1]

    @contextmanager
    def stuck(self, *clips: int) -> Iterator[Callable[[], None]]:
        """The decoders of these clips hang meanwhile. Gives a function that waits until each worker has such a clip."""
        writers: dict[int, int] = {}
        for clip in clips:
            self.path(clip).rename(self.folder / f"{clip}.away")
            os.mkfifo(self.path(clip))

        def wait() -> None:
            while len(writers) < WORKERS:
                for clip in set(clips) - set(writers):
                    with suppress(OSError):  # nobody reads yet
                        writers[clip] = os.open(self.path(clip), os.O_WRONLY | os.O_NONBLOCK)
                time.sleep(0.005)

        yield wait
        for clip in clips:
            (self.folder / f"{clip}.away").rename(self.path(clip))
        for writer in writers.values():
            os.close(writer)

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


def wait_for(store: Store, names: str, count: int, process: subprocess.Popen[str]) -> None:
    """Until there are so many names in the store."""
    while len(store.names(names)) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


def children_of(process: int) -> list[int]:
    return [int(word) for path in Path(f"/proc/{process}/task").glob("*/children") for word in path.read_text().split()]


def workers_of(process: int) -> list[int]:
    """The workers, which one child of the process starts."""
    return [worker for child in children_of(process) for worker in children_of(child)]


def family_of(process: int) -> list[int]:
    """The workers with what starts them, and their decoders."""
    return [member for child in children_of(process) for member in (child, *family_of(child))]


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
def test_killed_run_resumes_to_the_same_rows(
    tmp_path: Path, command: Command, run_mmmos: Callable[..., tuple[int, str, str]]
) -> None:
    assert run_mmmos(*command.words("calm"))[0] == 1  # one clip is empty
    store = open_store(tmp_path / "wild")
    kept: dict[str, int] = {}
    for stop, clips in zip((signal.SIGKILL, signal.SIGTERM), STUCK, strict=True):
        with command.stuck(*clips) as wait_until_stuck:
            process = command.start("wild")
            wait_for(store, "_run/commits", len(kept) + 1, process)
            if stop == signal.SIGTERM:
                wait_until_stuck()
                os.kill(max(workers_of(process.pid)), signal.SIGKILL)  # which is replaced
                wait_for(store, "_run/deaths", 1, process)
            family = family_of(process.pid)
            assert len(family) >= 4
            if stop == signal.SIGTERM:
                process.send_signal(signal.SIGSTOP)  # so that it is still there when the other looks
                status, _, err = run_mmmos(*command.words("wild"))
                assert (status, "another run uses this folder" in err) == (2, True)
                process.send_signal(signal.SIGCONT)
            time.sleep(random.uniform(0, 0.05))
            process.send_signal(stop)
            err = process.communicate(timeout=180)[1]
            assert process.returncode == (-signal.SIGKILL if stop == signal.SIGKILL else 128 + signal.SIGTERM), err
            until = time.monotonic() + 60
            while any(map(alive, family)) and time.monotonic() < until:
                time.sleep(0.01)
            assert not any(map(alive, family)), "workers and decoders end with their driver"
        now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "wild").glob("part-*")}
        assert now.items() >= kept.items(), "what was published is not done again"
        kept = {f"part-{shard:05d}.parquet": now[f"part-{shard:05d}.parquet"] for shard in committed(store)}
        assert len(kept) < LISTED // 2
    command.write_list(LISTED - 1)
    status, _, err = run_mmmos(*command.words("wild"))
    assert (status, f"another list ({LISTED} clips, now {LISTED - 1})" in " ".join(err.split())) == (2, True)
    command.write_list(LISTED)
    status, _, err = run_mmmos(*command.words("wild"))
    assert (status, f"{LISTED - 1} ok, 1 error," in " ".join(err.split())) == (1, True)
    plan = read_plan(store)
    assert parts(store, plan) == parts(open_store(tmp_path / "calm"), plan)
    assert [row["id"] for row in rows_of(store, plan)] == [f"clip {i}" for i in range(LISTED)]
    store.remove_stale(0)  # what was half written as its process was killed, of which no reader knows
    assert not list((tmp_path / "wild").rglob(".*.part"))
