"""The heads of `lite`: a gate between speech, music and sound, and linear scores in each, solved in closed form.

What each score rests on:

            PQ                                  PC                      CE, CU
    speech  codec ratings, damage in known      music's PC, weakened    from PQ and PC, as AES ratings of
            order, DistillMOS's own score                               speech have them
    music   ratings of music, damage in order   ratings of music        ratings of music
    sound   ratings of music and codecs,        music's PC, weakened    from PQ and PC, as AES ratings of
            damage in order                                             sound have them

A listening test teaches the differences between its clips, each set on a scale of its own; a damaged version teaches
that it is worse than a less damaged one, by `MARGIN` deviations. Outside music nothing that was rated on these axes
has audio here, so the average clean clip of a domain gets the mean of that domain's AES ratings, and scores spread
by `SPREAD` of theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mmmos.dataset import Table
from mmmos.hub import Member
from mmmos.manifest import LabelledClip, label_array, read_ratings
from mmmos.model import ModelConfig, QualityModel
from mmmos.scores import AXES, Scale

DOMAINS = ("speech", "music", "sound")
MUSIC, CODEC, FREE = "musdb18_aes", "codec_mushra", "free"  # sets
CLEAN = "clean"  # kind of an undamaged free clip; its system is "KIND SEVERITY"
AES = {"speech": "AES_natural_speech", "sound": "AES_natural_sound"}  # label files

BASIS = {
    "speech": {"PQ": "distilled-human", "PC": "derived", "CE": "derived", "CU": "derived"},
    "music": dict.fromkeys(AXES, "human"),
    "sound": {"PQ": "constructed", "PC": "derived", "CE": "derived", "CU": "derived"},
}
"""What an axis rests on in a domain: ratings of such clips, damage in known order, or other axes' scores."""

MARGIN = 1.0
SPREAD = {"PQ": 0.6, "PC": 0.3}
GATE_DECAY = 1e-3
PARTS = 5  # of the groups; each member goes without one, and their spread is the scores' deviation
TERMS = 100.0  # weight of a whole set beside the decay, however many clips it has
MOS_COLUMN = 200  # of the fused vector: the mean of DistillMOS's own score
MOS_PRIOR = 0.5  # its weight, in deviations, that speech's PQ is drawn to

Array = NDArray[np.float64]
CE, CU, PC, PQ = (AXES.index(axis) for axis in ("CE", "CU", "PC", "PQ"))


@dataclass(frozen=True)
class Sources:
    """Weights and decay of one quality direction."""

    decay: float
    codec: float = 0.0
    music: float = 0.0
    pairs: float = 0.0
    domains: tuple[str, ...] = DOMAINS  # of the pairs
    prior: float = 0.0  # on DistillMOS's own score


QUALITY = {
    "speech": Sources(decay=1.0, codec=1.0, pairs=1.0, domains=("speech",), prior=MOS_PRIOR),
    "music": Sources(decay=5.0, music=1.0, pairs=0.15, domains=("music",)),
    "sound": Sources(decay=1.0, codec=0.2, music=0.2, pairs=1.0),
}
"""Chosen on the very folds that `scripts/evaluate_lite.py` reports, so its figures flatter by that much."""
MUSIC_DECAY = 10.0  # of CE, CU and PC


@dataclass(frozen=True)
class Norms:
    """A domain's AES ratings: means and deviations of PQ and PC, and CE and CU as linear functions of the two."""

    mean: dict[str, float]
    std: dict[str, float]
    slopes: Array  # [2, 3], of CE and CU on 1, PQ, PC


def read_norms(labels: Path) -> dict[str, Norms]:
    """Of speech and sound, from the published label files in a folder."""
    norms = {}
    for domain, name in AES.items():
        means = read_ratings(labels / f"{name}.jsonl")[1].mean(axis=2)
        inputs = np.column_stack([np.ones(len(means)), means[:, PQ], means[:, PC]])
        slopes = np.linalg.lstsq(inputs, means[:, [CE, CU]], rcond=None)[0].T
        axes = {"PQ": PQ, "PC": PC}
        norms[domain] = Norms(
            {axis: float(means[:, i].mean()) for axis, i in axes.items()},
            {axis: float(means[:, i].std()) for axis, i in axes.items()},
            slopes,
        )
    return norms


def fit_member(table: Table, config: ModelConfig, norms: dict[str, Norms], without: int | None = None) -> Member:
    """One model on the table's rows, or on those of all groups but one of `PARTS` parts of them."""
    model = QualityModel(config)
    model.aggregator.fit(table.frames(most=10**9))
    with torch.no_grad():
        x = model.aggregator.prepare(table.inputs.batch([crops[0][0] for crops in table.crops]).frames[:, 0])
    rows = _kept(table.rows, without)
    x, clips = x.double().numpy()[rows], [table.rows[i] for i in rows]
    labels = label_array(clips)
    scale = Scale.fit(labels[_of_set(clips, MUSIC)])
    weight, bias = _experts(x, clips, labels, norms, config)
    mean, std = (np.array(values)[:, None] for values in (scale.mean, scale.std))
    gate = _fit_gate(x, clips)
    with torch.no_grad():
        for i, axis in enumerate(AXES):
            layer = model.heads.axes[axis][-1]
            layer.weight.copy_(torch.from_numpy(weight[i] / std[i]))
            layer.bias.copy_(torch.from_numpy((bias[i] - mean[i]) / std[i]))
        model.heads.gate.weight.copy_(gate[:, :-1])
        model.heads.gate.bias.copy_(gate[:, -1])
    return Member(model.eval().requires_grad_(False), scale)


