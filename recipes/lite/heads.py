"""The heads of `lite`: a gate between speech, music and sound, and linear scores in each, solved in closed form.

Evidence for each score:

            PQ                                  PC                      CE, CU
    speech  codec ratings, known order of       music's PC, weakened    from PQ and PC, as in AES ratings
            degradations, two other networks                            of speech
    music   ratings, order of degradations      ratings of music        ratings of music
    sound   ratings of music and codecs,        music's PC, weakened    from PQ and PC, as in AES ratings
            order of degradations                                       of sound

A listening test gives the differences between its clips, each set on its own scale. A degraded version is worse than a
less degraded one of the same recording by `MARGIN` standard deviations, and than one of any recording by `STEP` for
each step. On noise, the heads follow DistillMOS, which knows more than the step. Outside music there is no audio with
ratings on these axes, so the average clean clip of a domain gets the mean of that domain's AES ratings, and scores
spread by `SPREAD` times theirs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve
from torch import nn
from torch.nn import functional as F

from mmmos.data.manifest import LabelledClip, label_array
from mmmos.data.ratings import read_ratings
from mmmos.metrics import srcc
from mmmos.model.quality import ModelConfig, QualityModel, build_model
from mmmos.model.system import Member
from mmmos.scores import AXES, Scale
from mmmos.training.dataset import TrainingSet

DOMAINS = ("speech", "music", "sound")
MUSIC, CODEC, FREE, REMIXED = "musdb18_aes", "codec_mushra", "free", "remixed"  # sets
CLEAN, SOURCES = "clean", "sources"  # kinds of unrated clips, besides degradations; their system is "KIND SEVERITY"
AES = {"speech": "AES_natural_speech", "sound": "AES_natural_sound"}  # label files

BASIS = {
    "speech": {"PQ": "distilled-human", "PC": "constructed", "CE": "derived", "CU": "derived"},
    "music": dict.fromkeys(AXES, "human"),
    "sound": {"PQ": "constructed", "PC": "constructed", "CE": "derived", "CU": "derived"},
}
"""Evidence for an axis in a domain: ratings of such clips, order of degradations, or other axes' scores.

Music that is not similar to the rated songs has "extrapolated" instead (support.py).
"""

MARGIN = 1.0  # standard deviations between two versions of a recording
STEP = 0.5  # standard deviations between two steps, of any recording
SPREAD = {"PQ": 0.6, "PC": 0.3}
GATE_DECAY = 1e-4
GATE_WEIGHT = {"speech": 2.0, "music": 1.0, "sound": 1.0}  # noise in speech is lost on the heads of other domains
PARTS = 5  # of the groups; each member goes without one, and their spread is the scores' standard deviation
TERMS = 100.0  # weight of a whole set against the decay, whatever its number of clips
DECAYS = (0.5, 1.0, 2.0, 4.0, 8.0)  # of music's axes; taken is the best for songs left out of training in turn
INNER_FOLDS = 4
TEACHER = "distillmos"  # the encoder whose own score is followed
TAUGHT = ("white", "pink", "babble", "mnru", "denoised")  # degradations for which the teacher is

Array = NDArray[np.float64]
Flags = Sequence[bool] | NDArray[np.bool_]
CE, CU, PC, PQ = (AXES.index(axis) for axis in ("CE", "CU", "PC", "PQ"))


@dataclass(frozen=True)
class Sources:
    """Training sources of a direction, each with its total weight."""

    decay: float | None  # None: chosen on the training songs
    music: float = 0.0
    codec: float = 0.0
    pairs: float = 0.0  # two versions of one recording
    levels: float = 0.0  # versions of all recordings
    domains: tuple[str, ...] = DOMAINS  # of pairs and levels
    remixed: float = 0.0  # vocals separated from their mixtures
    teacher: float = 0.0  # the teacher's score of versions with a degradation in `TAUGHT`
    prior: float = 0.0  # on the teacher's score, in its standard deviations, before training


QUALITY = {
    "speech": Sources(decay=1.0, codec=1.0, pairs=1.0, levels=3.0, domains=("speech",), teacher=1.0, prior=0.5),
    "music": Sources(decay=None, music=1.0, pairs=0.5, domains=("music",), remixed=0.3),
    "sound": Sources(decay=1.0, music=0.2, codec=0.2, pairs=1.0, levels=1.0),
}
"""For PQ. These weights and the gate's were chosen on the same folds that `recipes/lite/evaluate.py` reports."""
RATINGS = Sources(decay=None, music=1.0)  # for CE, CU and PC in music


@dataclass(frozen=True)
class Norms:
    """A domain's AES ratings: means and standard deviations by axis; CE and CU as linear functions of PQ and PC."""

    mean: dict[str, float]
    std: dict[str, float]
    slopes: Array  # [2, 3], of CE and CU on 1, PQ, PC


