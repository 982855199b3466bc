"""From rated clips to a calibrated model folder, as in `mmmos calibrate`: the scores of a model on people's scale."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmmos.data.manifest import LabelledClip, label_array
from mmmos.data.trainable import check_range, check_trainable
from mmmos.errors import TrainingError, UsageError
from mmmos.features.cache import count_used, file_digests
from mmmos.inference.predictor import Predictor
from mmmos.model.calibration import Calibration
from mmmos.model.load import MODELS
from mmmos.model.system import ScoringModel
from mmmos.scores import AXES, LabelRange, Scores, scale_name
from mmmos.training.maps import Chosen, Rated, choose_map
from mmmos.training.saving import save_checked
from mmmos.wording import counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibrated:
    """Summary of a calibration."""

    folder: str
    model: str  # the one that was calibrated
    scale: str  # of the ratings, and of the new scores
    clips: int  # with a score and a rating
    trained_on: int | None  # how many of them the model was trained on; None if it does not say
    axes: dict[str, dict[str, Any]]  # by axis: the map, the result, figures on held-out clips


def calibrate_folder(
    folder: Path,
    rows: Sequence[LabelledClip],
    scores: Sequence[Scores],
    predictor: Predictor,
    name: str,
    label_range: LabelRange,
) -> Calibrated:
    """Fit maps from the predictor's scores of the rows to their labels, and save the model with them in a folder.

    `name` is that of the ratings. An axis whose scores predict the ratings no better than their mean gets no score.
    Raises `UsageError` for a folder with files, for a model that cannot be calibrated and for too few or equal ratings,
    `ManifestError` for a rating outside `label_range`, and `TrainingError` if a map helps on no axis.
    """
    model = predictor.model
    check_calibratable(model, folder)
    check_range(rows, label_range)
    scored = [any(np.isfinite(item[axis]) for axis in model.info.rated) for item in scores]
    kept = [row for row, known in zip(rows, scored, strict=True) if known]
    left_out = [row.clip.id for row, known in zip(rows, scored, strict=True) if not known]
    sets = sorted({row.set for row in kept})
    if len(sets) > 1:
        raise UsageError(
            f"the ratings are of {len(sets)} sets ({', '.join(sets)}), each on its own scale; give one set"
        )
    check_trainable(kept, None, "".join(sets), left_out)
    given = [item for item, known in zip(scores, scored, strict=True) if known]
    trained_on = count_used([row.clip for row in kept], model.info.trained_on) if model.info.trained_on else None
    found = _choose(kept, given, model, label_range)
    for axis, chosen in found.items():
        logger.info(_line(axis, chosen))
    if trained_on:
        logger.warning(
            "warning: %s was trained on %s: its scores fit them better than other clips, so the maps are too steep and"
            " the figures too good; use ratings of other clips",
            *(model.name, counted(trained_on, "clip", of=len(kept))),
        )
    kept_axes = [axis for axis, chosen in found.items() if chosen.informative]
    if not any(found[axis].helps for axis in kept_axes):
        raise TrainingError(
            f"calibration does not help: no map from the scores of {model.name} lowers the squared error of these"
            f" {counted(len(kept), 'clip')}; use the model as it is, add ratings, or train on them (mmmos train)"
        )
    axes = {axis: _figures(chosen) for axis, chosen in found.items()}
    calibration = Calibration(
        maps={axis: found[axis].maps for axis in kept_axes},
        source_range=model.info.label_range,
        source=f"{Path(name).name}, {counted(len(kept), 'clip')}",
        model=model.name,
        model_sha256=model.sha256,
        figures=axes,
    )
    _save(folder, predictor, calibration, kept, label_range)
    return Calibrated(str(folder), model.name, scale_name(label_range), len(kept), trained_on, axes)


def check_calibratable(model: ScoringModel, folder: Path) -> None:
    """Raise `UsageError` for a model that cannot be saved with a calibration, and for a folder that has files."""
    if model.info.calibration:
        raise UsageError(f"{model.name} is calibrated already: calibrate {model.info.calibration.model} instead")
    if model.loaded:
        raise UsageError(
            f"{model.name} has encoders in its own file, which a model folder cannot hold; calibrate another"
        )
    if str(folder) in MODELS:
        raise UsageError(f"{folder} is the name of a model that comes with mmmos; choose another name")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds other files; choose a new folder")


def _choose(
    rows: Sequence[LabelledClip], scores: Sequence[Scores], model: ScoringModel, label_range: LabelRange
) -> dict[str, Chosen]:
    """The map of each axis that has labels and scores."""
    labels = label_array(rows)
    domains = np.array([item.domain or "" for item in scores])
    groups = np.array([row.group or row.system or row.clip.id for row in rows])
    found = {}
    for i, axis in enumerate(AXES):
        own = np.array([item[axis] for item in scores])
        known = np.isfinite(own) & np.isfinite(labels[:, i])
        if known.any():
            rated = Rated(own, labels[:, i], domains, groups, model.info.label_range, label_range)
            found[axis] = choose_map(rated.take(known))
    if not found:
        raise UsageError(f"{model.name} scores no axis that these ratings have")
    return found


def _figures(chosen: Chosen) -> dict[str, Any]:
    result = "calibrated" if chosen.helps else "as it was"
    kept = {"map": chosen.name, "result": result if chosen.informative else "no score", "folds": chosen.folds}
    return kept | chosen.figures


def _line(axis: str, chosen: Chosen) -> str:
    """What was found on an axis, for the user."""
    shown = {name: "undefined" if value is None else f"{value:.2f}" for name, value in chosen.figures.items()}
    on = f"{chosen.figures['n']:.0f} clips, held out in {chosen.folds} folds that cut no group"
    errors = (
        f"MSE {shown['MSE']} with the map '{chosen.name}' (rescaled scores: {shown['rescaled_MSE']}, a constant:"
        f" {shown['constant_MSE']}); SRCC of the scores {shown['SRCC']}"
    )
    if not chosen.informative:
        return (
            f"{axis} on {on}: {errors}. The scores are not nearer to the ratings than their mean: {axis} gets no score"
        )
    if not chosen.helps:
        return f"{axis} on {on}: {errors}. Calibration does not help: the scores of {axis} stay as they are, rescaled"
    return f"{axis} on {on}: {errors}"


def _save(
    folder: Path,
    predictor: Predictor,
    calibration: Calibration,
    rows: Sequence[LabelledClip],
    label_range: LabelRange,
) -> None:
    model = predictor.model
    digests = {*model.info.trained_on, *file_digests(row.clip for row in rows)}
    info = replace(
        model.info,
        calibrated=True,
        calibration=calibration,
        rated=tuple(calibration.maps),
        label_range=label_range,
        trained_on=tuple(sorted(digests)),
        training={"calibrated_from": model.name, "training": model.info.training},
    )
    card = "".join(f"{line}\n" for line in _card(folder.name, calibration, info.scale))
    save_checked(folder, replace(model, info=info, loaded=predictor.encoders), card)


def _card(name: str, calibration: Calibration, scale: str) -> Iterator[str]:
    yield f"# {name}"
    yield ""
    yield f"The model {calibration.model}, its scores on the scale {scale} of people's ratings ({calibration.source})."
    yield ""
    for axis, figures in calibration.figures.items():
        yield (
            f"- {axis}: {figures['result']}, map '{figures['map']}'. MSE on held-out clips {figures['MSE']},"
            f" of rescaled scores {figures['rescaled_MSE']}, of a constant {figures['constant_MSE']}."
        )
    yield "- The model's order of clips hardly changes: a map cannot repair it. Its licences still hold."
