"""Saves a model folder with the model's own scores of the check clip (`mmmos.inference.selfcheck`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmmos.encoders.base import Encoder
from mmmos.inference.selfcheck import check_scores
from mmmos.model.folder import save_ensemble, save_model
from mmmos.model.info import ModelInfo
from mmmos.model.system import Member, ScoringModel


def save_checked(
    folder: Path,
    members: Sequence[Member],
    weights: NDArray[np.float64],
    info: ModelInfo,
    card: str,
    encoders: Mapping[str, Encoder],
) -> None:
    """Save a model, or an ensemble with weights [M, A], with its own scores of the check clip in its config."""
    model = ScoringModel(folder.name, tuple(members), weights, info, "", encoders)
    info = replace(info, check=check_scores(model))
    if len(members) == 1:
        save_model(folder, members[0], info, card)
    else:
        save_ensemble(folder, members, weights, info, card)
