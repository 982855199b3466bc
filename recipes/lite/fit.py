"""Fits all parts of `lite`: the gate, speech, music, sound, severity, complexity, and the region of the rated songs.

The gate uses YAMNet, which was trained to name sounds. Quality of speech and severities use the student, whose features
contain how clips were recorded and coded; its ratings of speech count for speech alone. Scores of music and complexity
use both. PC is one function for all domains, so that it does not jump where the gate does. Music is fitted last: the
gate's probability that a rated song is music is below 1, and it is the mean over domains, which users get, that fits
their ratings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.student import RATINGS, SCORES
from mmmos.model.layers import CLIP_STDS
from mmmos.scores import AXES
from recipes.lite.heads import CE, CU, DOMAINS, FREE, MUSIC, PC, PQ, SINGING, Array, Norms, fit_gate, part_of
from recipes.lite.mixes import Mix
from recipes.lite.settings import CHOSEN, Settings, SpeechSettings
from recipes.lite.speech import fit_quality
from recipes.lite.spoken import Spoken
from recipes.lite.support import Nearby, fit_nearby
from recipes.lite.versions import GATE_ONLY, Version, is_solo_vocals, songs_of

GATE_INPUTS, SEVERITY_INPUTS = "yamnet", "student"
CLEAN_WEIGHT = 3.0  # of recordings next to one degraded version
STUDENT_SCALE = 0.5  # of the student's means next to YAMNet's in scores: few songs are rated, and it has more of them
PC_WEIGHT = {"clean": 0.3, "mix": 0.2}  # of an unrated recording and of a mix next to a rated song
SEVERITY_WEIGHT = {"music": {"music": 1.0}, "sound": {"sound": 1.0, "music": 0.3}}
"""Of the versions of each domain in the severity of a domain: versions of music say more of sounds than the reverse."""
SPREAD = 0.8  # of PQ of speech and sound, in standard deviations of their ratings: an estimate varies less than these
USUAL = 0.5  # severity up to which degraded speech is among what people rate


@dataclass(frozen=True)
class Line:
    """x @ weight + bias, for inputs [N, D]."""

    weight: Array  # [D] or [D, A]
    bias: Array

    def __call__(self, x: Array) -> Array:
        """[N, D] -> [N], or [N, A]."""
        return np.asarray(x @ self.weight + self.bias)


@dataclass(frozen=True)
class Parts:
    """Everything that is fitted, on inputs [N, D] as `standardised` makes them.

    Shape:
        - center, factor: [D], mean and 1 / standard deviation of each input
        - gate: [domains, D + 1]
    """

    center: Array
    factor: Array
    scores: dict[str, Line]  # [A] points by domain, of music without its severity
    severity: Line  # of music
    gate: torch.Tensor
    nearby: Nearby  # the rated songs

    def by_domain(self, x: Array) -> dict[str, Array]:
        """Scores [N, A] of clips with inputs [N, D] if they are of each domain."""
        found = {name: line(x) for name, line in self.scores.items()}
        return found | {"music": found["music"] - CHOSEN.lost(self.severity(x))}

    def probabilities(self, x: Array) -> Array:
        """Those of each domain, [N, D] -> [N, domains]."""
        return probabilities_of(self.gate, x)


@dataclass(frozen=True)
class Examples:
    """All clips with their inputs [N, D], means and standard deviations of the encoders' frames."""

    rows: Sequence[Version]
    inputs: Array
    mixes: Sequence[Mix]
    mix_inputs: Array
    voices: Sequence[Spoken]
    voice_inputs: Array
    specs: Sequence[EncoderSpec]

    def without(self, *parts: int) -> Examples:
        """Those of all groups but some of `PARTS` parts of them."""

        def kept(items: Sequence[Version | Mix | Spoken]) -> list[int]:
            return [i for i, item in enumerate(items) if part_of(item.group) not in parts]

        rows, mixes, voices = kept(self.rows), kept(self.mixes), kept(self.voices)
        return Examples(
            *([self.rows[i] for i in rows], self.inputs[rows]),
            *([self.mixes[i] for i in mixes], self.mix_inputs[mixes]),
            *([self.voices[i] for i in voices], self.voice_inputs[voices]),
            self.specs,
        )


def standardisation(inputs: Array) -> tuple[Array, Array]:
    """Mean of each input [D], and 1 / its standard deviation, 0 for one that does not vary."""
    center, std = inputs.mean(axis=0), inputs.std(axis=0)
    return center, np.where(std > 1e-4 * (1 + np.abs(center)), 1 / std.clip(min=1e-12), 0)


def standardised(inputs: Array, center: Array, factor: Array, specs: Sequence[EncoderSpec]) -> Array:
    """Means and standard deviations of the encoders' frames [N, D] as the aggregator of a model scales them, [N, D]."""
    scales = [np.full(width, (2 * width) ** -0.5) for spec in specs for width in 2 * spec.block_dims]
    return np.asarray(((inputs - center) * factor).clip(-CLIP_STDS, CLIP_STDS) * np.concatenate(scales))


