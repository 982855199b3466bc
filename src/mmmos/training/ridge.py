"""Ridge regression for small data, with its decay chosen by cross-validation over whole groups.

Where another model's scores of the clips are known (the prior), the fit is a mean of a straight line through them
and of the ridge regression:

    label ≈ weight × (slope × prior + constant)  +  (1 - weight) × (inputs @ direction + constant)

`weight` is 1, 0.5 or 0: the first of them whose held-out squared error is within one standard error of the best.
Thus few labels move the prior's scores onto their scale, and many labels replace these scores.

With a warm start many labels correct these scores instead: the ridge regression is of the difference from the line, so
that its decay draws the new model towards the prior rather than towards a constant:

    label ≈ slope × prior + constant  +  (1 - weight) × inputs @ direction
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from mmmos.metrics import utterance_metrics

FOLDS = 5
"""Number of folds, each of whole groups and held out in turn; fewer where there are fewer groups."""

DECAYS = 10.0 ** np.arange(3, -4.5, -0.5)
"""Weights of |direction|² in the squared error, strongest first; the squares of a block's inputs sum to about 1."""

PRIOR_WEIGHTS = (1.0, 0.5, 0.0)
"""Weights of the line through the prior, in order of preference."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Labelled clips of one axis.

    Sets other than `main` were rated on other scales: only differences of their labels count, in units of their own
    standard deviation.

    Shape:
        - inputs: [N, D]
        - labels: [N], finite
        - prior: [N] scores of another model, or None
        - groups, sets: [N]
    """

    inputs: Array
    labels: Array
    prior: Array | None
    groups: NDArray[np.str_]
    sets: NDArray[np.str_]
    main: str
    warm: bool = False  # whether the ridge regression corrects the line through the prior

    @property
    def is_main(self) -> NDArray[np.bool_]:
        """[N], True for the clips of the primary dataset, whose scale the scores have."""
        return np.asarray(self.sets == self.main)

    def take(self, rows: NDArray[np.bool_]) -> Sample:
        """The clips that are True in `rows` [N]."""
        prior = None if self.prior is None else self.prior[rows]
        return replace(
            self,
            inputs=self.inputs[rows],
            labels=self.labels[rows],
            prior=prior,
            groups=self.groups[rows],
            sets=self.sets[rows],
        )


@dataclass(frozen=True)
class Linear:
    """label ≈ inputs @ direction + slope × prior + intercept."""

    direction: Array  # [D]
    slope: float
    intercept: float
    prior_weight: float  # of PRIOR_WEIGHTS
    decay: float  # of DECAYS

    def predict(self, inputs: Array, prior: Array | None) -> Array:
        """Inputs [N, D] and prior [N] -> [N] on the scale of the primary dataset's labels."""
        return inputs @ self.direction + self.intercept + (0.0 if prior is None else self.slope * prior)


@dataclass(frozen=True)
class HeldOut:
    """Predictions of clips whose group was held out of the fit and of the choice of the decay.

    Shape:
        - labels, predictions, constant: [N] of the primary dataset; `constant` is the mean label of the fit's clips
    """

    labels: Array
    predictions: Array
    constant: Array
    folds: int

    def figures(self) -> dict[str, float | None]:
        """Agreement, and the squared error of always predicting the mean label; None where undefined."""
        return agreement(self.predictions, self.labels, self.constant)


def agreement(
    predictions: NDArray[np.floating], labels: NDArray[np.floating], constant: NDArray[np.floating]
) -> dict[str, float | None]:
    """SRCC, LCC and MSE of predictions [N], the MSE of a constant, and both standard deviations."""
    found = utterance_metrics(predictions, labels)
    figures = {"n": float(len(labels)), "SRCC": found["SRCC"], "LCC": found["LCC"], "MSE": found["MSE"]}
    figures |= {"constant_MSE": float(np.mean((constant - labels) ** 2))}
    figures |= {"std": float(predictions.std()), "label_std": float(labels.std())}
    return {name: round(value, 4) if np.isfinite(value) else None for name, value in figures.items()}


def group_folds(
    groups: Sequence[str] | NDArray[np.str_], counted: NDArray[np.bool_], folds: int = FOLDS
) -> NDArray[np.intp]:
    """The fold of every row, [N]: no group is in two folds, and the `counted` rows are spread evenly.

    The order of the groups depends only on their names.
    """
    names = np.asarray(groups)
    order = sorted(set(names.tolist()), key=lambda name: hashlib.sha256(name.encode()).digest())
    sizes = {name: int((counted & (names == name)).sum()) for name in order}
    used = [0] * max(1, min(folds, sum(size > 0 for size in sizes.values())))
    fold_of: dict[str, int] = {}
    for name in order:
        fold_of[name] = used.index(min(used))
        used[fold_of[name]] += sizes[name]
    return np.array([fold_of[name] for name in names.tolist()], dtype=np.intp)


