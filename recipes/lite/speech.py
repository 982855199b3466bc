"""PQ of speech: a direction of rising quality, from listeners' ratings of codecs and degradations in known order.

A listening test gives the differences between its clips, on its own scale. A degraded version is worse than a less
degraded one of the same recording by `MARGIN` standard deviations, and than one of any recording by `STEP` for each
step. The student copies scores of networks that were trained on ratings of speech: their direction is the prior, and
what they say of free recordings and their versions is to change little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Sufficient statistics of a least-squares fit of inputs A [N, D] to targets y [N]: A'A, A'y and N.

    Without a moment the targets are what the prior says, A prior.
    """

    gram: Array  # [D, D]
    moment: Array | None  # [D]
    size: float

    @classmethod
    def of(cls, inputs: Array, targets: Array) -> Evidence:
        """Of rows of equal weight."""
        return cls(inputs.T @ inputs, inputs.T @ targets, len(targets))


def fit_quality(x: Array, clips: Sequence[Spoken], prior: Array, settings: SpeechSettings = CHOSEN.speech) -> Array:
    """The direction [D] of rising quality in inputs [N, D]; `prior` is the direction of no evidence."""
    return solve_quality(evidence_of(x, clips), prior, settings)


def evidence_of(x: Array, clips: Sequence[Spoken]) -> dict[str, Evidence]:
    """What clips with inputs [N, D] show, by the name of its weight in `SpeechSettings`."""
    found = {}
    codecs = [i for i, clip in enumerate(clips) if clip.set == CODEC]
    if codecs:
        ratings = np.array([clips[i].rating for i in codecs])
        centred = x[codecs] - x[codecs].mean(axis=0)
        found["codecs"] = Evidence.of(centred, (ratings - ratings.mean()) / ratings.std())
    better, worse = ordered_pairs(clips)
    if better:
        found["pairs"] = Evidence.of(x[better] - x[worse], np.full(len(better), MARGIN))
        free = [i for i, clip in enumerate(clips) if clip.set == FREE]
        found["levels"] = _levels(x[free], [clips[i] for i in free])
        centred = x[free] - x[free].mean(axis=0)
        found["copies"] = Evidence(centred.T @ centred, None, len(free))
    return found


def solve_quality(evidence: Mapping[str, Evidence], prior: Array, settings: SpeechSettings) -> Array:
    """The b [D] of least Σ weight × |A b - y|² / N + decay × |b - prior|²; the weights are in hundreds."""
    gram, moment = np.zeros((len(prior), len(prior))), np.zeros(len(prior))
    for name, own in evidence.items():
        weight = getattr(settings, name) * TERMS / own.size
        gram += weight * own.gram
        moment += weight * (own.gram @ prior if own.moment is None else own.moment)
    grown = gram + settings.decay * np.eye(len(prior))
    return prior + np.asarray(solve(grown, moment - gram @ prior, assume_a="pos"))


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


def _levels(x: Array, clips: Sequence[Spoken]) -> Evidence:
    """Evidence from severities: each step costs `STEP`, within each kind, clean clips included."""
    kinds: NDArray[np.str_] = np.array([clip.kind for clip in clips])
    steps = np.array([float(clip.step) for clip in clips])
    clean = x[kinds == CLEAN]
    gram, moment, size_of_all = np.zeros((x.shape[1], x.shape[1])), np.zeros(x.shape[1]), 0.0
    for kind in sorted({*kinds} - {CLEAN}):
        degraded, own = x[kinds == kind], steps[kinds == kind]
        # Clean clips are many: together they count as a third step, next to the two that a recording has of a kind.
        weight = len(own) / 2
        size = len(own) + weight
        mean = (degraded.sum(axis=0) + weight * clean.mean(axis=0)) / size
        targets = -STEP * (own - own.sum() / size)
        gram += degraded.T @ degraded - size * np.outer(mean, mean)
        moment += targets @ degraded + weight * STEP * own.sum() / size * clean.mean(axis=0)
        size_of_all += weight
    return Evidence(gram + clean.T @ clean * (size_of_all / len(clean)), moment, 3 * size_of_all)
