"""Agreement of scores with human labels: per axis, domain and system, with intervals, for one model or two.

`measure` computes every metric that tables, leaderboards and plots show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmmos.data.manifest import LabelledClip, label_array
from mmmos.metrics import ALL_METRICS, bootstrap, composite, paired_bootstrap, srcc, system_means
from mmmos.scores import AXES, Scores

BOOTSTRAP_SAMPLES = 1000

EVALUATED_AXES = (*AXES, "composite")
"""The axes that metrics are computed on, with the composite: the mean of a clip's four axes, before any metric."""

MEAN_OF_AXES = "mean_of_axes"
"""The name of the mean of a metric over the four axes, an alternative to the metric of the composite."""


@dataclass(frozen=True)
class Measurement:
    """The metrics of predictions and targets over some clips or systems."""

    n: int  # clips, or systems
    metrics: dict[str, float]  # keys of `metrics.ALL_METRICS`; NaN if a metric is undefined
    constant_mse: float  # MSE of the mean target as a constant prediction; NaN without a clip


@dataclass(frozen=True)
class Agreement:
    """Agreement of scores and labels on one axis, over one part of the clips."""

    axis: str  # of EVALUATED_AXES
    part: str  # "all", or a domain's name
    level: str  # "utterance" or "system"
    n: int  # clips, or systems
    MSE: float
    LCC: float
    SRCC: float
    KTAU: float
    bias: float  # mean of score - label
    debiased_mse: float  # MSE without the bias
    SRCC_low: float  # 95 % bootstrap interval over groups (songs, speakers) if rows name them
    SRCC_high: float

    def to_json(self) -> dict[str, Any]:
        """The fields; None for an undefined metric."""
        return _to_json(self)


@dataclass(frozen=True)
class Comparison:
    """One metric of two models over the same clips."""

    axis: str  # of EVALUATED_AXES
    part: str  # "all", or a domain's name
    level: str  # "utterance" or "system"
    n: int  # clips, or systems, scored by both models
    metric: str  # of metrics.ALL_METRICS
    first: float
    second: float
    difference: float  # first - second
    low: float  # 95 % interval of the difference, from the same resamples of clips (groups, systems) for both
    high: float
    better: float  # fraction of resamples in which the first model is better; a tie counts half

    def to_json(self) -> dict[str, Any]:
        """The fields; None for an undefined metric."""
        return _to_json(self)


@dataclass(frozen=True)
class Sample:
    """The labels and predictions behind one line of a result."""

    axis: str
    part: str
    level: str
    target: NDArray[np.float64]  # [N]
    predictions: tuple[NDArray[np.float64], ...]  # of each model, [N]
    domains: NDArray[np.str_]  # [N]; "" for a system with clips of several domains
    groups: NDArray[np.str_] | None  # [N], units of the bootstrap; None: each clip or system is a unit


def measure(prediction: ArrayLike, target: ArrayLike, systems: ArrayLike | None = None) -> Measurement:
    """All metrics over the clips that have a prediction and a target, or over their systems.

    With `systems`, metrics compare the means of each system's clips; clips without a system, "", are left out.

    Shape:
        - prediction, target: [N], NaN for a missing value
        - systems: [N]

    >>> measure([1.0, 3.0, 9.0], [1.0, 2.0, float("nan")]).metrics["MSE"]
    0.5
    >>> measure([1.0, 3.0, 5.0], [1.0, 3.0, 4.0], ["a", "a", "b"]).n
    2
    """
    p, t = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    known = np.isfinite(p) & np.isfinite(t)
    if systems is None:
        p, t = p[known], t[known]
    else:
        names = np.asarray(systems)
        known &= names != ""
        p, t = (system_means(values[known], names[known]) for values in (p, t))
    metrics = {name: metric(p, t) for name, metric in ALL_METRICS.items()}
    return Measurement(len(t), metrics, float(np.var(t)) if len(t) else math.nan)


def mean_measurement(found: Sequence[Measurement], n: int) -> Measurement:
    """The mean of each metric over several measurements, such as those of the four axes."""
    metrics = {name: float(np.mean([one.metrics[name] for one in found])) for name in ALL_METRICS}
    return Measurement(n, metrics, float(np.mean([one.constant_mse for one in found])))


def evaluate(
    rows: Sequence[LabelledClip], scores: Sequence[Scores], seed: int = 0, axes: Sequence[str] = EVALUATED_AXES
) -> list[Agreement]:
    """Agreement on every axis that has labels: over all clips, by domain, and by system.

    Clips without a score (silent, undecodable) are left out; the caller counts them. The composite covers clips with
    all four labels and scores. If rows name systems, system-level values compare the systems' mean scores and labels.
    """
    found = []
    for sample in samples(rows, [scores], axes):
        p, t = sample.predictions[0], sample.target
        low, high = bootstrap(srcc, p, t, sample.groups, samples=BOOTSTRAP_SAMPLES, seed=seed)
        metrics = measure(p, t).metrics
        found.append(Agreement(sample.axis, sample.part, sample.level, len(t), **metrics, SRCC_low=low, SRCC_high=high))
    return found


