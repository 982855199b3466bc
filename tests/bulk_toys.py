"""Work on clips without audio or network, in which a clip's name says what becomes of whoever touches it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow

from mmmos.bulk.plan import Plan, committed, part_name
from mmmos.bulk.stores import Store
from mmmos.clips import Clip

SCHEMA = pyarrow.schema(
    [(name, pyarrow.string()) for name in ("id", "path", "error_code", "error_message")] + [("length", pyarrow.int64())]
)


def clips_named(*names: str) -> list[Clip]:
    return [Clip(f"{number}-{name}", f"/toys/{name}") for number, name in enumerate(names)]


@dataclass(frozen=True)
class ToyTask:
    """A clip's row is the length of its name. `log` is told of every clip that is touched, with the process."""

    log: str = ""
    starts: str = "well"  # or "dies", "raises"
    seconds: float = 0.0  # that a clip takes
    until: str = ""  # and takes no longer once this file is there

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

    def rows(self, clips: Sequence[Clip]) -> Iterator[dict[str, Any]]:
        for clip in clips:
            self.touch(clip)
            error = "empty_file" if "empty" in clip.id else None
            yield {"id": clip.id, "path": clip.path, "length": len(clip.id), "error_code": error}

    def touch(self, clip: Clip) -> None:
        if self.task.log:
            with open(self.task.log, "a") as file:
                file.write(f"{clip.id} {os.getpid()}\n")
        if not (self.task.until and os.path.exists(self.task.until)):
            time.sleep(self.task.seconds)
        if "kills" in clip.id:
            os.kill(os.getpid(), signal.SIGKILL)
        if "raises" in clip.id:
            raise ValueError("a bad clip")
        if "hangs" in clip.id:
            time.sleep(600)

    def failed(self, clip: Clip, code: str, message: str) -> dict[str, Any]:
        return {"id": clip.id, "path": clip.path, "error_code": code, "error_message": message}

    def close(self) -> None:
        """Nothing was started."""


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


def told(store: Store, name: str) -> Any:
    return json.loads(store.read(name))


def tiny_model(folder: Path) -> Path:
    """A model of random weights on an encoder that needs none, quick to load."""
    import torch

    from mmmos.encoders import load_encoder
    from mmmos.hub import About, Member, save_model
    from mmmos.model import EncoderSpec, ModelConfig, QualityModel
    from mmmos.scores import Scale

    encoder = load_encoder("spectrum")
    spec = EncoderSpec("spectrum", encoder.columns, encoder.fingerprint(), encoder.settings())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = QualityModel(ModelConfig((spec,))).eval()
    save_model(folder, Member(model, Scale((5.0,) * 4, (1.0,) * 4)), About(), "# toy\n")
    return folder
