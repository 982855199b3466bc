"""Tasks without audio or network, in which a clip's name decides what happens to its worker."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow

from mmmos.audio.clip import Clip
from mmmos.bulk.commits import committed, part_name
from mmmos.bulk.plan import Plan
from mmmos.bulk.stores import Store
from mmmos.bulk.workers import Job, Lists, Outcome, Running, WorkerPool, work_on
from mmmos.progress import NoProgress, Progress

SCHEMA = pyarrow.schema(
    [(name, pyarrow.string()) for name in ("id", "path", "error_code", "error_message")] + [("length", pyarrow.int64())]
)


def clips_named(*names: str) -> list[Clip]:
    return [Clip(f"{number}-{name}", f"/toys/{name}") for number, name in enumerate(names)]


@dataclass(frozen=True)
class ToyTask:
    """A clip's row is the length of its name. `log` gets a line per clip that is touched, with the process."""

    log: str = ""
    starts: str = "well"  # or "dies", "raises"
    seconds: float = 0.0  # that a clip takes
    until: str = ""  # and takes no longer once this file is there
    windows: int = 1  # of a clip, among which its time is divided

    def describe(self) -> dict[str, Any]:
        return {"task": "toy", "model": "toy", "model_sha256": "0" * 64, "version": "1", "settings": {"device": "cpu"}}

    def start(self) -> ToyWork:
        if self.starts == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.starts == "raises":
            raise RuntimeError("no such weights")
        return ToyWork(self)


class ToyWork:
    schema = SCHEMA

    def __init__(self, task: ToyTask) -> None:
        self.task = task

    def rows(self, clips: Sequence[Clip], progress: Progress) -> Iterator[dict[str, Any]]:
        for clip in clips:
            self.touch(clip, progress)
            error = "empty_file" if "empty" in clip.id else None
            yield {"id": clip.id, "path": clip.path, "length": len(clip.id), "error_code": error}
            progress.advance()

    def touch(self, clip: Clip, progress: Progress) -> None:
        if self.task.log:
            with open(self.task.log, "a") as file:
                file.write(f"{clip.id} {os.getpid()}\n")
        for _ in range(self.task.windows):
            if not (self.task.until and os.path.exists(self.task.until)):
                time.sleep(self.task.seconds / self.task.windows)
            progress.windows()
        if "kills" in clip.id:
            os.kill(os.getpid(), signal.SIGKILL)
        if "raises" in clip.id:
            raise ValueError("a bad clip")
        if "hangs" in clip.id:
            time.sleep(600)

    def failed(self, clip: Clip, code: str, message: str) -> dict[str, Any]:
        return {"id": clip.id, "path": clip.path, "error_code": code, "error_message": message}

    def child_bytes(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing was started."""


class DriverKilled(BaseException):
    """Nothing catches it."""


class FakeWorkers:
    """A worker pool without processes: jobs end in any order, and fail if a clip's name says so.

    A fraction `unlucky` of the whole shards fails, too. After `lives` jobs the driver is killed.
    """

    def __init__(
        self, store: Store, plan: Plan, size: int = 2, seed: int = 0, unlucky: float = 0.0, lives: int | None = None
    ) -> None:
        self.store, self.plan, self.size, self.unlucky, self.lives = store, plan, size, unlucky, lives
        self.random = random.Random(seed)
        self.waiting: deque[Job] = deque()
        self.touched: Counter[str] = Counter()
        self.most = 0
        self.lists = Lists(store, plan)

    def submit(self, job: Job) -> None:
        self.waiting.append(job)
        self.most = max(self.most, len(self.waiting))

    def wait(self, seconds: float) -> list[Outcome]:
        self.random.shuffle(self.waiting)
        return [self.do(self.waiting.popleft()) for _ in range(self.random.randint(0, len(self.waiting)))]

    def do(self, job: Job) -> Outcome:
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                raise DriverKilled
        clips = self.lists.clips(job.shard)
        for clip in [] if job.error else clips if job.clip is None else [clips[job.clip]]:
            self.touched[clip.id] += 1
            if "kills" in clip.id:
                return Outcome(job, None, True, "its process died with status -9")
            if "raises" in clip.id:
                return Outcome(job, None, False, "ValueError: a bad clip")
        if job.clip is None and self.random.random() < self.unlucky:
            return Outcome(job, None, True, "its node is gone")
        return Outcome(job, work_on(self.store, self.plan, ToyTask().start(), job, lists=self.lists))

    def running(self) -> list[Running]:
        return [Running(job) for job in self.waiting]

    def close(self) -> None:
        """There is nothing to end."""


class HungTime:
    """A clock for the driver, which runs while only the first shard is in progress."""

    def __init__(self, workers: WorkerPool) -> None:
        self.workers, self.now = workers, 0.0

    def monotonic(self) -> float:
        self.now += [running.job.shard for running in self.workers.running()] == [0]
        return self.now


class WindowWatch(NoProgress):
    """Creates a file once it has received several numbers of finished windows."""

    def __init__(self, seen: Path) -> None:
        self.seen, self.numbers = seen, set[int]()

    def update(self, done: float, windows: int = 0, detail: str = "") -> None:
        self.numbers.add(windows)
        if len(self.numbers) > 2:
            self.seen.touch()


def touched(log: Path) -> list[str]:
    """The clips that were touched, in the order of time, each as often as it was."""
    return [line.split()[0] for line in log.read_text().splitlines()]


def parts(store: Store, plan: Plan) -> list[bytes]:
    """What was published, whole: every shard has a part and a commit of it."""
    assert sorted(committed(store)) == list(range(plan.shards))
    return [store.read(part_name(shard)) for shard in range(plan.shards)]


def rows_of(store: Store, plan: Plan) -> list[dict[str, Any]]:
    """All rows, in the order of the list."""
    return [
        row for data in parts(store, plan) for row in pyarrow.parquet.read_table(pyarrow.BufferReader(data)).to_pylist()
    ]


def read_json(store: Store, name: str) -> Any:
    return json.loads(store.read(name))


def tiny_model(folder: Path) -> Path:
    """A model of random weights on an encoder that needs none, quick to load."""
    import torch

    from mmmos.encoders.base import EncoderSpec
    from mmmos.encoders.table import load_encoder
    from mmmos.model.folder import save_model
    from mmmos.model.info import ModelInfo
    from mmmos.model.quality import ModelConfig, build_model
    from mmmos.model.system import Member
    from mmmos.scores import Scale

    encoder = load_encoder("spectrum")
    spec = EncoderSpec("spectrum", encoder.block_dims, encoder.fingerprint(), encoder.settings())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(ModelConfig((spec,))).eval()
    save_model(folder, Member(model, Scale((5.0,) * 4, (1.0,) * 4)), ModelInfo(), "# toy\n")
    return folder
