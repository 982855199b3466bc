"""Selection of the models of an ensemble: rankings on labelled clips, and equal weights."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmmos.metrics import utterance_metrics

Array = NDArray[np.floating]


def equal_weights(chosen: Collection[int], models: int, axes: int) -> Array:
    """Equal weights for the chosen models and 0 for the others, [M, A]; columns sum to 1.

    >>> equal_weights([0, 2], models=3, axes=1)[:, 0].tolist()
    [0.5, 0.0, 0.5]
    """
    weights = np.zeros((models, axes))
    weights[list(chosen)] = 1 / len(chosen)
    return weights


def rank_models(predictions: Array, targets: Array, names: Sequence[str]) -> list[int]:
    """Indices of the models, the best on labelled clips first: `best_first` of their `composite_metrics`.

    Shape:
        - predictions: [M, N, A] on the label scale
        - targets: [N, A], NaN if a clip was not rated

    >>> targets = np.arange(12.0).reshape(3, 4)
    >>> rank_models(np.stack([-targets, targets]), targets, ["a", "b"])
    [1, 0]
    """
    return best_first(composite_metrics(predictions, targets), names)


def composite_metrics(predictions: Array, targets: Array) -> list[dict[str, float]]:
    """Each model's utterance metrics of the composite, the mean of a clip's axes.

    Only clips with a label on every axis count. If there are none, a clip's composite is the mean of its rated axes,
    for labels and predictions alike.

    Shape:
        - predictions: [M, N, A] on the label scale; ValueError if one of a counted clip is not finite
        - targets: [N, A], NaN if a clip was not rated

    >>> labels = np.array([[1, 2, 3, 4], [5, 5, 5, np.nan], [3, 3, 3, 3]])
    >>> composite_metrics(labels[None] + 0.5, labels)[0]["MSE"]
    0.25
    """
    p, t = np.asarray(predictions, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if p.ndim != 3 or p.shape[1:] != t.shape:
        raise ValueError(f"predictions {p.shape} must be [M, N, A] and targets {t.shape} [N, A]")
    rated = ~np.isnan(t)
    whole = rated.all(axis=1)
    clips = whole if whole.any() else rated.any(axis=1)
    p, t, rated = p[:, clips], t[clips], rated[clips]
    axes = rated.sum(axis=1)
    overall = np.where(rated, t, 0).sum(axis=1) / axes
    return [utterance_metrics(np.where(rated, model, 0).sum(axis=1) / axes, overall) for model in p]


def best_first(metrics: Sequence[Mapping[str, float]], names: Sequence[str]) -> list[int]:
    """Indices of the models by SRCC, highest first; then by KTAU, lower MSE, and name.

    Values are rounded to 12 decimals first, so that rounding errors do not affect the order. A model without an SRCC
    comes last.

    >>> same = {"SRCC": 0.832, "MSE": 0.4}
    >>> best_first([same | {"KTAU": 0.65}, same | {"KTAU": 0.66}, same | {"SRCC": float("nan"), "KTAU": 0.7}], "abc")
    [1, 0, 2]
    """

    def key(i: int) -> tuple[float, float, float, str]:
        found = metrics[i]
        return _ascending(-found["SRCC"]), _ascending(-found["KTAU"]), _ascending(found["MSE"]), names[i]

    return sorted(range(len(metrics)), key=key)


def in_both(on_dev: Sequence[int], on_pam: Sequence[int], dev_top: int, pam_top: int) -> list[int]:
    """Models among the first `dev_top` of one ranking and the first `pam_top` of the other.

    >>> in_both([3, 1, 0, 2], [1, 2, 3, 0], 2, 2)
    [1]
    """
    others = set(on_pam[:pam_top])
    return sorted(i for i in on_dev[:dev_top] if i in others)


def _ascending(value: float) -> float:
    return np.inf if np.isnan(value) else round(value, 12)
