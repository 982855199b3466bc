"""Fitting one model: an explicit loop over tables of cached features.

A batch never mixes sets, since two listening tests rarely share a scale. The main set's rows are
fitted with the loss of the configuration; rows of every other set with a loss that only sees the
differences within the batch, so they teach an order and no offset. The development loss is that of
the main set, all its rows at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmos.dataset import Table
from mmmos.errors import TrainingError, UsageError
from mmmos.hub import Member
from mmmos.losses import LOSSES
from mmmos.metrics import srcc
from mmmos.model import ModelConfig, QualityModel
from mmmos.scores import AXES, Scale

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.jsonl"


@dataclass(frozen=True)
class TrainConfig:
    """How a model is fitted. The defaults are the paper's (section IV.A); `mmmos train` has its own, for small data."""

    loss: str = "ut"  # key in LOSSES, for the main set
    loss_options: dict[str, Any] = field(default_factory=dict)
    other_loss: str = "con"  # key in LOSSES, for every other set
    main_set: str = ""  # whose scale the scores are on
    lr: float = 1e-4  # Adam
    weight_decay: float = 0.0  # decoupled
    batch_size: int = 32
    epochs: int = 10  # at the most
    patience: int | None = 1  # epochs without a better development loss before it ends; None: never
    seed: int = 42


@dataclass(frozen=True)
class Epoch:
    """One line of the history."""

    epoch: int  # from 1
    train_loss: float
    dev_loss: float
    dev_srcc: dict[str, float | None]  # by axis, main set; None where undefined


