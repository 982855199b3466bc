"""Heads on YAMNet and FullBand: music, sound, severities, complexity and the gate; PQ of speech is an earlier model's.

The gate uses YAMNet, which was trained to name sounds. Severities use FullBand, whose features contain how clips were
recorded and coded. Scores use both. PC is one function for all domains, so that it does not jump where the gate does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.table import load_encoder
from mmmos.model.layers import CLIP_STDS
from mmmos.model.quality import QualityModel, build_model
from mmmos.model.system import Member
from mmmos.scores import AXES
from recipes.lite.heads import CE, CU, DOMAINS, FREE, MUSIC, PC, PQ, Norms, fit_gate, part_of
from recipes.lite.mixes import Mix
from recipes.lite.support import FAMILIAR_SEVERITY, Nearby, fit_nearby
from recipes.lite.wide import VOWELS, Version, is_solo_vocals

Array = NDArray[np.float64]

DROPS = {"CE": 3.0, "CU": 5.0, "PC": 0.0, "PQ": 5.0}
"""Points that a version of severity 1 has less than its recording."""
SPEECH_DROP = 1.5  # the same for PQ of speech, whose own head falls with degradations, too; CE and CU follow
SPEECH_SPREAD = 0.7  # of that head around the mean rating: with the severity, its range is that of ratings
THRESHOLD = 0.25  # severity up to which nothing is subtracted from scores
STEEPNESS = 1.25  # of the drops above the threshold: an estimate varies less than what it estimates
CLEAN_WEIGHT = 3.0  # of recordings next to one degraded version
DECAY, SEVERITY_DECAY = 1.0, 0.75  # of the heads and the severities
GATE_DECAY = 3e-5  # with 1e-4, mixes cost it solo vocals and free music
PC_DECAY = 0.5
PC_WEIGHT = {"clean": 0.3, "mix": 0.2}  # of an unrated recording and of a mix next to a rated song
GATE_INPUTS, SEVERITY_INPUTS = "yamnet", "fullband"

SPREAD = 0.8  # of PQ of sound, in standard deviations of the ratings
LEVELLED = {"musicnn": -26.0}  # encoders of the speech heads whose input is brought to a level, and that level (dB)


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
    music: Line  # [A] points, of clips that are not degraded
    sound: Line  # [A] points
    severity: dict[str, Line]  # of music and speech
    gate: torch.Tensor
    nearby: Nearby  # the rated songs

    @property
    def pc(self) -> Line:
        """PC of any domain, points."""
        return Line(self.music.weight[:, PC], self.music.bias[PC])


@dataclass(frozen=True)
class Examples:
    """Rows and mixes with their inputs [N, D], means and standard deviations of the encoders' frames."""

    rows: Sequence[Version]
    inputs: Array
    mixes: Sequence[Mix]
    mix_inputs: Array
    specs: Sequence[EncoderSpec]

    def without(self, part: int | None) -> Examples:
        """Those of all groups but one of `PARTS` parts of them."""
        rows = [i for i, row in enumerate(self.rows) if part_of(row.group) != part]
        mixes = [i for i, mix in enumerate(self.mixes) if part_of(mix.group) != part]
        kept = [self.rows[i] for i in rows], self.inputs[rows], [self.mixes[i] for i in mixes], self.mix_inputs[mixes]
        return Examples(*kept, self.specs)


def standardised(inputs: Array, center: Array, factor: Array, specs: Sequence[EncoderSpec]) -> Array:
    """Means and standard deviations of the encoders' frames [N, D] as the aggregator of a model scales them, [N, D]."""
    scales = [np.full(width, (2 * width) ** -0.5) for spec in specs for width in 2 * spec.block_dims]
    return np.asarray(((inputs - center) * factor).clip(-CLIP_STDS, CLIP_STDS) * np.concatenate(scales))


