"""How well scores agree with human labels: per axis, domain and system, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.manifest import LabelledClip, label_array
from mmmos.metrics import bias, bootstrap, debiased_mse, srcc, system_means, utterance_metrics
from mmmos.scores import AXES, Scores

BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class Agreement:
    """Agreement of scores and labels on one axis, over one part of the clips."""

    axis: str
    part: str  # "all", or a domain's name
    level: str  # "utterance" or "system"
    n: int  # clips, or systems
    MSE: float
    LCC: float
    SRCC: float
    KTAU: float
    bias: float  # mean of score - label
    debiased_mse: float  # MSE once the bias is taken off
    SRCC_low: float  # 95 % bootstrap interval over groups (songs, speakers) where rows name them
    SRCC_high: float

    def to_json(self) -> dict[str, Any]:
        """The fields, null for what is not defined."""
        return {name: _finite_or_none(value) for name, value in asdict(self).items()}


def evaluate(rows: Sequence[LabelledClip], scores: Sequence[Scores], seed: int = 0) -> list[Agreement]:
    """Agreement on every axis that has labels: over all clips, by domain, and by system.

    Clips without a score (silent, undecodable) are left out; the caller counts them. Where rows name
    systems, system-level values are those of the systems' mean scores and mean labels.
    """
    labels = label_array(rows)
    predictions = np.array([[score[axis] for axis in AXES] for score in scores]).reshape(len(rows), len(AXES))
    groups = np.array([row.group or row.clip.id for row in rows])
    systems = np.array([row.system for row in rows])
    domains = np.array([row.domain for row in rows])
    parts = {"all": np.full(len(rows), True)}
    parts |= {name: domains == name for name in sorted(set(domains)) if name} if len(set(domains)) > 1 else {}
    found = []
    for part, chosen in parts.items():
        for i, axis in enumerate(AXES):
            known = chosen & np.isfinite(labels[:, i]) & np.isfinite(predictions[:, i])
            if not known.any():
                continue
            p, t = predictions[known, i], labels[known, i]
            found.append(_agreement(axis, part, "utterance", p, t, groups[known], seed))
            named = known & (systems != "")
            if named.any():
                names = systems[named]
                by_system = system_means(predictions[named, i], names), system_means(labels[named, i], names)
                found.append(_agreement(axis, part, "system", *by_system, None, seed))
    return found


def _agreement(
    axis: str,
    part: str,
    level: str,
    prediction: NDArray[np.float64],
    target: NDArray[np.float64],
    groups: NDArray[Any] | None,
    seed: int,
) -> Agreement:
    low, high = bootstrap(srcc, prediction, target, groups, samples=BOOTSTRAP_SAMPLES, seed=seed)
    return Agreement(
        axis,
        part,
        level,
        len(prediction),
        **utterance_metrics(prediction, target),
        bias=bias(prediction, target),
        debiased_mse=debiased_mse(prediction, target),
        SRCC_low=low,
        SRCC_high=high,
    )


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
