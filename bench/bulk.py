"""What does scoring many files cost, and what would 10^8 of them? Into bench/results/bulk.json.

    python -m bench.bulk [--clips 120] [--seconds 5] [--rounds 3] [--rows 1000000] [--peer 6] [--work FOLDER]

- files per second by one and two workers, processes here and actors of a Ray of this machine, next to one and two plain
  loops over `Predictor.stream`, each in a process with one thread; while all are at work, so without their start
- the baseline's own package and ours on the same checkpoint: random weights of full size in its published layout
- where the time goes, and what a shard costs besides its clips: measured with work that takes no time
- planning a list of a million rows
- the arithmetic from these to 10^8 clips on a thousand machines; prices are assumptions, and are listed

For figures that mean something the machine should have nothing else to do. The package `audiobox-aesthetics` must be
installed; its torchaudio is not used.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import soundfile
import torch
from fsspec.spec import AbstractBufferedFile
from pyarrow import parquet

from bench.score import ROOT, machine
from mmmos.audio.clip import Clip
from mmmos.bulk.commits import committed, publish_part
from mmmos.bulk.driver import run_shards
from mmmos.bulk.plan import SHARD_SIZE, SHARDS_PER_FILE, clips_of, make_plan
from mmmos.bulk.ray_workers import RayWorkers
from mmmos.bulk.stores import Store, open_store
from mmmos.bulk.tasks import ScoreTask, Task
from mmmos.bulk.workers import Job, LocalWorkers, Outcome, Running, WorkerPool
from mmmos.data.inputs import expand
from mmmos.encoders.base import encode_windows
from mmmos.hub.options import LoadOptions
from mmmos.inference import predictor as scoring
from mmmos.inference.rows import table_row, table_schema
from mmmos.inference.selfcheck import check_clip
from mmmos.inference.stream import ClipStream
from mmmos.io.remote import READ_AHEAD
from mmmos.progress import NoProgress, Progress
from mmmos.scores import Provenance, Scores

CLIPS = 10**8
MACHINES, CORES = 1000, 16
WORKERS = MACHINES * CORES - 1
ASSUMED = {
    "core_hour": 0.04,  # $, rented
    "put": 5e-6,  # $ per request that writes or lists
    "get": 4e-7,  # $ per request that reads
    "month_of_gb": 0.023,  # $ of storage
    "answer": 0.03,  # s that an object store takes to answer
    "readers": 16,  # requests under way at a time as a driver reads commits
    "start": 60.0,  # s until a worker has the model, on a cluster that is up
}


@dataclass(frozen=True)
class NoTask:
    """Work that takes no time, with rows as long as real ones."""

    def describe(self) -> dict[str, Any]:
        """Nothing to depend on."""
        return {"task": "nothing", "model": "none", "model_sha256": "0" * 64, "version": "1"}

    def start(self) -> NoWork:
        """There is nothing to load."""
        return NoWork()


class NoWork:
    """See `NoTask`."""

    provenance = Provenance("lite", "0" * 64, "0.1.0", "cpu", "float32", False, False)

    def __init__(self) -> None:
        self.schema = table_schema()

    def rows(self, clips: Sequence[Clip], progress: Progress) -> Iterator[dict[str, Any]]:
        """One row per clip."""
        for number, clip in enumerate(clips):
            v = number * 0.001 % 10
            scores = Scores(v, v, v, v, domain="speech", id=clip.id, path=clip.path, end_time=10.0, n_windows=1)
            yield table_row(replace(scores, provenance=self.provenance))
            progress.advance()

    def failed(self, clip: Clip, code: str, message: str) -> dict[str, Any]:
        """Nothing fails."""
        raise NotImplementedError

    def child_bytes(self) -> int:
        """There are no child processes."""
        return 0

    def close(self) -> None:
        """Nothing was started."""


class RecordedPool:
    """A worker pool that records the outcomes of its jobs and their times."""

    def __init__(self, pool: WorkerPool) -> None:
        self.pool, self.seen = pool, list[tuple[float, Outcome]]()
        self.size = pool.size

    def submit(self, job: Job) -> None:
        """See `WorkerPool`."""
        self.pool.submit(job)

    def wait(self, seconds: float) -> list[Outcome]:
        """See `WorkerPool`."""
        found = self.pool.wait(seconds)
        self.seen += [(time.perf_counter(), outcome) for outcome in found]
        return found

    def running(self) -> list[Running]:
        """See `WorkerPool`."""
        return self.pool.running()

    def close(self) -> None:
        """See `WorkerPool`."""
        self.pool.close()


def pool_of(kind: str, workers: int) -> Callable[..., WorkerPool]:
    """Local processes, or actors of a Ray on this machine."""
    return (
        partial(LocalWorkers, workers=workers)
        if kind == "local"
        else partial(RayWorkers, address="local", workers=workers)
    )


def by_pool(
    make: Callable[..., WorkerPool], task: Task, clips: Sequence[Clip], shard_size: int, folder: Path
) -> dict[str, float]:
    """Score with a worker pool: clips per second while all workers are at work, and seconds until the first one was."""
    shutil.rmtree(folder, ignore_errors=True)
    store = open_store(folder)
    plan = make_plan(store, clips, task.describe(), shard_size)
    begin = time.perf_counter()
    with closing(RecordedPool(make(store, plan, task))) as pool:
        counts = run_shards(store, plan, pool)
    results = [(when, outcome.result) for when, outcome in pool.seen if outcome.result]
    assert len(results) == plan.shards
    first = min(when - result.seconds for when, result in results)
    at_work = sum(result.seconds for _, result in results)
    return {
        "workers": pool.size,
        "rate": pool.size * len(clips) / at_work,
        "start": first - begin,
        "whole": max(when for when, _ in results) - first,
        "peak": counts.peak_bytes,
    }


def plain_loop(task: ScoreTask, clips: Sequence[Clip]) -> dict[str, float]:
    """One process, one thread: clips per second, and the seconds of each part of the work."""
    torch.set_num_threads(1)
    spent = {"decode": 0.0, "encode": 0.0, "heads": 0.0}
    with scoring.open_predictor(task.model, replace(task.options, device="cpu")) as predictor:
        list(predictor.stream(clips[:1]))
        timed_score = _timed(spent, "heads", ClipStream.score_batch)
        timed_encode = _timed(spent, "encode", encode_windows)
        with (
            mock.patch.object(ClipStream, "score_batch", timed_score),
            mock.patch("mmmos.inference.stream.encode_windows", timed_encode),
        ):
            begin = time.perf_counter()
            assert all(scores.error is None for scores in predictor.stream(clips))
            whole = time.perf_counter() - begin
    spent["heads"] -= spent["encode"]  # which it calls
    spent["decode"] = whole - spent["encode"] - spent["heads"]  # and what little the loop itself takes
    return {"rate": len(clips) / whole, **{part: seconds / len(clips) for part, seconds in spent.items()}}


def plain_loops(task: ScoreTask, clips: Sequence[Clip], loops: int) -> dict[str, float]:
    """Independent plain loops at once, each over all clips: the machine's capacity."""
    with get_context("spawn").Pool(loops) as pool:
        return {"rate": sum(found["rate"] for found in pool.starmap(plain_loop, [(task, clips)] * loops))}