def mean_columns(specs: Sequence[EncoderSpec]) -> dict[str, NDArray[np.bool_]]:
    """Which of D inputs are means of an encoder's frames, [D] of bool by its name; the others have no weight."""
    sizes = [sum(spec.block_dims) for spec in specs]
    columns = np.repeat(np.arange(2 * len(sizes)), np.repeat(sizes, 2))
    return {spec.name: columns == 2 * i for i, spec in enumerate(specs)}


def fit_wide(examples: Examples, norms: Mapping[str, Norms], without: int | None = None) -> Wide:
    """Fit to all examples, or to those of all groups but one of `PARTS` parts of them."""
    kept = examples.without(without)
    rows, specs = kept.rows, kept.specs
    center, std = kept.inputs.mean(axis=0), kept.inputs.std(axis=0)
    factor = np.where(std > 1e-4 * (1 + np.abs(center)), 1 / std.clip(min=1e-12), 0)
    x, mixed = (standardised(part, center, factor, specs) for part in (kept.inputs, kept.mix_inputs))
    columns = mean_columns(specs)
    both = columns[GATE_INPUTS] | columns[SEVERITY_INPUTS]
    whole = np.array([row.scene != "excerpt" and row.set != VOWELS for row in rows])
    domain = np.array([row.domain for row in rows])
    severity = np.array([row.severity for row in rows])
    weight = np.where(severity > 0, 1.0, CLEAN_WEIGHT)
    songs = np.array([row.set == MUSIC and row.scene == "clean" for row in rows])
    labels = np.array([row.labels for row in rows])
    music = _ridge(x[songs] * both, labels[songs], np.ones(songs.sum()), DECAY)
    pc = _complexity(x * both, rows, mixed * both, kept.mixes, norms)
    music.weight[:, PC], music.bias[PC] = pc.weight, pc.bias
    severities = {}
    for name in DOMAINS:
        here = whole & (domain == name)
        severities[name] = _ridge(x[here] * columns[SEVERITY_INPUTS], severity[here], weight[here], SEVERITY_DECAY)
    sound = _sound(x[whole & (domain == "sound")], severities.pop("sound"), pc, norms["sound"])
    nearby = fit_nearby(x[songs], [rows[int(i)].group for i in np.flatnonzero(songs)], columns[SEVERITY_INPUTS])
    gate = _gate(x * columns[GATE_INPUTS], rows, mixed * columns[GATE_INPUTS], kept.mixes)
    return Wide(center, factor, music, sound, severities, gate, nearby)


def _gate(x: Array, rows: Sequence[Version], mixed: Array, mixes: Sequence[Mix]) -> torch.Tensor:
    """The gate [domains, D + 1] of inputs [N, D] of rows and mixes."""
    targets = np.array([[float(row.domain == name) for name in DOMAINS] for row in rows])
    in_mixes = np.array([mix.probabilities for mix in mixes]).reshape(-1, len(DOMAINS))
    clips = [(row.domain, kind_of(row)) for row in rows]
    clips += [(DOMAINS[int(found.argmax())], "mixes") for found in in_mixes]
    return fit_gate(np.concatenate([x, mixed]), clips, GATE_DECAY, np.concatenate([targets, in_mixes]))


def _complexity(
    x: Array, rows: Sequence[Version], mixed: Array, mixes: Sequence[Mix], norms: Mapping[str, Norms]
) -> Line:
    """PC of all domains: rated songs, the mean of the ratings for recordings of speech and sound, and mixes of these.

    A mix with an unrated recording of music is left out.
    """

    def label(row: Version) -> float:
        return row.labels[PC] if row.domain == "music" else norms[row.domain].mean["PC"]

    own = [i for i, row in enumerate(rows) if row.scene == "clean" and row.set in (MUSIC, FREE)]
    own = [i for i in own if np.isfinite(label(rows[i]))]
    targets = [mix.fraction * label(mix.first) + (1 - mix.fraction) * label(mix.second) for mix in mixes]
    rated = np.flatnonzero(np.isfinite(targets))
    y = [*(label(rows[i]) for i in own), *(targets[i] for i in rated)]
    weight = [1.0 if rows[i].set == MUSIC else PC_WEIGHT["clean"] for i in own] + [PC_WEIGHT["mix"]] * len(rated)
    return _ridge(np.concatenate([x[own], mixed[rated]]), np.array(y), np.array(weight), PC_DECAY)


