"""Heads on YAMNet and FullBand: music and sound with a severity, and the gate; a model's speech heads stay.

The gate uses YAMNet, which was trained to name sounds. The severity uses FullBand, whose features contain how they were
recorded and coded. Scores use both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmmos.encoders.base import EncoderSpec
from mmmos.model.layers import CLIP_STDS
from mmmos.model.quality import QualityModel, build_model
from mmmos.model.system import Member
from mmmos.scores import AXES
from recipes.lite.heads import CE, CU, DOMAINS, MUSIC, PARTS, PC, PQ, Norms, fit_gate
from recipes.lite.wide import Version

Array = NDArray[np.float64]

DROPS = {"CE": 3.0, "CU": 5.0, "PC": 0.0, "PQ": 5.0}
"""Points that a version of severity 1 has less than its recording."""
THRESHOLD = 0.25  # severity up to which nothing is subtracted from scores of music
STEEPNESS = 1.25  # of the drops above the threshold: an estimate varies less than what it estimates
CLEAN_WEIGHT = 3.0  # of recordings next to one degraded version
DECAY, SEVERITY_DECAY = 1.0, 0.75  # of the heads and the severities
GATE_DECAY = 1e-4
VOCALS = "__vocals"  # end of the names of solo vocals
GATE_INPUTS, SEVERITY_INPUTS = "yamnet", "fullband"

SPREAD = {"PQ": 0.8, "PC": 0.3}  # of sound's scores, in standard deviations of the ratings


@dataclass(frozen=True)
class Line:
    """x @ weight + bias, for inputs [N, D]."""

    weight: Array  # [D] or [D, A]
    bias: Array

    def __call__(self, x: Array) -> Array:
        """[N, D] -> [N], or [N, A]."""
        return np.asarray(x @ self.weight + self.bias)


@dataclass(frozen=True)
class Wide:
    """Everything that is fitted, on inputs [N, D] as `standardised` makes them.

    Shape:
        - center, factor: [D], mean and 1 / standard deviation of each input
        - gate: [domains, D + 1]
    """

    center: Array
    factor: Array
    music: Line  # [A] points
    sound: Line  # [A] points
    severity: Line  # of music
    gate: torch.Tensor


def standardised(inputs: Array, center: Array, factor: Array, specs: Sequence[EncoderSpec]) -> Array:
    """Means and standard deviations of the encoders' frames [N, D] as the aggregator of a model scales them, [N, D]."""
    scales = [np.full(width, (2 * width) ** -0.5) for spec in specs for width in 2 * spec.block_dims]
    return np.asarray(((inputs - center) * factor).clip(-CLIP_STDS, CLIP_STDS) * np.concatenate(scales))


def mean_columns(specs: Sequence[EncoderSpec]) -> dict[str, NDArray[np.bool_]]:
    """Which of D inputs are means of an encoder's frames, [D] of bool by its name; the others have no weight."""
    sizes = [sum(spec.block_dims) for spec in specs]
    columns = np.repeat(np.arange(2 * len(sizes)), np.repeat(sizes, 2))
    return {spec.name: columns == 2 * i for i, spec in enumerate(specs)}


def fit_wide(
    rows: Sequence[Version], inputs: Array, specs: Sequence[EncoderSpec], norms: Norms, without: int | None = None
) -> Wide:
    """Fit to all rows, or to those of all groups but one of `PARTS` parts of them.

    `inputs` [N, D] are means and standard deviations of the encoders' frames, `norms` those of the ratings of sound.
    """
    kept = [i for i, row in enumerate(rows) if part_of(row.group) != without]
    rows, inputs = [rows[i] for i in kept], inputs[kept]
    center, std = inputs.mean(axis=0), inputs.std(axis=0)
    factor = np.where(std > 1e-4 * (1 + np.abs(center)), 1 / std.clip(min=1e-12), 0)
    x = standardised(inputs, center, factor, specs)
    columns = mean_columns(specs)
    both = columns[GATE_INPUTS] | columns[SEVERITY_INPUTS]
    whole = np.array([row.scene != "excerpt" for row in rows])
    domain = np.array([row.domain for row in rows])
    severity = np.array([row.severity for row in rows])
    weight = np.where(severity > 0, 1.0, CLEAN_WEIGHT)
    songs = np.array([row.set == MUSIC and row.scene == "clean" for row in rows])
    labels = np.array([row.labels for row in rows])
    music = _ridge(x[songs] * both, labels[songs], np.ones(songs.sum()), DECAY)
    found = {}
    for name in ("music", "sound"):
        here = whole & (domain == name)
        found[name] = _ridge(x[here] * columns[SEVERITY_INPUTS], severity[here], weight[here], SEVERITY_DECAY)
    sound = _sound(x[whole & (domain == "sound")], found["sound"], music, norms)
    gate = fit_gate(x * columns[GATE_INPUTS], [(row.domain, kind_of(row)) for row in rows], GATE_DECAY)
    return Wide(center, factor, music, sound, found["music"], gate)