def _timed(spent: dict[str, float], part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*words: Any, **named: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*words, **named)
        finally:
            spent[part] += time.perf_counter() - begin

    return call


def per_shard(work: Path) -> dict[str, float]:
    """What a full shard costs a worker besides its clips, s, and what it takes up, bytes."""
    store = open_store(work / "shards")
    shutil.rmtree(work / "shards", ignore_errors=True)
    clips = [Clip(path, path) for path in (f"/data/audio/{i // 1000:05d}/{i:09d}.flac" for i in range(20 * SHARD_SIZE))]
    plan = make_plan(store, clips, NoTask().describe())
    import pyarrow

    rows = NoWork().rows
    spent: dict[str, list[float]] = {"list": [], "table": [], "publish": []}
    for shard in range(plan.shards):
        times = [time.perf_counter()]
        found = clips_of(store, plan, shard)
        times.append(time.perf_counter())
        made = list(rows(found, NoProgress()))
        times.append(time.perf_counter())
        table = pyarrow.Table.from_pylist(made, table_schema())
        times.append(time.perf_counter())
        commit = publish_part(store, plan, shard, table)
        times.append(time.perf_counter())
        for part, seconds in zip(("list", "rows", "table", "publish"), np.diff(times), strict=True):
            spent.setdefault(part, []).append(float(seconds))
    begin = time.perf_counter()
    assert len(committed(store)) == plan.shards
    reading = (time.perf_counter() - begin) / plan.shards
    medians = {f"{part}_s": statistics.median(seconds) for part, seconds in spent.items()}
    return {**medians, "part_bytes": commit.bytes, "read_commit_s": reading, "commit_bytes": _driver_bytes(store)}


