"""A scoring system: its members, their encoders, and its metadata."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.encoders.base import Encoder, EncoderSpec
from mmmos.ensemble.selection import Array
from mmmos.errors import ModelFormatError, UsageError
from mmmos.model.quality import QualityModel
from mmmos.scores import AXES, LABEL_RANGE, LabelRange, Scale, scale_name


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Metadata of a model for its users; part of its config."""

    calibrated: bool = False  # whether its scores were checked against raters outside its training data
    commercial_use: bool = False  # whether the licences of weights and training data allow it
    training: dict[str, Any] = field(default_factory=dict)  # data, settings, result on the development set
    rated: tuple[str, ...] = AXES  # axes with labels in training; the others get no score
    clip_output: bool = False  # whether scores are clipped to the range of the labels
    basis: dict[str, dict[str, str]] = field(default_factory=dict)  # domain -> axis -> the evidence for its score
    check: dict[str, float] = field(default_factory=dict)  # scores of `selfcheck.check_clip()`
    label_range: LabelRange = LABEL_RANGE  # lowest and highest rating on the scale of the labels, and so of the scores
    trained_on: tuple[str, ...] = ()  # training files, by `cache.file_digests`

    def __post_init__(self) -> None:
        low, high = map(float, self.label_range)  # JSON has lists
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"label_range is {low:g} to {high:g}; it must be two numbers, the lower first")
        object.__setattr__(self, "label_range", (low, high))
        object.__setattr__(self, "rated", tuple(self.rated))
        object.__setattr__(self, "trained_on", tuple(self.trained_on))

    @property
    def scale(self) -> str:
        """The name of the rating scale, "0-10"."""
        return scale_name(self.label_range)


def combined_info(members: Sequence[ModelInfo], training: Mapping[str, Any]) -> ModelInfo:
    """Metadata of an ensemble of these members: the axes that all were trained on, and the training files of any.

    It is not calibrated: the ensemble itself has not been checked. Raises `UsageError` for members on different scales,
    and if the output of only some members is clipped.
    """
    first, *others = members
    for what in ("scale", "clip_output"):
        found = sorted({str(getattr(member, what)) for member in members})
        if len(found) > 1:
            raise UsageError(f"members of an ensemble differ in {what}: {' and '.join(found)}; combine like ones")
    return ModelInfo(
        commercial_use=all(member.commercial_use for member in members),
        training=dict(training),
        rated=tuple(axis for axis in AXES if all(axis in member.rated for member in members)),
        clip_output=first.clip_output,
        basis=first.basis if all(other.basis == first.basis for other in others) else {},
        label_range=first.label_range,
        trained_on=tuple(sorted({digest for member in members for digest in member.trained_on})),
    )


@dataclass(frozen=True)
class Member:
    """One trained model and the scale that it was trained on."""

    model: QualityModel
    scale: Scale


@dataclass(frozen=True)
class ScoringModel:
    """One model or an ensemble, ready for a `Predictor`.

    Shape:
        - weights: [M, A], columns sum to 1
    """

    name: str
    members: tuple[Member, ...]
    weights: NDArray[np.float64]
    info: ModelInfo
    sha256: str  # of all files that determine a score
    loaded: Mapping[str, Encoder] = field(default_factory=dict)  # encoders that came in the model's own file

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that the members classify; none if members differ."""
        found = {member.model.config.heads.domains for member in self.members}
        return next(iter(found)) if len(found) == 1 else ()

    @property
    def encoders(self) -> tuple[EncoderSpec, ...]:
        """The encoders of all members, without duplicates."""
        found: dict[str, EncoderSpec] = {}
        for member in self.members:
            for spec in member.model.config.encoders:
                if found.setdefault(spec.name, spec) != spec:
                    raise ModelFormatError(f"{self.name}: its members disagree on the encoder {spec.name}")
        return tuple(found.values())


def combine(predictions: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted mean over the members, and their standard deviation.

    Shape:
        - predictions: [M, N, A] on the label scale
        - weights: [M, A], columns sum to 1
        - returns: mean [N, A] and standard deviation [N, A], which is NaN for a single member

    >>> mean, std = combine(np.array([[[1.0]], [[3.0]]]), np.array([[0.5], [0.5]]))
    >>> mean.item(), std.item()
    (2.0, 1.0)
    """
    mean = np.einsum("mna,ma->na", predictions, weights)
    if len(predictions) == 1:
        return mean, np.full_like(mean, np.nan)
    return mean, np.sqrt(np.einsum("mna,ma->na", np.square(predictions - mean), weights))