def _experts(
    x: Array, clips: Sequence[LabelledClip], labels: Array, norms: dict[str, Norms], config: ModelConfig
) -> tuple[Array, Array]:
    """Linear scores on the label scale by axis and domain: weights [A, domains, D], biases [A, domains]."""
    weight, bias = np.zeros((len(AXES), len(DOMAINS), x.shape[1])), np.zeros((len(AXES), len(DOMAINS)))
    rated, music = _of_set(clips, MUSIC), DOMAINS.index("music")
    centred = x[rated] - x[rated].mean(axis=0)
    quality = {domain: _quality(x, clips, labels, sources, config) for domain, sources in QUALITY.items()}
    for axis in range(len(AXES)):
        y = labels[rated, axis]
        direction = _ridge([(centred, y - y.mean(), 1.0)], MUSIC_DECAY)
        if axis == PQ:  # the order that damage teaches, at the spread that the ratings have
            direction = quality["music"]
            direction = direction * float((centred @ direction) @ (y - y.mean()) / np.square(centred @ direction).sum())
        weight[axis, music] = direction
        bias[axis, music] = y.mean() - x[rated].mean(axis=0) @ direction
    for domain, known in norms.items():
        at = DOMAINS.index(domain)
        clean = np.array([row.set == FREE and row.domain == domain and row.system.startswith(CLEAN) for row in clips])
        for axis, name, direction in ((PQ, "PQ", quality[domain]), (PC, "PC", weight[PC, music])):
            spread = SPREAD[name] * known.std[name] / (x[clean] @ direction).std()
            weight[axis, at] = spread * direction
            bias[axis, at] = known.mean[name] - (x[clean] @ weight[axis, at]).mean()
        for axis, (constant, on_pq, on_pc) in zip((CE, CU), known.slopes, strict=True):
            weight[axis, at] = on_pq * weight[PQ, at] + on_pc * weight[PC, at]
            bias[axis, at] = constant + on_pq * bias[PQ, at] + on_pc * bias[PC, at]
    return weight, bias


def _quality(x: Array, clips: Sequence[LabelledClip], labels: Array, sources: Sources, config: ModelConfig) -> Array:
    """The direction of better PQ, [D]."""
    terms = []
    for name, share in ((CODEC, sources.codec), (MUSIC, sources.music)):
        rows = _of_set(clips, name)
        if share and len(rows):
            y = labels[rows, PQ]
            terms.append((x[rows] - x[rows].mean(axis=0), (y - y.mean()) / y.std(), share * TERMS / len(rows)))
    better, worse = pairs(clips, sources.domains)
    if sources.pairs and len(better):
        terms.append((x[better] - x[worse], np.full(len(better), MARGIN), sources.pairs * TERMS / len(better)))
    prior = np.zeros(x.shape[1])
    prior[MOS_COLUMN] = sources.prior / (2 * config.encoders[0].columns[1]) ** -0.5
    return _ridge(terms, sources.decay, prior)


def _ridge(terms: Sequence[tuple[Array, Array, float]], decay: float, prior: Array | None = None) -> Array:
    """The b [D] of least sum of share × |A b - y|² over the terms (A, y, share), and decay × |b - prior|²."""
    a = np.concatenate([inputs * share**0.5 for inputs, _, share in terms])
    y = np.concatenate([target * share**0.5 for _, target, share in terms])
    prior = np.zeros(a.shape[1]) if prior is None else prior
    return prior + np.linalg.solve(a.T @ a + decay * np.eye(a.shape[1]), a.T @ (y - a @ prior))


def pairs(clips: Sequence[LabelledClip], domains: Sequence[str]) -> tuple[list[int], list[int]]:
    """Free clips of one source of which the first is better: clean, or of less damage of the same kind."""
    by_source: dict[str, list[int]] = {}
    for i, row in enumerate(clips):
        if row.set == FREE and row.domain in domains:
            by_source.setdefault(row.group, []).append(i)
    found = []
    for members in by_source.values():
        for i in members:
            for j in members:
                (kind, level), (other, more) = (clips[k].system.rsplit(" ", 1) for k in (i, j))
                found += [(i, j)] if level < more and kind in (other, CLEAN) else []
    better, worse = zip(*found, strict=True) if found else ((), ())
    return list(better), list(worse)


def _fit_gate(x: Array, clips: Sequence[LabelledClip]) -> torch.Tensor:
    """Logistic regression, sets of a domain weighted alike: weights and biases [domains, D + 1]."""
    inputs = torch.from_numpy(np.column_stack([x, np.ones(len(x))]))
    target = torch.tensor([DOMAINS.index(row.domain) for row in clips])
    kinds = [(row.domain, row.set) for row in clips]
    sets = {domain: len({name for other, name in kinds if other == domain}) for domain in DOMAINS}
    share = torch.tensor([1 / (sets[kind[0]] * kinds.count(kind)) for kind in kinds], dtype=torch.float64)
    gate = torch.zeros(len(DOMAINS), inputs.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([gate], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        wrong = (F.cross_entropy(inputs @ gate.T, target, reduction="none") * share).sum() / len(DOMAINS)
        total = wrong + GATE_DECAY * gate[:, :-1].square().sum()
        total.backward()
        return total

    solver.step(loss)
    return gate.detach()


def _of_set(clips: Sequence[LabelledClip], name: str) -> list[int]:
    return [i for i, row in enumerate(clips) if row.set == name]


def _kept(clips: Sequence[LabelledClip], without: int | None) -> list[int]:
    """Rows of the groups that are not of one of `PARTS` parts."""
    parts = [int(hashlib.sha256(row.group.encode()).hexdigest(), 16) % PARTS for row in clips]
    return [i for i, part in enumerate(parts) if part != without]