@dataclass(frozen=True)
class Evidence:
    """Sufficient statistics of a least-squares fit of inputs A [N, D] to targets y [N]: A'A and A'y."""

    gram: Array  # [D, D]
    moment: Array  # [D]

    @classmethod
    def of(cls, inputs: Array, targets: Array, weight: float) -> Evidence:
        """The set as a whole has the weight `weight` × `TERMS`, whatever its number of rows."""
        return cls(inputs.T @ inputs, inputs.T @ targets).times(weight * TERMS / max(len(targets), 1))

    @classmethod
    def nothing(cls, size: int) -> Evidence:
        """Nothing is known of D inputs."""
        return cls(np.zeros((size, size)), np.zeros(size))

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.gram + other.gram, self.moment + other.moment)

    def times(self, weight: float) -> Evidence:
        """The same with its weight multiplied."""
        return Evidence(weight * self.gram, weight * self.moment)

    def solve(self, decay: float, prior: Array) -> Array:
        """The b [D] of least |A b - y|² + decay × |b - prior|²."""
        grown = self.gram + decay * np.eye(len(prior))
        return prior + np.asarray(solve(grown, self.moment - self.gram @ prior, assume_a="pos"))


@dataclass(frozen=True)
class Experts:
    """Linear scores on the label scale by axis and domain."""

    weight: Array  # [A, domains, D]
    bias: Array  # [A, domains]

    def score(self, x: Array, domain: str) -> Array:
        """Scores [N, A] of clips [N, D] known to be of a domain."""
        at = DOMAINS.index(domain)
        return x @ self.weight[:, at].T + self.bias[:, at]


def read_norms(labels: Path) -> dict[str, Norms]:
    """Of speech and sound, from the published label files in a folder."""
    norms = {}
    for domain, name in AES.items():
        means = read_ratings(labels / f"{name}.jsonl")[1].mean(axis=2)
        inputs = np.column_stack([np.ones(len(means)), means[:, PQ], means[:, PC]])
        slopes = np.linalg.lstsq(inputs, means[:, [CE, CU]], rcond=None)[0].T
        mean, std = (dict(zip(AXES, map(float, part), strict=True)) for part in (means.mean(axis=0), means.std(axis=0)))
        norms[domain] = Norms(mean, std, slopes)
    return norms


def fit_member(table: TrainingSet, config: ModelConfig, norms: dict[str, Norms], without: int | None = None) -> Member:
    """One model on the table's rows, or on those of all groups but one of `PARTS` parts of them."""
    model = build_model(config)
    x = fit_inputs(model, table, table)
    kept = _kept(table.rows, without)
    x, clips = x[kept], [table.rows[i] for i in kept]
    scale = Scale.fit(label_array(clips)[of_set(clips, MUSIC)])
    experts = fit_experts(x, clips, norms, config)
    mean, std = (np.array(values)[:, None] for values in (scale.mean, scale.std))
    gate = fit_gate(x, [(row.domain, row.set) for row in clips])
    with torch.no_grad():
        for i, axis in enumerate(AXES):
            layer = cast(nn.Linear, cast(nn.Sequential, model.heads.axes[axis])[-1])
            layer.weight.copy_(torch.from_numpy(experts.weight[i] / std[i]))
            layer.bias.copy_(torch.from_numpy((experts.bias[i] - mean[i, 0]) / std[i]))
        assert model.heads.gate is not None  # the config has one
        model.heads.gate.weight.copy_(gate[:, :-1])
        model.heads.gate.bias.copy_(gate[:, -1])
    return Member(model.eval().requires_grad_(False), scale)


def fit_inputs(model: QualityModel, seen: TrainingSet, table: TrainingSet) -> Array:
    """Inputs of the heads for a table's clips [N, D], z-scored by the training clips."""
    model.aggregator.fit(seen.frames(most=10**9))
    with torch.no_grad():
        x = model.aggregator.prepare(table.inputs.batch([crops[0][0] for crops in table.crops]).frames[:, 0])
    return np.asarray(x.double().numpy())


