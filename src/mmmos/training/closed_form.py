"""Fits linear heads in closed form (`mmmos.training.ridge`): what `mmmos train` does with small data.

If the encoders are those of `lite`, its scores are the prior, and the new model is `lite` with other heads: each
member keeps its domains, and the same linear function of the same inputs is added to its scores.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from mmmos.errors import UsageError
from mmmos.model.quality import ModelConfig, QualityModel, build_model
from mmmos.model.system import Member, ScoringModel, combine
from mmmos.scores import AXES, Scale
from mmmos.training.dataset import TrainingSet
from mmmos.training.loop import FIT_FRAMES, PREDICT_CROPS, predict
from mmmos.training.ridge import Array, Linear, Sample, cross_validate, fit_linear


@dataclass(frozen=True)
class ClosedForm:
    """A model fitted in closed form.

    Shape:
        - weights: [M, A], columns sum to 1
    """

    members: tuple[Member, ...]
    weights: Array
    agreement: dict[str, dict[str, float | None]]  # by axis, on held-out groups (`ridge.HeldOut`)
    folds: int
    chosen: dict[str, dict[str, float]]  # by axis: weight of the prior, and decay


def suits(prior: ScoringModel, config: ModelConfig) -> bool:
    """Whether a model has these encoders, in any order, with the same options and fusion, and so can be the prior."""

    def reads(other: ModelConfig) -> tuple[object, ...]:
        specs = [(spec.name, spec.fingerprint, spec.options, spec.checkpoint) for spec in other.encoders]
        return sorted(specs, key=lambda spec: spec[0]), other.aggregator, other.fusion

    return all(reads(member.model.config) == reads(config) for member in prior.members)


def check_start(start: ScoringModel, config: ModelConfig, method: str) -> None:
    """Raise `UsageError` if training cannot begin with a model: its heads are not linear, or it reads other inputs."""
    if method != "closed_form":
        raise UsageError(
            f"only the closed form begins with a model ({start.name}); leave out --from, or --fit gradient"
        )
    if start.info.calibration:
        raise UsageError(f"{start.name} is calibrated: begin with {start.info.calibration.model}")
    if start.loaded or any(member.model.config.heads.head_layers > 1 for member in start.members):
        raise UsageError(
            f"{start.name} does not have linear heads on frozen encoders, so training cannot begin with it"
        )
    if not suits(start, config):
        raise UsageError(
            f"{start.name} has other encoders or settings: give its own with --encoders, --preset and --set"
        )


def fit_closed_form(
    table: TrainingSet,
    config: ModelConfig,
    primary_dataset: str,
    prior: ScoringModel | None = None,
    warm: bool = False,
) -> ClosedForm:
    """Fit every axis for which the primary dataset has labels.

    With a prior, `config` is that of its members; a `warm` start corrects its scores rather than replacing them. The
    inputs of the table are reduced for `config`. They are standardised as in the prior, or else on all clips of the
    table; neither depends on labels.
    """
    if prior is None:
        model = build_model(config)
        model.aggregator.fit(table.frames(most=FIT_FRAMES))
        for head in model.heads.axes.values():
            for parameter in head.parameters():
                torch.nn.init.zeros_(parameter)
        members, weights = [Member(model, Scale.fit(np.full((1, len(AXES)), np.nan)))], np.ones((1, len(AXES)))
        scores = None
    else:
        members, weights = list(prior.members), prior.weights
        by_member = [m.scale.to_labels(predict(m.model, table).double().numpy()) for m in members]
        scores = np.asarray(combine(np.stack(by_member), weights)[0], dtype=np.float64)
    inputs = clip_inputs(members[0].model, table)
    labels = table.labels.double().numpy()
    main = np.array([row.set == primary_dataset for row in table.rows])
    scale = Scale.fit(labels[main])
    found: dict[str, Linear] = {}
    held = {}
    for i, axis in enumerate(AXES):
        known = np.isfinite(labels[:, i])
        if (known & main).any():
            own = None if scores is None else scores[:, i]
            sample = replace(_sample(table, inputs, labels[:, i], own, primary_dataset), warm=warm).take(known)
            found[axis], held[axis] = fit_linear(sample), cross_validate(sample)
    figures = {axis: item.figures() for axis, item in held.items()}
    chosen = {axis: {"prior_weight": item.prior_weight, "decay": item.decay} for axis, item in found.items()}
    made = tuple(_with_heads(member, scale, found) for member in members)
    return ClosedForm(made, weights, figures, max(item.folds for item in held.values()), chosen)


def clip_inputs(model: QualityModel, table: TrainingSet) -> Array:
    """The inputs of linear heads [N, D], one row per clip: the weighted mean over its crops."""
    count = len(table.inputs.starts) - 1
    with torch.no_grad():
        parts = [range(i, min(i + PREDICT_CROPS, count)) for i in range(0, count, PREDICT_CROPS)]
        crops = torch.cat([model.aggregator.aggregate(table.inputs.batch(part)).double() for part in parts]).numpy()
    return np.stack(
        [np.average(crops[[i for i, _ in own]], axis=0, weights=[weight for _, weight in own]) for own in table.crops]
    )


def _sample(table: TrainingSet, inputs: Array, labels: Array, prior: Array | None, primary_dataset: str) -> Sample:
    groups = np.array([row.group or row.clip.id for row in table.rows])
    return Sample(inputs, labels, prior, groups, np.array([row.set for row in table.rows]), primary_dataset)


def _with_heads(member: Member, scale: Scale, found: Mapping[str, Linear]) -> Member:
    """The member with these linear functions, which include its own scores, as heads on another scale."""
    model = copy.deepcopy(member.model)
    with torch.no_grad():
        for i, (axis, mean, std) in enumerate(zip(AXES, scale.mean, scale.std, strict=True)):
            *_, layer = model.heads.axes[axis].children()
            assert isinstance(layer, torch.nn.Linear)
            fitted = found.get(axis)
            if fitted is None:
                continue
            own_mean, own_std = member.scale.mean[i], member.scale.std[i]
            weight, bias = (part.double() * fitted.slope * own_std for part in (layer.weight, layer.bias))
            weight = weight + torch.from_numpy(fitted.direction)
            bias = bias + fitted.slope * own_mean + fitted.intercept
            layer.weight.copy_(weight / std)
            layer.bias.copy_((bias - mean) / std)
            if model.heads.severity is not None:  # part of the member's own scores
                model.heads.severity.drop[i] *= fitted.slope * own_std / std
    return Member(model.eval().requires_grad_(False), scale)