def mean_columns(specs: Sequence[EncoderSpec]) -> dict[str, NDArray[np.bool_]]:
    """Which of D inputs are means of an encoder's frames, [D] of bool by its name; the others have no weight."""
    sizes = [sum(spec.block_dims) for spec in specs]
    columns = np.repeat(np.arange(2 * len(sizes)), np.repeat(sizes, 2))
    return {spec.name: columns == 2 * i for i, spec in enumerate(specs)}


def rating_columns(specs: Sequence[EncoderSpec]) -> NDArray[np.bool_]:
    """Which of D inputs are means of the student's ten values of a clip, [D] of bool: the last of its means."""
    found = mean_columns(specs)[SEVERITY_INPUTS]
    return found & (np.cumsum(found) > found.sum() - RATINGS)


def score_scales(specs: Sequence[EncoderSpec]) -> Array:
    """Scale [D] of each input in scores of music and complexity; ratings of speech say nothing of either."""
    columns = mean_columns(specs)
    return columns[GATE_INPUTS] + STUDENT_SCALE * (columns[SEVERITY_INPUTS] & ~rating_columns(specs))


def fit_parts(examples: Examples, norms: Mapping[str, Norms], without: int | None = None) -> Parts:
    """Fit to all examples, or to those of all groups but one of `PARTS` parts of them."""
    kept = examples if without is None else examples.without(without)
    rows, specs = kept.rows, kept.specs
    center, factor = standardisation(kept.inputs)
    x, mixed, voiced = (
        standardised(part, center, factor, specs) for part in (kept.inputs, kept.mix_inputs, kept.voice_inputs)
    )
    columns = mean_columns(specs)
    tags, faults = columns[GATE_INPUTS], columns[SEVERITY_INPUTS]
    pc = fit_complexity(kept, x, mixed, norms, CHOSEN)
    sound, speech = _whole(rows, "sound"), _whole(rows, "speech")
    worse = -fit_severity(kept, x, "sound", CHOSEN).weight
    quality = speech_quality(voiced, kept.voices, faults)
    usual = [i for i in speech if rows[i].severity < USUAL]
    others = {
        "speech": _on_scale(x[usual], quality, pc, norms["speech"]),
        "sound": _on_scale(x[sound], worse, pc, norms["sound"]),
    }
    gate = gate_of(x * tags, rows, mixed * tags, kept.mixes)
    songs = songs_of(rows)
    return Parts(
        center,
        factor,
        others | {"music": fit_music(kept, x, pc, others, gate, CHOSEN)},
        fit_severity(kept, x, "music", CHOSEN),
        gate,
        fit_nearby(x[songs], [rows[i].group for i in songs], faults),
    )


def fit_music(
    examples: Examples, x: Array, pc: Line, others: Mapping[str, Line], gate: torch.Tensor, settings: Settings
) -> Line:
    """Scores of music without its severity, with which the mean over domains fits the ratings of the songs.

    `x` are the inputs [N, D] of rows, `others` the scores of the other domains. PC is `pc`.
    """
    songs = songs_of(examples.rows)
    inputs, labels = x[songs], np.array([examples.rows[i].labels for i in songs])
    probabilities = dict(zip(DOMAINS, probabilities_of(gate, inputs).T[..., None], strict=True))
    rest = sum(probabilities[name] * line(inputs) for name, line in others.items())
    own = probabilities["music"]
    found = _ridge(inputs, (labels - rest) / own, own[:, 0] ** 2, settings.decay, score_scales(examples.specs))
    found.weight[:, PC], found.bias[PC] = pc.weight, pc.bias
    return found


def fit_complexity(examples: Examples, x: Array, mixed: Array, norms: Mapping[str, Norms], settings: Settings) -> Line:
    """PC of all domains: rated songs, the mean of the ratings for recordings of speech and sound, and mixes of these.

    `x` and `mixed` are the inputs [N, D] of rows and mixes. A mix with an unrated recording of music is left out.
    """
    rows, mixes = examples.rows, examples.mixes

    def label(row: Version) -> float:
        return row.labels[PC] if row.domain == "music" else norms[row.domain].mean["PC"]

    own = [i for i, row in enumerate(rows) if row.scene == "clean" and row.set in (MUSIC, FREE)]
    own = [i for i in own if np.isfinite(label(rows[i]))]
    targets = [mix.fraction * label(mix.first) + (1 - mix.fraction) * label(mix.second) for mix in mixes]
    rated = np.flatnonzero(np.isfinite(targets))
    y = [*(label(rows[i]) for i in own), *(targets[i] for i in rated)]
    weight = [1.0 if rows[i].set == MUSIC else PC_WEIGHT["clean"] for i in own] + [PC_WEIGHT["mix"]] * len(rated)
    inputs = np.concatenate([x[own], mixed[rated]])
    return _ridge(inputs, np.array(y), np.array(weight), settings.pc_decay, score_scales(examples.specs))


