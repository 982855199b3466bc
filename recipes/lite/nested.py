"""How good `lite` is on clips on which nothing was chosen: nested folds.

Each part of the groups is scored with the settings that are best on the other parts, where each of these is scored by
a fit without it and without the first. The choices are the settings of settings.py and some around them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmmos.metrics import srcc
from mmmos.scores import AXES
from recipes.lite.evaluate_speech import codec_figures, order
from recipes.lite.fit import (
    SEVERITY_INPUTS,
    Examples,
    Parts,
    fit_complexity,
    fit_music,
    fit_parts,
    fit_severity,
    mean_columns,
    prior_of,
    standardisation,
    standardised,
)
from recipes.lite.heads import CE, CODEC, CU, PARTS, PC, PQ, Array, Norms, part_of
from recipes.lite.held_out import Held, constructed_labels, degraded_songs_of
from recipes.lite.settings import CHOSEN, Settings, SpeechSettings
from recipes.lite.speech import Evidence, evidence_of, ordered_pairs, solve_quality
from recipes.lite.versions import songs_of

Choice = TypeVar("Choice")
DECAYS, PC_DECAYS, SEVERITY_DECAYS = (0.5, 1.0, 2.0), (0.15, 0.5, 1.5), (0.25, 0.75, 2.0)
SLOPES = (0.15, 1.0), (0.2, 1.25), (0.3, 1.5)  # thresholds of severity and their steepness
PRIORS = CHOSEN.speech.prior, (("mos", 1.0),), (("mos", 1.0), ("distillmos", 1.0), ("dnsmos", 1.0))
MUSIC_CHOICES = [
    replace(CHOSEN, decay=decay, severity_decay=severity_decay, threshold=threshold, steepness=steepness)
    for decay, severity_decay, (threshold, steepness) in itertools.product(DECAYS, SEVERITY_DECAYS, SLOPES)
]
PC_CHOICES = [replace(CHOSEN, pc_decay=decay) for decay in PC_DECAYS]
SPEECH_CHOICES = [
    SpeechSettings(codecs=codecs, decay=decay, prior=prior)
    for codecs, decay, prior in itertools.product((0.3, 1.0, 3.0), (0.3, 1.0, 3.0), PRIORS)
]


def nested_figures(examples: Examples, norms: Mapping[str, Norms], held: Held) -> dict[str, Any]:
    """SRCC and mean absolute error on songs by axis; SRCC on codecs; the fraction of degraded speech in order.

    The gate and the other domains are those of `held`, fitted without the clip's part.
    """
    music, speech = nested_music(examples, norms), nested_speech(examples)
    songs = songs_of(examples.rows)
    labels = np.array([examples.rows[i].labels for i in songs])
    scores = replace(held, by_domain={**held.by_domain, "music": music}).scores[songs]
    found: dict[str, Any] = {
        axis: {"srcc": srcc(scores[:, i], labels[:, i]), "mae": float(np.abs(scores[:, i] - labels[:, i]).mean())}
        for i, axis in enumerate(AXES)
    }
    return found | {
        "codecs": codec_figures(examples.voices, {"nested": speech})["nested"],
        "order": order(examples.voices, speech)["all"][0],
    }


def nested_scores(
    choices: Sequence[Choice],
    fit: Callable[[Choice, frozenset[int]], Array],
    parts: NDArray[np.int64],
    goodness: Callable[[Array, NDArray[np.bool_]], float],
) -> Array:
    """Scores [N, ...] of all clips, of which `parts` [N] are the parts.

    `fit(choice, without)` are the scores of all clips by a fit without some parts; `goodness(scores, inside)` is that
    of scores on the clips inside, [N] of bool.
    """

    def inner(choice: Choice, outer: int) -> float:
        others = [fit(choice, frozenset({outer, part})) for part in range(PARTS)]
        return goodness(_of_parts(others, parts), parts != outer)

    best = [max(choices, key=functools.partial(inner, outer=outer)) for outer in range(PARTS)]
    return _of_parts([fit(choice, frozenset({outer})) for outer, choice in enumerate(best)], parts)


def _of_parts(scores: Sequence[Array], parts: NDArray[np.int64]) -> Array:
    """The scores of each clip from the array of its part."""
    return np.stack(scores)[parts, np.arange(len(parts))]


def nested_music(examples: Examples, norms: Mapping[str, Norms]) -> Array:
    """Scores [N, A] of all rows as music."""
    rows = examples.rows
    parts = np.array([part_of(row.group) for row in rows])
    labels = constructed_labels(rows)
    songs, degraded = songs_of(rows), degraded_songs_of(rows)

    @functools.cache
    def shipped(without: frozenset[int]) -> Parts:
        return fit_parts(examples.without(*without), norms)

    @functools.cache
    def fits(without: frozenset[int], settings: Settings) -> tuple[Array, Array, Array]:
        """Scores without the severity, PC and severity of all rows."""
        kept, parts = examples.without(*without), shipped(without)
        inputs, mixed, x = (
            standardised(part, parts.center, parts.factor, examples.specs)
            for part in (kept.inputs, kept.mix_inputs, examples.inputs)
        )
        others = {name: line for name, line in parts.scores.items() if name != "music"}
        pc = fit_complexity(kept, inputs, mixed, norms, settings)
        music = fit_music(kept, inputs, pc, others, parts.gate, settings)
        return music(x), pc(x), fit_severity(kept, inputs, "music", settings)(x)

    def fit(settings: Settings, without: frozenset[int]) -> Array:
        # The three decays are of separate fits: one call has one of each.
        of_scores, of_pc, of_severity = (
            fits(without, replace(CHOSEN, decay=DECAYS[i], pc_decay=PC_DECAYS[i], severity_decay=SEVERITY_DECAYS[i]))
            for i in (
                DECAYS.index(settings.decay),
                PC_DECAYS.index(settings.pc_decay),
                SEVERITY_DECAYS.index(settings.severity_decay),
            )
        )
        found = of_scores[0] - settings.lost(of_severity[2])
        found[:, PC] = of_pc[1]
        return found

    def agreement(scores: Array, clips: Sequence[int], axes: Sequence[int]) -> float:
        """SRCC minus the error in points, the mean over axes."""
        own, target = scores[clips][:, axes], labels[clips][:, axes]
        ranks = np.mean([srcc(own[:, i], target[:, i]) for i in range(len(axes))])
        return float(ranks - np.abs(own - target).mean())

    def quality(scores: Array, inside: NDArray[np.bool_]) -> float:
        groups = [i for i in songs if inside[i]], [i for i in degraded if inside[i]]
        return sum(agreement(scores, own, (CE, CU, PQ)) for own in groups)

    def complexity(scores: Array, inside: NDArray[np.bool_]) -> float:
        return agreement(scores, [i for i in songs if inside[i]], (PC,))

    found = nested_scores(MUSIC_CHOICES, fit, parts, quality)
    found[:, PC] = nested_scores(PC_CHOICES, fit, parts, complexity)[:, PC]
    return found


def nested_speech(examples: Examples) -> Array:
    """PQ [M] of all speech, up to its scale."""
    voices = examples.voices
    parts = np.array([part_of(voice.group) for voice in voices])
    faults = mean_columns(examples.specs)[SEVERITY_INPUTS]
    x = standardised(examples.voice_inputs, *standardisation(examples.inputs), examples.specs)[:, faults]
    codecs = np.array([voice.set == CODEC for voice in voices])
    ratings = np.array([voice.rating for voice in voices])
    better, worse = map(np.array, ordered_pairs(voices))

    @functools.cache
    def evidence(without: frozenset[int]) -> dict[str, Evidence]:
        seen = [i for i, part in enumerate(parts) if part not in without]
        return evidence_of(x[seen], [voices[i] for i in seen])

    @functools.cache
    def fit(settings: SpeechSettings, without: frozenset[int]) -> Array:
        return x @ solve_quality(evidence(without), prior_of(x.shape[1], settings), settings)

    def goodness(scores: Array, inside: NDArray[np.bool_]) -> float:
        pairs = inside[worse]
        in_order = float(np.mean(scores[better[pairs]] > scores[worse[pairs]]))
        own = codecs & inside
        return srcc(scores[own], ratings[own]) + in_order

    return nested_scores(SPEECH_CHOICES, fit, parts, goodness)
