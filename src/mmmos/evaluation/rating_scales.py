"""Scores and labels on different rating scales: correlations remain valid, errors in points do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mmmos.data.manifest import LabelledClip, label_array
from mmmos.data.trainable import check_range, infer_range, label_span
from mmmos.errors import UsageError
from mmmos.evaluation.agreement import Agreement, Comparison
from mmmos.scores import LabelRange, Scores, parse_scale, scale_name

IN_POINTS = ("MSE", "bias", "debiased_mse")
"""Metrics that are valid only if scores and labels are on the same scale."""


@dataclass(frozen=True)
class Scales:
    """The scales of the labels and of one or two models' scores; None if unknown."""

    labels: str | None
    scores: tuple[str | None, ...]
    notes: tuple[str, ...]  # sentences for the user

    @property
    def comparable(self) -> tuple[bool, ...]:
        """For each model, whether its scores and the labels are on the same scale, as far as is known."""
        return tuple(None in (own, self.labels) or own == self.labels for own in self.scores)

    def mask(self, found: Sequence[Agreement]) -> list[Agreement]:
        """The first model's agreement; errors in points are NaN if the scales differ."""
        if self.comparable[0]:
            return list(found)
        return [replace(item, MSE=math.nan, bias=math.nan, debiased_mse=math.nan) for item in found]

    def same_scale(self, found: Sequence[Comparison]) -> list[Comparison]:
        """The comparison, without errors in points if a model's scale differs from that of the labels."""
        return [item for item in found if all(self.comparable) or item.metric not in IN_POINTS]


def scores_scale(scores: Sequence[Scores], name: str) -> str | None:
    """The scale that scores name, or None. Raises `UsageError` for scores on several scales."""
    found = sorted({item.scale for item in scores if item.scale})
    if len(found) > 1:
        raise UsageError(f"{name} has scores on the scales {', '.join(found)}; evaluate those of one model at a time")
    return found[0] if found else None


def find_scales(
    rows: Sequence[LabelledClip], declared: LabelRange | None, models: Sequence[tuple[str, Sequence[Scores]]]
) -> Scales:
    """The scales of labels and scores, with a note if they differ or may differ.

    Labels within the scale of the scores are assumed to be on it, unless another scale is `declared`. Raises
    `ManifestError` for a label outside the declared scale, `UsageError` for scores on several scales.
    """
    scores = tuple(scores_scale(found, name) for name, found in models)
    notes: list[str] = []
    known = next((parse_scale(scale) for scale in scores if scale), None)
    labels = None
    if declared is not None:
        check_range(rows, declared)
        labels = scale_name(declared)
    elif known is not None:
        labels, hint = _label_scale(rows, known)
        notes += [hint] if hint else []
    found = Scales(labels, scores, ())
    for (name, _), own, comparable in zip(models, scores, found.comparable, strict=True):
        if not comparable:
            notes.append(f"{name}: scores are on the scale {own}, labels on {labels}: no MSE and no bias are given")
    return replace(found, notes=tuple(notes))


def _label_scale(rows: Sequence[LabelledClip], scores: LabelRange) -> tuple[str, str | None]:
    """The scale of labels without a declared one, and a hint if another scale fits as well."""
    labels = label_array(rows)
    known = labels[np.isfinite(labels)]
    inferred = infer_range(rows)
    if len(known) and not (scores[0] <= known.min() and known.max() <= scores[1]):
        return scale_name(inferred) if inferred else f"unknown, between {label_span(rows)}", None
    if inferred is None or inferred == scores or not scores[0] <= inferred[0] < inferred[1] <= scores[1]:
        return scale_name(scores), None
    low, high = inferred
    return scale_name(scores), (
        f"labels lie between {label_span(rows)} and are taken to be on the scale of the scores, {scale_name(scores)};"
        f" if theirs is {scale_name(inferred)}, add --scale {low:g} {high:g}"
    )