def _driver_bytes(store: Store) -> float:
    """Memory that a driver keeps of a shard that is done."""
    import tracemalloc

    tracemalloc.start()
    held = [committed(store) for _ in range(20)]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / sum(map(len, held))


PLANNING = """
import resource, sys, time, json
from mmmos.bulk.plan import make_plan
from mmmos.bulk.stores import open_store
from mmmos.data.inputs import expand
def peak():  # not resource's ru_maxrss, which a child inherits from the process that forked it
    return next(int(line.split()[1]) * 1024 for line in open('/proc/self/status') if line.startswith('VmHWM'))
before, begin = peak(), time.perf_counter()
plan = make_plan(open_store(sys.argv[2]), expand([sys.argv[1]]), {"task": "nothing"})
print(json.dumps({"clips": plan.clips, "seconds": time.perf_counter() - begin, "peak": peak(), "before": before}))
"""


def planning(rows: int, work: Path) -> dict[str, float]:
    """Plan a list of so many rows in a new process, then check the same plan in another one."""
    listed, folder = work / "list.jsonl", work / "planned"
    with open(listed, "w") as file:
        for i in range(rows):
            file.write(f'{{"path": "/data/audio/{i // 1000:05d}/{i:09d}.flac"}}\n')
    shutil.rmtree(folder, ignore_errors=True)
    results = []
    for _ in range(2):
        call = [sys.executable, "-c", PLANNING, str(listed), str(folder)]
        results.append(json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout))
    lists = sorted((folder / "_run").glob("clips-*.parquet"))
    gets, fetched = reads_of_a_shard(lists[0].read_bytes())
    return {
        "rows": rows,
        "seconds": results[0]["seconds"],
        "again_seconds": results[1]["seconds"],
        "peak": results[0]["peak"],
        "before": results[0]["before"],
        "list_bytes_a_clip": sum(path.stat().st_size for path in lists) / rows,
        "footer_bytes": parquet.ParquetFile(lists[0]).metadata.serialized_size,
        "groups": parquet.ParquetFile(lists[0]).num_row_groups,
        "gets": gets,
        "get_bytes": fetched,
    }


