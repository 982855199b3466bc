"""Evaluate the heads of `lite` on groups of clips that they were not fitted to; writes recipes/lite/results.json.

    python -m recipes.lite.evaluate --data DIR [--work build/lite]

Every group of clips (a song, a speech signal, a file of a package) is scored by the member that was fitted without it,
as users get scores: the mean over domains, weighted by the gate. The settings (settings.py) were chosen on the same
folds; nested.py chooses them again on other clips than those that it reports. For speech, whole codec families, all
ratings of codecs, or whole packages are left out as well, and the domain is taken as known; for music and sound, whole
scenes of degradation are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.data.ratings import read_ratings
from mmmos.metrics import srcc
from mmmos.scores import AXES
from recipes.lite import single, versions
from recipes.lite.build import ROOT, read_examples
from recipes.lite.chains import SCENES
from recipes.lite.evaluate_speech import evaluate_speech
from recipes.lite.fit import Examples, fit_parts
from recipes.lite.heads import CLEAN, DOMAINS, FREE, MUSIC, PARTS, PQ, REMIXED, Array, read_norms
from recipes.lite.held_out import (
    Held,
    constructed_labels,
    degraded_songs_of,
    domains_of_unseen_corpora,
    held_out,
    residual_std,
    severity_of_unseen_scenes,
)
from recipes.lite.nested import nested_figures
from recipes.lite.separated import KINDS
from recipes.lite.settings import DROPS

RESULTS = Path(__file__).with_name("results.json")
DRAWS = 1000  # of the bootstrap over songs
NOTICEABLE = 0.3  # severity
SETS = {
    versions.VOWELS: "sustained vowels",
    versions.NOISES: "noises and tones",
    single.NOTES: "single notes",
    single.HUMAN: "coughs, laughs and screams",
}
"""Names of sets in tables; others have free recordings."""


def songs(rows: Sequence[versions.Version], scores: Array, natural: Array) -> dict[str, Any]:
    """Agreement with raters on unseen songs, next to the mean label and that of the stem in the other songs.

    `natural` are the means [A] of all AES-natural ratings of music.
    """
    own = versions.songs_of(rows)
    labels = np.array([rows[i].labels for i in own])
    group = np.array([rows[i].group for i in own])
    stem = np.array([Path(rows[i].clip).stem.rsplit("__", 1)[-1] for i in own])
    others = group[:, None] != group
    constant = np.stack([labels[other].mean(0) for other in others])
    by_stem = np.stack([labels[other & (stem == name)].mean(0) for other, name in zip(others, stem, strict=True)])
    rng = np.random.default_rng(0)
    names = np.unique(group)
    draws = [np.concatenate([np.flatnonzero(group == n) for n in rng.choice(names, len(names))]) for _ in range(DRAWS)]
    found: dict[str, Any] = {"clips": len(own), "songs": len(names)}
    for i, axis in enumerate(AXES):
        mine = scores[own, i]
        low, high = np.percentile([srcc(mine[draw], labels[draw, i]) for draw in draws], [2.5, 97.5])
        error = np.abs(mine - labels[:, i])
        error_low, error_high = np.percentile([error[draw].mean() for draw in draws], [2.5, 97.5])
        others_errors = {
            "mae_stem": by_stem[:, i],
            "mae_constant": constant[:, i],
            "mae_natural": np.full(len(own), natural[i]),
        }
        order = np.argsort(labels[:, i], kind="stable")
        tenth = max(1, len(own) // 10)
        found[axis] = {"srcc": srcc(mine, labels[:, i]), "low": low, "high": high}
        found[axis] |= {"mae": float(error.mean()), "mae_low": error_low, "mae_high": error_high}
        found[axis] |= {name: float(np.abs(v - labels[:, i]).mean()) for name, v in others_errors.items()}
        for name, rows_of in (("worst", order[:tenth]), ("best", order[-tenth:])):
            found[axis][name] = {"label": float(labels[rows_of, i].mean()), "score": float(mine[rows_of].mean())}
    return found


def similarity(rows: Sequence[versions.Version], held: Held) -> dict[str, float]:
    """By kind of music, the fraction that is similar to the rated songs, whose basis is `human`."""
    free = [i for i, row in enumerate(rows) if row.set == FREE and row.domain == "music"]
    kinds = {
        "unseen songs": versions.songs_of(rows),
        "their degraded versions, severity up to .3": [i for i in degraded_songs_of(rows) if rows[i].severity <= 0.3],
        "their degraded versions, severity above .3": [i for i in degraded_songs_of(rows) if rows[i].severity > 0.3],
        "music, free recordings": [i for i in free if rows[i].scene == "clean"],
        "music, free recordings, degraded": [i for i in free if rows[i].scene in SCENES],
    }
    return {name: float(1 - held.novel[own].mean()) for name, own in kinds.items()}


def coverage(rows: Sequence[versions.Version], held: Held, residual: dict[str, dict[str, float]]) -> dict[str, Any]:
    """By kind and axis, the fraction of labels within two residual standard deviations of the score."""
    errors = np.abs(held.scores - constructed_labels(rows))
    found = {}
    for name, own in (("unseen songs", versions.songs_of(rows)), ("their degraded versions", degraded_songs_of(rows))):
        limits = [[residual["music, novel" if held.novel[i] else "music"][axis] for axis in AXES] for i in own]
        inside = errors[own] <= 2 * np.array(limits)
        found[name] = dict(zip(AXES, map(float, inside.mean(axis=0)), strict=True))
    return found


def degraded(rows: Sequence[versions.Version], scores: Array, domain: str, labelled: bool) -> dict[str, Any]:
    """PQ of degraded versions: order by severity, fraction below their recording and, of songs, constructed labels."""
    clean = {row.clip: i for i, row in enumerate(rows) if row.scene == "clean"}
    kind = MUSIC if labelled else FREE
    own = [i for i, row in enumerate(rows) if row.scene in SCENES and row.domain == domain and row.set == kind]
    severity = np.array([rows[i].severity for i in own])
    values, recording = scores[own, PQ], scores[[clean[rows[i].clip] for i in own], PQ]
    bad = severity > NOTICEABLE
    found = {"clips": len(own), "srcc": srcc(-values, severity), "below": float((values < recording)[bad].mean())}
    if labelled:
        target = np.array([rows[i].labels[PQ] for i in own]) - DROPS["PQ"] * severity
        found |= {
            "srcc_label": srcc(values, target),
            "mae": float(np.abs(values - target).mean()),
            "mae_constant": float(np.abs(target - np.median(target)).mean()),
        }
    return found


def unseen_scenes(examples: Examples) -> dict[str, dict[str, list[float]]]:
    """SRCC of the estimated severity when a scene was left out of training, and the number of versions, by scene."""
    rows, found = examples.rows, dict[str, dict[str, list[float]]]()
    scenes, severity = np.array([row.scene for row in rows]), np.array([row.severity for row in rows])
    for kind, domain, of in (("songs", "music", MUSIC), ("sound, free recordings", "sound", FREE)):
        estimate = severity_of_unseen_scenes(examples, domain)
        own = np.array([row.set == of for row in rows]) & ~np.isnan(estimate)
        parts = {"all": own} | {scene: own & (scenes == scene) for scene in SCENES}
        found[kind] = {
            name: [srcc(estimate[part], severity[part]), int(part.sum())] for name, part in parts.items() if part.any()
        }
    return found


def separated(rows: Sequence[versions.Version], scores: Array) -> dict[str, Any]:
    """SRCC of PQ [N] with how well vocals are separated: mean over songs and its interval, by kind of fault."""
    own = [i for i, row in enumerate(rows) if row.set == REMIXED]
    kinds = {i: tuple(rows[i].scene.rsplit(" ", 1)) for i in own}
    found: dict[str, Any] = {}
    for kind in KINDS:
        by_song: dict[str, list[int]] = {}
        for i in own:
            if kinds[i][0] in (kind, CLEAN):
                by_song.setdefault(rows[i].group, []).append(i)
        each = [srcc(scores[mine], -np.array([float(kinds[i][1]) for i in mine])) for mine in by_song.values()]
        low, high = np.quantile(np.random.default_rng(0).choice(each, (DRAWS, len(each))).mean(axis=1), (0.025, 0.975))
        found[kind] = {"srcc": float(np.mean(each)), "low": float(low), "high": float(high), "songs": len(each)}
    return found


def domains(rows: Sequence[versions.Version], detected: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Fraction of clips with the right domain: whole, as short excerpts, and degraded."""
    right: dict[str, dict[str, list[bool]]] = {}
    for row, i in zip(rows, detected, strict=True):
        form = "whole" if row.scene.startswith(CLEAN) else "excerpt" if row.scene == "excerpt" else "degraded"
        of_kind = right.setdefault(f"{row.domain}, {_name(row)}", {})
        of_kind.setdefault(form, []).append(DOMAINS[int(i)] == row.domain)
    return {kind: {form: float(np.mean(own)) for form, own in forms.items()} for kind, forms in sorted(right.items())}


