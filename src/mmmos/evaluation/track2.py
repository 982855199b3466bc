"""The test set of AudioMOS Challenge 2025 Track 2: its ratings, a model's predictions of it, and their agreement.

The test set has 36 systems with 85 clips each. Its labels are public, but its audio belongs to the organisers, so
users provide predictions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmmos.data.label_files import label_file
from mmmos.data.manifest import preview
from mmmos.data.ratings import read_ratings
from mmmos.errors import ManifestError
from mmmos.evaluation.agreement import (
    EVALUATED_AXES,
    MEAN_OF_AXES,
    mean_measurement,
    measure,
    with_composite,
)
from mmmos.evaluation.ceiling import ceilings
from mmmos.io.lists import OnBadRow, refuse
from mmmos.metrics import ALL_METRICS, LEVELS, METRICS, bootstrap, system_means
from mmmos.scores import AXES, Scores

_ID = re.compile(r"audiomos2025-track2-sys([A-Za-z0-9]{5})-utt[A-Za-z0-9]{6}")


@dataclass(frozen=True)
class Truth:
    """The ratings of the test set."""

    ids: tuple[str, ...]
    systems: tuple[str, ...]  # of each clip
    ratings: NDArray[np.float64]  # [N, A, R]


@dataclass(frozen=True)
class Result:
    """The metrics of a model on one axis at one level."""

    axis: str  # of EVALUATED_AXES, or MEAN_OF_AXES
    level: str  # of metrics.LEVELS
    n: int  # clips, or systems
    figures: Mapping[str, float]  # by metric
    ceiling: Mapping[str, float]  # the noise ceiling: the expected metrics of a perfect predictor

    def fraction_of_ceiling(self, metric: str) -> float:
        """Metric / noise ceiling; for an MSE, ceiling / MSE. 1 is the best expected value."""
        figure, best = self.figures[metric], self.ceiling[metric]
        if metric == "MSE":
            return best / figure if figure > 0 else math.nan
        return figure / best if best > 0 else math.nan


def read_truth(path: str | Path | None = None, on_bad_row: OnBadRow = refuse) -> Truth:
    """Read the ratings from `path`, by default the published file, downloaded if missing. Raises `ManifestError`."""
    path = label_file("track2_test") if path is None else Path(path)
    ids, ratings = read_ratings(path, on_bad_row)
    systems = [_ID.fullmatch(name) for name in ids]
    wrong = [name for name, found in zip(ids, systems, strict=True) if not found]
    if wrong or not ids:
        raise ManifestError(f"{path} is not of the Track 2 test set: {preview(wrong) or 'it is empty'}")
    return Truth(tuple(ids), tuple(found[1] for found in systems if found), ratings)


def test_id(scores: Scores) -> str | None:
    """The test id in the id or path of scores, or None."""
    found = _ID.search(scores.id) or _ID.search(scores.path or "")
    return found[0] if found else None


def align(truth: Truth, predictions: Sequence[Scores]) -> tuple[NDArray[np.float64], list[str]]:
    """Predictions [N, A] in the order of the truth, and the ids without a score on an axis that other clips have.

    A row is identified by the test id in its id or path, in any folder and with any suffix. Rows of other clips are
    ignored. Raises `ManifestError` for two rows of one clip, and if no row or no score belongs to the test set.
    """
    index = {name: i for i, name in enumerate(truth.ids)}
    values = np.full((len(index), len(AXES)), np.nan)
    seen: dict[str, str] = {}
    for scores in predictions:
        name = test_id(scores)
        if name is None or name not in index:
            continue
        if name in seen:
            origins = f" ({seen[name]} and {scores.origin})" if scores.origin else ""
            raise ManifestError(f"two rows have scores of {name}{origins}")
        seen[name] = scores.origin
        values[index[name]] = [scores[axis] for axis in AXES]
    if not seen:
        raise ManifestError("no row is of the Track 2 test set: ids are audiomos2025-track2-sysXXXXX-uttYYYYYY")
    predicted = np.asarray(np.isfinite(values).any(axis=0))
    if not predicted.any():
        raise ManifestError("no row of the Track 2 test set has a score")
    missing = ~np.isfinite(values[:, predicted]).all(axis=1)
    return values, [name for name, is_missing in zip(truth.ids, missing, strict=True) if is_missing]


def evaluate_track2(truth: Truth, predictions: NDArray[np.float64], seed: int = 0) -> list[Result]:
    """Metrics and noise ceilings of each axis, the composite and the mean of axes, over the clips with predictions.

    The labels and scores of a system are means over the same clips. If an axis has no predictions, it is left out, and
    so are the composite and the mean.

    Shape:
        - predictions: [N, A], NaN if missing
    """
    axes = np.asarray(np.isfinite(predictions).any(axis=0))
    rows = np.isfinite(predictions[:, axes]).all(axis=1)
    ratings = truth.ratings[rows]
    systems = np.array(truth.systems)[rows]
    best = {(found.axis, found.level): found for found in ceilings(ratings, list(systems), seed)}
    p, t = with_composite(predictions[rows]), with_composite(ratings.mean(axis=2))
    columns = {axis: i for i, axis in enumerate(EVALUATED_AXES) if [*axes, axes.all()][i]}
    results = []
    for level in LEVELS:
        found = {axis: measure(p[:, i], t[:, i], systems if level == "system" else None) for axis, i in columns.items()}
        ceiling = {axis: {name: getattr(best[axis, level], name) for name in METRICS} for axis in columns}
        if axes.all():
            found[MEAN_OF_AXES] = mean_measurement([found[axis] for axis in AXES], found["composite"].n)
            ceiling[MEAN_OF_AXES] = {name: float(np.mean([ceiling[axis][name] for axis in AXES])) for name in METRICS}
        results += [Result(axis, level, one.n, one.metrics, ceiling[axis]) for axis, one in found.items()]
    return results


Interval = tuple[float, float]

INTERVAL_SAMPLES = 300
"""Bootstrap resamples of an interval of a leaderboard."""


def intervals(
    truth: Truth, predictions: NDArray[np.float64], samples: int = INTERVAL_SAMPLES, seed: int = 0
) -> dict[tuple[str, str, str], Interval]:
    """95 % bootstrap intervals of a model's figures by axis, level and metric; NaN where a figure is undefined.

    Whole systems are drawn, for clips of one system are not independent. The mean of axes has no interval.

    Shape:
        - predictions: [N, A], NaN if missing
    """
    axes = np.asarray(np.isfinite(predictions).any(axis=0))
    rows = np.isfinite(predictions[:, axes]).all(axis=1)
    systems = np.array(truth.systems)[rows]
    p, t = with_composite(predictions[rows]), with_composite(truth.ratings[rows].mean(axis=2))
    found = {}
    for i, axis in enumerate(EVALUATED_AXES):
        if not [*axes, axes.all()][i]:
            continue
        means = system_means(p[:, i], systems), system_means(t[:, i], systems)
        for name in METRICS:
            metric = ALL_METRICS[name]
            found[axis, "utterance", name] = bootstrap(metric, p[:, i], t[:, i], systems, samples, seed)
            found[axis, "system", name] = bootstrap(metric, *means, None, samples, seed)
    return found
