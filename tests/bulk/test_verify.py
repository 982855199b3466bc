"""Damage of every kind is found and named, and one file of all parts is what a run without parts would have written."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from mmmos.audio.clip import Clip
from mmmos.bulk.commits import commit_name, committed, part_name, publish_part
from mmmos.bulk.plan import Plan, clips_of, make_plan
from mmmos.bulk.stores import LocalStore, Store, open_store
from mmmos.bulk.verify import merge, verify
from mmmos.bulk.workers import Job, work_on
from mmmos.errors import BulkError, UsageError
from mmmos.inference.rows import open_rows, table_row, table_schema
from mmmos.progress import Progress
from mmmos.scores import AXES, ClipError, Provenance, Scores
from tests.bulk_toys import ToyTask, ToyWork, clips_named
from tests.recorded_progress import RecordedProgress

TOY = ToyTask()
NAMES = ("a", "b", "c", "empty", "d", "e", "b")


def whole(store: Store, clips: Sequence[Clip] = (), shard_size: int = 2, done: Sequence[int] | None = None) -> Plan:
    """A run of toys of which the shards that are named are done, or all."""
    plan = make_plan(store, clips or clips_named(*NAMES), TOY.describe(), shard_size)
    for shard in range(plan.shards) if done is None else done:
        work_on(store, plan, TOY.start(), Job(shard))
    return plan


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "run")


def faults(store: Store) -> list[str]:
    return list(verify(store).faults)


# ── verify


@pytest.mark.parametrize("shard_size", [1, 2, 7, 100])
def test_a_whole_run_is_whole(store: Store, shard_size: int):
    plan = whole(store, shard_size=shard_size)
    events = RecordedProgress()
    found = verify(store, events)
    assert found.faults == []
    assert (found.clips, found.shards, found.done, found.ok, found.errors) == (7, plan.shards, plan.shards, 6, 1)
    assert events.total_clips == plan.shards


def test_a_run_of_no_clips_is_whole(store: Store):
    make_plan(store, [], TOY.describe())
    assert verify(store).faults == []


def test_shards_that_are_not_done_are_named_together(store: Store):
    whole(store, shard_size=1, done=[0, 2])
    assert faults(store) == ["shard 1 is not done", "shards 3 to 6 are not done"]
    assert verify(store).done == 2


def part_of(store: Store, shard: int) -> pyarrow.Table:
    return parquet.ParquetFile(pyarrow.BufferReader(store.read(part_name(shard)))).read()


def recommit(store: Store, plan: Plan, shard: int, table: pyarrow.Table) -> None:
    """Publish another table as if it were the shard's."""
    publish_part(store, plan, shard, table)


def change_commit(store: Store, number: int, **changes: object) -> None:
    commit = json.loads(store.read(commit_name(number)))
    store.publish(commit_name(number), json.dumps(commit | changes).encode())