def fit_experts(x: Array, clips: Sequence[LabelledClip], norms: Mapping[str, Norms], config: ModelConfig) -> Experts:
    """Scores in every domain, fitted to inputs [N, D] and the labels of their clips."""
    weight, bias = np.zeros((len(AXES), len(DOMAINS), x.shape[1])), np.zeros((len(AXES), len(DOMAINS)))
    rated, music = of_set(clips, MUSIC), DOMAINS.index("music")
    labels, centre = label_array(clips)[rated], x[rated].mean(axis=0)
    for axis in range(len(AXES)):
        direction = fit_direction(x, clips, axis, QUALITY["music"] if axis == PQ else RATINGS, config)
        projected, y = (x[rated] - centre) @ direction, labels[:, axis] - labels[:, axis].mean()
        weight[axis, music] = direction * (projected @ y / (projected @ projected))
        bias[axis, music] = labels[:, axis].mean() - centre @ weight[axis, music]
    for domain, known in norms.items():
        at = DOMAINS.index(domain)
        clean = [row.set == FREE and row.domain == domain and row.system.startswith(CLEAN) for row in clips]
        quality = fit_direction(x, clips, PQ, QUALITY[domain], config)
        for axis, name, direction in ((PQ, "PQ", quality), (PC, "PC", weight[PC, music])):
            weight[axis, at] = direction * (SPREAD[name] * known.std[name] / (x[clean] @ direction).std())
            bias[axis, at] = known.mean[name] - (x[clean] @ weight[axis, at]).mean()
        for axis, (constant, on_pq, on_pc) in zip((CE, CU), known.slopes, strict=True):
            weight[axis, at] = on_pq * weight[PQ, at] + on_pc * weight[PC, at]
            bias[axis, at] = constant + on_pq * bias[PQ, at] + on_pc * bias[PC, at]
    return Experts(weight, bias)


def opinions(config: ModelConfig) -> dict[str, int]:
    """The encoders that have a score of their own, and its column in features of mean and standard deviation."""
    found, start = {}, 0
    for spec in config.encoders:
        means = sum(spec.block_dims)
        if spec.block_dims[-1] == 1:
            found[spec.name] = start + means - 1
        start += 2 * means  # standard deviations follow
    return found


def fit_direction(x: Array, clips: Sequence[LabelledClip], axis: int, sources: Sources, config: ModelConfig) -> Array:
    """The direction [D] of rising scores on an axis; only the order of clips matters."""
    y = label_array(clips)[:, axis]
    songs = sorted({clips[i].group for i in of_set(clips, MUSIC)})
    prior, teacher = np.zeros(x.shape[1]), opinions(config)[TEACHER]
    prior[teacher] = sources.prior * 2**0.5  # columns come divided by the root of their block's size, here 2

    def evidence(without: Collection[str] = ()) -> Evidence:
        seen = np.array([row.group not in without for row in clips])
        free = seen & [row.set == FREE and row.domain in sources.domains for row in clips]
        remixed = seen & [row.set == REMIXED for row in clips]
        found = [
            _rated(x, y, of_set(clips, MUSIC, without), sources.music),
            _rated(x, y, of_set(clips, CODEC), sources.codec),
            _ordered(x, degradation_pairs(clips, free), sources.pairs),
            _ordered(x, degradation_pairs(clips, remixed), sources.remixed),
            _levels(x, clips, free, sources.levels),
            _rated(x, x[:, teacher], _degraded_by(TAUGHT, clips, free), sources.teacher),
        ]
        return sum((part for part in found if part is not None), start=Evidence.nothing(x.shape[1]))

    def held_out(decay: float) -> float:
        scores = np.full(len(clips), np.nan)
        for part, known in enumerate(parts):
            held = of_set(clips, MUSIC, set(songs) - set(songs[part::INNER_FOLDS]))
            scores[held] = x[held] @ known.solve(decay, prior)
        rated = of_set(clips, MUSIC)
        return srcc(scores[rated], y[rated])

    if sources.decay is not None:
        return evidence().solve(sources.decay, prior)
    parts = [evidence(songs[part::INNER_FOLDS]) for part in range(INNER_FOLDS)]
    return evidence().solve(max(DECAYS, key=held_out), prior)


def _rated(x: Array, y: Array, rows: Sequence[int], total: float) -> Evidence | None:
    """Evidence from the ratings of some rows, on their own scale."""
    if not total or len(rows) < 2 or not y[rows].std():
        return None
    return Evidence.of(x[rows] - x[rows].mean(axis=0), (y[rows] - y[rows].mean()) / y[rows].std(), total)


def _degraded_by(kinds: Collection[str], clips: Sequence[LabelledClip], rows: Flags) -> list[int]:
    return [int(i) for i in np.flatnonzero(rows) if degradation_of(clips[int(i)])[0] in kinds]


def _ordered(x: Array, pairs: tuple[list[int], list[int]], total: float) -> Evidence | None:
    """Evidence from pairs: the first is better, each time by `MARGIN`."""
    better, worse = pairs
    return Evidence.of(x[better] - x[worse], np.full(len(better), MARGIN), total) if total and better else None


