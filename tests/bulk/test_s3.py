"""Runs whose list, audio and folder are on a server that speaks S3, and runs on a disk that is full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import fsspec
import pytest

from mmmos.audio.clip import Clip
from mmmos.bulk.commits import commit_name, part_name
from mmmos.bulk.plan import make_plan
from mmmos.bulk.stores import Store, open_store
from mmmos.bulk.tasks import ScoreTask
from mmmos.bulk.workers import Job, work_on
from mmmos.data.inputs import expand
from tests.bulk_toys import tiny_model
from tests.toys import CPU

SAMPLES = Path(__file__).parents[2] / "samples"


def done_here(store: Store, clips: Iterable[Clip], model: Path, shard_size: int) -> Store:
    """The run that `mmmos score --workers 1` makes, without a process of its own."""
    task = ScoreTask(str(model), CPU)
    plan = make_plan(store, clips, task.describe(), shard_size)
    with closing(task.start()) as work:
        for shard in range(plan.shards):
            work_on(store, plan, work, Job(shard))
    return store


def contents(store: Store, shards: int) -> dict[str, bytes]:
    names = [name for shard in range(shards) for name in (part_name(shard), commit_name(shard))]
    return {name: store.read(name) for name in ("_run/run.json", *names)}


@pytest.mark.slow
def test_list_audio_and_rows_may_all_lie_in_a_bucket(s3: str, tmp_path: Path, run_mmmos):
    bucket = fsspec.filesystem("s3", use_listings_cache=False)
    for name in ("music_clean.flac", "sound_clean.opus", "music_tabla.m4a", "speech_phone.wav"):
        bucket.put_file(str(SAMPLES / name), f"{s3}/data/{name}")
    bucket.pipe_file(f"{s3}/data/empty.wav", b"")
    rows: list[dict[str, object]] = [
        {"path": "music_clean.flac"},  # next to the list
        {"path": f"{s3}/data/sound_clean.opus", "start_time": 1},
        {"path": "none.wav"},
        {"path": str(SAMPLES / "speech_clean.flac")},
        {"path": "music_tabla.m4a", "end_time": 2.5},
        {"path": "empty.wav"},
        {"path": "speech_phone.wav"},
    ]
    bucket.pipe_file(f"{s3}/data/list.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    model = tiny_model(tmp_path / "model")
    score = ("score", f"{s3}/data/list.jsonl", "--model", model, "--device", "cpu", "--workers", 1, "--shard-size", 3)
    status, _, notes = run_mmmos(*score, "-o", f"{s3}/runs/one")
    assert (status, "5 ok, 2 errors" in notes) == (1, True), notes
    assert run_mmmos("verify", f"{s3}/runs/one/")[:2] == (0, "whole: 3 of 3 shards, 7 of 7 clips, 5 ok, 2 errors\n")
    assert run_mmmos("merge", f"{s3}/runs/one", "-o", tmp_path / "a.jsonl")[0] == 0
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["error"] and row["error"]["code"] for row in found] == [
        *(None, None, "not_found", None, None, "empty_file", None)
    ]
    assert found[0]["path"] == f"{s3}/data/music_clean.flac"
    assert found[1]["start_time"] == 1.0

    there = open_store(f"{s3}/runs/one")
    expected = contents(done_here(open_store(tmp_path / "run"), expand([f"{s3}/data/list.jsonl"]), model, 3), 3)
    assert contents(there, 3) == expected

    there.remove(commit_name(1))
    bucket.rm_file(f"{s3}/data/music_clean.flac")  # of shard 0, which is not done again
    status, _, notes = run_mmmos(*score, "-o", f"{s3}/runs/one")
    assert status == 1, notes
    assert contents(there, 3) == expected


ON_A_SMALL_DISK = """
import io, json, os, shutil, subprocess, sys
from contextlib import redirect_stderr, redirect_stdout
from mmmos import cli

def mmmos(*words):
    sys.argv = ["mmmos", *words]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as notes:
        try:
            cli.main()
        except SystemExit as ended:
            return ended.code or 0, out.getvalue(), notes.getvalue()
    return 0, out.getvalue(), notes.getvalue()

disk, score = sys.argv[1], sys.argv[2:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=True)
outcomes = []
for free in (0, 60_000, None):
    if free is not None:
        with open(f"{disk}/filler", "wb", buffering=0) as file:
            size = 2 ** 20
            while size > 2048:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2
            file.truncate(file.tell() - free)
    else:
        os.remove(f"{disk}/filler")
    status, _, notes = mmmos(*score, "-o", f"{disk}/run/")
    parts = sorted(name for name in os.listdir(f"{disk}/run") if name.startswith("part-"))
    outcomes.append((status, notes, parts))
verified = mmmos("verify", f"{disk}/run")[1]
shutil.copytree(f"{disk}/run", f"{disk}-copy")
print(json.dumps([outcomes, verified]))
"""


def can_mount() -> bool:
    """Whether a process of ours may mount a disk that no other sees."""
    command = ("unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
def test_run_resumes_after_a_full_disk(tmp_path: Path):
    if not can_mount():
        pytest.skip("this machine lets nobody mount a small disk")
    clips = [str(SAMPLES / "music_clean.flac")] * 12
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({"path": clip}) + "\n" for clip in clips))
    model = tiny_model(tmp_path / "model")
    score = ("score", tmp_path / "list.jsonl", "--model", model, "--device", "cpu", "--workers", 1, "--shard-size", 2)
    calm = done_here(open_store(tmp_path / "calm"), expand([str(tmp_path / "list.jsonl")]), model, 2)

    disk = tmp_path / "disk"
    disk.mkdir()
    inside = [sys.executable, "-c", ON_A_SMALL_DISK, disk, *score]
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", *map(str, inside)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    outcomes, verified = json.loads(done.stdout)
    statuses, notes, parts = zip(*outcomes, strict=True)
    assert statuses == (3, 3, 0), notes
    for log in notes[:2]:
        assert log.splitlines()[-1].startswith(f"mmmos: {disk}/run: No space left on device; ")
        assert log.count("No space left") == 1
        assert "Traceback" not in log
    assert (len(parts[0]), len(parts[2])) == (0, 6)
    assert 0 < len(parts[1]) < 6, "what was published before the disk was full stays"
    assert verified.startswith("whole: 6 of 6 shards, 12 of 12 clips")
    assert contents(open_store(f"{disk}-copy"), 6) == contents(calm, 6)
    assert not [name for _, _, names in os.walk(f"{disk}-copy") for name in names if name.endswith(".part")]
