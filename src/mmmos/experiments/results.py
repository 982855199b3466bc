"""Results of runs: the metrics of one run on one set, computed, written and read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.data.manifest import LabelledClip, label_array
from mmmos.errors import UsageError
from mmmos.evaluation.agreement import (
    EVALUATED_AXES,
    MEAN_OF_AXES,
    Measurement,
    mean_measurement,
    measure,
    with_composite,
)
from mmmos.metrics import LEVELS, METRICS
from mmmos.scores import AXES, AXIS_NAMES, SHOWN

AXIS_TITLES = {
    "composite": "composite of the four axes",
    MEAN_OF_AXES: "mean of the four axes' metrics",
    **{axis: AXIS_NAMES[axis] for axis in SHOWN},
}
"""Axis of a result -> its title in tables."""


NEAR_CONSTANT = 0.05
"""A run has converged if its MSE is lower than a constant's by more than this fraction of it."""


BIAS = ("bias", "debiased_MSE")
"""Columns next to the paper's four metrics: the mean offset of the predictions, and the error without it."""


@dataclass(frozen=True)
class Result:
    """The agreement of one run with the labels of one set. NaN if a metric is undefined."""

    table: str  # "II", "III" or "IV" of the paper, or a custom title
    row: str  # configuration, encoder subset or strategy
    seed: int
    set: str  # "Dev", "PAM", "Test" or another
    level: str  # of `LEVELS`
    axis: str  # of `AXIS_TITLES`
    n: int  # clips or systems
    MSE: float
    LCC: float
    SRCC: float
    KTAU: float
    bias: float
    debiased_MSE: float  # noqa: N815 - the name in tables
    constant_MSE: float = math.nan  # noqa: N815 - MSE of the mean label of the set; a run should be far below it

    def __post_init__(self) -> None:
        if self.level not in LEVELS or self.axis not in AXIS_TITLES:
            raise ValueError(f"no level {self.level!r} or no axis {self.axis!r}")
        if any(math.isinf(getattr(self, metric)) for metric in (*METRICS, *BIAS)):
            raise ValueError("a metric is infinite")

    def to_json(self) -> dict[str, Any]:
        """The fields in full precision, null for NaN."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def results_of(
    scores: NDArray[np.floating], rows: Sequence[LabelledClip], set_name: str, table: str, row: str, seed: int
) -> Iterator[Result]:
    """Metrics of scores [N, A] on one set: by clip, and by system if there are several systems.

    The axes include the composite, the mean of a clip's four axes before any metric, and the mean of the axes' metrics.
    """
    labels, predictions = with_composite(label_array(rows)), with_composite(scores)
    systems = np.array([clip.system for clip in rows])
    for level in LEVELS if len(set(systems) - {""}) > 1 else LEVELS[:1]:
        found = {
            axis: measure(predictions[:, i], labels[:, i], systems if level == "system" else None)
            for i, axis in enumerate(EVALUATED_AXES)
        }
        found[MEAN_OF_AXES] = mean_measurement([found[axis] for axis in AXES], found["composite"].n)
        for axis, one in found.items():
            yield Result(table, row, seed, set_name, level, axis, one.n, **_columns(one))


def _columns(measured: Measurement) -> dict[str, float]:
    """Column of a result table -> metric."""
    metrics = {name.replace("_mse", "_MSE"): value for name, value in measured.metrics.items()}
    return metrics | {"constant_MSE": measured.constant_mse}


def read_results(path: Path) -> list[Result]:
    """Read results from a JSONL file. Raises `UsageError`, which names the line, for an invalid result."""
    results = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            figures = (*METRICS, *BIAS, *(("constant_MSE",) if "constant_MSE" in row else ()))
            values = {name: math.nan if row[name] is None else float(row[name]) for name in figures}
            results.append(Result(**(row | values)))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}, line {number} is not a result: {error}") from error
    return results


def write_results(results: Iterable[Result], path: Path) -> None:
    """Write results as JSONL, one per line; null for NaN."""
    lines = (json.dumps(result.to_json(), allow_nan=False) for result in results)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def converged(mse: float, constant_mse: float) -> bool:
    """Whether the MSE of a run is well below that of a constant, the mean label of the same set.

    An unknown MSE counts as converged.

    >>> converged(0.9, 1.0), converged(0.96, 1.0), converged(1.5, 1.0), converged(0.9, math.nan)
    (True, False, False, True)
    """
    return not mse >= (1 - NEAR_CONSTANT) * constant_mse
