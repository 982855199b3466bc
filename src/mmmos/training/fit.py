"""From labelled clips to a model folder, as in `mmmos train`: encode, fit, check, save."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmmos.data.manifest import LabelledClip
from mmmos.data.splits import check_disjoint
from mmmos.data.trainable import check_range, check_trainable, find_primary_dataset
from mmmos.errors import UsageError
from mmmos.features.cache import Keep, file_digests
from mmmos.features.extractor import FeatureExtractor
from mmmos.features.source import EncoderOptions, EncoderSource
from mmmos.model.info import ModelInfo
from mmmos.model.load import MODELS, load_model
from mmmos.model.quality import ModelConfig, build_aggregator
from mmmos.model.system import Member, ScoringModel, combine
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.scores import AXES, LABEL_RANGE, LabelRange, scale_name
from mmmos.training.checkpoint import CHECKPOINT, best_epoch, drop_checkpoint
from mmmos.training.closed_form import check_start, fit_closed_form, suits
from mmmos.training.config import TrainConfig, run_id
from mmmos.training.dataset import TrainingSet, build_training_set
from mmmos.training.identity import stable_dict
from mmmos.training.loop import fit as train_loop
from mmmos.training.loop import predict
from mmmos.training.method import choose_fit
from mmmos.training.saving import save_checked
from mmmos.training.settings import Settings
from mmmos.training.summary import Fit, Fitted, card, count_sets, figures_of, rated_axes

logger = logging.getLogger(__name__)

RUN_FILES = (CHECKPOINT, "config.json", "ensemble.json")
"""Files that mark the folder of a training run."""


@dataclass(frozen=True)
class _Outcome:
    """A fitted model, before it is saved."""

    members: tuple[Member, ...]
    weights: NDArray[np.float64]  # [M, A]
    result: dict[str, Any]  # fields of `Fitted`
    used: tuple[LabelledClip, ...]  # clips that determined the weights
    training: dict[str, Any]  # fields of `ModelInfo.training`


def train_folder(
    folder: Path,
    train: Sequence[LabelledClip],
    dev: Sequence[LabelledClip],
    source: EncoderSource,
    settings: Settings,
    cache: Path,
    *,
    fit: Literal["auto", "closed_form", "gradient"] = "auto",
    label_range: LabelRange = LABEL_RANGE,
    seed: int = 42,
    primary_dataset: str = "",
    start: ScoringModel | None = None,
    progress: Progress = NO_PROGRESS,
) -> Fitted:
    """Train one model on clips with human labels and save it as a folder.

    The gradient fit stops on `dev`. The closed form needs no `dev`: it reports held-out folds of `train`. It corrects
    the scores of `start`, a model with the same encoders and settings.
    An interrupted run resumes when it is called again: features are in `cache`, epochs in `folder`. The folder of a
    finished run stays as it is. Clips that are missing or cannot be decoded are left out, logged and listed.
    `progress` gets a stage "encoding" for each part, then "training" of at most all epochs. Raises
    `ModelNotFoundError`, `TrainingError`, `UsageError`, and `ManifestError` for a label of the primary dataset outside
    `label_range`.
    """
    _check_folder(folder)
    method = choose_fit(fit, settings, len(train) + len(dev), folder)
    options = TrainConfig(settings, seed, find_primary_dataset([*train, *dev], primary_dataset))
    _check_clips(train, dev, method, options.primary_dataset, label_range)
    keep: Keep = "frames" if settings.aggregator == "blstm_t" else "pooled"
    prior = start or (load_model("lite") if method == "closed_form" else None)
    extractor = FeatureExtractor.load(source, _encoder_options(settings, prior), cache, keep)
    config, prior = _config(extractor, settings, method, prior, start)
    parts, left_out = _training_sets((train, dev), extractor, config, options, method, progress)
    run = _run_hash(method, label_range, config, parts, options, start)
    if (result := _finished(folder, run)) is not None:
        logger.info("%s holds the finished model of this run already", folder)
        return result
    if method == "closed_form":
        outcome = _closed_form(parts, config, options.primary_dataset, prior, warm=start is not None)
    else:
        outcome = _gradient(parts, config, options, folder, progress)
    counts = len(parts[0].rows), len(parts[1].rows)
    result = Fitted(str(folder), method, scale_name(label_range), *counts, left_out, **outcome.result)
    training: dict[str, Any] = {"settings": options.stored()}
    training |= {"train": count_sets(parts[0]), "dev": count_sets(parts[1])}
    training |= {**outcome.training, "fit": method, "agreement": result.agreement, "run": run, "result": asdict(result)}
    info = ModelInfo.of_training(
        training,
        rated_axes(parts[0]),
        clip_output=settings.clip_output,
        label_range=label_range,
        trained_on=(*file_digests(row.clip for row in outcome.used), *(start.info.trained_on if start else ())),
    )
    model = ScoringModel(folder.name, outcome.members, outcome.weights, info, "", extractor.encoders)
    save_checked(folder, model, card(folder.name, result, training))
    drop_checkpoint(folder)
    return result


def _check_clips(
    train: Sequence[LabelledClip],
    dev: Sequence[LabelledClip],
    method: Fit,
    primary_dataset: str,
    label_range: LabelRange,
) -> None:
    """Raise `ManifestError` or `UsageError` for clips that cannot be trained on."""
    check_range([row for row in (*train, *dev) if row.set == primary_dataset], label_range)
    check_disjoint(train, dev)
    check_trainable(train, dev if method == "gradient" else None, primary_dataset)


def _check_folder(folder: Path) -> None:
    """Raise `UsageError` for a folder that is not of a training run."""
    if str(folder) in MODELS:
        raise UsageError(f"{folder} is the name of a model that comes with mmmos; choose another name")
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in RUN_FILES):
        raise UsageError(f"{folder} holds other files; choose a new folder")


def _training_sets(
    parts: tuple[Sequence[LabelledClip], Sequence[LabelledClip]],
    extractor: FeatureExtractor,
    config: ModelConfig,
    options: TrainConfig,
    method: Fit,
    progress: Progress,
) -> tuple[tuple[TrainingSet, TrainingSet], list[str]]:
    """Training and development set with their features, and the clips that are left out.

    Raises `UsageError` if those that remain cannot be trained on.
    """
    settings, (train, dev) = options.settings, parts
    mode, n_crops = (settings.train_crop, settings.epochs) if method == "gradient" else (settings.eval_crop, 1)
    extracted = (
        extractor.prepare([row.clip for row in train], mode, n_crops, options.seed, progress),
        extractor.prepare([row.clip for row in dev], settings.eval_crop, 1, options.seed, progress),
    )
    aggregator = build_aggregator(config)
    sets = (
        build_training_set(train, extracted[0].plans, extractor, aggregator),
        build_training_set(dev, extracted[1].plans, extractor, aggregator),
    )
    left_out = [*extracted[0].left_out, *extracted[1].left_out]
    held_out = sets[1].rows if method == "gradient" else None
    check_trainable(sets[0].rows, held_out, options.primary_dataset, left_out)
    return sets, left_out


def _run_hash(
    method: Fit,
    label_range: LabelRange,
    config: ModelConfig,
    parts: tuple[TrainingSet, TrainingSet],
    options: TrainConfig,
    start: ScoringModel | None,
) -> str:
    """Identifies a run: its folder is finished only if its model has the same one."""
    settings = stable_dict(options.settings) | {"seed": options.seed, "main_set": options.primary_dataset}
    begins = (start.sha256,) if start else ()  # runs of earlier versions do not have it
    return hashlib.sha256(repr((method, label_range, run_id(config, *parts, settings), *begins)).encode()).hexdigest()


def _encoder_options(settings: Settings, prior: ScoringModel | None) -> EncoderOptions:
    """The options of each encoder: those of the prior, and those of the settings."""
    known = {spec.name: spec.options for spec in prior.encoders} if prior else {}
    return lambda name: {**known.get(name, {}), **settings.encoder_options(name)}


def _config(
    extractor: FeatureExtractor,
    settings: Settings,
    method: Fit,
    prior: ScoringModel | None,
    start: ScoringModel | None,
) -> tuple[ModelConfig, ScoringModel | None]:
    """The model's config, and the prior of the closed form: `start`, or else `prior` if it suits (see `suits`)."""
    config = settings.model(extractor.specs())
    if start is not None:
        check_start(start, config, method)
        return start.members[0].model.config, start
    if prior is None or not suits(prior, config):
        return config, None
    return prior.members[0].model.config, prior