def fit(
    config: ModelConfig,
    train: Table,
    dev: Table,
    how: TrainConfig,
    folder: Path | None = None,
    report: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[Member, list[Epoch]]:
    """Train one model and give it back as it was at its best development loss, with its history.

    With a `folder`, every epoch is kept there, and the same call goes on where an earlier one was
    broken off, to the same weights. Raises `TrainingError` for a loss that is not finite and for a
    table without usable rows, `UsageError` if the folder holds another run.
    """
    _check(train, dev, how)
    scales = {name: Scale.fit(_labels_of(train, name)) for name in _sets(train)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        model = QualityModel(config)
    model.aggregator.fit(train.inputs)
    optimizer = torch.optim.AdamW(model.parameters(), lr=how.lr, weight_decay=how.weight_decay)
    run = _Run(model, optimizer, _run_id(config, train, dev, how), folder)
    history = run.resume()
    dev = dev.take([row for row in dev.rows if row.set == how.main_set])
    parts = [_z_scored(part, scales) for part in (train, dev)]
    for number in range(len(history) + 1, how.epochs + 1):
        if _finished(history, how.patience):
            break
        history.append(_epoch(number, model, optimizer, parts[0], parts[1], how))
        run.save(history, is_best=best_epoch(history) is history[-1])
        report(history[-1])
    run.restore_best()
    return Member(model.eval().requires_grad_(False), scales[how.main_set]), history


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch whose weights a run ends with: the first of the lowest development loss."""
    return min(history, key=lambda epoch: epoch.dev_loss)


def _epoch(
    number: int, model: QualityModel, optimizer: torch.optim.Optimizer, train: Table, dev: Table, how: TrainConfig
) -> Epoch:
    """One pass over the training rows. Its order and dropout depend on seed and number alone."""
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed * 1_000_003 + number)
        model.train()
        for batch in _batches(train, how.batch_size):
            loss = _loss(model, train, batch, how)
            if not torch.isfinite(loss):
                clips = ", ".join(train.rows[i].clip.id for i in batch[:8])
                raise TrainingError(f"the loss is {loss.item()} in epoch {number}, in the batch with {clips}")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        dev_loss = _loss(model, dev, range(len(dev.rows)), how).item()
        if not np.isfinite(dev_loss):
            raise TrainingError(f"the development loss is {dev_loss} in epoch {number}")
        z = model.from_reduced(dev.inputs).double().numpy()
    return Epoch(number, float(np.mean(losses)), dev_loss, _srcc_by_axis(z, dev.labels.numpy()))


def _loss(model: QualityModel, table: Table, batch: Sequence[int], how: TrainConfig) -> Tensor:
    prediction, target = model.from_reduced(table.inputs[batch]), table.labels[batch]
    if table.rows[batch[0]].set == how.main_set:
        return LOSSES[how.loss](prediction, target, **how.loss_options)
    return LOSSES[how.other_loss](prediction, target)


def _batches(table: Table, size: int) -> Iterator[list[int]]:
    """Shuffled batches of one set each; a rest of one row joins the batch before it."""
    batches: list[list[int]] = []
    for name in _sets(table):
        rows = _rows_of(table, name)
        order = [rows[i] for i in torch.randperm(len(rows)).tolist()]
        cuts = list(range(0, len(order), size))
        if len(cuts) > 1 and len(order) - cuts[-1] == 1:
            cuts.pop()
        batches += [order[start:end] for start, end in zip(cuts, [*cuts[1:], len(order)], strict=True)]
    return (batches[i] for i in torch.randperm(len(batches)).tolist())


def _z_scored(table: Table, scales: dict[str, Scale]) -> Table:
    """Labels in z units of each set's own training rows."""
    z = [scales[row.set].to_z(labels) for row, labels in zip(table.rows, table.labels.double().numpy(), strict=True)]
    return Table(table.rows, table.inputs, torch.from_numpy(np.stack(z)).float())


def _srcc_by_axis(prediction: np.ndarray, target: np.ndarray) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for i, axis in enumerate(AXES):
        known = np.isfinite(target[:, i])
        value = srcc(prediction[known, i], target[known, i])
        found[axis] = round(value, 4) if np.isfinite(value) else None
    return found


def _sets(table: Table) -> list[str]:
    return sorted({row.set for row in table.rows})


def _rows_of(table: Table, name: str) -> list[int]:
    return [i for i, row in enumerate(table.rows) if row.set == name]


def _labels_of(table: Table, name: str) -> np.ndarray:
    return table.labels[_rows_of(table, name)].double().numpy()


def _finished(history: Sequence[Epoch], patience: int | None) -> bool:
    if patience is None or not history:
        return False
    return history[-1].epoch - best_epoch(history).epoch >= patience


def _check(train: Table, dev: Table, how: TrainConfig) -> None:
    for word in (how.loss, how.other_loss):
        if word not in LOSSES:
            raise UsageError(f"no loss is called {word!r}; there are {', '.join(LOSSES)}")
    for name, table in (("training", train), ("development", dev)):
        if not _rows_of(table, how.main_set):
            sets = ", ".join(repr(other) for other in _sets(table)) or "none at all"
            raise TrainingError(f"no usable {name} row is of the main set {how.main_set!r}; there are rows of {sets}")
        odd = [row.clip.id for row, inputs in zip(table.rows, table.inputs, strict=True) if not inputs.isfinite().all()]
        if odd:
            raise TrainingError(f"features of {len(odd)} {name} clips are not finite: {', '.join(odd[:8])}")


def _run_id(config: ModelConfig, train: Table, dev: Table, how: TrainConfig) -> str:
    rows = [
        [(row.clip.id, row.clip.start_time, row.clip.end_time, row.labels, row.set) for row in table.rows]
        for table in (train, dev)
    ]
    return repr((asdict(config), asdict(how), rows))


class _Run:
    """A run's state on disk: the latest epoch to go on from, and the best one to end with."""

    def __init__(self, model: QualityModel, optimizer: torch.optim.Optimizer, run_id: str, folder: Path | None) -> None:
        self.model, self.optimizer, self.run_id, self.folder = model, optimizer, run_id, folder
        self.best = _copy(model)

    def resume(self) -> list[Epoch]:
        """Take up the state in the folder, if there is one; the epochs already done."""
        if self.folder is None or not (self.folder / CHECKPOINT).is_file():
            return []
        # Our own file, and still no pickle is trusted: tensors and plain values only.
        state = torch.load(self.folder / CHECKPOINT, weights_only=True)
        if state["run"] != self.run_id:
            raise UsageError(f"{self.folder} holds a run with other settings or rows; give another folder")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        return [Epoch(**line) for line in state["history"]]

    def save(self, history: Sequence[Epoch], is_best: bool) -> None:
        if is_best:
            self.best = _copy(self.model)
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [asdict(epoch) for epoch in history]
        state = {"run": self.run_id, "model": self.model.state_dict(), "best": self.best, "history": lines}
        partial = self.folder / f"{CHECKPOINT}.part"
        torch.save({**state, "optimizer": self.optimizer.state_dict()}, partial)
        os.replace(partial, self.folder / CHECKPOINT)
        (self.folder / HISTORY).write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines))

    def restore_best(self) -> None:
        self.model.load_state_dict(self.best)


def _copy(model: QualityModel) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}
