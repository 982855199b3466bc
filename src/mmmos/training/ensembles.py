"""Ensembles of models that are already trained: their weights by a strategy, and the folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip, label_array, preview
from mmmos.data.splits import split_present
from mmmos.ensemble import STRATEGIES, composite_metrics
from mmmos.ensemble.paper import CHECK_MARKS
from mmmos.errors import ModelFormatError, UsageError
from mmmos.features.cache import count_used
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions
from mmmos.inference.predictor import Predictor
from mmmos.model.info import ModelInfo
from mmmos.model.load import load_model
from mmmos.model.system import ScoringModel, combine
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.scores import AXES, SHOWN
from mmmos.training.saving import save_checked, short_card
from mmmos.wording import counted

logger = logging.getLogger(__name__)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Combined:
    """Summary of an ensemble that was saved."""

    folder: str
    strategy: str
    weights: dict[str, dict[str, float]]  # by model, then by axis; 0 for a model that is not part of it
    figures: dict[str, dict[str, dict[str, float | None]]]  # by list ("dev", "pam"), then by model or "ensemble"

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def make_ensemble(
    folder: Path,
    models: Mapping[str, str],
    strategy: str = "all",
    options: LoadOptions = DEFAULT_OPTIONS,
    *,
    lists: Mapping[str, Sequence[LabelledClip]],
    rule: str = CHECK_MARKS,
    progress: Progress = NO_PROGRESS,
) -> Combined:
    """Save an ensemble of models as a model folder.

    - models: folders, hub ids or `lite` by the name that is reported, and that the rule `paper_checkmarks` looks for
    - strategy: of `ensemble.STRATEGIES`
    - lists: rated clips that it chooses by: "dev", and "pam", which is dev's if it is missing
    - rule: of `ensemble.RULES`, for the strategy `submitted`

    Raises `UsageError` for an unknown strategy, for lists that it lacks or that have no usable label, and for models
    that cannot be combined; `ModelNotFoundError` and `ModelFormatError` as `load_model`.
    """
    if strategy not in STRATEGIES:
        raise UsageError(f"unknown strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}")
    if not lists and strategy != "all" and not (strategy == "submitted" and rule == CHECK_MARKS):
        raise UsageError(f"{strategy} chooses models by rated clips: give a list of them with --dev")
    loaded = {name: _load(name, model, options) for name, model in models.items()}
    everyone = join_models(folder.name, [*loaded.values()], np.ones((len(loaded), len(AXES))) / len(loaded))
    with Predictor(everyone, options) as predictor:
        found = {
            name: _predictions(rows, name, predictor, [*loaded.values()], progress) for name, rows in lists.items()
        }
    dev = found.get("dev") or (np.zeros((len(loaded), 0, len(AXES))), np.zeros((0, len(AXES))))
    weights = STRATEGIES[strategy](*dev, names=[*loaded], pam=found.get("pam"), rule=rule).astype(np.float64)
    used = [i for i, row in enumerate(weights) if row.any()]
    model = join_models(folder.name, [[*loaded.values()][i] for i in used], weights[used])
    _warn_of_lost_axes({name: one.info.rated for i, (name, one) in enumerate(loaded.items()) if i in used})
    what = f"An ensemble of {', '.join([*loaded][i] for i in used)} ({strategy})"
    save_checked(folder, replace(model, loaded=predictor.encoders), short_card(folder.name, what, model.info))
    return Combined(
        folder=str(folder),
        strategy=strategy,
        weights={name: dict(zip(AXES, row.tolist(), strict=True)) for name, row in zip(loaded, weights, strict=True)},
        figures={name: _figures([*loaded], weights[used], used, *values) for name, values in found.items()},
    )


def _warn_of_lost_axes(rated: Mapping[str, Sequence[str]]) -> None:
    """Say which axes the ensemble has no score of, as not all of its models have one; `rated` are those of each."""
    for name, axes in rated.items():
        if lost := [axis for axis in SHOWN if axis not in axes and any(axis in other for other in rated.values())]:
            logger.warning("%s has no score of %s, so the ensemble has none either", name, " or ".join(lost))


def join_models(name: str, models: Sequence[ScoringModel], weights: Array) -> ScoringModel:
    """One model of the members of all these, with the models' weights [M, A]; its name is the folder's.

    Raises `UsageError` for models on different scales or encoders, and for one whose encoder is in its own file.
    """
    if own := [model.name for model in models if model.loaded]:
        raise UsageError(f"{own[0]} has its encoder in its own file, which no ensemble folder can hold; leave it out")
    info = ModelInfo.of_ensemble([model.info for model in models], {"members": [model.name for model in models]})
    members = tuple(member for model in models for member in model.members)
    own_weights = [model.weights * weight for model, weight in zip(models, weights, strict=True)]
    joined = ScoringModel(name, members, np.concatenate(own_weights), info, "")
    try:
        assert joined.encoders
    except ModelFormatError as error:
        raise UsageError(f"{error}; combine models that were trained on the same encoders") from error
    return joined


def _load(name: str, model: str, options: LoadOptions) -> ScoringModel:
    return replace(load_model(model, options), name=name)


def _predictions(
    rows: Sequence[LabelledClip], which: str, predictor: Predictor, models: Sequence[ScoringModel], progress: Progress
) -> tuple[Array, Array]:
    """Each model's predictions [M, N, A] of the clips that exist, and their labels [N, A] where all models predict."""
    present, missing = split_present(rows)
    if missing:
        logger.warning("%s: %s missing: %s", which, counted(len(missing), "clip", of=len(rows)), preview(missing))
    seen = predictor.model.info.trained_on
    if seen and (count := count_used([row.clip for row in present], seen)):
        logger.warning(
            "warning: %s of %s were in a model's training: a choice by them prefers models that overfit; give others",
            *(counted(count, "clip", of=len(present)), which),
        )
    progress.start(f"scoring {which}", len(present))
    clips = _members_predictions([row.clip for row in present], predictor, progress)
    found = np.array([_by_model(clip, models) for clip in clips]).reshape(len(present), len(models), len(AXES))
    labels = np.where(np.isfinite(found).all(axis=1), label_array(present), np.nan)
    if not np.isfinite(labels).any():
        raise UsageError(f"--{which}: no clip has a label on an axis that every model scores")
    return found.swapaxes(0, 1), labels


