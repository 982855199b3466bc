"""How `lite` scores speech that it was not fitted to: codecs that listeners rated, and degradations of known order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.encoders.student import SCORES
from mmmos.metrics import bootstrap, srcc, system_means
from recipes.lite.fit import (
    SEVERITY_INPUTS,
    Examples,
    mean_columns,
    rating_columns,
    speech_quality,
    standardisation,
    standardised,
)
from recipes.lite.heads import CODEC, FREE, Array, part_of
from recipes.lite.speech import ordered_pairs
from recipes.lite.spoken import Spoken

COPIES = {"mos": "NISQA", "distillmos": "DistillMOS", "dnsmos": "DNSMOS"}  # scores of the student
NOISE = ("white", "pink", "babble", "band noise", "denoised", "mnru")  # kinds of which steps are compared
FAMILIES = {
    "something added": ("white", "pink", "babble", "hum", "bleed", "band noise"),
    "band": ("low pass",),
    "codecs": ("mp3", "opus", "aac", "vorbis"),
    "amplitude": ("clipping", "quantised", "mnru"),
    "time": ("reverb", "loss", "wow"),
    "spectrum": ("holes", "phase", "denoised", "separated", "vocoded"),
}
Fold = Callable[[Spoken], object]


def evaluate_speech(examples: Examples, unseen: Array) -> dict[str, Any]:
    """Figures of PQ of `examples.voices`; `unseen` [M] are scores by members that did not see the clip's group."""
    voices = examples.voices
    center, factor = standardisation(examples.inputs)
    x = standardised(examples.voice_inputs, center, factor, examples.specs)
    faults = mean_columns(examples.specs)[SEVERITY_INPUTS]

    def scores(fold_of: Fold) -> Array:
        return cross_score(x, voices, faults, fold_of)

    values = examples.voice_inputs[:, rating_columns(examples.specs)]
    copies = {f"copy of {who} alone": values[:, SCORES.index(name)] for name, who in COPIES.items()}
    by_package = scores(package_of)
    codecs = {
        "unseen signals": unseen,
        "unseen codec families": scores(lambda voice: voice.kind.split()[0] if voice.set == CODEC else None),
        "trained without their ratings": scores(lambda voice: "all" if voice.set == CODEC else None),
    }
    return {
        "codecs": codec_figures(voices, codecs | copies),
        "codec systems": system_figures(voices, {"unseen signals": unseen, **copies}),
        "order": {name: order(voices, own) for name, own in ({"lite": by_package} | copies).items()},
        "noise": {name: noise(voices, own) for name, own in ({"lite": by_package} | copies).items()},
        "unseen degradations": unseen_degradations(x, voices, faults),
    }


def package_of(voice: Spoken) -> int | None:
    """The fold of a free recording's package."""
    return part_of(voice.source) if voice.set == FREE else None


def cross_score(
    x: Array, voices: Sequence[Spoken], faults: NDArray[np.bool_], fold_of: Fold, without: Collection[str] = ()
) -> Array:
    """Scores [N] of inputs [N, D] by directions that were fitted without a clip's fold; NaN for a clip of none.

    The fit also goes without degradations of the kinds `without`.
    """
    folds, found = [fold_of(voice) for voice in voices], np.full(len(voices), np.nan)
    for fold in sorted({str(name) for name in folds if name is not None}):
        held = np.array([str(name) == fold and name is not None for name in folds])
        seen = [i for i, voice in enumerate(voices) if not held[i] and voice.kind not in without]
        found[held] = x[held] @ speech_quality(x[seen], [voices[i] for i in seen], faults)
    return found


def codec_figures(voices: Sequence[Spoken], scores: dict[str, Array]) -> dict[str, Any]:
    """SRCC with listeners on the rated codecs and its interval over signals, by name of the scores [N]."""
    own = [i for i, voice in enumerate(voices) if voice.set == CODEC]
    ratings = np.array([voices[i].rating for i in own])
    signals = np.array([voices[i].group for i in own])
    return {name: _srcc(values[own], ratings, signals) for name, values in scores.items()}


def system_figures(voices: Sequence[Spoken], scores: dict[str, Array]) -> dict[str, Any]:
    """The same for the means of the codecs."""
    own = [i for i, voice in enumerate(voices) if voice.set == CODEC]
    systems = np.array([voices[i].kind for i in own])
    target = system_means(np.array([voices[i].rating for i in own]), systems)
    return {
        name: _srcc(system_means(values[own], systems), target, np.unique(systems)) for name, values in scores.items()
    }


def order(voices: Sequence[Spoken], scores: Array) -> dict[str, list[float]]:
    """How often the less degraded of two versions has the higher score [N], and the number of pairs, by kind."""
    better, worse = ordered_pairs(voices)
    right = scores[better] > scores[worse]
    kinds = np.array([voices[i].kind for i in worse])
    found = {"all": [float(right.mean()), len(right)]}
    return found | {str(k): [float(right[kinds == k].mean()), int((kinds == k).sum())] for k in np.unique(kinds)}


def noise(voices: Sequence[Spoken], scores: Array) -> float:
    """SRCC of scores [N] of noisy recordings with the step of the noise, over all recordings and bandwidths."""
    own = [i for i, voice in enumerate(voices) if voice.kind in NOISE]
    return srcc(scores[own], -np.array([float(voices[i].step) for i in own]))


def unseen_degradations(x: Array, voices: Sequence[Spoken], faults: NDArray[np.bool_]) -> dict[str, list[float]]:
    """The order of degradations when training left out their family and the clip's package, by family."""
    found = {}
    better, worse = ordered_pairs(voices)
    for name, kinds in FAMILIES.items():
        own = [(i, j) for i, j in zip(better, worse, strict=True) if voices[j].kind in kinds]
        if not own:
            continue
        scores = cross_score(x, voices, faults, package_of, kinds)
        found[name] = [float(np.mean([scores[i] > scores[j] for i, j in own])), len(own)]
    return found


def _srcc(scores: Array, target: Array, groups: NDArray[Any]) -> dict[str, float]:
    low, high = bootstrap(srcc, scores, target, groups)
    return {"srcc": srcc(scores, target), "low": low, "high": high, "clips": len(target)}
