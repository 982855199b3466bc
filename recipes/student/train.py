"""Trains the student on the shards of `recipes.student.teachers`.

    python -m recipes.student.train [--work build/student] [--epochs 12]

Starts from the first eight blocks of the bundled YAMNet; the first five, whose output is a part of the frames, stay as
they are. Shards that are added meanwhile are used from the next epoch on. Writes WORK/checkpoint.pt after every epoch,
from which an interrupted run resumes; WORK/student.safetensors, the moving average of the weights, in float16; and a
line in WORK/curve.jsonl with the agreement with each teacher on segments of packages that training does not see.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from recipes.student.learner import Batch, Learner, Scaler, agreement, losses
from recipes.student.network import is_trained

BATCH = 16
RATE, TRUNK_RATE, END_RATE = 1e-3, 3e-4, 0.03  # learning rates of new and of YAMNet's layers; their fraction at the end
DECAY = 0.99  # of the moving average of the weights


def read_shards(paths: list[Path]) -> Batch:
    """All segments of shards, as tensors."""
    columns: dict[str, list[Tensor]] = {}
    for path in paths:
        with np.load(path) as shard:
            for name in ("log_mel", "frames", "yamnet", "scores", "domain"):
                columns.setdefault(name, []).append(torch.from_numpy(shard[name]))
    return {name: torch.cat(values) for name, values in columns.items()}


def batches(data: Batch, rng: np.random.Generator) -> Iterator[Batch]:
    """Whole batches in random order."""
    order = rng.permutation(len(data["scores"]))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        rows = torch.from_numpy(order[start : start + BATCH])
        yield {name: values[rows] for name, values in data.items()}


def optimizer_of(learner: Learner) -> torch.optim.Optimizer:
    """AdamW with a lower rate for YAMNet's layers."""
    named = [(key, value) for key, value in learner.named_parameters() if value.requires_grad]
    trunk = [value for key, value in named if key.startswith("student.blocks.")]
    rest = [value for key, value in named if not key.startswith("student.blocks.")]
    return torch.optim.AdamW(
        [{"params": trunk, "lr": TRUNK_RATE, "base": TRUNK_RATE}, {"params": rest, "lr": RATE, "base": RATE}],
        weight_decay=1e-2,
    )


class Run:
    """A training run that can be interrupted after any epoch."""

    def __init__(self, work: Path, epochs: int) -> None:
        self.work, self.epochs, self.epoch, self.steps = work, epochs, 0, 0
        self.learner = Learner()
        self.average = {key: value.clone() for key, value in self.learner.state_dict().items()}
        self.optimizer = optimizer_of(self.learner)
        self.scaler = Scaler(read_shards(self.shards("train")))
        if (work / "checkpoint.pt").is_file():
            self._resume(torch.load(work / "checkpoint.pt", weights_only=True))

    def shards(self, kind: str) -> list[Path]:
        """The shards that are there by now."""
        found = sorted((self.work / "shards").glob(f"{kind}-????.npz"))
        if not found:
            raise SystemExit(
                f"no shards {kind}-*.npz in {self.work / 'shards'}: make them with recipes.student.teachers"
            )
        return found

    def run(self) -> None:
        """The epochs that are left."""
        while self.epoch < self.epochs:
            print(json.dumps(self.step()), flush=True)

    def step(self) -> dict[str, Any]:
        """One epoch; returns its line of the curve."""
        start, data = time.process_time(), read_shards(self.shards("train"))
        seen = self._train(data)
        self.epoch += 1
        self._save()
        report = self._report() | {"epoch": self.epoch, "steps": self.steps, "segments": len(data["scores"])}
        report |= {"train": seen, "cpu_s": round(time.process_time() - start)}
        with open(self.work / "curve.jsonl", "a") as file:
            file.write(json.dumps(report) + "\n")
        return report

    def _train(self, data: Batch) -> dict[str, float]:
        rng, count = np.random.default_rng(self.epoch), len(data["scores"]) // BATCH
        total: dict[str, float] = {}
        for i, batch in enumerate(batches(data, rng)):
            done = (self.epoch + i / count) / self.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = group["base"] * (END_RATE + (1 - END_RATE) * 0.5 * (1 + math.cos(math.pi * done)))
            parts = losses(self.learner(batch["log_mel"].float()), self.scaler.targets(batch), self.scaler)
            self.optimizer.zero_grad()
            sum(parts.values()).backward()  # type: ignore[union-attr]
            nn.utils.clip_grad_norm_(self.learner.parameters(), 1.0)
            self.optimizer.step()
            self.steps += 1
            decay = min(DECAY, self.steps / (self.steps + 10))
            for key, value in self.learner.state_dict().items():
                self.average[key].lerp_(value, 1 - decay)
            for name, part in parts.items():
                total[name] = total.get(name, 0.0) + part.item() / count
        return {name: round(value, 4) for name, value in total.items()}

    def _report(self) -> dict[str, Any]:
        averaged = Learner()
        averaged.load_state_dict(self.average)
        return agreement(averaged, read_shards(self.shards("held-out")), self.scaler)

    def _save(self) -> None:
        state: dict[str, Any] = {
            "learner": self.learner.state_dict(),
            "average": self.average,
            "stats": self.scaler.stats,
        }
        state |= {"optimizer": self.optimizer.state_dict(), "epoch": self.epoch, "steps": self.steps}
        torch.save(state, self.work / "checkpoint.partial")
        (self.work / "checkpoint.partial").rename(self.work / "checkpoint.pt")
        own = {key.removeprefix("student."): value for key, value in self.average.items() if key.startswith("student.")}
        half = {key: value.half().contiguous() for key, value in own.items() if is_trained(key)}
        save_file(half, self.work / "student.partial")
        (self.work / "student.partial").rename(self.work / "student.safetensors")

    def _resume(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.average, self.scaler.stats = state["average"], state["stats"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.steps = state["epoch"], state["steps"]


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/student"), help="folder with shards/; output folder")
    parser.add_argument("--epochs", type=int, default=12, help="passes over the shards")
    options = parser.parse_args()
    torch.set_num_threads(1)
    Run(options.work, options.epochs).run()


if __name__ == "__main__":
    main()
