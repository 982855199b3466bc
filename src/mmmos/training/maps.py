"""Maps from scores to ratings, and the choice between them by cross-validation over whole groups.

| map | from a score to a rating |
|---|---|
| rescale | the scale of the scores onto that of the ratings; nothing is fitted |
| shift | the same, and a constant |
| line | a straight line that does not fall (least squares) |
| monotone | any increasing map (isotonic regression), linear between the centres of its steps |

A map but the first may differ between the detected domains that have enough clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmmos.metrics import utterance_metrics
from mmmos.model.calibration import EVERY, Knots
from mmmos.scores import LabelRange
from mmmos.training.ridge import group_folds, standard_error

MIN_DOMAIN = 20
"""The fewest clips of a domain with a map of its own."""

_Array = NDArray[np.float64]
Maps = dict[str, Knots]
"""A map by domain; that of `EVERY` holds for all others."""


@dataclass(frozen=True)
class Rated:
    """Scores and ratings of one axis.

    Shape:
        - scores, labels, domains, groups: [N], finite
    """

    scores: _Array
    labels: _Array
    domains: NDArray[np.str_]
    groups: NDArray[np.str_]
    score_range: LabelRange
    label_range: LabelRange

    def take(self, rows: NDArray[np.bool_]) -> Rated:
        """The clips that are True in `rows` [N]."""
        parts = {name: getattr(self, name)[rows] for name in ("scores", "labels", "domains", "groups")}
        return replace(self, **parts)


@dataclass(frozen=True)
class Chosen:
    """The map of an axis, and its errors on held-out groups."""

    name: str  # key of `MAPS`, with " by domain" if it differs between domains
    maps: Maps
    figures: dict[str, float | None]
    folds: int
    helps: bool  # whether it is fitted and its squared error is below that of the rescaled scores
    informative: bool  # whether its squared error is below that of the mean rating, by more than a standard error


def choose_map(rated: Rated) -> Chosen:
    """The simplest map whose held-out squared error is within a standard error of the best one's.

    Its figures are of clips that were held out of the fit and of this choice.
    """
    folds = group_folds(rated.groups, np.full(len(rated.labels), True))
    values = {name: np.zeros(len(folds)) for name in ("chosen", "constant")}
    for fold in np.unique(folds):
        held, train = folds == fold, rated.take(folds != fold)
        maps = _choose(train)[1]
        values["chosen"][held] = _apply(maps, rated.scores[held], rated.domains[held])
        values["constant"][held] = train.labels.mean()
    name, maps = _choose(rated)
    values["rescaled"] = _rescale(rated)(rated.scores)
    errors = {kind: (np.clip(own, *rated.label_range) - rated.labels) ** 2 for kind, own in values.items()}
    mse = {kind: float(own.mean()) for kind, own in errors.items()}
    gain = errors["constant"] - errors["chosen"]
    found = utterance_metrics(rated.scores, rated.labels)
    figures = {"n": float(len(folds)), "MSE": mse["chosen"], "rescaled_MSE": mse["rescaled"]}
    figures |= {"constant_MSE": mse["constant"], "LCC": found["LCC"], "SRCC": found["SRCC"]}
    rounded = {key: round(value, 4) if np.isfinite(value) else None for key, value in figures.items()}
    helps = name != "rescale" and mse["chosen"] < mse["rescaled"]
    informative = bool(gain.mean() > standard_error(gain, rated.groups))
    return Chosen(name, maps, rounded, len(np.unique(folds)), helps, informative)


def _choose(rated: Rated) -> tuple[str, Maps]:
    """The name and the maps of the choice, fitted on all these clips."""
    folds = group_folds(rated.groups, np.full(len(rated.labels), True))
    large = [
        name for name in sorted(set(rated.domains.tolist())) if name and (rated.domains == name).sum() >= MIN_DOMAIN
    ]
    several = len(large) > 1
    candidates = [(name, by) for name in MAPS for by in (False, True) if not by or (several and name != "rescale")]
    errors = []
    for name, by_domain in candidates:
        predicted = np.zeros(len(folds))
        for fold in np.unique(folds):
            held = folds == fold
            maps = _fit(name, rated.take(~held), large if by_domain else ())
            predicted[held] = _apply(maps, rated.scores[held], rated.domains[held])
        errors.append((predicted - rated.labels) ** 2)
    best = errors[int(np.argmin([values.mean() for values in errors]))]
    for (name, by_domain), own in zip(candidates, errors, strict=True):
        if own.mean() - best.mean() <= standard_error(own - best, rated.groups):
            return name + " by domain" * by_domain, _fit(name, rated, large if by_domain else ())
    raise AssertionError("the best candidate is within its own standard error")


def _fit(name: str, rated: Rated, domains: Sequence[str]) -> Maps:
    maps = {EVERY: MAPS[name](rated)}
    for domain in domains:
        own = rated.take(rated.domains == domain)
        if len(own.labels):
            maps[domain] = MAPS[name](own)
    return maps


def _apply(maps: Maps, scores: _Array, domains: NDArray[np.str_]) -> _Array:
    values = maps[EVERY](scores)
    for domain, knots in maps.items():
        if domain != EVERY:
            values[domains == domain] = knots(scores[domains == domain])
    return values


def _rescale(rated: Rated) -> Knots:
    return Knots(rated.score_range, rated.label_range)


def _shift(rated: Rated) -> Knots:
    offset = float(np.mean(rated.labels - _rescale(rated)(rated.scores)))
    return Knots(rated.score_range, (rated.label_range[0] + offset, rated.label_range[1] + offset))


def _line(rated: Rated) -> Knots:
    centred = rated.scores - rated.scores.mean()
    spread = float(centred @ centred)
    slope = max(0.0, float(centred @ rated.labels) / spread) if spread > 0 else 0.0
    start = rated.labels.mean() - slope * rated.scores.mean()
    low, high = rated.score_range
    return Knots(rated.score_range, (start + slope * low, start + slope * high))


def _monotone(rated: Rated) -> Knots:
    from scipy.optimize import isotonic_regression

    order = np.argsort(rated.scores, kind="stable")
    fitted = isotonic_regression(rated.labels[order])
    ends = zip(fitted.blocks[:-1], fitted.blocks[1:], strict=True)
    centres = np.array([rated.scores[order][start:end].mean() for start, end in ends])
    values = fitted.x[fitted.blocks[:-1]]
    inside = (centres > rated.score_range[0]) & (centres < rated.score_range[1])
    kept = inside & np.concatenate([[True], np.diff(centres) > 0])  # equal scores may end one block and begin the next
    x = np.concatenate([rated.score_range[:1], centres[kept], rated.score_range[1:]])
    y = np.concatenate([values[:1], values[kept], values[-1:]])
    return Knots(tuple(x.tolist()), tuple(y.tolist()))


MAPS: dict[str, Callable[[Rated], Knots]] = {
    "rescale": _rescale,
    "shift": _shift,
    "line": _line,
    "monotone": _monotone,
}
"""Fits by name, the simplest first."""