def _members_predictions(clips: Sequence[Clip], predictor: Predictor, progress: Progress) -> Iterator[Array]:
    """The predictions of all members [M, A] for each clip; NaN for a clip that is silent or cannot be scored."""
    none = np.full((len(predictor.model.members), len(AXES)), np.nan)
    stream = predictor.clip_stream(progress)
    with closing(predictor.decoder.cut(clips, predictor.rates, predictor.min_seconds)) as cuts:
        for pending in stream.clips(cuts):
            if pending.error is not None:
                logger.warning("%s is left out: %s", pending.clip.id, pending.error.message)
            mean = pending.mean()
            yield none if mean is None or pending.error is not None else mean.prediction


def _by_model(predictions: Array, models: Sequence[ScoringModel]) -> Array:
    """Scores of one clip [models, A] from the predictions of all their members [M, A]."""
    found, first = [], 0
    for model in models:
        own = predictions[first : first + len(model.members)]
        first += len(model.members)
        bounded = np.clip(own, *model.info.label_range) if model.info.clip_output else own
        mean, _ = combine(bounded[:, None], model.weights)
        rated = [axis in model.info.rated for axis in AXES]
        found.append(np.where(rated, np.clip(mean[0], *model.info.label_range), np.nan))
    return np.array(found)


def _figures(
    names: Sequence[str], weights: Array, used: Sequence[int], predictions: Array, labels: Array
) -> dict[str, dict[str, float | None]]:
    """The metrics of the composite of every model, and of the ensemble."""
    mean, _ = combine(predictions[used], weights)
    metrics = composite_metrics(np.concatenate([predictions, mean[None]]), labels)
    return {
        name: {key: float(value) if np.isfinite(value) else None for key, value in found.items()}
        for name, found in zip([*names, "ensemble"], metrics, strict=True)
    }
