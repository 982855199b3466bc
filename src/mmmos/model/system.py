"""A scoring system: its members and their encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmmos.encoders.base import Encoder, EncoderSpec
from mmmos.ensemble.selection import Array
from mmmos.errors import ModelFormatError
from mmmos.model.info import ModelInfo
from mmmos.model.quality import QualityModel
from mmmos.scores import Scale


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
