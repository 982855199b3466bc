"""The evaluation of one or two models on a list of labelled clips: their scores, the metrics, and notes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip, preview
from mmmos.data.splits import split_present
from mmmos.errors import UsageError
from mmmos.evaluation.agreement import Agreement, Comparison, compare, evaluate, missing_axes
from mmmos.evaluation.listed import choose_axes, list_scores, rater_reliability
from mmmos.evaluation.predictions import read_predictions
from mmmos.evaluation.rating_scales import Scales, find_scales
from mmmos.io.bad_rows import BadRows, naming
from mmmos.scores import AXES, LabelRange, Scores
from mmmos.wording import agree, counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreSource:
    """Where scores come from: a file of them, or a model that scores the clips."""

    name: str  # a path, or a model as in `--model`
    is_file: bool


@dataclass(frozen=True)
class ModelScores:
    """The scores of a list of clips by one model."""

    scores: list[Scores]  # one per clip
    trained_on: int | None = None  # how many of the clips the model was trained on; None if it does not say
    left_out: dict[str, Any] = field(default_factory=dict)  # rows and clips that a file of scores leaves out


ScoreClips = Callable[[str, Sequence[Clip]], ModelScores]
"""Scores clips with the model of a name."""


@dataclass(frozen=True)
class ListEvaluation:
    """The result of an evaluation; `comparison` is None for one model."""

    rows: list[LabelledClip]  # those that are evaluated
    missing: list[str]  # paths of clips whose audio a model needs
    axes: tuple[str, ...]  # of EVALUATED_AXES
    models: tuple[ModelScores, ...]
    scales: Scales
    raters: dict[str, dict[str, Any]]  # `rater_reliability`
    agreement: list[Agreement]  # of the first model and the labels
    comparison: list[Comparison] | None

    @property
    def unscored(self) -> int:
        """The number of clips without a score of the first model."""
        return sum(all(math.isnan(item[name]) for name in AXES) for item in self.models[0].scores)

    @property
    def notes(self) -> list[str]:
        """Sentences for the user."""
        count = self.unscored
        clips, have, were = counted(count, "clip", of=len(self.rows)), agree(count, "has"), agree(count, "was")
        return [*self.scales.notes, *([f"{clips} {have} no score and {were} left out"] if count else [])]

    def to_json(self, labels: Mapping[str, Any], against: str | None = None) -> dict[str, Any]:
        """All figures; `labels` reports the bad rows of the list, `against` names the second model."""
        first, second = self.models[0], self.models[1] if len(self.models) > 1 else None
        figures: dict[str, Any] = {"clips": len(self.rows), "missing": self.missing, "unscored": self.unscored}
        figures["trained_on"] = first.trained_on
        if second:
            figures["against_trained_on"] = second.trained_on
        figures |= {"scale": self.scales.scores[0], "label_scale": self.scales.labels}
        lists = {"labels": labels, "scores": first.left_out, "against": second.left_out if second else {}}
        figures["lists"] = {name: found for name, found in lists.items() if found}
        figures |= {"raters": self.raters, "agreement": [part.to_json() for part in self.agreement]}
        if self.comparison is not None:
            figures |= {"against": against, "against_scale": self.scales.scores[1]}
            figures["comparison"] = [item.to_json() for item in self.comparison]
        return figures


def evaluate_list(
    rows: Sequence[LabelledClip],
    manifest: Path,
    sources: Sequence[ScoreSource],
    score_clips: ScoreClips,
    *,
    axes: Sequence[str] = (),
    scale: LabelRange | None = None,
    strict: bool = False,
) -> ListEvaluation:
    """Evaluate one model, or compare two on the same clips.

    `axes` are all if none is named; `scale` is the rating scale of the labels, by default that of the scores. Clips
    without audio are left out if a model is to score them. Raises `UsageError` and `ManifestError`, also for a bad row
    of a file of scores if `strict`.
    """
    chosen = choose_axes(axes, rows, manifest)
    kept, missing = (list(rows), list[str]())
    if not all(source.is_file for source in sources):
        kept, missing = _with_audio(rows, manifest)
    models = tuple(_scores_of(source, kept, chosen, score_clips, strict) for source in sources)
    scored = [model.scores for model in models]
    named = list(zip((source.name for source in sources), scored, strict=True))
    scales = find_scales(kept, scale, named)
    agreement = scales.mask(evaluate(kept, scored[0], axes=chosen))
    compared = None
    if len(scored) > 1:
        compared = scales.same_scale(compare(kept, scored[0], scored[1], axes=chosen))
    return ListEvaluation(kept, missing, chosen, models, scales, _raters(kept), agreement, compared)


def _scores_of(
    source: ScoreSource, rows: Sequence[LabelledClip], axes: Sequence[str], score_clips: ScoreClips, strict: bool
) -> ModelScores:
    """Scores of the clips from a file or a model, with notes on axes without a score and on clips seen in training."""
    if source.is_file:
        found = _read(Path(source.name), rows, strict)
    else:
        found = score_clips(source.name, [row.clip for row in rows])
    for sentence in missing_axes(rows, found.scores, axes):
        logger.info("%s: %s", source.name, sentence)
    if found.trained_on:
        logger.warning(
            "warning: %s was trained on %d of these %d clips: its figures say little about other clips; evaluate on"
            " clips that it has not seen",
            *(source.name, found.trained_on, len(rows)),
        )
    return found


def _with_audio(rows: Sequence[LabelledClip], manifest: Path) -> tuple[list[LabelledClip], list[str]]:
    """The rows whose clip exists, and the paths of the others."""
    present, missing = split_present(rows)
    if missing:
        clips, are = counted(len(missing), "listed clip"), agree(len(missing), "is")
        logger.info("%s %s missing and left out: %s", clips, are, preview(missing))
    if not present:
        raise UsageError(f"{manifest}: none of its clips is there ({counted(len(missing), 'clip')} listed)")
    return present, missing


def _read(path: Path, rows: Sequence[LabelledClip], strict: bool) -> ModelScores:
    """The scores of the listed clips in a file, with notes on what is left out."""
    bad = BadRows(path, strict)
    given = read_predictions(path, bad)
    report = bad.report(len(given))
    with naming(path):
        found = list_scores(rows, given, path)
    if without := found.without_row:
        logger.info("%s has no row of %s: %s", path, counted(len(without), "clip", of=len(rows)), preview(without))
    if found.other_rows:
        others, are = counted(found.other_rows, "row", of=len(given)), agree(found.other_rows, "is")
        logger.info("%s of %s %s of clips that are not listed", others, path, are)
    left_out = report | {"clips_without_row": found.without_row, "rows_of_other_clips": found.other_rows}
    return ModelScores(found.scores, left_out=left_out)


def _raters(rows: Sequence[LabelledClip]) -> dict[str, dict[str, Any]]:
    """The reliability of the raters' mean on each axis, with a note."""
    found = rater_reliability(rows)
    for axis, one in found.items():
        shown = "undefined" if one["reliability"] is None else f"{one['reliability']:.2f}"
        logger.info(
            "%s: %d ratings of %d clips, reliability of their mean %s", axis, one["ratings"], one["clips"], shown
        )
    return found
