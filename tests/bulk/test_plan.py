"""A run's plan: the same list and task are the same plan, any other is refused, and what was read is what is kept."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from mmmos.audio.clip import Clip
from mmmos.bulk import plan as plans
from mmmos.bulk.commits import Commit, commit_name, committed, part_name, publish_part, read_commits
from mmmos.bulk.failures import Failures, publish_failures, read_failures
from mmmos.bulk.plan import clips_of, make_plan, read_plan
from mmmos.bulk.stores import LocalStore, Store, open_store
from mmmos.errors import BulkError, UsageError
from tests.bulk_toys import SCHEMA, ToyTask, clips_named, read_json

TASK = ToyTask().describe()
SEVEN = clips_named(*"abcdefg")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "run")


def table(*ids: str, errors: int = 0) -> pyarrow.Table:
    rows = [{"id": name, "error_code": "empty_file" if i < errors else None} for i, name in enumerate(ids)]
    return pyarrow.Table.from_pylist(rows, SCHEMA)


NAMES = st.one_of(st.text(max_size=8), st.sampled_from([os.fsdecode(b"caf\xe9.wav"), 'a,"b"\n\u2028☃.wav']))
CLIPS = st.builds(
    Clip, NAMES, NAMES, st.floats(0, 1e6), st.none() | st.floats(0, 1e6), stream=st.integers(min_value=0, max_value=9)
)


@pytest.mark.slow
@given(st.lists(CLIPS, max_size=12), st.integers(1, 5), st.integers(1, 3))
def test_what_was_listed_is_kept_whatever_the_sizes(tmp_path_factory, clips, size, in_a_file):
    store = open_store(tmp_path_factory.mktemp("run"))
    with patch.object(plans, "SHARDS_PER_FILE", in_a_file):
        plan = make_plan(store, iter(clips), TASK, size)
        shards = [clips_of(store, plan, shard) for shard in range(plan.shards)]
        assert make_plan(store, iter(clips), TASK, size) == read_plan(store) == plan
    assert [clip for shard in shards for clip in shard] == clips
    assert [len(shard) for shard in shards] == [plan.rows(shard) for shard in range(plan.shards)]
    assert all(len(shard) == size for shard in shards[:-1])


@pytest.mark.parametrize(
    ("clips", "task", "size", "named"),
    [
        (SEVEN[:6], TASK, 3, r"another list \(7 clips, now 6\)"),
        ([*SEVEN[:6], replace(SEVEN[6], start_time=1.0)], TASK, 3, "another list"),
        (SEVEN[::-1], TASK, 3, "another list"),
        (SEVEN, TASK | {"model_sha256": "1" * 64, "model": "b"}, 3, r"model_sha256 0+ \(toy\), not 1+ \(b\)"),
        (SEVEN, TASK | {"version": "2"}, 3, "version 1, not 2"),
        (SEVEN, TASK | {"settings": {"device": "cuda"}}, 3, "device cpu, not cuda"),
        (SEVEN, TASK, 4, "shard size 3, not 4"),
    ],
)
def test_a_folder_of_another_run_is_refused_and_left_as_it_is(store, clips, task, size, named):
    plan = make_plan(store, SEVEN, TASK, 3)
    with pytest.raises(UsageError, match=named):
        make_plan(store, clips, task, size)
    assert read_plan(store) == plan
    assert [clip for shard in range(3) for clip in clips_of(store, plan, shard)] == SEVEN


def test_every_part_of_a_plan_is_in_its_name(tmp_path):
    changed = [
        (SEVEN, TASK, 3),
        (SEVEN[:6], TASK, 3),
        ([replace(SEVEN[0], stream=1), *SEVEN[1:]], TASK, 3),
        (SEVEN, TASK | {"model_sha256": "1" * 64}, 3),
        (SEVEN, TASK, 2),
    ]
    found = [make_plan(open_store(tmp_path / str(i)), *what).run_id for i, what in enumerate(changed)]
    assert len(set(found)) == len(changed)
    assert make_plan(open_store(tmp_path / "again"), *changed[0]).run_id == found[0]


def test_an_interrupted_plan_is_made_again(store):
    def broken() -> Iterator[Clip]:
        yield from clips_named(*"tuvwxyz")
        raise KeyboardInterrupt

    with patch.object(plans, "SHARDS_PER_FILE", 1):
        with pytest.raises(KeyboardInterrupt):
            make_plan(store, broken(), TASK, 2)
        assert store.names("_run")
        plan = make_plan(store, SEVEN, TASK, 3)
        assert [clip for shard in range(plan.shards) for clip in clips_of(store, plan, shard)] == SEVEN


def test_parts_of_no_known_run_are_not_written_over(store):
    store.publish(part_name(0), b"somebody's")
    with pytest.raises(UsageError, match=r"contains part files but no run\.json"):
        make_plan(store, SEVEN, TASK, 3)
    assert store.read(part_name(0)) == b"somebody's"


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"run_id": 1}'])
def test_a_damaged_plan_is_reported(store, text):
    store.publish(plans.RUN, text)
    with pytest.raises(UsageError, match="damaged"):
        read_plan(store)


@pytest.mark.parametrize(
    "change",
    [
        {"shards": 2},
        {"shards": 0, "shard_size": 0},
        {"shard_size": -3},
        {"clips": 7.0},
        {"clips": -1},
        {"task": []},
        {"task": {"settings": "none"}},
        {"run_id": "0" * 64},
    ],
)
def test_a_plan_with_a_value_that_cannot_be_is_damaged(store, change):
    make_plan(store, SEVEN, TASK, 3)
    store.publish(plans.RUN, json.dumps(read_json(store, plans.RUN) | change).encode())
    with pytest.raises(UsageError, match="damaged" if "task" not in change else "is a run with|damaged"):
        make_plan(store, SEVEN, TASK, 3)


def test_without_a_shard_size_a_run_goes_on_with_its_own(store):
    plan = make_plan(store, SEVEN, TASK, 3)
    assert make_plan(store, SEVEN, TASK) == plan


def test_a_model_that_is_called_otherwise_is_the_same(store, tmp_path):
    plan = make_plan(store, SEVEN, TASK, 3)
    assert make_plan(store, SEVEN, TASK | {"model": "./toy"}, 3) == plan
    assert make_plan(open_store(tmp_path / "other"), SEVEN, TASK | {"model": "./toy"}, 3).run_id == plan.run_id


@pytest.mark.parametrize("damage", ["gone", "empty", "cut short", "of another list"])
def test_a_damaged_list_file_is_written_again(store, damage):
    with patch.object(plans, "SHARDS_PER_FILE", 1):
        plan = make_plan(store, SEVEN, TASK, 3)
        name = plans.list_name(1)
        whole = store.read(name)
        if damage == "gone":
            store.remove(name)
        elif damage == "of another list":
            store.publish(name, store.read(plans.list_name(2)))
        else:
            store.publish(name, whole[: len(whole) // 2 if damage == "cut short" else 0])
        with pytest.raises(UsageError, match="another list"):
            make_plan(store, SEVEN[::-1], TASK, 3)
        assert name not in [f"_run/{there}" for there in store.names("_run")] or store.read(name) != whole
        assert make_plan(store, SEVEN, TASK, 3) == plan
        assert store.read(name) == whole


def test_a_folder_without_a_plan_is_no_run(store):
    with pytest.raises(UsageError, match="is not an mmmos run"):
        read_plan(store)


def test_the_list_is_read_a_shard_at_a_time(store):
    held = 0

    def clips() -> Iterator[Clip]:
        nonlocal held
        for number in range(9):
            held += 1
            yield Clip(str(number))

    def publish(self: Store, name: str, data: bytes) -> None:
        assert held <= 4 * (1 + len(lists)) + 1, "a file is written before the next is read"
        lists.append(name)

    lists: list[str] = []
    with patch.object(plans, "SHARDS_PER_FILE", 2), patch.object(LocalStore, "publish", publish):
        make_plan(store, clips(), TASK, 2)
    assert lists == ["_run/clips-00000.parquet", "_run/clips-00001.parquet", "_run/clips-00002.parquet", plans.RUN]


def test_a_part_and_its_commit_say_what_they_are(store):
    plan = make_plan(store, SEVEN, TASK, 3)
    commit = publish_part(store, plan, 1, table("a", "b", "c", errors=2))
    data = store.read(part_name(1))
    assert committed(store) == {1: commit} == {1: Commit(1, 3, 1, 2, commit.sha256, len(data))}
    assert read_json(store, "_run/commits/00001.json")["errors"] == 2
    info = parquet.read_schema(pyarrow.BufferReader(data)).metadata
    assert {info[name].decode() for name in (b"run_id", b"model", b"version")} == {plan.run_id, "toy", "1"}
    assert info[b"settings"] == b'{"device": "cpu"}'


def test_the_same_rows_are_the_same_bytes_however_they_came(store):
    plan = make_plan(store, SEVEN, TASK, 3)
    whole = publish_part(store, plan, 0, table(*"abc"))
    assert publish_part(store, plan, 0, pyarrow.concat_tables([table("a"), table("b"), table("c")])) == whole


def test_a_shard_whose_part_is_gone_is_not_done(store):
    plan = make_plan(store, SEVEN, TASK, 3)
    publish_part(store, plan, 0, table(*"abc"))
    store.remove(part_name(0))
    assert committed(store) == {}


@pytest.mark.parametrize(
    "change", [{"shard": 2}, {"shard": -1}, {"rows": "3"}, {"ok": 1.0}, {"bytes": None}, {"sha256": 5}, {"more": 1}]
)
def test_a_commit_with_a_value_that_cannot_be_is_damaged(store, change):
    plan = make_plan(store, SEVEN, TASK, 3)
    commits = [publish_part(store, plan, shard, table(*"abc")) for shard in (1, 0)]
    assert read_commits(store) == ({0: commits[1], 1: commits[0]}, [])
    name = commit_name(1)
    store.publish(name, json.dumps(read_json(store, name) | change).encode())
    assert read_commits(store) == ({0: commits[1]}, [name])
    assert list(committed(store)) == [0]


def test_what_is_no_note_of_losses_is_passed_over(store):
    publish_failures(store, 3, Failures(1))
    for name, text in (("notes.txt", b"?"), ("00004.json", b"{"), ("x.json", b"{}"), ("00005.json", b'{"clips": 1}')):
        store.publish(f"_run/deaths/{name}", text)
    store.publish("_run/deaths/6.json", b'{"attempts": 1, "clips": {"0": [["a word", "why"]]}}')
    assert read_failures(store) == {3: Failures(1)}


def test_losses_are_kept(store):
    losses = Failures(1, {17: [("worker_crashed", "its process died with status -9")]})
    publish_failures(store, 3, losses)
    assert read_failures(store) == {3: losses}


def test_a_full_disk_ends_the_run_in_one_line(store, monkeypatch):
    plan = make_plan(store, SEVEN, TASK, 3)

    @contextmanager
    def full(*_: Any) -> Iterator[Path]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield

    monkeypatch.setattr("mmmos.bulk.stores.replacing", full)
    with pytest.raises(BulkError, match=r"No space left.*same command") as caught:
        publish_part(store, plan, 0, table(*"abc"))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 3
