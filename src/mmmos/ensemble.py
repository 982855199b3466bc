"""Several models' predictions as one: strategies that choose weights, and the weighted mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def combine(predictions: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted mean over the members, and their spread about it.

    Shape:
        - predictions: [M, N, A] on the label scale
        - weights: [M, A], columns sum to 1
        - returns: mean [N, A] and standard deviation [N, A]; the deviation of a single member is NaN

    >>> mean, std = combine(np.array([[[1.0]], [[3.0]]]), np.array([[0.5], [0.5]]))
    >>> mean.item(), std.item()
    (2.0, 1.0)
    """
    mean = np.einsum("mna,ma->na", predictions, weights)
    if len(predictions) == 1:
        return mean, np.full_like(mean, np.nan)
    return mean, np.sqrt(np.einsum("mna,ma->na", np.square(predictions - mean), weights))


def equal_weights(dev_predictions: Array, targets: Array) -> Array:
    """Every member alike: [M, N, A] and [N, A] -> [M, A]."""
    members, _, axes = dev_predictions.shape
    return np.full((members, axes), 1 / members)


STRATEGIES = {"all": equal_weights}
"""Name -> function from predictions on development clips [M, N, A] and their labels [N, A] to weights [M, A]."""