def kind_of(row: Version) -> str:
    """The set of a row; solo vocals are one of their own, so that the gate gives them weight."""
    return "vocals" if is_solo_vocals(row) else row.set


def _ridge(x: Array, y: Array, weight: Array, decay: float) -> Line:
    """Weighted ridge regression; the decay is that of rows of weight 1. Columns of zeros get no weight."""
    mean, centre = np.average(x, axis=0, weights=weight), np.average(y, axis=0, weights=weight)
    root = weight[:, None] ** 0.5
    inputs, targets = root * (x - mean), root * (y - centre).reshape(len(y), -1)
    solved = inputs.T @ np.linalg.solve(inputs @ inputs.T + decay * np.eye(len(x)), targets)
    solved = solved[:, 0] if y.ndim == 1 else solved
    return Line(solved, centre - mean @ solved)


def _sound(x: Array, severity: Line, pc: Line, norms: Norms) -> Line:
    """Scores of sound: PQ from the severity, on the scale of the domain's ratings; then CE and CU from PQ and PC."""
    weight, bias = np.zeros((x.shape[1], len(AXES))), np.zeros(len(AXES))
    weight[:, PQ] = -severity.weight * (SPREAD * norms.std["PQ"] / (x @ severity.weight).std())
    bias[PQ] = norms.mean["PQ"] - (x @ weight[:, PQ]).mean()
    weight[:, PC], bias[PC] = pc.weight, pc.bias
    for axis, (constant, on_pq, on_pc) in zip((CE, CU), norms.slopes, strict=True):
        weight[:, axis] = on_pq * weight[:, PQ] + on_pc * weight[:, PC]
        bias[axis] = constant + on_pq * bias[PQ] + on_pc * bias[PC]
    return Line(weight, bias)


def levelled(spec: EncoderSpec) -> EncoderSpec:
    """The encoder with its input at the level of `LEVELLED`, if it is there."""
    if spec.name not in LEVELLED:
        return spec
    options: dict[str, Any] = {"level_db": LEVELLED[spec.name]}
    return replace(spec, options=options, fingerprint=load_encoder(spec.name, **options).fingerprint())


def widened(member: Member, specs: Sequence[EncoderSpec], wide: Wide, norms: Norms) -> Member:
    """The member with more encoders next to its own: its PQ of speech, and everything else from `wide`.

    `norms` are those of speech.
    """
    old = member.model
    support, inputs = wide.nearby.directions.shape
    heads = replace(old.config.heads, severity=True, support=support, support_inputs=inputs)
    encoders = (*(levelled(spec) for spec in old.config.encoders), *specs)
    model = build_model(replace(old.config, encoders=encoders, heads=heads))
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.zero_()
        _widen_standardizer(model, old, wide)
        _widen_scores(model, member, wide, norms)
        _widen_severity(model, member, wide, norms)
        _widen_gate(model, member, wide)
    return Member(model.eval().requires_grad_(False), member.scale)


def _widen_standardizer(model: QualityModel, old: QualityModel, wide: Wide) -> None:
    new, before = model.aggregator.standardizer, old.aggregator.standardizer
    assert new is not None
    assert before is not None
    new.mean.copy_(torch.cat([before.mean, torch.from_numpy(wide.center)]))
    new.scale.copy_(torch.cat([before.scale, torch.from_numpy(wide.factor)]))