def fit_severity(examples: Examples, x: Array, domain: str, settings: Settings) -> Line:
    """Severity of the degraded versions of a domain's recordings, with inputs [N, D] of all rows."""
    rows, by_domain = examples.rows, SEVERITY_WEIGHT[domain]
    own = [i for name in by_domain for i in _whole(rows, name)]
    severity = np.array([rows[i].severity for i in own])
    weight = np.where(severity > 0, 1.0, CLEAN_WEIGHT) * [by_domain[rows[i].domain] for i in own]
    faults = mean_columns(examples.specs)[SEVERITY_INPUTS] & ~rating_columns(examples.specs)
    return _ridge(x[own], severity, weight, settings.severity_decay, faults.astype(float))


def _whole(rows: Sequence[Version], domain: str) -> list[int]:
    """Rows of a domain without excerpts and what only the gate learns from."""
    return [
        i for i, row in enumerate(rows) if row.domain == domain and row.scene != "excerpt" and row.set not in GATE_ONLY
    ]


def speech_quality(x: Array, voices: Sequence[Spoken], faults: NDArray[np.bool_]) -> Array:
    """The direction [D] of rising quality of speech, fitted to inputs [N, D], of which `faults` count."""
    found = np.zeros(x.shape[1])
    found[faults] = fit_quality(x[:, faults], voices, prior_of(int(faults.sum()), CHOSEN.speech))
    return found


def prior_of(size: int, settings: SpeechSettings) -> Array:
    """The direction of the prior in the means [D] of the student's frames."""
    found = np.zeros(size)
    for name, weight in settings.prior:
        found[size - RATINGS + SCORES.index(name)] = weight * (2 * RATINGS) ** 0.5  # `standardised` divides by it
    return found


def gate_of(x: Array, rows: Sequence[Version], mixed: Array, mixes: Sequence[Mix]) -> torch.Tensor:
    """The gate [domains, D + 1] of inputs [N, D] of rows and mixes."""
    targets = np.array([[float(row.domain == name) for name in DOMAINS] for row in rows])
    in_mixes = np.array([mix.probabilities for mix in mixes]).reshape(-1, len(DOMAINS))
    clips = [(row.domain, kind_of(row)) for row in rows]
    clips += [(DOMAINS[int(found.argmax())], "mixes") for found in in_mixes]
    return fit_gate(np.concatenate([x, mixed]), clips, np.concatenate([targets, in_mixes]))


def kind_of(row: Version) -> str:
    """The set of a row; solo vocals are one of their own, so that the gate gives them weight."""
    return SINGING if is_solo_vocals(row) else row.set


def probabilities_of(gate: torch.Tensor, x: Array) -> Array:
    """Probability of each domain, [N, D] -> [N, domains], by a gate [domains, D + 1]."""
    weight = gate.numpy()
    return np.asarray(softmax(x @ weight[:, :-1].T + weight[:, -1], axis=1))


def _ridge(x: Array, y: Array, weight: Array, decay: float, scales: Array) -> Line:
    """Weighted ridge regression on columns times `scales` [D]; 0 leaves one out. The decay is for rows of weight 1."""
    x = x * scales
    mean, centre = np.average(x, axis=0, weights=weight), np.average(y, axis=0, weights=weight)
    root = weight[:, None] ** 0.5
    inputs, targets = root * (x - mean), root * (y - centre).reshape(len(y), -1)
    solved = inputs.T @ np.linalg.solve(inputs @ inputs.T + decay * np.eye(len(x)), targets)
    solved = solved[:, 0] if y.ndim == 1 else solved
    return Line((solved.T * scales).T, centre - mean @ solved)


def _on_scale(x: Array, quality: Array, pc: Line, norms: Norms) -> Line:
    """Scores from a direction of quality [D]: PQ of clips [N, D] has the mean and `SPREAD` deviations of the ratings.

    CE and CU follow from PQ and PC.
    """
    weight, bias = np.zeros((x.shape[1], len(AXES))), np.zeros(len(AXES))
    weight[:, PQ] = quality * (SPREAD * norms.std["PQ"] / (x @ quality).std())
    bias[PQ] = norms.mean["PQ"] - (x @ weight[:, PQ]).mean()
    weight[:, PC], bias[PC] = pc.weight, pc.bias
    for axis, (constant, on_pq, on_pc) in zip((CE, CU), norms.slopes, strict=True):
        weight[:, axis] = on_pq * weight[:, PQ] + on_pc * weight[:, PC]
        bias[axis] = constant + on_pq * bias[PQ] + on_pc * bias[PC]
    return Line(weight, bias)
