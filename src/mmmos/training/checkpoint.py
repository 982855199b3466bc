"""The epochs of a training run, and its state on disk, from which an interrupted run resumes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmmos.errors import UsageError
from mmmos.io.atomic import replacing
from mmmos.model.quality import QualityModel, state_from_stored, stored_state

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.jsonl"


@dataclass(frozen=True)
class Epoch:
    """One line of the history."""

    epoch: int  # from 1
    train_loss: float
    dev_loss: float
    dev_srcc: dict[str, float | None]  # by axis, on the primary dataset; None where undefined


def best_epoch(history: Sequence[Epoch]) -> Epoch:
    """The epoch whose weights a run ends with: the first one with the lowest development loss."""
    return min(history, key=lambda epoch: epoch.dev_loss)


def drop_checkpoint(folder: Path) -> None:
    """Delete the state of a finished run and partial files of killed processes: four times the size of the model."""
    for path in folder.glob(f"{CHECKPOINT}*"):
        path.unlink(missing_ok=True)


def finished(history: Sequence[Epoch], patience: int | None) -> bool:
    """Whether the last `patience` epochs did not improve the development loss."""
    if patience is None or not history:
        return False
    return history[-1].epoch - best_epoch(history).epoch >= patience


class Run:
    """The latest epoch, to resume from, and the best one, to end with; on disk if there is a folder.

    `run_id` identifies everything that determines the run. The folder of another run is refused.
    """

    def __init__(self, model: QualityModel, optimizer: torch.optim.Optimizer, run_id: str, folder: Path | None) -> None:
        self.model, self.optimizer, self.run_id, self.folder = model, optimizer, run_id, folder
        self.best = _copy(model)

    def resume(self) -> list[Epoch]:
        """Load the state in the folder, if there is one, and return the epochs done so far."""
        if self.folder is None or not (self.folder / CHECKPOINT).is_file():
            return []
        # Even our own pickles are not trusted: only tensors and plain values are read.
        try:
            state = torch.load(self.folder / CHECKPOINT, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise UsageError(f"{self.folder / CHECKPOINT} is damaged: delete it, and the run starts again") from error
        if state["run"] != self.run_id:
            raise UsageError(f"{self.folder} holds a run with other settings or rows; choose another folder")
        self.model.load_state_dict(state_from_stored(state["model"]))
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        return [Epoch(**line) for line in state["history"]]

    def save(self, history: Sequence[Epoch], is_best: bool) -> None:
        """Save the model as it is after the last epoch of the history."""
        if is_best:
            self.best = _copy(self.model)
        if self.folder is None:
            return
        lines = [asdict(epoch) for epoch in history]
        state = {"run": self.run_id, "model": stored_state(self.model), "best": self.best, "history": lines}
        with replacing(self.folder / CHECKPOINT, durable=False) as partial:
            torch.save({**state, "optimizer": self.optimizer.state_dict()}, partial)
        (self.folder / HISTORY).write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines))

    def restore_best(self) -> None:
        """Load the best epoch's weights into the model."""
        self.model.load_state_dict(state_from_stored(self.best))


def _copy(model: QualityModel) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in stored_state(model).items()}
