"""From the members' predictions for a clip's windows to its scores: their mean, within the scale, and their basis."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.audio.clip import Clip
from mmmos.audio.windows import ClipReport, Window
from mmmos.errors import AudioError
from mmmos.model.system import ScoringModel, combine
from mmmos.scores import AXES, BASES, ClipError, Provenance, Scores, file_state

COUNTED_PROBABILITY = 0.25
"""Domains with at least this probability, and the most probable one, determine the basis of a score."""


@dataclass(frozen=True)
class WindowResult:
    """What the members say about a window, or about a clip on average over its windows.

    Shape:
        - prediction: [M, A] on the label scale
        - probabilities: [domains], of the model's domains
    """

    prediction: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    novelty: float = 0.0  # above 1 for what is not similar to rated clips


@dataclass
class PendingClip:
    """A clip in progress, with the results of its windows so far."""

    clip: Clip
    windows: list[tuple[Window, WindowResult | None]] = field(default_factory=list)
    report: ClipReport | None = None
    error: ClipError | None = None

    def __post_init__(self) -> None:
        self._file_state = file_state(self.clip.path)  # before its samples are read

    def add(self, window: Window, result: WindowResult | None = None) -> None:
        """Add the result of a window, or nothing if it is silent."""
        # The samples are no longer needed; those of a long clip would fill the memory.
        self.windows.append((replace(window, waves={}), result))

    def mean(self) -> WindowResult | None:
        """The mean over the windows with audio, weighted by its amount."""
        scored = [(window.weight, found) for window, found in self.windows if found is not None]
        if not scored:
            return None
        weights = [weight for weight, _ in scored]
        return WindowResult(
            np.average([found.prediction for _, found in scored], axis=0, weights=weights),
            np.average([found.probabilities for _, found in scored], axis=0, weights=weights),
            float(np.average([found.novelty for _, found in scored], weights=weights)),
        )

    def finish(self, model: ScoringModel, provenance: Provenance, segments: bool) -> Iterator[Scores]:
        """The clip's row, or with `segments` one row per window."""
        clip, report = self.clip, self.report
        given: dict[str, Any] = {"id": clip.id, "path": clip.path, "start_time": clip.start_time, "stream": clip.stream}
        given |= dict(zip(("file_bytes", "file_mtime"), self._file_state, strict=True))
        scores = Scores(**given, scale=model.info.scale, provenance=provenance)
        if report is None or self.error is not None:
            yield replace(scores, error=self.error)
            return
        scores = replace(
            scores,
            sample_rate=report.info.sample_rate,
            channels=report.info.channels,
            duration=report.duration,
            warnings=report.warnings,
        )
        if not segments:
            scores = replace(scores, end_time=report.end_time, n_windows=len(self.windows))
            yield with_scores(scores, model, self.mean())
            return
        for window, result in sorted(self.windows, key=lambda item: item[0].start_time):
            part = replace(
                scores,
                start_time=window.start_time,
                end_time=window.end_time,
                n_windows=1,
                warnings=tuple(sorted({*report.file_warnings, *window.warnings})),
            )
            yield with_scores(part, model, result)


def with_scores(scores: Scores, model: ScoringModel, result: WindowResult | None) -> Scores:
    """`scores` with the axes, their spread, the domain and the basis.

    A score outside the model's scale is clipped to it, before any calibration, with the warning `out_of_range`.
    Without a result `scores` stays as it is.
    """
    if result is None:
        return scores
    info, prediction = model.info, result.prediction
    rated = np.array([axis in info.rated for axis in AXES])
    bounded = np.clip(prediction, *info.source_range)
    combined = np.where(rated, bounded if info.clip_output else prediction, np.nan)
    with np.errstate(all="ignore"):
        mean, std = combine(combined[:, None], model.weights)
    inside = np.clip(mean, *info.source_range)
    clipped = (bounded != prediction)[:, rated] if info.clip_output else (inside != mean)[:, rated]
    if clipped.any():
        scores = replace(scores, warnings=tuple(sorted({*scores.warnings, "out_of_range"})))
    scores = _with_domain(scores, model, result)
    if info.calibration is None:
        return scores.with_axes(inside[0], _with_residual(std[0], model, result))
    members = info.calibration.apply(np.clip(combined, *info.source_range), scores.domain)
    _, std = combine(members[:, None], model.weights)  # residual ones are not known on the calibrated scale
    return scores.with_axes(np.clip(info.calibration.apply(inside[0], scores.domain), *info.label_range), std[0])


def _with_domain(scores: Scores, model: ScoringModel, result: WindowResult) -> Scores:
    """`scores` with the detected domain, and the basis that all counted domains have."""
    probabilities = result.probabilities
    if not len(probabilities):
        return scores
    lowest = min(COUNTED_PROBABILITY, probabilities.max())
    counted = [model.domains[i] for i in np.flatnonzero(probabilities >= lowest)]
    words = weakest_basis(model.info.basis, counted)
    if result.novelty > 1:
        words = {axis: "extrapolated" if word == "human" else word for axis, word in words.items()}
    named: dict[str, Any] = {f"{axis}_basis": word for axis, word in words.items()}
    return replace(scores, domain=model.domains[int(probabilities.argmax())], **named)


def _with_residual(std: NDArray[np.float64], model: ScoringModel, result: WindowResult) -> NDArray[np.float64]:
    """The members' standard deviations [A], which may be NaN, together with the model's residual ones."""
    if not model.info.residual_std:
        return std
    probabilities = dict(zip(model.domains, map(float, result.probabilities), strict=True))
    residual = model.info.residual_variance(probabilities, result.novelty > 1)
    rated = [residual[axis] if axis in model.info.rated else np.nan for axis in AXES]
    return np.asarray(np.sqrt(np.nan_to_num(std) ** 2 + np.array(rated)))


def weakest_basis(basis: Mapping[str, Mapping[str, str]], domains: Collection[str]) -> dict[str, str]:
    """By axis, the weakest basis of its score in any of these domains; an unknown word counts as the weakest.

    >>> weakest_basis({"music": {"PQ": "human", "PC": "human"}, "sound": {"PQ": "constructed"}}, ["music", "sound"])
    {'PC': 'human', 'PQ': 'constructed'}
    """
    strength = {word: rank for rank, word in enumerate(reversed(BASES), 1)}
    listed = [basis.get(domain, {}) for domain in domains]
    by_axis = {axis: [words[axis] for words in listed if axis in words] for axis in AXES}
    return {axis: min(words, key=lambda word: strength.get(word, 0)) for axis, words in by_axis.items() if words}


def raise_error(scores: Scores) -> Scores:
    """The scores of a clip that was scored. Raises `AudioError` for any other."""
    if scores.error is not None:
        raise AudioError(scores.error.code, scores.error.message)
    return scores
