"""Rating scales: their names, and the map between a model's z units and the scale of its labels."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmmos.scores.axes import AXES

LabelRange = tuple[float, float]
"""Lowest and highest rating of a listening test."""

LABEL_RANGE: LabelRange = (0.0, 10.0)
"""The range of AES ratings, and of every model without a range of its own (`ModelInfo.label_range`)."""


def scale_name(label_range: LabelRange) -> str:
    """The name of a rating scale in rows, tables and cards.

    >>> scale_name((0.0, 10.0)), scale_name((1.0, 5.0)), scale_name((-3.0, 3.0))
    ('0-10', '1-5', '-3 to 3')
    """
    low, high = label_range
    return f"{low:g}-{high:g}" if low >= 0 else f"{low:g} to {high:g}"


_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"


def parse_scale(name: str) -> LabelRange | None:
    """The range of a name by `scale_name`; None for any other text.

    >>> parse_scale("0-10"), parse_scale("-3 to 3"), parse_scale("stars")
    ((0.0, 10.0), (-3.0, 3.0), None)
    """
    found = re.fullmatch(rf"({_NUMBER})(?:-| to )({_NUMBER})", name)
    return (float(found[1]), float(found[2])) if found else None


@dataclass(frozen=True)
class Scale:
    """The affine map between a model's z units and the label scale, with one mean and std per axis.

    It is fitted on training rows only and saved with the model, so that outputs can always be converted back to the
    scale of the ratings.

    >>> scale = Scale.fit(np.array([[2.0, 2.0, 1.0, 4.0], [4.0, 6.0, 3.0, 8.0]]))
    >>> scale.to_labels(np.zeros((1, 4))).tolist()
    [[3.0, 4.0, 2.0, 6.0]]
    """

    mean: tuple[float, ...]  # [A], label units
    std: tuple[float, ...]  # [A], label units, ddof 1 as pandas computes it

    def __post_init__(self) -> None:
        if len(self.mean) != len(AXES) or len(self.std) != len(AXES):
            raise ValueError(f"a scale has {len(AXES)} means and {len(AXES)} standard deviations")
        if not all(math.isfinite(x) for x in self.mean) or not all(0 < x < math.inf for x in self.std):
            raise ValueError("a scale needs finite means and positive standard deviations")

    @classmethod
    def fit(cls, labels: NDArray[np.floating]) -> Scale:
        """Mean and standard deviation of the labels [N, A], ignoring NaN.

        An axis with fewer than two distinct labels gets a standard deviation of 1; an axis without labels
        also gets the middle of the label range as its mean.
        """
        mean, std = [], []
        for column in np.asarray(labels, dtype=np.float64).T:
            known = column[np.isfinite(column)]
            mean.append(float(known.mean()) if len(known) else sum(LABEL_RANGE) / 2)
            spread = float(known.std(ddof=1)) if len(np.unique(known)) > 1 else 0.0
            std.append(spread if spread > 0 else 1.0)
        return cls(tuple(mean), tuple(std))

    def to_z(self, labels: NDArray[np.floating]) -> NDArray[np.floating]:
        """Labels [..., A] in z units."""
        z: NDArray[np.floating] = (np.asarray(labels) - np.array(self.mean)) / np.array(self.std)
        return z

    def to_labels(self, z: NDArray[np.floating]) -> NDArray[np.floating]:
        """Values [..., A] in z units on the label scale."""
        labels: NDArray[np.floating] = np.asarray(z) * np.array(self.std) + np.array(self.mean)
        return labels