def reads_of_a_shard(data: bytes) -> tuple[int, int]:
    """Requests and bytes of a worker that reads a shard's clips from an object: the most over a few shards."""
    found = []
    groups = parquet.ParquetFile(io.BytesIO(data)).num_row_groups
    for group in {0, groups // 2, groups - 1}:
        asked: list[int] = []

        class Fetched(AbstractBufferedFile):  # type: ignore[misc]  # fsspec is untyped
            def _fetch_range(self, start: int, end: int, asked: list[int] = asked) -> bytes:
                asked.append(end - start)
                return data[start:end]

        with Fetched(None, "list", "rb", block_size=READ_AHEAD, size=len(data)) as file:
            parquet.ParquetFile(file).read_row_group(group)
        found.append((len(asked), sum(asked)))
    return max(found)


def peer(folder: Path, clips: Sequence[Clip]) -> dict[str, float]:
    """The baseline's own package and ours on one checkpoint of random weights: clips per second, one thread."""
    torchaudio, utils = types.ModuleType("torchaudio"), types.ModuleType("audiobox_aesthetics.utils")
    torchaudio.functional = types.SimpleNamespace(resample=lambda wave, orig_freq, new_freq: wave)  # type: ignore[attr-defined]
    utils.load_model = lambda path: path  # type: ignore[attr-defined]
    sys.modules |= {"torchaudio": torchaudio, "audiobox_aesthetics.utils": utils}
    from audiobox_aesthetics import infer

    target = {axis: {"mean": 5.0, "std": 1.0} for axis in ("CE", "CU", "PC", "PQ")}
    settings = {"proj_num_layer": 5, "proj_ln": True, "normalize_embed": True, "precision": "bf16"}
    torch.manual_seed(0)
    model = infer.AesMultiOutput(**settings, target_transform=target).eval()
    model.save_pretrained(folder)
    infer.AesMultiOutput.from_pretrained = lambda repository: model
    theirs = infer.AesPredictor(None)
    torch.set_num_threads(1)

    def score(batch: Sequence[Clip]) -> list[dict[str, float]]:
        waves = (soundfile.read(clip.path, dtype="float32") for clip in batch)
        words = [{"path": torch.from_numpy(wave)[None], "sample_rate": rate} for wave, rate in waves]
        rows: list[dict[str, float]] = theirs.forward(words)
        return rows

    score(clips[:1])
    begin = time.perf_counter()
    rows = score(clips)
    took = time.perf_counter() - begin
    task = ScoreTask(str(folder))
    ours = plain_loop(task, clips)["rate"]
    with scoring.from_pretrained(str(folder), device="cpu") as predictor:
        found = predictor.score([str(clip.path) for clip in clips])
    apart = max(abs(row[axis] - scores[axis]) for row, scores in zip(rows, found, strict=True) for axis in row)
    return {"clips": len(clips), "theirs": len(clips) / took, "ours": ours, "apart": apart}


def scaled(figures: dict[str, Any]) -> dict[str, float]:
    """From what was measured to `CLIPS` clips on `MACHINES` machines; seconds, bytes, requests and dollars."""
    plain, shard, plan, ray = (figures[name] for name in ("plain", "shard", "planning", "ray_jobs"))
    shards, lists = CLIPS / SHARD_SIZE, CLIPS / SHARD_SIZE / SHARDS_PER_FILE
    overhead = shard["list_s"] + shard["table_s"] + shard["publish_s"]
    asks = 1 + plan["gets"]  # how long the list is, then its pieces
    clip = 1 / plain["rate"] + overhead / SHARD_SIZE + (asks + 2) * ASSUMED["answer"] / SHARD_SIZE
    work = CLIPS * clip / WORKERS
    last = SHARD_SIZE * clip  # at the end workers wait for the last shards
    baseline = CLIPS / figures["peer"]["ours"] if "peer" in figures else 0.0
    planned = plan["seconds"] / plan["rows"] * CLIPS
    puts = 2 * shards + lists + 1
    resumed = shards / ASSUMED["readers"] * ASSUMED["answer"]
    machine_hour = MACHINES * CORES * ASSUMED["core_hour"]
    return {
        "shards": shards,
        "shard_seconds": last,
        "jobs_a_second": WORKERS / last,
        "driver_jobs_a_second": 1 / ray["driver_s"],
        "plan_seconds": planned,
        "plan_bytes": plan["list_bytes_a_clip"] * CLIPS,
        "list_files": lists,
        "footer_bytes": plan["footer_bytes"],
        "read_bytes": plan["get_bytes"] * shards,
        "part_bytes": shard["part_bytes"],
        "parts_bytes": shard["part_bytes"] * shards,
        "driver_bytes": plan["before"] + shard["commit_bytes"] * shards,
        "work_seconds": work,
        "whole_seconds": planned + ASSUMED["start"] + work + last,
        "core_hours": CLIPS * clip / 3600,
        "baseline_core_hours": baseline / 3600,
        "puts": puts,
        "gets": asks * shards,
        "request_dollars": puts * ASSUMED["put"] + (asks * shards) * ASSUMED["get"],
        "compute_dollars": (ASSUMED["start"] + work + last) / 3600 * machine_hour,
        "idle_plan_dollars": planned / 3600 * machine_hour,
        "month_dollars": (plan["list_bytes_a_clip"] * CLIPS + shard["part_bytes"] * shards)
        / 1e9
        * ASSUMED["month_of_gb"],
        "resume_seconds": resumed,
        "resume_dollars": shards * ASSUMED["get"] + 2 * shards / 1000 * ASSUMED["put"],
        "lost_core_hours": CORES * last / 3600,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a clip")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="of which medians are taken")
    parser.add_argument("--peer", type=int, default=6, help="clips for the comparison with the baseline")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench_bulk")
    options = parser.parse_args()
    work = options.work
    (work / "audio").mkdir(parents=True, exist_ok=True)
    wave, rate = check_clip()
    wave = np.resize(wave, round(options.seconds * rate))
    for number in range(options.clips):
        soundfile.write(work / "audio" / f"{number:05d}.flac", np.roll(wave, 997 * number), rate)
    clips = list(expand([str(work / "audio")]))[: options.clips]
    task, size = ScoreTask("lite", LoadOptions("cpu")), max(1, options.clips // 12)
    jobs: dict[str, Callable[[], dict[str, float]]] = {"plain": lambda: plain_loop(task, clips)}
    jobs["plain_2"] = lambda: plain_loops(task, clips, 2)
    for kind in ("local", "ray"):
        for workers in (1, 2):
            name = f"{kind}_{workers}"
            jobs[name] = partial(by_pool, pool_of(kind, workers), task, clips, size, work / name)
    load = os.getloadavg()[0]
    figures: dict[str, Any] = medians(jobs, options.rounds)
    figures["shard"] = per_shard(work)
    nothing = [Clip(f"{i}", f"/data/audio/{i:09d}.flac") for i in range(20_000)]
    for name, kind, size in (("local_nothing", "local", 1000), ("local_jobs", "local", 20), ("ray_jobs", "ray", 20)):
        found = by_pool(pool_of(kind, 1), NoTask(), nothing, size, work / name)
        count = len(nothing) / size
        found["driver_s"] = max(0.0, found["whole"] / count - 1 / found["rate"] * size)  # per job, besides its work
        found["clip_s"] = found["whole"] / len(nothing)
        figures[name] = found
        show(name, found)
    figures["planning"] = planning(options.rows, work)
    show("planning", figures["planning"])
    if options.peer:
        figures["peer"] = peer(work / "audiobox", clips[: options.peer])
        show("peer", figures["peer"])
    words = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    asked = {"clips": options.clips, "seconds": options.seconds, "rounds": options.rounds, "load": load}
    asked["shard_size"] = SHARD_SIZE
    data = {"commit": commit, "machine": machine(), **asked, "figures": figures}
    data |= {"scaled": scaled(figures), "assumed": ASSUMED, "clips_scaled": CLIPS, "machines": MACHINES, "cores": CORES}
    (ROOT / "bench" / "results" / "bulk.json").write_text(json.dumps(_rounded(data), indent=1) + "\n")


def medians(jobs: dict[str, Callable[[], dict[str, float]]], rounds: int) -> dict[str, dict[str, float]]:
    """Each figure's median over interleaved rounds, so that all jobs meet the same load of the machine."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            found[name].append(job())
            show(name, found[name][-1])
    return {
        name: {key: statistics.median(one[key] for one in several) for key in several[0]}
        for name, several in found.items()
    }


def show(name: str, found: dict[str, float]) -> None:
    """A line of what was measured."""
    print(name, json.dumps(_rounded(found)), flush=True)


def _rounded(value: Any) -> Any:
    """Four digits of every figure."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
