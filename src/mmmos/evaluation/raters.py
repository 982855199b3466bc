"""From the answers of a listening test to labels: means, raters' bias, reliability, noise ceiling, raters needed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.data.answers import Answer
from mmmos.evaluation.ceiling import reliability_of

TARGETS = (0.8, 0.9)
"""Reliabilities for which the number of raters per clip is given."""

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class ClipRating:
    """A clip's label and the ratings behind it."""

    clip: str
    mean: float
    raters: int
    std: float  # of its ratings; NaN for one rating
    text: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RatingSummary:
    """What the ratings of a test allow; NaN where it is undefined, as for one rater."""

    clips: int
    raters: int
    ratings: int
    reliability: float  # of the clips' means: fraction of their variance that is not the raters' noise, ICC(1,k)
    single: float  # the same of a single rating, ICC(1,1)
    ceiling_lcc: float  # expected LCC of perfect scores with the means
    ceiling_mse: float  # expected squared error of perfect scores
    bias_std: float  # standard deviation of the raters' biases, points
    raters_needed: dict[str, int | None]  # by reliability, ratings per clip; None if undefined
    bias_removed: bool

    def to_json(self) -> dict[str, Any]:
        """The fields; None for an undefined value."""
        return {
            name: (round(value, 4) if math.isfinite(value) else None) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def rate(answers: Sequence[Answer], remove_bias: bool = False) -> tuple[list[ClipRating], RatingSummary]:
    """The label of each clip, in the order of the answers, and what they allow.

    `remove_bias` subtracts from each rating how much higher its rater rates than the others do on the same clips.
    """
    clips = {name: i for i, name in enumerate(dict.fromkeys(answer.clip for answer in answers))}
    raters = {name: i for i, name in enumerate(dict.fromkeys(answer.rater for answer in answers))}
    clip = np.array([clips[answer.clip] for answer in answers])
    rater = np.array([raters[answer.rater] for answer in answers])
    scores = np.array([answer.score for answer in answers], dtype=np.float64)
    biases = rater_biases(scores, clip, rater)
    values = scores - biases[rater] if remove_bias else scores
    by_clip: dict[int, list[float]] = defaultdict(list)
    for i, value in zip(clip.tolist(), values.tolist(), strict=True):
        by_clip[i].append(value)
    text = {answer.clip: answer.text for answer in reversed(answers)}
    found = [
        ClipRating(
            name, float(np.mean(own)), len(own), float(np.std(own, ddof=1)) if len(own) > 1 else math.nan, text[name]
        )
        for name, i in clips.items()
        if (own := by_clip[i])
    ]
    return found, _summary(list(by_clip.values()), biases, len(raters), remove_bias)


def rater_biases(scores: _Array, clip: NDArray[np.intp], rater: NDArray[np.intp]) -> _Array:
    """How much higher each rater rates than the average rater, points; they sum to 0 over the ratings.

    The least-squares fit of clip + rater, so that a rater who got the better clips is not taken for a generous one.

    Shape:
        - scores, clip, rater: [N]; clips and raters counted from 0
        - returns: [raters]
    """
    n_clips, n_raters = int(clip.max()) + 1, int(rater.max()) + 1
    counts = np.bincount(clip, minlength=n_clips)
    # Without the clips' means, which are linear in the biases, the normal equations are of the raters alone.
    shared = np.zeros((n_raters, n_clips))
    np.add.at(shared, (rater, clip), 1.0)
    matrix = np.diag(shared.sum(axis=1)) - (shared / counts) @ shared.T
    centred = scores - (np.bincount(clip, weights=scores) / counts)[clip]
    biases = np.linalg.pinv(matrix, hermitian=True) @ np.bincount(rater, weights=centred, minlength=n_raters)
    biases -= np.average(biases[rater])
    return np.asarray(biases)


def _summary(by_clip: Sequence[Sequence[float]], biases: _Array, raters: int, removed: bool) -> RatingSummary:
    several = [np.asarray(own) for own in by_clip if len(own) > 1]
    count = len(several) and len(several) / sum(1 / len(own) for own in several)  # harmonic mean of ratings per clip
    of_means = reliability_of(by_clip)
    within = float(np.mean([own.var(ddof=1) for own in several])) if several else math.nan
    single = of_means / (count - (count - 1) * of_means) if count and math.isfinite(of_means) else math.nan
    return RatingSummary(
        clips=len(by_clip),
        raters=raters,
        ratings=sum(map(len, by_clip)),
        reliability=of_means,
        single=single,
        ceiling_lcc=math.sqrt(of_means) if math.isfinite(of_means) else math.nan,
        ceiling_mse=float(np.mean([own.var(ddof=1) / len(own) for own in several])) if several else math.nan,
        bias_std=float(biases.std(ddof=1)) if raters > 1 and math.isfinite(within) else math.nan,
        raters_needed={f"{target:g}": raters_needed(single, target) for target in TARGETS},
        bias_removed=removed,
    )


def raters_needed(single: float, target: float) -> int | None:
    """Ratings per clip for a reliability of their mean (Spearman and Brown), by that of one; None if undefined.

    >>> raters_needed(0.5, 0.8), raters_needed(0.0, 0.8)
    (4, None)
    """
    if not 0 < single <= 1:
        return None
    return max(1, math.ceil(target * (1 - single) / (single * (1 - target)) - 1e-9)) if single < 1 else 1
