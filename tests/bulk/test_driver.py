"""The driver: whatever dies, every clip gets one row, and the same one as in a run where nothing died."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmmos.audio.clip import Clip
from mmmos.bulk import workers as bulk_workers
from mmmos.bulk.commits import committed, part_name
from mmmos.bulk.driver import run_shards
from mmmos.bulk.plan import Plan, clips_of, list_name, make_plan
from mmmos.bulk.stores import Store, open_store
from mmmos.bulk.workers import IN_FLIGHT, Heartbeats, Job, Lists, Outcome, Running, work_on
from mmmos.cli import run_folder
from mmmos.cli.run_folder import RunOptions, run_in_folder
from mmmos.errors import AUDIO_ERROR_CODES, BulkError, UsageError
from mmmos.progress import Progress
from tests.bulk_toys import SCHEMA, DriverKilled, FakeWorkers, ToyTask, ToyWork, clips_named, parts, read_json, rows_of
from tests.recorded_progress import RecordedProgress

TASK = ToyTask()


def planned(store: Store, names: list[str], size: int = 3) -> Plan:
    return make_plan(store, clips_named(*names), TASK.describe(), size)


def expected(clip_id: str) -> str | None:
    for word, code in (("kills", "worker_crashed"), ("raises", "scoring_failed"), ("empty", "empty_file")):
        if word in clip_id:
            return code
    return None


NAMES = st.lists(st.sampled_from(["a", "b.wav", "empty", "kills", "raises"]), max_size=14)


@pytest.mark.slow
@given(
    names=NAMES,
    shard=st.integers(1, 5),
    size=st.integers(1, 4),
    seed=st.integers(0, 999),
    lives=st.lists(st.integers(0, 12), max_size=3),
)
@example(names=["kills"] * 9, shard=3, size=4, seed=0, lives=[2, 3])
def test_run_gives_every_clip_one_row(tmp_path_factory, names, shard, size, seed, lives):
    calm = open_store(tmp_path_factory.mktemp("calm"))
    wild = open_store(tmp_path_factory.mktemp("wild"))
    touched: Counter[str] = Counter()
    for store, drivers in ((calm, [None]), (wild, [*lives, None])):
        for number, left in enumerate(drivers):
            plan = planned(store, names, shard)
            unlucky = 0.0 if store is calm else 0.3
            workers = FakeWorkers(store, plan, size, seed + number, unlucky, left)
            try:
                counts = run_shards(store, plan, workers)
            except DriverKilled:
                continue
            finally:
                touched += workers.touched if store is wild else Counter()
                assert workers.most <= IN_FLIGHT * size
    assert parts(wild, plan) == parts(calm, plan)
    rows = rows_of(wild, plan)
    assert [(row["id"], row["error_code"]) for row in rows] == [
        (clip.id, expected(clip.id)) for clip in clips_named(*names)
    ]
    errors = sum(row["error_code"] is not None for row in rows)
    assert (counts.clips, counts.ok, counts.errors) == (len(rows), len(rows) - errors, errors)
    # Once with its shard, twice alone; a driver that is killed may forget its last failures.
    forgotten = 2 * (2 + IN_FLIGHT * size) * len(lives)
    assert all(touched[row["id"]] <= 3 + forgotten for row in rows if expected(row["id"]) == "worker_crashed")


def test_run_gives_up_a_clip_for_later_drivers_too(tmp_path):
    store = open_store(tmp_path)
    plan = planned(store, ["a", "b", "kills", "c", "raises"])
    counts = run_shards(store, plan, FakeWorkers(store, plan, 1))
    rows = {row["id"]: row for row in rows_of(store, plan)}
    assert rows["2-kills"]["error_message"] == AUDIO_ERROR_CODES["worker_crashed"]
    assert rows["4-raises"]["error_message"] == "scoring raised an error, twice: ValueError: a bad clip"
    assert (counts.ok, counts.errors, counts.failures) == (3, 2, 6)
    died = ["worker_crashed", "its process died with status -9"]
    assert read_json(store, "_run/deaths/00000.json") == {"attempts": 1, "clips": {"2": [died, died]}}
    store.remove(part_name(0))
    store.remove(part_name(1))
    again = FakeWorkers(store, plan, 1)
    assert run_shards(store, plan, again).errors == 2
    assert set(again.touched) == {"0-a", "1-b", "3-c"}


def test_run_processes_unfinished_shards_only(tmp_path):
    store = open_store(tmp_path)
    plan = planned(store, list("abcdefgh"))
    with pytest.raises(DriverKilled):
        run_shards(store, plan, FakeWorkers(store, plan, 1, lives=2))
    done = set(committed(store))
    progress, rest = RecordedProgress(), FakeWorkers(store, plan, 1)
    counts = run_shards(store, plan, rest, progress=progress, stage="encoding")
    assert len(done) == 2
    assert rest.touched == Counter(clip.id for shard in set(range(3)) - done for clip in clips_of(store, plan, shard))
    before = sum(plan.rows(shard) for shard in done)
    assert progress.stages == [("encoding", 8, "clips", before)]
    assert [update[0] for update in progress.updates] == [before, 8]
    assert (counts.shards, counts.clips, counts.new_clips) == (3, 8, 8 - before)


def test_run_of_an_empty_list(tmp_path):
    store = open_store(tmp_path)
    plan = planned(store, [])
    assert run_shards(store, plan, FakeWorkers(store, plan)).clips == 0


class Clock:
    """The driver's time: it passes only while workers are waited for."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("mmmos.bulk.driver.time", clock)
    return clock