def kind_of(row: Version) -> str:
    """The set of a row; solo vocals are one of their own, so that the gate gives them weight."""
    return "vocals" if row.set == MUSIC and Path(row.clip).stem.endswith(VOCALS) else row.set


def part_of(group: str) -> int:
    """The part of the groups that a group is in."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % PARTS


def _ridge(x: Array, y: Array, weight: Array, decay: float) -> Line:
    """Weighted ridge regression; the decay is that of rows of weight 1. Columns of zeros get no weight."""
    mean, centre = np.average(x, axis=0, weights=weight), np.average(y, axis=0, weights=weight)
    root = weight[:, None] ** 0.5
    inputs, targets = root * (x - mean), root * (y - centre).reshape(len(y), -1)
    solved = inputs.T @ np.linalg.solve(inputs @ inputs.T + decay * np.eye(len(x)), targets)
    solved = solved[:, 0] if y.ndim == 1 else solved
    return Line(solved, centre - mean @ solved)


def _sound(x: Array, severity: Line, music: Line, norms: Norms) -> Line:
    """Scores of sound: PQ from the severity, PC from music's, on the scale of the domain's ratings; then CE and CU."""
    weight, bias = np.zeros((x.shape[1], len(AXES))), np.zeros(len(AXES))
    for axis, name, direction in ((PQ, "PQ", -severity.weight), (PC, "PC", music.weight[:, PC])):
        weight[:, axis] = direction * (SPREAD[name] * norms.std[name] / (x @ direction).std())
        bias[axis] = norms.mean[name] - (x @ weight[:, axis]).mean()
    for axis, (constant, on_pq, on_pc) in zip((CE, CU), norms.slopes, strict=True):
        weight[:, axis] = on_pq * weight[:, PQ] + on_pc * weight[:, PC]
        bias[axis] = constant + on_pq * bias[PQ] + on_pc * bias[PC]
    return Line(weight, bias)


def widened(member: Member, specs: Sequence[EncoderSpec], wide: Wide) -> Member:
    """The member with more encoders next to its own: its speech heads, and everything else from `wide`."""
    old = member.model
    config = replace(
        old.config,
        encoders=(*old.config.encoders, *specs),
        heads=replace(old.config.heads, severity=True),
    )
    model = build_model(config)
    with torch.no_grad():
        _widen_standardizer(model, old, wide)
        _widen_heads(model, member, wide)
    return Member(model.eval().requires_grad_(False), member.scale)


def _widen_standardizer(model: QualityModel, old: QualityModel, wide: Wide) -> None:
    new, before = model.aggregator.standardizer, old.aggregator.standardizer
    assert new is not None
    assert before is not None
    new.mean.copy_(torch.cat([before.mean, torch.from_numpy(wide.center)]))
    new.scale.copy_(torch.cat([before.scale, torch.from_numpy(wide.factor)]))


def _widen_heads(model: QualityModel, member: Member, wide: Wide) -> None:
    heads, before = model.heads, member.model.heads
    assert heads.gate is not None
    assert heads.severity is not None
    start = member.model.aggregator.output_dim
    speech, music, sound = (DOMAINS.index(name) for name in ("speech", "music", "sound"))
    for module in (heads.gate, heads.severity.estimate, *(_linear(head) for head in heads.axes.values())):
        module.weight.zero_()
        module.bias.zero_()
    for i, axis in enumerate(AXES):
        layer, own, mean, std = _linear(heads.axes[axis]), _linear(before.axes[axis]), *_scale(member, i)
        layer.weight[speech, :start] = own.weight[speech]
        layer.bias[speech] = own.bias[speech]
        for at, line in ((music, wide.music), (sound, wide.sound)):
            layer.weight[at, start:] = torch.from_numpy(line.weight[:, i] / std).float()
            layer.bias[at] = float((line.bias[i] - mean) / std)
        heads.severity.drop[i, music] = STEEPNESS * DROPS[axis] / std
    heads.severity.estimate.weight[music, start:] = torch.from_numpy(wide.severity.weight).float()
    heads.severity.estimate.bias[music] = float(wide.severity.bias) - THRESHOLD
    heads.gate.weight[:, start:] = wide.gate[:, :-1].float()
    heads.gate.bias.copy_(wide.gate[:, -1])


def _linear(head: nn.Module) -> nn.Linear:
    return cast(nn.Linear, cast(nn.Sequential, head)[-1])


def _scale(member: Member, axis: int) -> tuple[float, float]:
    return member.scale.mean[axis], member.scale.std[axis]
