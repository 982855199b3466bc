"""How well scores agree with human labels: per axis, domain and system, with intervals, alone or against others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.data.manifest import LabelledClip, label_array
from mmmos.metrics import ALL_METRICS, bootstrap, composite, paired_bootstrap, srcc, system_means
from mmmos.scores import AXES, Scores

BOOTSTRAP_SAMPLES = 1000

EVALUATED_AXES = (*AXES, "composite")
"""What figures are given of: the axes, and the mean of a clip's four, taken before any metric."""


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
    debiased_mse: float  # MSE once the bias is taken off
    SRCC_low: float  # 95 % bootstrap interval over groups (songs, speakers) where rows name them
    SRCC_high: float

    def to_json(self) -> dict[str, Any]:
        """The fields, null for what is not defined."""
        return _to_json(self)


@dataclass(frozen=True)
class Comparison:
    """One figure of two models over the same clips."""

    axis: str  # of EVALUATED_AXES
    part: str  # "all", or a domain's name
    level: str  # "utterance" or "system"
    n: int  # clips, or systems, that both have scored
    metric: str  # of metrics.ALL_METRICS
    first: float
    second: float
    difference: float  # first - second
    low: float  # 95 % interval of the difference, from the same resamples of clips (groups, systems) for both
    high: float
    better: float  # share of the resamples in which the first is better; a draw counts half

    def to_json(self) -> dict[str, Any]:
        """The fields, null for what is not defined."""
        return _to_json(self)


@dataclass(frozen=True)
class Cell:
    """The values that one line of a result is made of."""

    axis: str
    part: str
    level: str
    target: NDArray[np.float64]  # [N]
    predictions: tuple[NDArray[np.float64], ...]  # of each model, [N]
    domains: NDArray[np.str_]  # [N]; a system's is "" where its clips are of several
    groups: NDArray[np.str_] | None  # [N], what is resampled; each by itself if None


def evaluate(
    rows: Sequence[LabelledClip], scores: Sequence[Scores], seed: int = 0, axes: Sequence[str] = EVALUATED_AXES
) -> list[Agreement]:
    """Agreement on every axis that has labels: over all clips, by domain, and by system.

    Clips without a score (silent, undecodable) are left out; the caller counts them. The composite is over
    clips with all four labels and scores. Where rows name systems, system-level values are those of the
    systems' mean scores and mean labels.
    """
    found = []
    for cell in cells(rows, [scores], axes):
        p, t = cell.predictions[0], cell.target
        low, high = bootstrap(srcc, p, t, cell.groups, samples=BOOTSTRAP_SAMPLES, seed=seed)
        figures = {name: metric(p, t) for name, metric in ALL_METRICS.items()}
        found.append(Agreement(cell.axis, cell.part, cell.level, len(t), **figures, SRCC_low=low, SRCC_high=high))
    return found


def compare(
    rows: Sequence[LabelledClip],
    first: Sequence[Scores],
    second: Sequence[Scores],
    seed: int = 0,
    axes: Sequence[str] = EVALUATED_AXES,
) -> list[Comparison]:
    """Every figure of two models side by side, over the clips that both have scored."""
    found = []
    for cell in cells(rows, [first, second], axes):
        (a, b), t = cell.predictions, cell.target
        paired = paired_bootstrap(ALL_METRICS, a, b, t, cell.groups, samples=BOOTSTRAP_SAMPLES, seed=seed)
        for name, metric in ALL_METRICS.items():
            figures = (metric(a, t), metric(b, t), *asdict(paired[name]).values())
            found.append(Comparison(cell.axis, cell.part, cell.level, len(t), name, *figures))
    return found


def labelled(rows: Sequence[LabelledClip]) -> list[str]:
    """What of EVALUATED_AXES there is a label of."""
    known = np.isfinite(_with_composite(label_array(rows)))
    return [axis for i, axis in enumerate(EVALUATED_AXES) if known[:, i].any()]


def missing_axes(
    rows: Sequence[LabelledClip], scores: Sequence[Scores], axes: Sequence[str] = EVALUATED_AXES
) -> list[str]:
    """A sentence on each axis that no clip has a label of, or no clip a score: nothing is told of it elsewhere."""
    labels, predictions = _with_composite(label_array(rows)), _with_composite(_score_array(scores))
    said = []
    for axis in axes:
        i = EVALUATED_AXES.index(axis)
        known = {"label": np.isfinite(labels[:, i]), "score": np.isfinite(predictions[:, i])}
        lacking = [what for what, there in known.items() if not there.any()]
        if lacking:
            said.append(f"no clip has a {' or a '.join(lacking)} of {axis}")
        elif not (known["label"] & known["score"]).any():
            said.append(f"no clip has both a label and a score of {axis}")
    return said


def cells(
    rows: Sequence[LabelledClip], models: Sequence[Sequence[Scores]], axes: Sequence[str] = EVALUATED_AXES
) -> Iterator[Cell]:
    """The clips of each part and axis that are labelled and that every model has scored; then their systems."""
    labels = _with_composite(label_array(rows))
    tables = [_with_composite(_score_array(scores, len(rows))) for scores in models]
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
            yield Cell(axis, part, "utterance", labels[known, i], values, domains[known], groups[known])
            named = known & (systems != "")
            if named.any():
                target, *means = (system_means(x[named, i], systems[named]) for x in (labels, *tables))
                yield Cell(axis, part, "system", target, tuple(means), _common(domains[named], systems[named]), None)


def _to_json(item: Agreement | Comparison) -> dict[str, Any]:
    return {name: _finite_or_none(value) for name, value in asdict(item).items()}


def _score_array(scores: Sequence[Scores], clips: int | None = None) -> NDArray[np.float64]:
    values = np.array([[item[axis] for axis in AXES] for item in scores])
    return values.reshape(len(scores) if clips is None else clips, len(AXES))


def _common(domains: NDArray[np.str_], systems: NDArray[np.str_]) -> NDArray[np.str_]:
    """The domain of each system, in the order of `system_means`, "" for one of several."""
    of_each = [np.unique(domains[systems == name]) for name in np.unique(systems)]
    return np.array([found[0] if len(found) == 1 else "" for found in of_each])


def _with_composite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[N, A] with the composite as another column, NaN where an axis is."""
    return np.column_stack([values, composite(values)])


def _finite_or_none(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