class TimedWorkers(FakeWorkers):
    """Workers that advance the clock instead of waiting."""

    def __init__(self, store: Store, plan: Plan, clock: Clock, size: int = 2) -> None:
        super().__init__(store, plan, size)
        self.clock = clock


class DeafWorkers(TimedWorkers):
    """Never ends a job; for `alive` waits it finishes windows, or with `clips` clips of its shard."""

    alive = 0
    clips = False

    def wait(self, seconds: float) -> list[Outcome]:
        self.alive -= 1
        self.clock.now += seconds
        return []

    def running(self) -> list[Running]:
        done = -max(self.alive, 0)
        return [Running(job, done, 0) if self.clips else Running(job, 0, done) for job in self.waiting]


@pytest.mark.parametrize("clips", [True, False])
def test_run_shards_gives_up_when_no_window_is_finished(tmp_path, clock, clips):
    store = open_store(tmp_path)
    plan = planned(store, list("abc"))
    workers = DeafWorkers(store, plan, clock)
    workers.alive, workers.clips = 1000, clips
    with pytest.raises(BulkError, match=r"no window of audio was finished.*same command"):
        run_shards(store, plan, workers, stall_s=60.0)
    assert workers.alive < 0, "windows show that workers are alive"
    assert run_shards(store, plan, FakeWorkers(store, plan)).clips == 3


class BusyWorkers(FakeWorkers):
    """Reports a clip of its shard and two windows of the next at each wait, and ends the job at last."""

    waits = 0

    def wait(self, seconds: float) -> list[Outcome]:
        self.waits += 1
        return super().wait(seconds) if self.waits > 2 else []

    def running(self) -> list[Running]:
        return [Running(job, self.waits, 2) for job in self.waiting]


def test_run_shards_counts_clips_of_shards_in_progress(tmp_path):
    store = open_store(tmp_path)
    plan = planned(store, list("abc"))
    progress = RecordedProgress()
    counts = run_shards(store, plan, BusyWorkers(store, plan, 1), progress=progress)
    assert progress.updates == [(0, 0, ""), (1, 2, ""), (2, 2, ""), (3, 0, "")]
    assert (counts.clips, counts.unpublished, counts.windows) == (3, 0, 0)


class HangingWorkers(TimedWorkers):
    """A job on a clip that hangs never ends."""

    def wait(self, seconds: float) -> list[Outcome]:
        hung = [job for job in self.waiting if self.hangs(job)]
        self.waiting = deque(job for job in self.waiting if not self.hangs(job))
        outcomes = super().wait(seconds)
        self.waiting.extend(hung)
        self.clock.now += 0.0 if outcomes else seconds
        return outcomes

    def hangs(self, job: Job) -> bool:
        clips = clips_of(self.store, self.plan, job.shard)
        return not job.error and any("hangs" in clip.id for clip in (clips if job.clip is None else [clips[job.clip]]))

    def running(self) -> list[Running]:
        return [Running(job) for job in self.waiting if self.hangs(job)]


@pytest.mark.slow
def test_run_gives_up_a_clip_that_hangs(tmp_path, clock):
    store = open_store(tmp_path)
    plan = planned(store, ["a", "b", "hangs", "c", "d", "e", "f"])
    for _ in range(3):  # with its shard, and twice alone
        with pytest.raises(BulkError, match="no window of audio was finished"):
            run_shards(store, plan, HangingWorkers(store, plan, clock), stall_s=60.0)
        assert store.names("_run/deaths") == ["00000.json"]
    counts = run_shards(store, plan, HangingWorkers(store, plan, clock))
    assert (counts.ok, counts.errors) == (6, 1)
    row = rows_of(store, plan)[2]
    assert (row["id"], row["error_code"]) == ("2-hangs", "worker_hung")
    assert re.fullmatch(
        f"{AUDIO_ERROR_CODES['worker_hung']}: no window of audio was finished for .* minutes", row["error_message"]
    )


class IdleWorkers(DeafWorkers):
    """Hangs on its first job; the second waits behind it."""

    def running(self) -> list[Running]:
        return [Running(job) for job in list(self.waiting)[:1]]


def test_run_blames_only_the_shard_that_hangs(tmp_path, clock):
    store = open_store(tmp_path)
    plan = planned(store, list("abcdef"))
    with pytest.raises(BulkError, match="no window of audio was finished"):
        run_shards(store, plan, IdleWorkers(store, plan, clock, size=1), stall_s=60.0)
    assert store.names("_run/deaths") == ["00000.json"]