def compare(
    rows: Sequence[LabelledClip],
    first: Sequence[Scores],
    second: Sequence[Scores],
    seed: int = 0,
    axes: Sequence[str] = EVALUATED_AXES,
) -> list[Comparison]:
    """Every metric of two models, over the clips that both have scored."""
    found = []
    for sample in samples(rows, [first, second], axes):
        (a, b), t = sample.predictions, sample.target
        paired = paired_bootstrap(ALL_METRICS, a, b, t, sample.groups, samples=BOOTSTRAP_SAMPLES, seed=seed)
        of_first, of_second = measure(a, t).metrics, measure(b, t).metrics
        for name in ALL_METRICS:
            values = (of_first[name], of_second[name], *asdict(paired[name]).values())
            found.append(Comparison(sample.axis, sample.part, sample.level, len(t), name, *values))
    return found


def labelled(rows: Sequence[LabelledClip]) -> list[str]:
    """The axes of EVALUATED_AXES with at least one label."""
    known = np.isfinite(with_composite(label_array(rows)))
    return [axis for i, axis in enumerate(EVALUATED_AXES) if known[:, i].any()]


def missing_axes(
    rows: Sequence[LabelledClip], scores: Sequence[Scores], axes: Sequence[str] = EVALUATED_AXES
) -> list[str]:
    """Sentences on the axes without labels or scores, as no other result mentions them."""
    labels, predictions = label_array(rows), _score_array(scores)
    missing: dict[str, list[str]] = {}
    for i, axis in enumerate(AXES):
        known = {"label": np.isfinite(labels[:, i]), "score": np.isfinite(predictions[:, i])}
        absent = [what for what, present in known.items() if not present.any()]
        if absent:
            missing.setdefault(f"a {' or a '.join(absent)}", []).append(axis)
        elif not (known["label"] & known["score"]).any():
            missing.setdefault("both a label and a score", []).append(axis)
    wanted = {what: [axis for axis in found if axis in axes] for what, found in missing.items()}
    sentences = [f"no clip has {what} of {' or '.join(found)}" for what, found in wanted.items() if found]
    complete = np.isfinite(labels).all(axis=1) & np.isfinite(predictions).all(axis=1)
    if "composite" in axes and not complete.any():
        sentences.append("the composite is not evaluated: no clip has labels and scores of all four axes")
    return sentences


def samples(
    rows: Sequence[LabelledClip], models: Sequence[Sequence[Scores]], axes: Sequence[str] = EVALUATED_AXES
) -> Iterator[Sample]:
    """For each part and axis, the clips with a label and a score of every model, then their systems."""
    labels = with_composite(label_array(rows))
    tables = [with_composite(_score_array(scores, len(rows))) for scores in models]
    groups = np.array([row.group or row.clip.id for row in rows])
    systems = np.array([row.system for row in rows])
    domains = np.array([row.domain for row in rows])
    parts = {"all": np.full(len(rows), True)}
    parts |= {name: domains == name for name in sorted(set(domains)) if name} if len(set(domains)) > 1 else {}
    for part, chosen in parts.items():
        for axis in axes:
            i = EVALUATED_AXES.index(axis)
            known = chosen & np.isfinite(np.array([labels[:, i], *(table[:, i] for table in tables)])).all(axis=0)
            if not known.any():
                continue
            values = tuple(table[known, i] for table in tables)
            yield Sample(axis, part, "utterance", labels[known, i], values, domains[known], groups[known])
            named = known & (systems != "")
            if named.any():
                target, *means = (system_means(x[named, i], systems[named]) for x in (labels, *tables))
                yield Sample(axis, part, "system", target, tuple(means), _common(domains[named], systems[named]), None)


def _to_json(item: Agreement | Comparison) -> dict[str, Any]:
    return {name: _finite_or_none(value) for name, value in asdict(item).items()}


def _score_array(scores: Sequence[Scores], clips: int | None = None) -> NDArray[np.float64]:
    values = np.array([[item[axis] for axis in AXES] for item in scores])
    return values.reshape(len(scores) if clips is None else clips, len(AXES))


def _common(domains: NDArray[np.str_], systems: NDArray[np.str_]) -> NDArray[np.str_]:
    """The domain of each system, in the order of `system_means`; "" if its clips have several."""
    of_each = [np.unique(domains[systems == name]) for name in np.unique(systems)]
    return np.array([found[0] if len(found) == 1 else "" for found in of_each])


def with_composite(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Columns of EVALUATED_AXES: [N, A] -> [N, A + 1]; the composite is NaN if an axis is."""
    return np.column_stack([values, composite(values)])


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
