"""Scores of clips by heads that were not fitted to their groups, and how wrong these are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mmmos.scores import AXES
from recipes.lite.chains import SCENES
from recipes.lite.fit import (
    GATE_INPUTS,
    Examples,
    Parts,
    fit_severity,
    gate_of,
    mean_columns,
    probabilities_of,
    standardisation,
    standardised,
)
from recipes.lite.heads import DOMAINS, FREE, MUSIC, PARTS, PQ, REMIXED, Array, Norms, part_of
from recipes.lite.settings import CHOSEN, DROPS
from recipes.lite.single import HUMAN, NOTES
from recipes.lite.support import FAMILIAR_SEVERITY
from recipes.lite.versions import Version, songs_of

COVERED = 0.95  # fraction of raters' means within two standard deviations


@dataclass(frozen=True)
class Held:
    """What each row gets from heads that were fitted without its group."""

    by_domain: dict[str, Array]  # [N, A] points, if the row is of that domain
    probabilities: Array  # [N, domains]
    novel: NDArray[np.bool_]  # [N] whether it is not similar to the rated songs
    voices: Array  # [M] PQ of `Examples.voices`

    @property
    def scores(self) -> Array:
        """[N, A] points, as users get them: the mean over domains."""
        return mean_over_domains(self.by_domain, self.probabilities)


def mean_over_domains(by_domain: Mapping[str, Array], probabilities: Array) -> Array:
    """Scores [N, A] if clips are of each domain, weighted by its probability [N, domains]."""
    return np.asarray(sum(probabilities[:, [i]] * by_domain[name] for i, name in enumerate(DOMAINS)))


def held_out(examples: Examples, parts: Sequence[Parts]) -> Held:
    """Scores and domains of all rows, each by the `Parts` that were fitted without its part of the groups."""
    count = len(examples.rows)
    found = Held(
        by_domain={name: np.zeros((count, len(AXES))) for name in DOMAINS},
        probabilities=np.zeros((count, len(DOMAINS))),
        novel=np.zeros(count, dtype=bool),
        voices=np.zeros(len(examples.voices)),
    )
    of_rows, of_voices = (np.array([part_of(x.group) for x in items]) for items in (examples.rows, examples.voices))
    for part, heads in enumerate(parts):
        here, spoken = of_rows == part, of_voices == part
        x, voiced = (
            standardised(inputs, heads.center, heads.factor, examples.specs)
            for inputs in (examples.inputs[here], examples.voice_inputs[spoken])
        )
        for name, scores in heads.by_domain(x).items():
            found.by_domain[name][here] = scores
        found.probabilities[here] = heads.probabilities(x)
        found.novel[here] = (heads.nearby.distance(x) > 1) | (heads.severity(x) > FAMILIAR_SEVERITY)
        found.voices[spoken] = mean_over_domains(heads.by_domain(voiced), heads.probabilities(voiced))[:, PQ]
    return found


def corpus_of(row: Version) -> str:
    """The package of a free recording or sound, or the set of others."""
    return row.source if row.set in (FREE, NOTES, HUMAN) else {REMIXED: MUSIC}.get(row.set, row.set)


def domains_of_unseen_corpora(examples: Examples) -> NDArray[np.int64]:
    """Index of each row's domain, [N], by a gate that was fitted without all corpora of the part that its own is in."""
    rows, mixes, specs = examples.rows, examples.mixes, examples.specs
    tags = mean_columns(specs)[GATE_INPUTS]
    own = np.array([part_of(corpus_of(row)) for row in rows])
    in_mixes = [{part_of(corpus_of(row)) for row in (mix.first, mix.second)} for mix in mixes]
    found = np.zeros(len(rows), dtype=np.int64)
    for part in range(PARTS):
        held, kept = own == part, [i for i, other in enumerate(own) if other != part]
        kept_mixes = [i for i, parts in enumerate(in_mixes) if part not in parts]
        center, factor = standardisation(examples.inputs[kept])
        x, mixed = (
            standardised(inputs, center, factor, specs) * tags
            for inputs in (examples.inputs, examples.mix_inputs[kept_mixes])
        )
        gate = gate_of(x[kept], [rows[i] for i in kept], mixed, [mixes[i] for i in kept_mixes])
        found[held] = probabilities_of(gate, x[held]).argmax(axis=1)
    return found


def severity_of_unseen_scenes(examples: Examples, domain: str) -> Array:
    """Severity [N] of a domain's degraded versions by fits without their scene and their group; NaN for other rows."""
    rows, found = examples.rows, np.full(len(examples.rows), np.nan)
    recorded = np.array([row.set in (MUSIC, FREE) for row in rows])
    own = recorded & np.array([row.domain == domain for row in rows])
    scenes, parts = np.array([row.scene for row in rows]), np.array([part_of(row.group) for row in rows])
    for scene, part in itertools.product(SCENES, range(PARTS)):
        held = own & (scenes == scene) & (parts == part)
        if held.any():
            kept = np.flatnonzero(recorded & (scenes != scene) & (parts != part)).tolist()
            seen = replace(examples, rows=[rows[i] for i in kept], inputs=examples.inputs[kept])
            center, factor = standardisation(seen.inputs)
            x, unseen = (
                standardised(inputs, center, factor, examples.specs) for inputs in (seen.inputs, examples.inputs[held])
            )
            found[held] = fit_severity(seen, x, domain, CHOSEN)(unseen)
    return found


def degraded_songs_of(rows: Sequence[Version]) -> list[int]:
    """Rows of degraded versions of them."""
    return [i for i, row in enumerate(rows) if row.set == MUSIC and row.scene in SCENES]


def constructed_labels(rows: Sequence[Version]) -> Array:
    """[N, A] points: the song's ratings minus the drops of its severity."""
    severity = np.array([row.severity for row in rows])[:, None]
    return np.array([row.labels for row in rows]) - severity * np.array([DROPS[axis] for axis in AXES])


def residual_std(rows: Sequence[Version], held: Held, norms: Mapping[str, Norms]) -> dict[str, dict[str, float]]:
    """Half of the error that `COVERED` of clips do not exceed, by domain and axis.

    For music it is that of unseen songs, and that of their degraded versions that are not similar to the rated songs.
    Of speech and sound nothing is rated: it is the standard deviation of the domain's ratings, that of a model without
    any knowledge.
    """
    errors = np.abs(held.scores - constructed_labels(rows))
    novel = [i for i in degraded_songs_of(rows) if held.novel[i]]
    found = {name: known.std for name, known in norms.items()}
    for name, chosen in (("music", songs_of(rows)), ("music, novel", novel)):
        halves = np.quantile(errors[chosen], COVERED, axis=0) / 2
        found[name] = dict(zip(AXES, map(float, halves), strict=True))
    return {name: {axis: round(value, 3) for axis, value in stds.items()} for name, stds in found.items()}