def _closed_form(
    parts: tuple[TrainingSet, TrainingSet],
    config: ModelConfig,
    primary_dataset: str,
    prior: ScoringModel | None,
    warm: bool,
) -> _Outcome:
    fitted = fit_closed_form(parts[0], config, primary_dataset, prior, warm)
    on = f"clips, cross-validated in {fitted.folds} folds that cut no group"
    result: dict[str, Any] = {"agreement": fitted.agreement, "agreement_on": on}
    if any(row.set == primary_dataset for row in parts[1].rows):
        own = [member.scale.to_labels(predict(member.model, parts[1]).double().numpy()) for member in fitted.members]
        scores, _ = combine(np.stack(own), fitted.weights)
        found = figures_of(scores, *parts, primary_dataset)
        result |= {"dev_srcc": {axis: figures["SRCC"] for axis, figures in found.items()}}
    training = {"prior": prior.name if prior else None, "warm": warm, "chosen": fitted.chosen}
    return _Outcome(fitted.members, fitted.weights, result, parts[0].rows, training)


def _gradient(
    parts: tuple[TrainingSet, TrainingSet],
    config: ModelConfig,
    options: TrainConfig,
    folder: Path,
    progress: Progress,
) -> _Outcome:
    member, history = train_loop(config, *parts, options, folder, progress)
    best = best_epoch(history)
    scores = member.scale.to_labels(predict(member.model, parts[1], options).double().numpy())
    result = {"epochs": len(history), "best_epoch": best.epoch, "dev_srcc": best.dev_srcc}
    result |= {"agreement": figures_of(scores, *parts, options.primary_dataset), "agreement_on": "development clips"}
    training = {"best_epoch": best.epoch, "dev_srcc": best.dev_srcc}
    return _Outcome((member,), np.ones((1, len(AXES))), result, (*parts[0].rows, *parts[1].rows), training)


def _finished(folder: Path, run: str) -> Fitted | None:
    """The result of a finished run, None if it is not finished. Raises `UsageError` for the folder of another run."""
    if (folder / CHECKPOINT).exists() or not any((folder / name).exists() for name in ("config.json", "ensemble.json")):
        return None
    training = load_model(folder).info.training
    if training.get("run") != run:
        raise UsageError(f"{folder} holds a model with other settings or rows; choose another folder, or delete it")
    return Fitted(**training["result"] | {"folder": str(folder)})