def _widen_scores(model: QualityModel, member: Member, wide: Wide, norms: Norms) -> None:
    speech = _speech(member, wide, norms)
    for i, axis in enumerate(AXES):
        layer, (mean, std) = _linear(model.heads.axes[axis]), _scale(member, i)
        for name, line in (("speech", speech), ("music", wide.music), ("sound", wide.sound)):
            at, first = DOMAINS.index(name), len(layer.weight[0]) - len(line.weight)
            layer.weight[at, first:] = torch.from_numpy(line.weight[:, i] / std).float()
            layer.bias[at] = float((line.bias[i] - mean) / std)


def _speech(member: Member, wide: Wide, norms: Norms) -> Line:
    """Scores of speech on all inputs: PQ of the member, PC of `wide`, CE and CU from these."""
    own, start = member.model.heads.axes["PQ"], member.model.aggregator.output_dim
    mean, std = _scale(member, PQ)
    at = DOMAINS.index("speech")
    weight, bias = np.zeros((start + len(wide.center), len(AXES))), np.zeros(len(AXES))
    weight[:start, PQ] = SPEECH_SPREAD * std * _linear(own).weight[at].double().numpy()
    bias[PQ] = SPEECH_SPREAD * (mean + std * float(_linear(own).bias[at])) + (1 - SPEECH_SPREAD) * norms.mean["PQ"]
    weight[start:, PC], bias[PC] = wide.pc.weight, wide.pc.bias
    for axis, (constant, on_pq, on_pc) in zip((CE, CU), norms.slopes, strict=True):
        weight[:, axis] = on_pq * weight[:, PQ] + on_pc * weight[:, PC]
        bias[axis] = constant + on_pq * bias[PQ] + on_pc * bias[PC]
    return Line(weight, bias)


def drops(norms: Norms) -> dict[str, Array]:
    """Points [A] per unit of severity above the threshold, by domain; `norms` are those of speech."""
    (ce, *_), (cu, *_) = norms.slopes[:, 1:]
    speech = {"CE": ce * SPEECH_DROP, "CU": cu * SPEECH_DROP, "PC": 0.0, "PQ": SPEECH_DROP}
    by_domain = {"music": DROPS, "speech": speech}
    return {name: STEEPNESS * np.array([points[axis] for axis in AXES]) for name, points in by_domain.items()}


def _widen_severity(model: QualityModel, member: Member, wide: Wide, norms: Norms) -> None:
    part, start = model.heads.severity, member.model.aggregator.output_dim
    assert part is not None
    for name, points in drops(norms).items():
        at, line = DOMAINS.index(name), wide.severity[name]
        part.estimate.weight[at, start:] = torch.from_numpy(line.weight).float()
        part.estimate.bias[at] = float(line.bias) - THRESHOLD
        part.drop[:, at] = torch.from_numpy(points / np.array(member.scale.std)).float()


def _widen_gate(model: QualityModel, member: Member, wide: Wide) -> None:
    """The gate, and the distance from the rated songs."""
    gate, support, start = model.heads.gate, model.heads.support, member.model.aggregator.output_dim
    assert gate is not None
    assert support is not None
    gate.weight[:, start:] = wide.gate[:, :-1].float()
    gate.bias.copy_(wide.gate[:, -1])
    nearby = wide.nearby
    support.columns.copy_(torch.from_numpy(nearby.columns) + start)
    for name in ("center", "directions", "precision"):
        getattr(support, name).copy_(torch.from_numpy(getattr(nearby, name)))
    support.rest.fill_(nearby.rest)
    support.severity[DOMAINS.index("music")] = 1 / (FAMILIAR_SEVERITY - THRESHOLD)


def _linear(head: nn.Module) -> nn.Linear:
    return cast(nn.Linear, cast(nn.Sequential, head)[-1])


def _scale(member: Member, axis: int) -> tuple[float, float]:
    return member.scale.mean[axis], member.scale.std[axis]