def _name(row: versions.Version) -> str:
    if row.set == MUSIC:
        return "solo vocals" if versions.is_solo_vocals(row) else "songs without solo vocals"
    if row.set == REMIXED:
        return "separated vocals"
    return SETS.get(row.set, "free recordings")


def main() -> None:
    """Encode what is not encoded yet, fit, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of musdb18_aes and labels")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lite", help="folder of intermediate results")
    options = parser.parse_args()
    data = options.data.resolve()
    examples, norms = read_examples(data, options.work.resolve()), read_norms(data / "labels")
    found = held_out(examples, [fit_parts(examples, norms, part) for part in range(PARTS)])
    rows, scores = examples.rows, found.scores
    natural = read_ratings(data / "labels" / "AES_natural_music.jsonl")[1].mean(axis=(0, 2))
    residual = residual_std(rows, found, norms)
    results = {
        "songs": songs(rows, scores, natural),
        "degraded": {
            "songs": degraded(rows, scores, "music", labelled=True),
            "music, free recordings": degraded(rows, scores, "music", labelled=False),
            "sound, free recordings": degraded(rows, scores, "sound", labelled=False),
        },
        "unseen scenes": unseen_scenes(examples),
        "separated": separated(rows, scores[:, PQ]),
        "speech": evaluate_speech(examples, found.voices),
        "nested": nested_figures(examples, norms, found),
        "domains": domains(rows, found.probabilities.argmax(axis=1)),
        "domains of unseen corpora": domains(rows, domains_of_unseen_corpora(examples)),
        "similar": similarity(rows, found),
        "residual_std": residual,
        "coverage": coverage(rows, found, residual),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
