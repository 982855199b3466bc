"""What the heads of `wide_heads.py` say about clips of groups that they were not fitted to, and how wrong that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmmos.scores import AXES
from recipes.lite.chains import SCENES
from recipes.lite.heads import MUSIC, Norms, part_of
from recipes.lite.support import FAMILIAR_SEVERITY
from recipes.lite.wide import Version
from recipes.lite.wide_heads import DROPS, THRESHOLD, Examples, Wide, drops, standardised

Array = NDArray[np.float64]

COVERED = 0.95  # fraction of raters' means within two standard deviations


@dataclass(frozen=True)
class Held:
    """What each row gets from heads that were fitted without its group."""

    music: Array  # [N, A] points, if it is music
    sound: Array  # [N, A] points, if it is sound
    domain: Array  # [N] index of the detected domain
    severity: Array  # [N] of music
    voice: Array  # [N] severity of speech
    novel: NDArray[np.bool_]  # [N] whether it is not similar to the rated songs


def held_out(examples: Examples, wides: Sequence[Wide], norms: Norms) -> Held:
    """Scores and domains of all rows, each by the `Wide` that goes without its part; `norms` are those of speech."""
    count = len(examples.rows)
    found = Held(
        music=np.zeros((count, len(AXES))),
        sound=np.zeros((count, len(AXES))),
        domain=np.zeros(count),
        severity=np.zeros(count),
        voice=np.zeros(count),
        novel=np.zeros(count, dtype=bool),
    )
    parts = np.array([part_of(row.group) for row in examples.rows])
    for part, heads in enumerate(wides):
        here = parts == part
        x = standardised(examples.inputs[here], heads.center, heads.factor, examples.specs)
        severity, gate = heads.severity["music"](x), heads.gate.numpy()
        lowered = np.maximum(0, severity - THRESHOLD)[:, None] * drops(norms)["music"]
        found.music[here], found.sound[here] = heads.music(x) - lowered, heads.sound(x)
        found.domain[here] = (x @ gate[:, :-1].T + gate[:, -1]).argmax(axis=1)
        found.severity[here], found.voice[here] = severity, heads.severity["speech"](x)
        found.novel[here] = (heads.nearby.distance(x) > 1) | (severity > FAMILIAR_SEVERITY)
    return found


def songs_of(rows: Sequence[Version]) -> list[int]:
    """Rows of the rated songs."""
    return [i for i, row in enumerate(rows) if row.set == MUSIC and row.scene == "clean"]


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
    errors = np.abs(held.music - constructed_labels(rows))
    novel = [i for i in degraded_songs_of(rows) if held.novel[i]]
    found = {name: known.std for name, known in norms.items()}
    for name, chosen in (("music", songs_of(rows)), ("music, novel", novel)):
        halves = np.quantile(errors[chosen], COVERED, axis=0) / 2
        found[name] = dict(zip(AXES, map(float, halves), strict=True))
    return {name: {axis: round(value, 3) for axis, value in stds.items()} for name, stds in found.items()}
