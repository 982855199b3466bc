"""The training loop: fits one model by gradient descent on cached features.

A batch never mixes sets, since two listening tests rarely use the same scale. Rows of the primary dataset have the loss
`loss`. Rows of every other set have the loss `other_loss`: by default one that depends only on differences within
the batch, so that these rows determine an order but not an offset. The development loss is that of the primary dataset,
by default of all its rows at once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmmos.encoders.base import Features
from mmmos.errors import TrainingError, UsageError
from mmmos.losses import LOSSES
from mmmos.metrics import srcc
from mmmos.model.quality import ModelConfig, QualityModel, build_model
from mmmos.model.system import Member
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.scores import AXES, Scale
from mmmos.training.batches import datasets_of, indices_of, labels_of, rows_of, shuffled_batches, z_scored
from mmmos.training.checkpoint import Epoch, Run, best_epoch, finished
from mmmos.training.config import TrainConfig, run_id
from mmmos.training.dataset import TrainingSet

logger = logging.getLogger(__name__)

FIT_FRAMES = 20_000
"""The largest number of frames that a standardiser is fitted on."""

PREDICT_CROPS = 64
"""Crops per batch of predictions."""


def fit(
    config: ModelConfig,
    train: TrainingSet,
    dev: TrainingSet,
    options: TrainConfig,
    folder: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> tuple[Member, list[Epoch]]:
    """Train one model and return it as it was at its best development loss, with its history.

    With a `folder`, every epoch is saved there, and the same call resumes an interrupted one and ends
    with the same weights. Raises `TrainingError` for a loss that is not finite and for a
    table without usable rows, `UsageError` if the folder holds another run.
    """
    _check(train, dev, options)
    model, optimizer = _untrained(config, train, options)
    run = Run(model, optimizer, run_id(config, train, dev, options.stable_dict()), folder)
    scales = {name: Scale.fit(labels_of(train, name)) for name in datasets_of(train)}
    history = _train(run, z_scored(train, scales), _z_scored_dev(dev, scales, options), options, progress)
    run.restore_best()
    primary = options.primary_dataset
    member = Member(model.eval().requires_grad_(False), scales[primary])
    if options.settings.offset_calibration == "train_mean":
        member = _calibrated(member, train.take(rows_of(train, primary)), options)
    return member, history


def _untrained(
    config: ModelConfig, train: TrainingSet, options: TrainConfig
) -> tuple[QualityModel, torch.optim.Optimizer]:
    """A model with the seed's weights and the standardiser of the training features, and its optimizer."""
    settings = options.settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = build_model(config)
    model.aggregator.fit(train.frames(most=FIT_FRAMES))
    return model, torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)


def _train(run: Run, train: TrainingSet, dev: TrainingSet, options: TrainConfig, progress: Progress) -> list[Epoch]:
    """Do the epochs that the run has not done yet, with labels in z units, and return its whole history."""
    history = run.resume()
    progress.start("training", options.settings.epochs, "epochs", len(history))
    for number in range(len(history) + 1, options.settings.epochs + 1):
        if finished(history, options.settings.early_stop_patience):
            break
        epoch = _epoch(number, run.model, run.optimizer, train, dev, options)
        history.append(epoch)
        run.save(history, is_best=best_epoch(history) is epoch)
        logger.debug("epoch %d: training loss %.6g, development loss %.6g", number, epoch.train_loss, epoch.dev_loss)
        progress.advance()
    return history


def predict(model: QualityModel, table: TrainingSet, options: TrainConfig | None = None) -> Tensor:
    """Scores of every row in z units [N, A]; for a clip with several crops, their weighted mean."""
    numbers = sorted({number for crops in table.crops for number, _ in crops})
    place = {number: i for i, number in enumerate(numbers)}
    model.eval()
    with torch.no_grad():
        parts = [numbers[i : i + PREDICT_CROPS] for i in range(0, len(numbers), PREDICT_CROPS)]
        scores = torch.cat([_forward(model, table.inputs.batch(part), options) for part in parts])
        means = []
        for crops in table.crops:
            weights = torch.tensor([weight for _, weight in crops])
            means.append(weights @ scores[[place[number] for number, _ in crops]] / weights.sum())
    return torch.stack(means)