def flip(store: Store, name: str) -> None:
    data = bytearray(store.read(name))
    data[len(data) // 2] ^= 1
    store.publish(name, bytes(data))


def other_list(store: Store, plan: Plan) -> None:
    elsewhere = open_store(f"{store.url}-other")
    make_plan(elsewhere, clips_named(*"abcdefg"), TOY.describe(), 2)
    store.publish("_run/clips-00000.parquet", elsewhere.read("_run/clips-00000.parquet"))
    for shard in range(plan.shards):  # and the parts agree with it
        work_on(store, plan, TOY.start(), Job(shard))


def change_plan(store: Store, **changes: object) -> None:
    store.publish("_run/run.json", json.dumps(json.loads(store.read("_run/run.json")) | changes).encode())


DAMAGE: dict[str, tuple[Callable[[Store, Plan], Any], str]] = {
    "part gone": (lambda s, p: s.remove(part_name(1)), "part-00001.parquet is missing, although it has a commit"),
    "part cut": (
        lambda s, p: s.publish(part_name(1), s.read(part_name(1))[:-1]),
        "part-00001.parquet has * bytes instead of *",
    ),
    "part empty": (lambda s, p: s.publish(part_name(1), b""), "part-00001.parquet has 0 bytes instead of *"),
    "bit flipped": (lambda s, p: flip(s, part_name(1)), "part-00001.parquet does not match the checksum in its commit"),
    "parts changed places": (
        lambda s, p: s.publish(part_name(1), s.read(part_name(2))),
        "part-00001.parquet does not match the checksum in its commit|part-00001.parquet has * bytes instead of *",
    ),
    "commit gone": (lambda s, p: s.remove(commit_name(1)), "shard 1 is not done"),
    "commit cut": (lambda s, p: s.publish(commit_name(1), b'{"shard": 1'), "_run/commits/00001.json is damaged"),
    "commit of another shard": (lambda s, p: change_commit(s, 1, shard=2), "_run/commits/00001.json is damaged"),
    "commit counts otherwise": (
        lambda s, p: change_commit(s, 1, ok=2, errors=0),
        "_run/commits/00001.json does not match the row counts of part-00001.parquet",
    ),
    "row lost": (
        lambda s, p: recommit(s, p, 1, part_of(s, 1).slice(1)),
        "part-00001.parquet has 1 row for 2 clips",
    ),
    "row twice": (
        lambda s, p: recommit(s, p, 1, part_of(s, 1).take([0, 0])),
        "part-00001.parquet, row 1 is 2-c, but the list has 3-empty",
    ),
    "rows in another order": (
        lambda s, p: recommit(s, p, 1, part_of(s, 1).take([1, 0])),
        "part-00001.parquet, row 0 is 3-empty, but the list has 2-c",
    ),
    "part of another run": (
        lambda s, p: publish_part(s, make_plan(open_store(f"{s.url}-2"), [], TOY.describe()), 1, part_of(s, 1)),
        "part-00001.parquet belongs to another run",
    ),
    "commit beyond the plan": (
        lambda s, p: s.publish(commit_name(9), s.read(commit_name(1))),
        "_run/commits/00009.json does not belong to a shard of this run",
    ),
    "part beyond the plan": (lambda s, p: s.publish(part_name(9), b""), "part-00009.parquet is not a part of this run"),
    "a copy": (
        lambda s, p: s.publish("part-00001 (1).parquet", b""),
        "part-00001 (1).parquet is not a part of this run",
    ),
    "list gone": (
        lambda s, p: s.remove("_run/clips-00000.parquet"),
        "the list of clips is damaged: 0 of 7 can be read",
    ),
    "another list": (other_list, "the list of clips is not the one that was planned"),
    "another id": (lambda s, p: change_plan(s, run_id="0" * 64), "_run/run.json is damaged: *"),
    "other settings": (
        lambda s, p: change_plan(s, task=p.task | {"settings": {"device": "cuda"}}),
        "_run/run.json is damaged: *",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_of_each_kind_is_found_and_named(store: Store, kind: str):
    plan = whole(store)
    damage, expected = DAMAGE[kind]
    damage(store, plan)
    found = faults(store)
    patterns = [text.split("*")[0] for text in expected.split("|")]
    assert any(fault.startswith(pattern) for fault in found for pattern in patterns), found
    # A commit that cannot be read is none, so that its shard is not done either.
    assert len(found) == 1 or found[1:] == ["shard 1 is not done"] or "list" in kind or kind == "another id"


@pytest.mark.slow
@given(st.data())
def test_no_byte_can_change_unseen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    store = open_store(tmp_path_factory.mktemp("run"))
    whole(store, shard_size=4)
    name = data.draw(st.sampled_from([part_name(0), part_name(1), commit_name(0), "_run/run.json"]))
    content = bytearray(store.read(name))
    place = data.draw(st.integers(0, len(content) - 1))
    parsed = json.loads(content) if name.endswith(".json") else None
    content[place] ^= data.draw(st.sampled_from([1, 2, 128]))
    store.publish(name, bytes(content))
    try:
        same = parsed is not None and json.loads(content) == parsed  # one blank became another
    except ValueError:
        same = False
    try:
        assert same or faults(store)
    except UsageError as error:
        assert "damaged" in str(error)  # noqa: PT017, the plan itself


NOT_RECOVERABLE = {"another id", "other settings"}


@pytest.mark.parametrize("kind", DAMAGE)
def test_suggested_repairs_restore_the_run(store: Store, kind: str):
    plan = whole(store)
    before = contents(store)
    DAMAGE[kind][0](store, plan)
    for _ in range(2 if kind == "another list" else 1):  # whose parts are looked at once the list is right
        found = verify(store)
        assert found.recoverable == (kind not in NOT_RECOVERABLE)
        for name in found.remove:
            store.remove(name)
        if found.recoverable:
            assert make_plan(store, clips_named(*NAMES), TOY.describe(), 2) == plan
            for shard in sorted(set(range(plan.shards)) - committed(store).keys()):
                work_on(store, plan, TOY.start(), Job(shard))
    assert (verify(store).faults == [] and contents(store) == before) == (kind not in NOT_RECOVERABLE)


def contents(store: Store) -> dict[str, bytes]:
    names = [(folder, name) for folder in ("", "_run", "_run/commits") for name in store.names(folder)]
    return {name: store.read(f"{folder}/{name}".lstrip("/")) for folder, name in names}


def test_a_damaged_list_is_no_reason_to_do_parts_again(store: Store):
    whole(store)
    flip(store, "_run/clips-00000.parquet")
    assert verify(store).remove == ["_run/clips-00000.parquet"]


def test_parts_are_read_in_parallel_and_the_list_once(store: Store, monkeypatch: pytest.MonkeyPatch):
    for module in ("plan", "verify"):
        monkeypatch.setattr(f"mmmos.bulk.{module}.SHARDS_PER_FILE", 4)
    whole(store, clips_named(*"abcdefghij"), shard_size=1)
    together = {"commits": threading.Event(), "part": threading.Event()}
    under_way, opened = Counter[str](), []
    real_read, real_open = LocalStore.read, LocalStore.open

    def read(store: LocalStore, name: str) -> bytes:
        if kind := next((kind for kind in together if kind in name), None):
            under_way[kind] += 1
            if under_way[kind] > 1:
                together[kind].set()
            together[kind].wait(1.0)
            under_way[kind] -= 1
        return real_read(store, name)

    def open_(store: LocalStore, name: str) -> Any:
        opened.append(name)
        return real_open(store, name)

    with mock.patch.object(LocalStore, "read", read), mock.patch.object(LocalStore, "open", open_):
        assert verify(store).faults == []
    assert all(event.is_set() for event in together.values())
    assert opened == [f"_run/clips-0000{number}.parquet" for number in range(3)]


class Unrounded(ToyWork):
    schema = pyarrow.schema(
        [("id", pyarrow.string()), ("start_time", pyarrow.float64()), ("error_code", pyarrow.string())]
    )

    def rows(self, clips: Sequence[Clip], progress: Progress) -> Iterator[dict[str, Any]]:
        return ({"id": clip.id, "start_time": clip.start_time} for clip in clips)


def test_a_task_may_write_times_to_their_last_digit(store: Store):
    plan = make_plan(store, [Clip("a", "/a.wav", 1.23456789)], TOY.describe())
    work_on(store, plan, Unrounded(TOY), Job(0))
    assert faults(store) == []


def test_a_hidden_file_and_the_run_itself_are_no_parts(store: Store):
    whole(store)
    store.publish("_SUCCESS", b"")
    store.publish(".DS_Store", b"")
    assert faults(store) == []


def test_all_faults_are_reported_and_not_only_the_first(store: Store):
    whole(store, shard_size=1)
    flip(store, part_name(0))
    store.remove(part_name(2))
    store.remove(commit_name(5))
    store.publish("notes.txt", b"")
    assert [fault.split()[0] for fault in faults(store)] == [part_name(0), part_name(2), "notes.txt", "shard"]


# ── merge


CLIP = Scores(
    **{axis: 5.123456 for axis in AXES},
    id="a",
    path="/a.wav",
    end_time=2.0,
    sample_rate=16_000,
    channels=1,
    duration=2.0,
    n_windows=1,
    warnings=("clipped", "mono"),
    domain="music",
    PQ_basis="human",
    provenance=Provenance("toy", "0" * 64, "1", "cpu", "float32", False, True),
)


def result(clip: Clip) -> Scores:
    scores = Scores(provenance=CLIP.provenance) if "empty" in clip.id else CLIP
    error = ClipError("empty_file", 'no "bytes",\nnone') if "empty" in clip.id else None
    values = dict(scores.__dict__) | {"id": clip.id, "path": clip.path, "start_time": clip.start_time, "error": error}
    return Scores(**(values | {"CE": math.nan if "silent" in clip.id else scores.CE}))


class Scoring:
    schema = table_schema()

    def rows(self, clips: Sequence[Clip], progress: Progress) -> Iterator[dict[str, Any]]:
        return (table_row(result(clip)) for clip in clips)

    def child_bytes(self) -> int:
        return 0


CLIPS = [
    Clip(f"{i}-{name}", f"/clips/{name}.wav", start)
    for i, (name, start) in enumerate(
        zip(["a", "empty", "silent", "ünï ☃,\t\u2028"] * 3, [0.0, 1.23456789] * 6, strict=True)
    )
]


def scored(store: Store, shard_size: int = 5, done: Sequence[int] | None = None) -> Plan:
    plan = make_plan(store, CLIPS, TOY.describe(), shard_size)
    for shard in range(plan.shards) if done is None else done:
        work_on(store, plan, Scoring(), Job(shard))
    return plan


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("shard_size", [1, 5, 100])
def test_merged_file_equals_a_run_without_parts(tmp_path: Path, kind: str, shard_size: int):
    store = open_store(tmp_path / "run")
    scored(store, shard_size)
    assert verify(store).faults == []
    merge(store, tmp_path / f"merged.{kind}")
    with open_rows(tmp_path / f"direct.{kind}") as write:
        for clip in CLIPS:
            write(result(clip))
    assert (tmp_path / f"merged.{kind}").read_bytes() == (tmp_path / f"direct.{kind}").read_bytes()


def test_parts_folder_reads_as_one_table(tmp_path: Path):
    store = open_store(tmp_path / "run")
    scored(store)
    (tmp_path / "run" / ".part-00000.parquet.12345678.part").write_bytes(b"half of a part")
    table = parquet.read_table(tmp_path / "run")
    assert table.column("id").to_pylist() == [clip.id for clip in CLIPS]
    assert table.schema.remove_metadata() == table_schema()


@pytest.mark.slow
def test_no_thread_remains_at_exit(tmp_path: Path):
    store = open_store(tmp_path / "run")
    scored(store)
    code = (
        "import os, pathlib, sys, time; from mmmos.bulk.verify import *; from mmmos.bulk.stores import *\n"
        "threads = lambda: len(os.listdir('/proc/self/task'))\n"
        "store, before = open_store(sys.argv[1]), threads()\n"
        "verify(store); merge(store, pathlib.Path(sys.argv[2]))\n"
        "for _ in range(200): threads() > before and time.sleep(0.01)\n"  # our own are joined, but not gone at once
        "print(threads() - before)"
    )
    words = [sys.executable, "-c", code, store.url, tmp_path / "a.csv"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_an_incomplete_run_is_refused_unless_that_is_wanted(tmp_path: Path):
    store = open_store(tmp_path / "run")
    scored(store, done=[2, 0])
    with pytest.raises(UsageError, match="1 of 3 shards is not done; --partial"):
        merge(store, tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()
    assert merge(store, tmp_path / "a.jsonl", partial=True) == (2, 1)
    ids = [json.loads(line)["id"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert ids == [clip.id for shard in (0, 2) for clip in CLIPS[5 * shard : 5 * shard + 5]]


def test_merge_leaves_out_a_shard_with_damaged_commit(tmp_path: Path):
    store = open_store(tmp_path / "run")
    scored(store)
    store.publish(commit_name(1), b'{"shard": 1')
    with pytest.raises(
        BulkError, match=f"^{store.url}: {commit_name(1)} is damaged; run `mmmos verify` for what to do"
    ):
        merge(store, tmp_path / "a.jsonl")
    assert merge(store, tmp_path / "a.jsonl", partial=True) == (2, 1)
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_a_damaged_part_leaves_the_file_that_was_there(tmp_path: Path, kind: str):
    store, target = open_store(tmp_path / "run"), tmp_path / f"a.{kind}"
    scored(store)
    target.write_text("old")
    flip(store, part_name(2))
    with pytest.raises(BulkError, match=f"^{store.url}: part-00002.* run `mmmos verify` for what to do"):
        merge(store, target)
    assert target.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == [target.name, "run"]


def test_a_file_among_the_parts_or_of_no_kind_is_refused(tmp_path: Path):
    store = open_store(tmp_path / "run")
    scored(store)
    for target, why in [("run/all.parquet", "twice"), ("a.txt", r"\.jsonl, \.csv or"), ("none/a.csv", "no folder")]:
        with pytest.raises(UsageError, match=why):
            merge(store, tmp_path / target)
    assert verify(store).faults == []


def test_a_run_of_no_clips_is_a_file_of_no_rows(store: Store, tmp_path: Path):
    make_plan(store, [], TOY.describe())
    merge(store, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines() == [",".join(table_schema().names)]


def test_rows_of_another_task_come_through_as_they_are(store: Store, tmp_path: Path):
    whole(store)
    merge(store, tmp_path / "a.jsonl")
    row = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[3])
    assert row == {
        "id": "3-empty",
        "path": "/toys/empty",
        "error_code": "empty_file",
        "error_message": None,
        "length": 7,
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_many_parts_take_no_more_memory_than_few(tmp_path: Path, kind: str):
    def peak(shards: int) -> int:
        store = open_store(tmp_path / str(shards))
        whole(store, clips_named(*["a"] * 200 * shards), shard_size=200)  # Parquet's rows are held by the thousand
        tracemalloc.start()
        try:
            merge(store, tmp_path / f"{shards}.{kind}")
            assert verify(store).faults == []
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(6)  # and what is loaded only once
    assert peak(18) < 1.3 * peak(6)


# ── commands


@pytest.mark.slow
def test_the_commands_say_it_with_their_exit_status(run_mmmos, tmp_path: Path):
    store = open_store(tmp_path / "run")
    plan = scored(store, done=[0, 1])
    status, out, _ = run_mmmos("verify", tmp_path / "run")
    assert (status, out.splitlines()) == (
        1,
        [
            "shard 2 is not done",
            "not whole: 2 of 3 shards, 10 of 12 clips, 7 ok, 3 errors",
            "run the command again",
        ],
    )
    assert run_mmmos("merge", tmp_path / "run", "-o", tmp_path / "a.csv")[0] == 2
    status, out, notes = run_mmmos("merge", tmp_path / "run", "-o", tmp_path / "a.csv", "--partial")
    assert (status, out, notes) == (0, "", "mmmos: 1 of 3 shards is not done, and left out\n")
    work_on(store, plan, Scoring(), Job(2))
    assert run_mmmos("verify", tmp_path / "run") == (0, "whole: 3 of 3 shards, 12 of 12 clips, 9 ok, 3 errors\n", "")
    assert run_mmmos("merge", tmp_path / "run", "-o", tmp_path / "a.parquet") == (0, "", "")
    assert len(parquet.read_table(tmp_path / "a.parquet")) == len(clips_of(store, plan, 0)) + 7
    flip(store, part_name(1))
    (tmp_path / "run" / "notes.txt").touch()
    assert run_mmmos("merge", tmp_path / "run", "-o", tmp_path / "a.parquet", "--overwrite")[0] == 3
    status, out, _ = run_mmmos("verify", tmp_path / "run")
    fix = "remove these files and run the command again: _run/commits/00001.json notes.txt"
    assert (status, out.splitlines()[-1]) == (1, fix)
    change_plan(store, run_id="0" * 64)
    assert run_mmmos("verify", tmp_path / "run")[1].splitlines()[-1].endswith("another folder")
    for command in (("verify", tmp_path), ("merge", tmp_path, "-o", tmp_path / "a.csv")):
        status, _, notes = run_mmmos(*command)
        assert (status, notes.count("\n")) == (2, 1)
        assert "is not an mmmos run" in notes


@pytest.mark.parametrize("earlier", [0, 1])
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_merge_keeps_columns_of_every_part(store: Store, tmp_path: Path, kind: str, earlier: int):
    """A run that an earlier version began has parts without the columns of today."""
    plan = scored(store)
    later = ["file_bytes", "model"]
    before = part_of(store, earlier)
    recommit(store, plan, earlier, before.drop_columns(later))
    merge(store, tmp_path / f"a.{kind}")
    if kind == "parquet":
        rows = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    elif kind == "csv":
        rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_bytes().decode(), newline="")))
    else:
        rows = list(map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines()))
    assert [row["id"] for row in rows] == [
        name for i in range(plan.shards) for name in part_of(store, i)["id"].to_pylist()
    ]
    sizes = [len(part_of(store, i)) for i in range(plan.shards)]
    shard_of = [shard for shard, size in enumerate(sizes) for _ in range(size)]
    full = [row for shard in range(plan.shards) if shard != earlier for row in part_of(store, shard).to_pylist()]
    for row, shard in zip(rows, shard_of, strict=True):
        assert row.keys() >= {*later}
        if shard == earlier:
            assert {row[name] or None for name in later} == {None}
    models = [row["model"] or None for row, shard in zip(rows, shard_of, strict=True) if shard != earlier]
    assert models == [row["model"] for row in full]
    assert any(models)


def test_merge_refuses_unknown_columns(store: Store, tmp_path: Path):
    plan = scored(store)
    part = part_of(store, 1)
    recommit(store, plan, 1, part.append_column("mood", pyarrow.array(["calm"] * len(part))))
    with pytest.raises(UsageError, match=r"part-00001.* has columns that other parts do not have: mood; merge with"):
        merge(store, tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()


@pytest.mark.slow
def test_merge_replaces_files_only_with_overwrite(run_mmmos, tmp_path: Path):
    scored(open_store(tmp_path / "run"))
    part = tmp_path / "run" / part_name(1)
    (tmp_path / "soft.parquet").symlink_to(part)
    os.link(part, tmp_path / "hard.parquet")
    before = part.read_bytes()
    for name in ("soft.parquet", "hard.parquet", f"run/{part_name(1)}"):
        for options in ((), ("--overwrite",)):
            status, _, notes = run_mmmos("merge", tmp_path / "run", "-o", tmp_path / name, *options)
            assert (status, "is an input" in notes, part.read_bytes() == before) == (2, True, True)
    (tmp_path / "a.csv").write_text("mine")
    status, _, notes = run_mmmos("merge", tmp_path / "run", "-o", tmp_path / "a.csv")
    assert (status, "a.csv exists" in notes, (tmp_path / "a.csv").read_text()) == (2, True, "mine")
    assert run_mmmos("merge", tmp_path / "run", "-o", tmp_path / "a.csv", "--overwrite") == (0, "", "")
    assert (tmp_path / "a.csv").read_text().startswith("id,path,")
