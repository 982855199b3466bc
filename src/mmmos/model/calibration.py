"""A calibration: maps from a model's scores to the scale of a listening test, applied to its combined scores.

A map is piecewise linear and increasing. Its first and last knot are the ends of the model's own scale, within which
its scores lie; a straight line has only these two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmmos.scores import AXES, LabelRange

EVERY = ""
"""The domain of a map that holds where no domain has one of its own."""


@dataclass(frozen=True)
class Knots:
    """An increasing, piecewise linear map: scores `x`, ascending, and their values `y`, not descending.

    >>> Knots((0.0, 10.0), (1.0, 5.0))(np.array([2.5]))
    array([2.])
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", tuple(map(float, self.x)))
        object.__setattr__(self, "y", tuple(map(float, self.y)))
        ordered = all(a < b for a, b in zip(self.x, self.x[1:], strict=False))
        rising = all(a <= b for a, b in zip(self.y, self.y[1:], strict=False))
        finite = all(map(math.isfinite, (*self.x, *self.y)))
        if len(self.x) < 2 or len(self.x) != len(self.y) or not (ordered and rising and finite):
            raise ValueError("a map has two or more knots, with ascending scores and values that do not descend")

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """The values of scores of any shape; those beyond the ends get the values there. NaN stays NaN."""
        return np.asarray(np.interp(scores, self.x, self.y))

    def tensor(self, scores: Tensor) -> Tensor:
        """The same with gradients, and on straight lines beyond the ends."""
        x, y = (torch.tensor(part, dtype=scores.dtype, device=scores.device) for part in (self.x, self.y))
        right = torch.searchsorted(x, scores.detach().contiguous()).clamp(1, len(x) - 1)
        slope = (y[right] - y[right - 1]) / (x[right] - x[right - 1])
        values: Tensor = y[right - 1] + slope * (scores - x[right - 1])
        return values


@dataclass(frozen=True)
class Calibration:
    """The maps of a model, and what they were fitted on. Raises TypeError and ValueError for wrong values."""

    maps: Mapping[str, Mapping[str, Knots]]  # by axis and domain; every axis has one of `EVERY`
    source_range: LabelRange  # the model's own scale
    source: str  # the ratings, for the rows: "ratings.csv, 120 clips"
    model: str  # the calibrated model
    model_sha256: str
    figures: Mapping[str, Any]  # by axis: the errors on held-out clips

    def __post_init__(self) -> None:
        maps = {
            axis: {domain: item if isinstance(item, Knots) else Knots(**item) for domain, item in by_domain.items()}
            for axis, by_domain in self.maps.items()
        }
        if not maps or not set(maps) <= set(AXES) or not all(EVERY in by_domain for by_domain in maps.values()):
            raise ValueError(f"a calibration has a map for any of {', '.join(AXES)}")
        object.__setattr__(self, "maps", maps)
        low, high = map(float, self.source_range)
        object.__setattr__(self, "source_range", (low, high))

    def knots(self, axis: str, domain: str | None) -> Knots | None:
        """The map of an axis for clips of a domain; None if the axis has none."""
        own = self.maps.get(axis, {})
        return own.get(domain or EVERY, own.get(EVERY))

    def apply(self, scores: NDArray[np.float64], domain: str | None) -> NDArray[np.float64]:
        """Scores [..., A] of clips of a domain on the scale of the ratings; NaN for an axis without a map."""
        found = np.full(scores.shape, np.nan)
        for i, axis in enumerate(AXES):
            if (knots := self.knots(axis, domain)) is not None:
                found[..., i] = knots(scores[..., i])
        return found

    def apply_tensor(self, scores: Tensor, domains: Sequence[str | None]) -> Tensor:
        """Scores [B, A] of clips of these domains on the scale of the ratings; unchanged on an axis without a map."""
        rows = []
        for own, domain in zip(scores.unbind(0), domains, strict=True):
            maps = [self.knots(axis, domain) for axis in AXES]
            values = zip(maps, own.unbind(0), strict=True)
            rows.append(torch.stack([score if item is None else item.tensor(score) for item, score in values]))
        return torch.stack(rows) if rows else scores
