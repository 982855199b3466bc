"""The metadata of a model, and every way to make it: published, trained, combined, or read from a model folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mmmos.errors import UsageError
from mmmos.model.calibration import Calibration
from mmmos.scores import AXES, LABEL_RANGE, LabelRange, scale_name
from mmmos.version import VERSION

LATER_FIELDS = ("label_range", "trained_on", "calibration", "residual_std")
"""Fields that folders of earlier versions do not have; they take their defaults."""

WRITTEN_LATER = f"a later version of mmmos wrote it, this is {VERSION}: pip install --upgrade mmmos"
"""Why a file has what this version does not know, and what to do."""


def check_fields(kind: str, given: Set[str], known: Set[str], optional: Set[str]) -> None:
    """Raise ValueError if the fields of a stored dataclass are not those of this version."""
    if missing := sorted(known - optional - given):
        raise ValueError(f"{kind} has missing or unknown fields: {', '.join(sorted({*missing, *(given - known)}))}")
    if unknown := sorted(given - known):
        raise ValueError(f"{kind} has unknown fields: {', '.join(unknown)}; {WRITTEN_LATER}")


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Metadata of a model for its users; part of its config.

    Raises ValueError for a `label_range` that is not two finite numbers, the lower first.
    """

    calibrated: bool = False  # whether its scores were checked against raters outside its training data
    commercial_use: bool = False  # whether the licences of weights and training data allow it
    training: dict[str, Any] = field(default_factory=dict)  # data, settings, result on the development set
    rated: tuple[str, ...] = AXES  # axes with labels in training; the others get no score
    clip_output: bool = False  # whether scores are clipped to the range of the labels
    basis: dict[str, dict[str, str]] = field(default_factory=dict)  # domain -> axis -> the evidence for its score
    check: dict[str, float] = field(default_factory=dict)  # scores of `selfcheck.check_clip()`
    label_range: LabelRange = LABEL_RANGE  # lowest and highest rating on the scale of the labels, and so of the scores
    trained_on: tuple[str, ...] = ()  # training files, by `cache.file_digests`
    calibration: Calibration | None = None  # maps from the members' combined scores to the scale of a listening test
    residual_std: dict[str, dict[str, float]] = field(default_factory=dict)  # see `residual_variance`

    def __post_init__(self) -> None:
        low, high = map(float, self.label_range)  # JSON has lists
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"label_range is {low:g} to {high:g}; it must be two numbers, the lower first")
        object.__setattr__(self, "label_range", (low, high))
        object.__setattr__(self, "rated", tuple(self.rated))
        object.__setattr__(self, "trained_on", tuple(self.trained_on))
        if isinstance(self.calibration, Mapping):  # from JSON
            object.__setattr__(self, "calibration", Calibration(**self.calibration))

    @classmethod
    def of_checkpoint(cls, source: str | None, *, official: bool = False) -> ModelInfo:
        """Metadata of a checkpoint that others trained: a path, or a repository.

        Only of the official one is it known that it was checked, and that its licence allows commercial use.
        """
        return cls(calibrated=official, commercial_use=official, training={"source": source})

    @classmethod
    def of_training(
        cls,
        training: Mapping[str, Any],
        rated: Sequence[str] = AXES,
        *,
        clip_output: bool = False,
        label_range: LabelRange = LABEL_RANGE,
        trained_on: Sequence[str] = (),
        basis: Mapping[str, dict[str, str]] | None = None,
    ) -> ModelInfo:
        """Metadata of a model that was just trained; it was not checked, and its licences are not known."""
        return cls(
            training=dict(training),
            rated=tuple(rated),
            clip_output=clip_output,
            label_range=label_range,
            trained_on=tuple(trained_on),
            basis=dict(basis or {}),
        )

    @classmethod
    def of_ensemble(cls, members: Sequence[ModelInfo], training: Mapping[str, Any]) -> ModelInfo:
        """Metadata of an ensemble: the axes that all members were trained on, and the training files of any.

        It is not calibrated: the ensemble itself has not been checked. Raises `UsageError` for members on different
        scales, and if the output of only some members is clipped.
        """
        first, *others = members
        if any(member.calibration for member in members):
            raise UsageError("a member is calibrated: combine the models before, and calibrate the ensemble")
        for what in ("scale", "clip_output"):
            found = sorted({str(getattr(member, what)) for member in members})
            if len(found) > 1:
                raise UsageError(f"members of an ensemble differ in {what}: {' and '.join(found)}; combine like ones")
        return cls(
            commercial_use=all(member.commercial_use for member in members),
            training=dict(training),
            rated=tuple(axis for axis in AXES if all(axis in member.rated for member in members)),
            clip_output=first.clip_output,
            basis=first.basis if all(other.basis == first.basis for other in others) else {},
            residual_std=first.residual_std
            if all(other.residual_std == first.residual_std for other in others)
            else {},
            label_range=first.label_range,
            trained_on=tuple(sorted({digest for member in members for digest in member.trained_on})),
        )

    @classmethod
    def from_stored(cls, data: Mapping[str, Any]) -> ModelInfo:
        """From the JSON of a model folder, which may be of an earlier version.

        Raises TypeError and ValueError for missing or unknown fields and wrong values.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"must be a table of fields, not {type(data).__name__}")
        check_fields("ModelInfo", data.keys(), {item.name for item in fields(cls)}, set(LATER_FIELDS))
        return cls(**data)

    def stored(self) -> dict[str, Any]:
        """The fields, as JSON; a calibration and residual standard deviations only if there are any."""
        optional = ("calibration", "residual_std")
        return {name: value for name, value in asdict(self).items() if name not in optional or value}

    @property
    def calibrated_on(self) -> str | None:
        """The ratings that a calibration was fitted to; None without one."""
        return self.calibration.source if self.calibration else None

    @property
    def source_range(self) -> LabelRange:
        """The scale of the members' scores; another one than `label_range` only with a calibration."""
        return self.calibration.source_range if self.calibration else self.label_range

    def residual_variance(self, probabilities: Mapping[str, float], novel: bool) -> dict[str, float]:
        """By axis, the variance of raters' means around the score, the mean over domains by their probabilities.

        `residual_std` has standard deviations in points by domain and axis; those of clips that are not similar to
        rated ones may stand under "DOMAIN, novel". An axis without them has 0.
        """
        found = dict.fromkeys(AXES, 0.0)
        for domain, probability in probabilities.items():
            near = self.residual_std.get(domain, {})
            known = self.residual_std.get(f"{domain}, novel", near) if novel else near
            for axis, std in known.items():
                found[axis] += probability * std**2
        return found

    @property
    def scale(self) -> str:
        """The name of the rating scale, "0-10"."""
        return scale_name(self.label_range)