@pytest.mark.slow
def test_run_ends_after_many_failures_in_a_row(tmp_path):
    store = open_store(tmp_path)
    names = ["kills"] * 40
    plan = planned(store, names, 40)
    with pytest.raises(BulkError, match=r"one clip after another.*status -9"):
        run_shards(store, plan, FakeWorkers(store, plan, 1))
    with pytest.raises(BulkError):  # each call gives up some of them
        run_shards(store, plan, FakeWorkers(store, plan, 1))
    for _ in range(8):
        try:
            assert run_shards(store, plan, FakeWorkers(store, plan, 1)).errors == 40
            break
        except BulkError:
            continue
    assert {row["error_code"] for row in rows_of(store, plan)} == {"worker_crashed"}


def test_run_blames_no_clip_for_a_damaged_list(tmp_path):
    store = open_store(tmp_path)
    plan = planned(store, list("abc"))
    for damaged in (None, b"", b"PAR1 and so on"):
        store.remove(list_name(0)) if damaged is None else store.publish(list_name(0), damaged)
        with pytest.raises(BulkError, match=r"list of clips is damaged, _run/clips-00000\.parquet: .*again"):
            run_shards(store, plan, FakeWorkers(store, plan, 1))
        assert store.names("_run/deaths") == []
    assert run_shards(store, planned(store, list("abc")), FakeWorkers(store, plan, 1)).ok == 3


def test_lists_are_read_once_per_shard(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    plan = planned(store, list("abcdef"))
    reads: list[int] = []
    monkeypatch.setattr(bulk_workers, "clips_of", lambda *of: reads.append(of[2]) or clips_of(*of))
    lists, work = Lists(store, plan), TASK.start()
    for shard, clip in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        assert work_on(store, plan, work, Job(shard, clip), lists=lists).rows == 1
    assert reads == [0, 1]


def test_heartbeats_count_clips_and_the_windows_of_the_next(monkeypatch):
    monkeypatch.setattr(bulk_workers, "HEARTBEAT_SECONDS", 0.0)
    sent: list[Running] = []
    heartbeats = Heartbeats(sent.append)
    heartbeats.begin(Job(3))
    for event in "wwaww":
        heartbeats.windows() if event == "w" else heartbeats.advance()
    assert [(item.clips, item.windows) for item in sent] == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    heartbeats.begin(Job(4))
    assert heartbeats.running == Running(Job(4), 0, 0)


class NamedWork(ToyWork):
    schema = SCHEMA.append(pyarrow.field("model", pyarrow.string()))

    def rows(self, clips: Sequence[Clip], progress: Progress) -> Iterator[dict[str, Any]]:
        return (row | {"model": "./toy"} for row in super().rows(clips, progress))

    def child_bytes(self) -> int:
        return 1 << 40


def test_rows_have_the_plans_model_and_memory_of_all_processes(tmp_path):
    store = open_store(tmp_path)
    plan = planned(store, ["a", "empty"])
    result = work_on(store, plan, NamedWork(TASK), Job(0))
    work_on(store, plan, NamedWork(TASK), Job(0))
    assert [row["model"] for row in rows_of(store, plan)] == ["toy", "toy"]
    assert result.peak_bytes > 1 << 40


def test_work_on_refuses_work_that_skips_a_clip(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    plan = planned(store, list("abc"))
    work = TASK.start()
    monkeypatch.setattr(work, "rows", lambda clips, progress: iter([]))
    with pytest.raises(ValueError, match="3 clips gave 0 rows"):
        work_on(store, plan, work, Job(0))
    assert committed(store) == {}


@pytest.mark.parametrize(
    ("clips", "workers", "warning"),
    [
        (3, 2, "1 shard for 2 workers, so 1 has nothing to do"),
        (6, 5, "2 shards for 5 workers, so 3 have nothing to do"),
        (6, 2, ""),
        (0, 2, ""),
    ],
)
def test_run_warns_of_idle_workers_while_it_helps(tmp_path, monkeypatch, caplog, clips, workers, warning):
    monkeypatch.setattr(
        run_folder, "_start_workers", lambda store, plan, task, options: FakeWorkers(store, plan, workers)
    )
    lines = []
    for size in (3, None):  # the second command resumes with the same size, and does not warn
        options = RunOptions(workers, None, size, 30.0)
        assert run_in_folder(f"{tmp_path}/run", clips_named(*["a"] * clips), TASK, options, "scoring").ok == clips
        lines.append(" ".join(caplog.messages))
        caplog.clear()
    assert lines[0].startswith(warning)
    assert ("another folder and a smaller --shard-size" in lines[0]) == bool(warning)
    assert "nothing to do" not in lines[1]


@pytest.mark.parametrize("below", ["", "/", "/run/"])
def test_run_refuses_a_file_in_place_of_a_folder(tmp_path, below):
    (tmp_path / "afile").write_text("mine")
    with pytest.raises(UsageError, match="afile is a file; name a folder"):
        run_in_folder(f"{tmp_path}/afile{below}", clips_named("a"), TASK, RunOptions(2, None, None, 30.0), "scoring")
    assert (tmp_path / "afile").read_text() == "mine"
