"""Several models' predictions as one: strategies that choose weights, and the weighted mean.

A strategy takes each model's predictions on clips whose labels are known and gives every model a weight per
axis. Those of the paper's Table IV rank the models by their composite's SRCC over clips and weigh the chosen
ones alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mmmos.errors import UsageError
from mmmos.metrics import utterance_metrics
from mmmos.paper import CHECK_MARKED, CONFIGURATIONS

Array = NDArray[np.floating]

RULES = {"rule_12_12": (12, 12), "rule_11_12": (11, 12)}
"""Readings of `submitted` that rank: the best so many on development clips that are among the best so many on PAM.

12 and 12 is the paper's rule, which by its own figures gives nine models; 11 and 12 gives the eight it marks.
"""


class Strategy(Protocol):
    """Weights [M, A] from predictions [M, N, A] on development clips and their labels [N, A]."""

    def __call__(
        self,
        predictions: Array,
        targets: Array,
        *,
        names: Sequence[str] | None = None,
        pam: tuple[Array, Array] | None = None,
        reading: str = "paper_checkmarks",
    ) -> Array:
        """Weigh the models; columns sum to 1.

        Shape:
            - predictions: [M, N, A] on the label scale, all finite
            - targets: [N, A], NaN where a clip was not rated
            - names: M configurations; by default the paper's if there are sixteen models, else "model 0" and on
            - pam: such predictions [M, K, A] and targets [K, A] for what is chosen on PAM; without them that
              is chosen on the development clips
            - reading: which of its readings `submitted` takes; the others do not look at it
            - returns: [M, A]
        """
        ...


def equal_weights(
    predictions: Array,
    targets: Array,
    *,
    names: Sequence[str] | None = None,
    pam: tuple[Array, Array] | None = None,
    reading: str = "paper_checkmarks",
) -> Array:
    """Every member alike: [M, N, A] and [N, A] -> [M, A]."""
    return _alike(range(len(predictions)), predictions)


def top(count: int, on: Literal["dev", "pam"]) -> Strategy:
    """The strategy that takes the best `count` models, all if there are fewer.

    >>> targets = np.arange(12.0).reshape(3, 4)
    >>> top(1, "dev")(np.stack([-targets, targets]), targets)[:, 0].tolist()
    [0.0, 1.0]
    """

    def strategy(
        predictions: Array,
        targets: Array,
        *,
        names: Sequence[str] | None = None,
        pam: tuple[Array, Array] | None = None,
        reading: str = "paper_checkmarks",
    ) -> Array:
        known = _names(names, predictions)
        given = pam if on == "pam" and pam is not None else (predictions, targets)
        return _alike(best_first(composite_metrics(*given), known)[:count], predictions)

    return strategy


def submitted(
    predictions: Array,
    targets: Array,
    *,
    names: Sequence[str] | None = None,
    pam: tuple[Array, Array] | None = None,
    reading: str = "paper_checkmarks",
) -> Array:
    """The paper's entry, [M, N, A] and [N, A] -> [M, A].

    By default the configurations with a check mark in Table III, as many of them as are here; with a rule of
    `RULES` the models that are among the best in both rankings. Raises `UsageError` for another reading, and
    where no model is left.
    """
    known = _names(names, predictions)
    if reading == "paper_checkmarks":
        chosen = [i for i, name in enumerate(known) if name in CHECK_MARKED]
        if not chosen:
            raise UsageError(f"none of {', '.join(known)} is a configuration that the paper submitted")
        return _alike(chosen, predictions)
    if reading not in RULES:
        raise UsageError(f"no reading {reading!r} of the submitted ensemble; there are {', '.join(READINGS)}")
    on_dev = best_first(composite_metrics(predictions, targets), known)
    on_pam = on_dev if pam is None else best_first(composite_metrics(*pam), known)
    chosen = in_both(on_dev, on_pam, *RULES[reading])
    if not chosen:
        raise UsageError(f"no model is among the best on both sets, as {reading} asks")
    return _alike(chosen, predictions)


def composite_metrics(predictions: Array, targets: Array) -> list[dict[str, float]]:
    """Each model's utterance metrics of the composite, the mean of a clip's axes.

    Only clips with a label on every axis count. Where no clip has them all, a clip's composite is the mean of
    the axes it was rated on, of labels and predictions alike.

    Shape:
        - predictions: [M, N, A] on the label scale; ValueError if one that counts is not finite
        - targets: [N, A], NaN where a clip was not rated

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
    """Indexes of the models by SRCC, highest first; then by KTAU, lower MSE, and name.

    Values that differ by less than 1e-12, as rounding does, are equal. A model without an SRCC comes last.

    >>> same = {"SRCC": 0.832, "MSE": 0.4}
    >>> best_first([same | {"KTAU": 0.65}, same | {"KTAU": 0.66}, same | {"SRCC": float("nan"), "KTAU": 0.7}], "abc")
    [1, 0, 2]
    """

    def key(i: int) -> tuple[float, float, float, str]:
        found = metrics[i]
        return _ascending(-found["SRCC"]), _ascending(-found["KTAU"]), _ascending(found["MSE"]), names[i]

    return sorted(range(len(metrics)), key=key)


def in_both(on_dev: Sequence[int], on_pam: Sequence[int], dev_top: int, pam_top: int) -> list[int]:
    """Models that are among the first `dev_top` of one ranking and the first `pam_top` of the other.

    >>> in_both([3, 1, 0, 2], [1, 2, 3, 0], 2, 2)
    [1]
    """
    others = set(on_pam[:pam_top])
    return sorted(i for i in on_dev[:dev_top] if i in others)


def _ascending(value: float) -> float:
    return np.inf if np.isnan(value) else round(value, 12)


def _names(names: Sequence[str] | None, predictions: Array) -> Sequence[str]:
    count = len(predictions)
    if names is None:
        return CONFIGURATIONS if count == len(CONFIGURATIONS) else [f"model {i}" for i in range(count)]
    if len(names) != count:
        raise ValueError(f"{len(names)} names for the predictions of {count} models")
    return names


def _alike(chosen: Sequence[int], predictions: Array) -> Array:
    weights = np.zeros((predictions.shape[0], predictions.shape[2]))
    weights[list(chosen)] = 1 / len(chosen)
    return weights


READINGS = ("paper_checkmarks", *RULES)
"""How "submitted" can be read: by the check marks of Table III, or by a rule."""

STRATEGIES: dict[str, Strategy] = {
    "submitted": submitted,
    "all": equal_weights,
    "pam_top_8": top(8, on="pam"),
    "pam_top_4": top(4, on="pam"),
    "dev_top_8": top(8, on="dev"),
    "pam_top_1": top(1, on="pam"),
}
"""Name -> function from predictions on development clips [M, N, A] and their labels [N, A] to weights [M, A]."""