def fit_linear(sample: Sample) -> Linear:
    """Fit on all clips, with the decay and the weight of the prior chosen on held-out groups."""
    folds = group_folds(sample.groups, sample.is_main)
    ridge, line = np.full((len(DECAYS), len(folds)), np.nan), np.full(len(folds), np.nan)
    for fold in np.unique(folds):
        held = folds == fold
        ridge[:, held], line[held] = _Candidates.fit(sample.take(~held)).predict(sample.take(held))
    main = sample.is_main
    errors = ridge[:, main] - sample.labels[main]
    best = int(np.mean(errors**2, axis=1).argmin())
    weight = 0.0
    if sample.prior is not None:
        weight = _prior_weight(errors[best], line[main] - sample.labels[main], sample.groups[main])
    return _Candidates.fit(sample).blend(best, weight)


def cross_validate(sample: Sample) -> HeldOut:
    """Predict every clip of the primary dataset by a fit on the other folds."""
    folds = group_folds(sample.groups, sample.is_main)
    predictions, constant = np.zeros(len(folds)), np.zeros(len(folds))
    for fold in np.unique(folds):
        held, train = folds == fold, sample.take(folds != fold)
        part = sample.take(held)
        predictions[held] = fit_linear(train).predict(part.inputs, part.prior)
        constant[held] = train.labels[train.is_main].mean()
    main = sample.is_main
    return HeldOut(sample.labels[main], predictions[main], constant[main], len(np.unique(folds)))


@dataclass(frozen=True)
class _Candidates:
    """One ridge regression per decay, and the line through the prior."""

    directions: Array  # [decays, D]
    slope: float
    inputs_mean: Array  # [D], of the primary dataset
    prior_mean: float
    label_mean: float
    warm: bool

    @classmethod
    def fit(cls, sample: Sample) -> _Candidates:
        inputs, labels, prior = _centred(sample)
        main = sample.is_main
        slope, prior_mean = 0.0, 0.0
        if sample.prior is not None:
            slope = float(prior @ labels) / max(float(prior @ prior), 1e-12)
            prior_mean = float(sample.prior[main].mean())
        means = sample.inputs[main].mean(axis=0), prior_mean, float(sample.labels[main].mean())
        target = labels - slope * prior if sample.warm else labels
        return cls(_ridge(inputs, target), slope, *means, sample.warm)

    def predict(self, sample: Sample) -> tuple[Array, Array]:
        """Predictions of the ridge regressions [decays, N] and of the line [N]."""
        ridge = self.directions @ (sample.inputs - self.inputs_mean).T + self.label_mean
        prior = np.zeros(len(sample.labels)) if sample.prior is None else sample.prior - self.prior_mean
        line = self.slope * prior
        return ridge + line if self.warm else ridge, line + self.label_mean

    def blend(self, decay: int, weight: float) -> Linear:
        direction = (1 - weight) * self.directions[decay]
        slope = self.slope if self.warm else weight * self.slope
        intercept = self.label_mean - float(self.inputs_mean @ direction) - slope * self.prior_mean
        return Linear(direction, slope, intercept, weight, float(DECAYS[decay]))


def _centred(sample: Sample) -> tuple[Array, Array, Array]:
    """Inputs, labels and prior minus their set's mean; labels of other sets scaled to the primary dataset's std."""
    inputs, labels = sample.inputs.copy(), sample.labels.copy()
    prior = np.zeros(len(labels)) if sample.prior is None else sample.prior.copy()
    spread = sample.labels[sample.is_main].std()
    for name in np.unique(sample.sets):
        own = sample.sets == name
        for values in (inputs, labels, prior):
            values[own] -= values[own].mean(axis=0)
        deviation = labels[own].std()
        labels[own] *= spread / deviation if name != sample.main and deviation > 0 else 1.0
    return inputs, labels, prior


def _ridge(inputs: Array, labels: Array) -> Array:
    """The b [decays, D] that minimise |inputs @ b - labels|² + decay × |b|², from the smaller Gram matrix."""
    wide = inputs.shape[0] <= inputs.shape[1]
    values, vectors = eigh(inputs @ inputs.T if wide else inputs.T @ inputs)
    moment = vectors.T @ (labels if wide else inputs.T @ labels)
    solved = vectors @ (moment[:, None] / (values.clip(min=0)[:, None] + DECAYS))
    return np.asarray(solved.T @ inputs if wide else solved.T)


def _prior_weight(ridge: Array, line: Array, groups: NDArray[np.str_]) -> float:
    """The first of `PRIOR_WEIGHTS` whose squared error is within a standard error of the best; held-out errors [N]."""
    squared = {weight: (weight * line + (1 - weight) * ridge) ** 2 for weight in PRIOR_WEIGHTS}
    best = min(squared.values(), key=np.mean)
    return next(w for w in PRIOR_WEIGHTS if (squared[w] - best).mean() <= standard_error(squared[w] - best, groups))


def standard_error(values: Array, groups: NDArray[np.str_]) -> float:
    """Standard error of the mean of values [N] that are correlated within a group."""
    names, number = np.unique(groups, return_inverse=True)
    sums = np.bincount(number, weights=values)
    if len(names) < 2:
        return 0.0
    return float(np.sqrt(len(names) / (len(names) - 1) * ((sums - sums.mean()) ** 2).sum()) / len(values))
