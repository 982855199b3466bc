"""A long list of files of which every twentieth is broken, in fifty ways: each gets its row, good files their scores.

MMMOS_BULK_FILES=10000 pytest -n 0 -s tests/faults/test_bulk_files.py      500 broken among 10,000
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from mmmos.audio.clip import Clip
from mmmos.bulk.commits import part_name
from mmmos.bulk.driver import run_shards
from mmmos.bulk.plan import make_plan
from mmmos.bulk.stores import open_store
from mmmos.bulk.tasks import ScoreTask
from mmmos.bulk.workers import LocalWorkers
from mmmos.scores import AXES
from tests.broken_files import KINDS, RATE, encode, write_sounds
from tests.bulk_toys import tiny_model
from tests.sounds import chord
from tests.toys import CPU

FILES = int(os.environ.get("MMMOS_BULK_FILES", "1000"))
BROKEN = FILES // 20
DISTINCT = 100  # good files; the others are links to them
SUFFIXES = ("wav", "flac", "mp3", "ogg", "opus", "aiff", "m4a")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def write_good(folder: Path) -> list[Path]:
    """Sounds of 0.2 to 0.5 s, each another, in every container."""
    paths = []
    for number in range(DISTINCT):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        paths.append(folder / f"good-{number}.{suffix}")
        paths[-1].write_bytes(encode(chord(0.2 + 0.3 * number / DISTINCT, number), suffix))
    return paths


def write_list(folder: Path) -> tuple[Path, dict[str, str]]:
    """The list, and of which kind each of its ids is: a key of `KINDS`, or the name of a good file."""
    sounds, good = write_sounds(), write_good(folder)
    rng = np.random.default_rng(0)
    broken = set(rng.choice(FILES, BROKEN, replace=False).tolist())
    kinds: dict[str, str] = {}
    names = [*KINDS] * (BROKEN // len(KINDS) + 1)
    with open(folder / "list.jsonl", "w") as listed:
        for number in range(FILES):
            clip_id = f"clip-{number:05}"
            if number in broken:
                kinds[clip_id] = names.pop()
                kind = KINDS[kinds[clip_id]]
                path = folder / f"{clip_id}{kind.suffix}"
                kind.write(path, sounds, rng)
            else:
                source = good[number % DISTINCT]
                path = folder / f"{clip_id}{source.suffix}"
                os.link(source, path)
                kinds[clip_id] = source.name
            listed.write(json.dumps({"id": clip_id, "path": str(path)}) + "\n")
    return folder / "list.jsonl", kinds


@pytest.mark.slow
def test_every_file_gets_one_row_whatever_is_wrong_with_others(
    tmp_path: Path, model: Path, run_mmmos: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "files").mkdir()
    listed, kinds = write_list(tmp_path / "files")
    began = time.monotonic()
    output = f"{tmp_path}/out/"
    words = ["--model", model, "--workers", 2, "--shard-size", FILES // 20]
    status, _, err = run_mmmos("score", listed, "-o", output, *words)
    print(f"\n{FILES} files of which {BROKEN} are broken in {time.monotonic() - began:.0f} s\n{err}")
    assert status == 1, err
    rows = [row for path in sorted(Path(output).glob("part-*.parquet")) for row in parquet.read_table(path).to_pylist()]
    assert [row["id"] for row in rows] == list(kinds)

    scores = defaultdict(set)
    for row in rows:
        kind = kinds[row["id"]]
        if kind in KINDS:
            assert row["error_code"] in KINDS[kind].codes, (kind, row["error_code"], row["error_message"])
            assert (row["error_message"] is None) == (row["error_code"] is None)
        else:
            assert row["status"] == "ok"
            scores[kind].add(tuple(row[axis] for axis in AXES))
    assert len(scores) == DISTINCT
    assert all(len(found) == 1 for found in scores.values())  # a file has one score, whoever gave it
    assert len({axes for found in scores.values() for axes in found}) > DISTINCT // 2
    assert all(0 < score < 10 for found in scores.values() for axes in found for score in axes)
    assert not list(Path(output, "_run/deaths").glob("*"))
    assert run_mmmos("verify", output)[0] in (0, 1)


@pytest.mark.slow
def test_a_file_that_hangs_and_one_that_may_not_be_read(tmp_path: Path, model: Path) -> None:
    sound = encode(chord(0.3), "wav")
    for name in ("a.wav", "b.wav", "locked.wav", "c.wav"):
        (tmp_path / name).write_bytes(sound)
    (tmp_path / "locked.wav").chmod(0)
    os.mkfifo(tmp_path / "stuck.wav")
    names = ["a.wav", "stuck.wav", "b.wav", "locked.wav", "c.wav"]
    task = ScoreTask(str(model), CPU, deadline=5.0)
    store = open_store(tmp_path / "out")
    plan = make_plan(store, [Clip(name, str(tmp_path / name)) for name in names], task.describe(), 5)
    with closing(LocalWorkers(store, plan, task, 1)) as workers:
        counts = run_shards(store, plan, workers, stall_s=60)
    with store.open(part_name(0)) as file:
        codes = {row["id"]: row["error_code"] for row in parquet.read_table(file).to_pylist()}
    locked = None if os.geteuid() == 0 else "not_readable"  # nothing is locked to the superuser
    assert list(codes.items()) == [
        *(("a.wav", None), ("stuck.wav", "decode_timeout"), ("b.wav", None), ("locked.wav", locked), ("c.wav", None))
    ]
    assert counts.clips == 5


def test_there_are_more_than_twenty_kinds() -> None:
    assert len(KINDS) <= BROKEN  # each is in the list
    assert len(KINDS) > 20
    assert len({code for kind in KINDS.values() for code in kind.codes}) >= 7
    assert len(chord(0.1)) == RATE // 10
