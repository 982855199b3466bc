"""The rated songs as a region of the encoders' space: music inside it has the basis `human`.

The squared distance is Mahalanobis' along the songs' principal directions, with one common variance for all that is
left. Its limit leaves out a few of 100 songs that the directions were not fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recipes.lite.heads import PARTS, part_of

Array = NDArray[np.float64]

DIRECTIONS = 64
INSIDE = 0.95  # fraction of unseen songs within the distance
FAMILIAR_SEVERITY = 0.31  # 97 % of unseen songs have a lower estimate


@dataclass(frozen=True)
class Nearby:
    """A region of inputs [N, D]: `distance` is 1 at its edge.

    Shape:
        - columns: [d], which of the D inputs count
        - center: [d]
        - directions: [K, d], orthonormal
        - precision: [K], and `rest` of all that is left
    """

    columns: NDArray[np.int64]
    center: Array
    directions: Array
    precision: Array
    rest: float

    def distance(self, x: Array) -> Array:
        """Squared distances of inputs [N, D], [N]."""
        moved = x[:, self.columns] - self.center
        along = (moved @ self.directions.T) ** 2
        return np.asarray(along @ self.precision + self.rest * ((moved**2).sum(axis=1) - along.sum(axis=1)))


def fit_nearby(x: Array, groups: Sequence[str], columns: NDArray[np.bool_]) -> Nearby:
    """The region around songs with inputs [N, D], of which some count, bool [D].

    Its size is that for songs of groups that were left out in turn.
    """
    parts = np.array([part_of(group) for group in groups])
    distances = np.zeros(len(x))
    for part in range(PARTS):
        held = parts == part
        if held.any() and not held.all():
            distances[held] = _region(x[~held], columns).distance(x[held])
    limit = float(np.quantile(distances, INSIDE))
    found = _region(x, columns)
    return replace(found, precision=found.precision / limit, rest=found.rest / limit)


def _region(x: Array, columns: NDArray[np.bool_]) -> Nearby:
    """The region before its size is known."""
    chosen = np.flatnonzero(columns)
    center = x[:, chosen].mean(axis=0)
    _, scales, directions = np.linalg.svd(x[:, chosen] - center, full_matrices=False)
    count = min(DIRECTIONS, len(x) // 2, len(chosen) // 2)
    variances = scales**2 / len(x)
    left = float(variances[count:].sum())
    return Nearby(chosen, center, directions[:count], 1 / (count * variances[:count]), 1 / left)
