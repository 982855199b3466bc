"""PQ of speech: a direction of rising quality, from listeners' ratings of codecs and degradations in known order.

A listening test gives the differences between its clips, on its own scale. A degraded version is worse than a less
degraded one of the same recording by `MARGIN` standard deviations, and than one of any recording by `STEP` for each
step. Where these say nothing, the direction is that of the scores in which the student copies networks that were
trained on ratings of speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve

from recipes.lite.heads import CLEAN, CODEC, FREE, Array
from recipes.lite.settings import CHOSEN, SpeechSettings
from recipes.lite.spoken import Spoken

MARGIN = 1.0  # standard deviations between two versions of a recording
STEP = 0.5  # standard deviations between two steps, of any recording
TERMS = 100.0  # weight of a whole source against the decay, whatever its number of clips


@dataclass(frozen=True)
class Evidence:
    """Sufficient statistics of a least-squares fit of inputs A [N, D] to targets y [N]: A'A and A'y."""

    gram: Array  # [D, D]
    moment: Array  # [D]

    @classmethod
    def of(cls, inputs: Array, targets: Array, weight: float) -> Evidence:
        """The source as a whole has the weight `weight` × `TERMS`, whatever its number of rows."""
        return cls(inputs.T @ inputs, inputs.T @ targets).times(weight * TERMS / max(len(targets), 1))

    @classmethod
    def nothing(cls, size: int) -> Evidence:
        """Nothing is known of D inputs."""
        return cls(np.zeros((size, size)), np.zeros(size))

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.gram + other.gram, self.moment + other.moment)

    def times(self, weight: float) -> Evidence:
        """The same with its weight multiplied."""
        return Evidence(weight * self.gram, weight * self.moment)

    def solve(self, decay: float, prior: Array) -> Array:
        """The b [D] of least |A b - y|² + decay × |b - prior|²."""
        grown = self.gram + decay * np.eye(len(prior))
        return prior + np.asarray(solve(grown, self.moment - self.gram @ prior, assume_a="pos"))


def fit_quality(x: Array, clips: Sequence[Spoken], prior: Array, settings: SpeechSettings = CHOSEN.speech) -> Array:
    """The direction [D] of rising quality in inputs [N, D]; `prior` is the direction of no evidence."""
    codecs = [i for i, clip in enumerate(clips) if clip.set == CODEC]
    found = Evidence.nothing(x.shape[1])
    if codecs:
        ratings = np.array([clips[i].rating for i in codecs])
        centred = x[codecs] - x[codecs].mean(axis=0)
        found += Evidence.of(centred, (ratings - ratings.mean()) / ratings.std(), settings.codecs)
    better, worse = ordered_pairs(clips)
    if better:
        found += Evidence.of(x[better] - x[worse], np.full(len(better), MARGIN), settings.pairs)
        free = [i for i, clip in enumerate(clips) if clip.set == FREE]
        found += _levels(x[free], [clips[i] for i in free], settings.levels)
    return found.solve(settings.decay, prior)


def ordered_pairs(clips: Sequence[Spoken]) -> tuple[list[int], list[int]]:
    """Versions of one free recording of which the first is better: clean, or less degraded in the same way."""
    versions: dict[str, list[int]] = {}
    for i, clip in enumerate(clips):
        if clip.set == FREE:
            versions.setdefault(clip.path, []).append(i)
    found = [
        (i, j)
        for own in versions.values()
        for i in own
        for j in own
        if clips[i].kind in (clips[j].kind, CLEAN) and clips[i].step < clips[j].step
    ]
    return [i for i, _ in found], [j for _, j in found]


def _levels(x: Array, clips: Sequence[Spoken], weight_of_all: float) -> Evidence:
    """Evidence from severities: each step costs `STEP`, within each kind, clean clips included."""
    kinds: NDArray[np.str_] = np.array([clip.kind for clip in clips])
    steps = np.array([float(clip.step) for clip in clips])
    clean = x[kinds == CLEAN]
    found, size_of_all = Evidence.nothing(x.shape[1]), 0.0
    for kind in sorted({*kinds} - {CLEAN}):
        degraded, own = x[kinds == kind], steps[kinds == kind]
        # Clean clips are many: together they count as a third step, next to the two that a recording has of a kind.
        weight = len(own) / 2
        size = len(own) + weight
        mean = (degraded.sum(axis=0) + weight * clean.mean(axis=0)) / size
        targets = -STEP * (own - own.sum() / size)
        moment = targets @ degraded + weight * STEP * own.sum() / size * clean.mean(axis=0)
        found += Evidence(degraded.T @ degraded - size * np.outer(mean, mean), moment)
        size_of_all += weight
    clean_part = Evidence(clean.T @ clean * (size_of_all / len(clean)), np.zeros(x.shape[1]))
    return (found + clean_part).times(weight_of_all * TERMS / (3 * size_of_all))
