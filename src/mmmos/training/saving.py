"""Saves a model folder with the model's own scores of the check clip (`mmmos.inference.selfcheck`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mmmos.inference.selfcheck import check_scores
from mmmos.model.folder import save_ensemble, save_model
from mmmos.model.info import ModelInfo
from mmmos.model.system import ScoringModel
from mmmos.scores import AXES


def save_checked(folder: Path, model: ScoringModel, card: str) -> None:
    """Save a model, or an ensemble, with its scores of the check clip by its loaded encoders in its config."""
    info = replace(model.info, check=check_scores(model))
    folder.mkdir(parents=True, exist_ok=True)
    if len(model.members) == 1:
        save_model(folder, model.members[0], info, card)
    else:
        save_ensemble(folder, model.members, model.weights, info, card)


def short_card(name: str, what: str, info: ModelInfo) -> str:
    """The README.md of a model that was made from others or in an experiment."""
    unrated = [axis for axis in AXES if axis not in info.rated]
    missing = f" {', '.join(unrated)}: not rated in training, so without a score." if unrated else ""
    return f"# {name}\n\n{what}: {', '.join(info.rated)} on the scale {info.scale}.{missing} Not calibrated.\n"