def _levels(x: Array, clips: Sequence[LabelledClip], rows: Flags, total: float) -> Evidence | None:
    """Evidence from severities: each step costs `STEP`, within each kind, clean clips included."""
    kinds = np.array([degradation_of(row)[0] if here else "" for row, here in zip(clips, rows, strict=True)])
    clean, names = x[kinds == CLEAN], sorted({*kinds} - {"", CLEAN, SOURCES})
    if not total or not names or not len(clean):
        return None
    evidence, size_of_all = Evidence.nothing(x.shape[1]), 0.0
    for name in names:
        damaged = np.flatnonzero(kinds == name)
        steps = np.array([float(degradation_of(clips[int(i)])[1]) for i in damaged])
        # Clean clips are many: together they count as a third step, next to the two that a recording has of a kind.
        weight = len(damaged) / 2
        size = len(damaged) + weight
        mean = (x[damaged].sum(axis=0) + weight * clean.mean(axis=0)) / size
        targets = -STEP * (steps - steps.sum() / size)
        clean_target = STEP * steps.sum() / size
        moment = targets @ x[damaged] + weight * clean_target * clean.mean(axis=0)
        evidence += Evidence(x[damaged].T @ x[damaged] - size * np.outer(mean, mean), moment)
        size_of_all += weight
    clean_part = Evidence(clean.T @ clean * (size_of_all / len(clean)), np.zeros(x.shape[1]))
    return (evidence + clean_part).times(total * TERMS / (3 * size_of_all))


def degradation_of(row: LabelledClip) -> tuple[str, int]:
    """Kind and severity of an unrated clip: of a degradation, or number of sources."""
    kind, severity = row.system.rsplit(" ", 1)
    return kind, int(severity)


def degradation_pairs(clips: Sequence[LabelledClip], rows: Flags) -> tuple[list[int], list[int]]:
    """Versions of one recording of which the first is better: clean, or less degraded in the same way."""

    def better(kind: str, level: int, other: str, more: int) -> bool:
        return other != SOURCES and kind in (other, CLEAN) and level < more

    return _pairs(clips, rows, better)


def count_pairs(clips: Sequence[LabelledClip], rows: Flags) -> tuple[list[int], list[int]]:
    """Versions of one recording of which the second has more simultaneous sources."""

    def fewer(kind: str, level: int, other: str, more: int) -> bool:
        return other == SOURCES and kind in (other, CLEAN) and max(level, 1) < more

    return _pairs(clips, rows, fewer)


def _pairs(
    clips: Sequence[LabelledClip], rows: Flags, holds: Callable[[str, int, str, int], bool]
) -> tuple[list[int], list[int]]:
    """Pairs of rows of one group whose kinds and severities fulfil a condition."""
    by_group: dict[str, list[tuple[int, str, int]]] = {}
    for i in np.flatnonzero(rows):
        by_group.setdefault(clips[int(i)].group, []).append((int(i), *degradation_of(clips[int(i)])))
    found = [(a[0], b[0]) for members in by_group.values() for a in members for b in members if holds(*a[1:], *b[1:])]
    first, second = zip(*found, strict=True) if found else ((), ())
    return list(first), list(second)


def part_of(group: str) -> int:
    """The part of the groups that a group is in."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % PARTS


def fit_gate(
    x: Array, clips: Sequence[tuple[str, str]], decay: float = GATE_DECAY, targets: Array | None = None
) -> torch.Tensor:
    """Logistic regression, sets weighted by the root of their size: weights and biases [domains, D + 1].

    `clips` are pairs of a domain and a set. `targets` [N, domains] are probabilities; by default the domain has 1.
    """
    inputs = torch.from_numpy(np.column_stack([x, np.ones(len(x))]))
    one = torch.tensor([DOMAINS.index(domain) for domain, _ in clips])
    target = one if targets is None else torch.from_numpy(targets)
    sizes = Counter(clips)
    total = {domain: sum(size**0.5 for (other, _), size in sizes.items() if other == domain) for domain in DOMAINS}
    weight = {kind: GATE_WEIGHT[kind[0]] / total[kind[0]] / size**0.5 for kind, size in sizes.items()}
    weights = torch.tensor([weight[clip] for clip in clips], dtype=torch.float64)
    gate = torch.zeros(len(DOMAINS), inputs.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([gate], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        wrong = (F.cross_entropy(inputs @ gate.T, target, reduction="none") * weights).sum() / weights.sum()
        total = wrong + decay * gate[:, :-1].square().sum()
        total.backward()
        return total

    solver.step(loss)
    return gate.detach()


def of_set(clips: Sequence[LabelledClip], name: str, without: Collection[str] = ()) -> list[int]:
    """The rows of a set, without those of some groups."""
    return [i for i, row in enumerate(clips) if row.set == name and row.group not in without]


def _kept(clips: Sequence[LabelledClip], without: int | None) -> list[int]:
    """Rows of the groups that are not of one of `PARTS` parts."""
    return [i for i, row in enumerate(clips) if part_of(row.group) != without]
