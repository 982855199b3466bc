"""Checks that a model can be trained on labelled clips, and the rating scale of their labels."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from mmmos.data.manifest import LabelledClip, label_array, preview
from mmmos.errors import ManifestError, UsageError
from mmmos.scores import AXES, LABEL_RANGE, LabelRange, scale_name
from mmmos.wording import agree, counted

logger = logging.getLogger(__name__)

COMMON_RANGES: tuple[LabelRange, ...] = ((1.0, 5.0), (0.0, 10.0), (0.0, 100.0))
"""Scales of listening tests: MOS, AES, MUSHRA. Labels are assumed to be on the first that contains them all."""

MIN_CLIPS = 5
"""The fewest labelled clips of an axis: one for each fold."""

MIN_GROUPS = 3
"""The fewest groups of an axis: with one held out, two are left to choose the regularisation on."""


def infer_range(rows: Sequence[LabelledClip]) -> LabelRange | None:
    """The narrowest common scale that contains all labels, or None."""
    labels = label_array(rows)
    known = labels[np.isfinite(labels)]
    fits = (span for span in COMMON_RANGES if len(known) and span[0] <= known.min() and known.max() <= span[1])
    return next(fits, None)


def label_span(rows: Sequence[LabelledClip]) -> str:
    """The lowest and the highest label, for a message."""
    labels = label_array(rows)
    return f"{np.nanmin(labels):g} and {np.nanmax(labels):g}"


def choose_range(rows: Sequence[LabelledClip], declared: LabelRange | None) -> LabelRange:
    """The declared scale, else the inferred one, which is logged. Raises `UsageError` if none fits."""
    if declared is not None or not np.isfinite(label_array(rows)).any():
        return declared or LABEL_RANGE
    inferred = infer_range(rows)
    if inferred is None:
        raise UsageError(f"labels lie between {label_span(rows)}; give their scale with --scale LOW HIGH")
    span, name = label_span(rows), scale_name(inferred)
    logger.warning("labels lie between %s: their scale is taken to be %s (else --scale)", span, name)
    return inferred


def check_range(rows: Sequence[LabelledClip], label_range: LabelRange) -> None:
    """Raise `ManifestError` for a label outside the scale, naming its line; `UsageError` for an invalid scale."""
    low, high = label_range
    if not -math.inf < low < high < math.inf:
        raise UsageError(f"a scale has two numbers, the lower first, not {low:g} and {high:g}")
    for row in rows:
        for axis, label in zip(AXES, row.labels, strict=True):
            if label < low or label > high:
                where = row.origin or row.clip.id
                raise ManifestError(f"{where}: {axis} is {label:g}, outside the scale {scale_name(label_range)}")


def find_primary_dataset(rows: Sequence[LabelledClip], name: str) -> str:
    """The set that defines the scale of the scores: the named one, or the only one. Raises `UsageError`."""
    sets = sorted({row.set for row in rows})
    if name in sets:
        return name
    if not name and len(sets) == 1:
        return sets[0]
    there = ", ".join(sets) or "no rows at all"
    if name:
        raise UsageError(f"no row is of the set {name!r} (--main-set); the column `set` has {there}")
    raise UsageError(f"name the set whose scale the scores are to have with --main-set; the column `set` has {there}")


def check_trainable(
    train: Sequence[LabelledClip],
    dev: Sequence[LabelledClip] | None,
    primary_dataset: str,
    left_out: Sequence[str] = (),
) -> None:
    """Raise `UsageError`, which says what to do, if no model can be trained on the clips.

    Each axis needs `MIN_CLIPS` labels of `MIN_GROUPS` groups, in both parts together; the labels of at least one axis
    must differ. `dev` is None if nothing is held out; `left_out` names listed clips that could not be used.
    """
    rows = [row for row in (*train, *(dev or ())) if row.set == primary_dataset]
    labels = label_array(rows)
    lost = f" ({len(left_out)} {agree(len(left_out), 'was')} left out: {preview(left_out)})" if left_out else ""
    if not np.isfinite(labels).any():
        raise UsageError(f"there is no labelled clip to train on{lost}")
    rated = {axis: column[np.isfinite(column)] for axis, column in zip(AXES, labels.T, strict=True)}
    if not any(len(np.unique(values)) > 1 for values in rated.values()) and len(rows) >= MIN_CLIPS:
        same = ", ".join(f"{axis} is always {values[0]:g}" for axis, values in rated.items() if len(values))
        raise UsageError(f"all clips have the same labels ({same}), so there is nothing to learn; add other clips")
    for axis, column in zip(AXES, labels.T, strict=True):
        _check_axis(axis, [row for row, label in zip(rows, column, strict=True) if math.isfinite(label)], lost)
    for part, there in (("training", train), ("development", dev)):
        if there is not None and not any(row.set == primary_dataset for row in there):
            raise UsageError(
                f"no {part} clip of the set {primary_dataset!r} is left{lost}; add clips, or change the split"
            )


def _check_axis(axis: str, rows: Sequence[LabelledClip], lost: str) -> None:
    groups = {row.group or row.clip.id for row in rows}
    if 0 < len(rows) < MIN_CLIPS:
        raise UsageError(
            f"{counted(len(rows), 'clip')} {agree(len(rows), 'has')} a label of {axis}{lost}; at least {MIN_CLIPS} are"
            f" needed. Add rated clips, or empty the column {axis} if other axes have more"
        )
    if 0 < len(groups) < MIN_GROUPS:
        raise UsageError(
            f"the {len(rows)} clips with a label of {axis} are of {counted(len(groups), 'group')} (column"
            f" `group`){lost}; at least {MIN_GROUPS} are needed, so that whole groups can be held out"
        )