def _epoch(
    number: int,
    model: QualityModel,
    optimizer: torch.optim.Optimizer,
    train: TrainingSet,
    dev: TrainingSet,
    options: TrainConfig,
) -> Epoch:
    """One pass over the training rows. Its order and dropout depend only on the seed and the epoch's number."""
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed * 1_000_003 + number)
        model.train()
        for batch in shuffled_batches(train, options.batch_size):
            loss = _batch_loss(model, train, batch, options, number)
            if not torch.isfinite(loss):
                clips = ", ".join(train.rows[i].clip.id for i in batch[:8])
                raise TrainingError(f"the loss is {loss.item()} in epoch {number}, in the batch with {clips}")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
    z = predict(model, dev, options)
    dev_loss = _dev_loss(z, dev.labels, options)
    if not np.isfinite(dev_loss):
        raise TrainingError(f"the development loss is {dev_loss} in epoch {number}")
    return Epoch(number, float(np.mean(losses)), dev_loss, _srcc_by_axis(z.double().numpy(), dev.labels.numpy()))


def _forward(model: QualityModel, reduced: Features, options: TrainConfig | None) -> Tensor:
    """Reduced crops -> [B, A] in float32."""
    with torch.autocast(
        "cpu", torch.bfloat16, enabled=options is not None and options.settings.precision == "bfloat16"
    ):
        scores = model.from_reduced(reduced)
    return scores.float()


def _batch_loss(
    model: QualityModel, table: TrainingSet, batch: Sequence[int], options: TrainConfig, epoch: int
) -> Tensor:
    prediction, target = _forward(model, table.epoch_crops(batch, epoch), options), table.labels[batch]
    is_main = table.rows[batch[0]].set == options.primary_dataset
    name = options.settings.loss if is_main else options.settings.other_loss
    return LOSSES[name](prediction, target, **options.settings.loss_options(name))


def _dev_loss(z: Tensor, targets: Tensor, options: TrainConfig) -> float:
    size = options.batch_size if options.settings.val_loss == "batch_mean" else len(z)
    parts = zip(torch.split(z, size), torch.split(targets, size), strict=True)
    loss, loss_options = LOSSES[options.settings.loss], options.settings.loss_options(options.settings.loss)
    losses = [loss(*part, **loss_options) for part in parts]
    return float(torch.stack(losses).mean())


def _calibrated(member: Member, train: TrainingSet, options: TrainConfig) -> Member:
    """The member with its scale shifted so that scores and labels of the training rows have the same mean."""
    labels = train.labels.double().numpy()
    residual = labels - member.scale.to_labels(predict(member.model, train, options).double().numpy())
    rated = np.isfinite(residual).any(axis=0)
    shift = np.where(rated, np.nanmean(np.where(rated, residual, 0), axis=0), 0.0)
    mean = tuple(float(old + by) for old, by in zip(member.scale.mean, shift, strict=True))
    return Member(member.model, Scale(mean, member.scale.std))


def _z_scored_dev(dev: TrainingSet, scales: dict[str, Scale], options: TrainConfig) -> TrainingSet:
    """The development rows of the primary dataset with labels in z units, by the scale that the settings name."""
    primary = options.primary_dataset
    if options.settings.dev_target_stats == "own":
        scales = {primary: Scale.fit(labels_of(dev, primary))}
    return z_scored(dev.take(rows_of(dev, primary)), scales)


def _srcc_by_axis(prediction: np.ndarray, target: np.ndarray) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for i, axis in enumerate(AXES):
        known = np.isfinite(target[:, i])
        value = srcc(prediction[known, i], target[known, i])
        found[axis] = round(value, 4) if np.isfinite(value) else None
    return found


def _check(train: TrainingSet, dev: TrainingSet, options: TrainConfig) -> None:
    for word in (options.settings.loss, options.settings.other_loss):
        if word not in LOSSES:
            raise UsageError(f"no loss is called {word!r}; there are {', '.join(LOSSES)}")
    for name, table in (("training", train), ("development", dev)):
        if not indices_of(table, options.primary_dataset):
            sets = ", ".join(repr(other) for other in datasets_of(table)) or "none at all"
            raise TrainingError(
                f"no usable {name} row is in the primary dataset {options.primary_dataset!r}; there are rows of {sets}"
            )
        if odd := _not_finite(table):
            raise TrainingError(f"features of {len(odd)} {name} clips are not finite: {', '.join(odd[:8])}")


def _not_finite(table: TrainingSet) -> list[str]:
    """Ids of clips with a feature that is NaN or infinite."""
    starts = table.inputs.starts
    return [
        row.clip.id
        for row, crops in zip(table.rows, table.crops, strict=True)
        if not all(table.inputs.frames[starts[i] : starts[i + 1]].isfinite().all() for i, _ in crops)
    ]
