"""One run of an experiment: trains a model, saves it with its predictions, and marks it done.

OUT/runs/<configuration>-<seed>/   a model folder; predictions.npz; result.json, written last
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.experiments.results import Result, results_of
from mmmos.features.crops import name_of
from mmmos.io.atomic import replacing
from mmmos.model.folder import save_model
from mmmos.model.info import ModelInfo
from mmmos.model.quality import ModelConfig
from mmmos.model.system import Member
from mmmos.scores import AXES, LABEL_RANGE
from mmmos.training.checkpoint import best_epoch, drop_checkpoint
from mmmos.training.config import TrainConfig
from mmmos.training.dataset import TrainingSet
from mmmos.training.loop import fit, predict
from mmmos.training.saving import short_card
from mmmos.training.settings import Settings
from mmmos.training.summary import rated_axes

RESULT, PREDICTIONS = "result.json", "predictions.npz"

IDS = "/ids"
"""Suffix of the arrays of clip ids in `PREDICTIONS`: "Dev/ids" [N] next to "Dev" [N, A]."""

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Run:
    """One model to train: a configuration and a seed."""

    folder: Path
    config: ModelConfig
    settings: Settings
    seed: int
    train: str  # key of a training set, as in the next two
    dev: str
    reports: dict[str, str]  # by set
    shown_in: tuple[tuple[str, str], ...]  # (table, row) pairs
    cost: float  # approximate duration, in an arbitrary unit
    trained_on: tuple[str, ...] = ()  # files of `train` and `dev`, as in `ModelInfo`

    @property
    def is_done(self) -> bool:
        """Whether the run is complete."""
        return (self.folder / RESULT).is_file()


def train_run(run: Run, tables: Mapping[str, TrainingSet]) -> None:
    """Train one model, save it with its predictions, and mark it done."""
    train = tables[run.train]
    primary = Counter(row.set for row in train.rows).most_common(1)[0][0] if train.rows else ""
    options = TrainConfig(run.settings, run.seed, primary)
    member, history = fit(run.config, train, tables[run.dev], options, run.folder)
    rated, best = rated_axes(train), best_epoch(history)
    predictions = _predict(run, member, options, rated, tables)
    info = ModelInfo.of_training(
        {"settings": options.stored(), "best_epoch": best.epoch},
        rated,
        clip_output=run.settings.clip_output,
        label_range=LABEL_RANGE,
        trained_on=run.trained_on,
    )
    save_model(run.folder, member, info, short_card(run.folder.name, "One run of an experiment", info))
    with replacing(run.folder / PREDICTIONS) as partial, open(partial, "wb") as file:
        np.savez(file, allow_pickle=False, **predictions)
    drop_checkpoint(run.folder)
    with replacing(run.folder / RESULT) as partial:
        partial.write_text(json.dumps({"epochs": len(history), **asdict(best)}, allow_nan=False) + "\n")


def _predict(
    run: Run, member: Member, options: TrainConfig, rated: Sequence[str], tables: Mapping[str, TrainingSet]
) -> dict[str, NDArray[Any]]:
    """Contents of `PREDICTIONS`: for each reported set, scores [N, A], NaN on axes without labels, and ids [N]."""
    predictions: dict[str, NDArray[Any]] = {}
    for name, key in run.reports.items():
        scores = member.scale.to_labels(predict(member.model, tables[key], options).double().numpy())
        scores = np.clip(scores, *LABEL_RANGE) if run.settings.clip_output else scores
        predictions[name] = np.where([axis in rated for axis in AXES], scores, np.nan)
        predictions[f"{name}{IDS}"] = np.array([name_of(row.clip) for row in tables[key].rows])
    return predictions


def read_predictions(run: Run) -> dict[str, Array]:
    """Reported set -> predictions [N, A] of a finished run."""
    with np.load(run.folder / PREDICTIONS) as file:
        return {name: file[name] for name in file.files if not name.endswith(IDS)}


def results_of_run(run: Run, tables: Mapping[str, TrainingSet]) -> Iterator[Result]:
    """The results of a finished run, once for each table and row that it belongs to."""
    for name, scores in read_predictions(run).items():
        for table, row in run.shown_in:
            yield from results_of(scores, tables[run.reports[name]].rows, name, table, row, run.seed)
