"""Evaluate the heads of `wide_heads.py` on groups that they were not fitted to; writes recipes/lite/wide_results.json.

    python -m recipes.lite.wide_evaluate --data DIR [--work build/lite]

Every group of clips (a song, a file of a package) is scored by the heads of the member that was fitted without it. The
decays, the threshold and the steepness were chosen on the same folds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.table import load_encoder
from mmmos.metrics import srcc
from mmmos.scores import AXES
from recipes.lite import wide
from recipes.lite.build import ROOT, WIDE_ENCODERS
from recipes.lite.chains import SCENES
from recipes.lite.heads import DOMAINS, MUSIC, PARTS, PQ, read_norms
from recipes.lite.wide_heads import DROPS, STEEPNESS, THRESHOLD, VOCALS, Wide, fit_wide, part_of, standardised

Array = NDArray[np.float64]
RESULTS = Path(__file__).with_name("wide_results.json")
DRAWS = 1000  # of the bootstrap over songs
NOTICEABLE = 0.3  # severity


@dataclass(frozen=True)
class Held:
    """What each row gets from heads that were fitted without its group."""

    music: Array  # [N, A] points, if it is music
    sound: Array  # [N, A] points, if it is sound
    domain: Array  # [N] index of the detected domain


def held_out(rows: Sequence[wide.Version], inputs: Array, specs: Sequence[EncoderSpec], labels: Path) -> Held:
    """Scores and domains of all rows, one part of the groups at a time."""
    norms = read_norms(labels)["sound"]
    shape = len(rows), len(AXES)
    found = Held(np.zeros(shape), np.zeros(shape), np.zeros(len(rows)))
    parts = np.array([part_of(row.group) for row in rows])
    for part in range(PARTS):
        here = parts == part
        heads = fit_wide(rows, inputs, specs, norms, part)
        x = standardised(inputs[here], heads.center, heads.factor, specs)
        found.music[here], found.sound[here] = music_scores(heads, x), heads.sound(x)
        gate = heads.gate.numpy()
        found.domain[here] = (x @ gate[:, :-1].T + gate[:, -1]).argmax(1)
    return found


def music_scores(heads: Wide, x: Array) -> Array:
    """Points [N, A] of music with inputs [N, D]."""
    drops = STEEPNESS * np.maximum(0, heads.severity(x) - THRESHOLD)
    return np.asarray(heads.music(x) - drops[:, None] * np.array([DROPS[axis] for axis in AXES]))


def songs(rows: Sequence[wide.Version], scores: Array) -> dict[str, Any]:
    """Agreement with raters on unseen songs, next to the mean label and that of the stem in the other songs."""
    own = [i for i, row in enumerate(rows) if row.set == MUSIC and row.scene == "clean"]
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
        errors = {"mae": mine, "mae_stem": by_stem[:, i], "mae_constant": constant[:, i]}
        found[axis] = {"srcc": srcc(mine, labels[:, i]), "low": low, "high": high} | {
            name: float(np.abs(values - labels[:, i]).mean()) for name, values in errors.items()
        }
    return found


def degraded(rows: Sequence[wide.Version], scores: Array, domain: str, labelled: bool) -> dict[str, Any]:
    """PQ of degraded versions: order by severity, fraction below their recording and, of songs, constructed labels."""
    clean = {row.clip: i for i, row in enumerate(rows) if row.scene == "clean"}
    own = [
        i
        for i, row in enumerate(rows)
        if row.scene in SCENES and row.domain == domain and (row.set == MUSIC) == labelled
    ]
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


def domains(rows: Sequence[wide.Version], detected: Array) -> dict[str, dict[str, float]]:
    """Fraction of clips with the right domain: whole, as short excerpts, and degraded."""
    kinds = [f"{row.domain}, {_name(row)}" for row in rows]
    forms = ["whole" if row.scene == "clean" else "excerpt" if row.scene == "excerpt" else "degraded" for row in rows]
    right = np.array([DOMAINS[int(i)] == row.domain for i, row in zip(detected, rows, strict=True)])
    return {
        kind: {
            form: float(right[[k == kind and f == form for k, f in zip(kinds, forms, strict=True)]].mean())
            for form in ("whole", "excerpt", "degraded")
        }
        for kind in sorted(set(kinds))
    }


def _name(row: wide.Version) -> str:
    if row.set == MUSIC:
        return "solo vocals" if Path(row.clip).stem.endswith(VOCALS) else "songs without solo vocals"
    return "sustained vowels" if row.set == wide.VOWELS else "free recordings"


def main() -> None:
    """Encode what is not encoded yet, fit, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of musdb18_aes and labels")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lite", help="folder of intermediate results")
    options = parser.parse_args()
    encoders = [load_encoder(name) for name in WIDE_ENCODERS]
    work = options.work.resolve() / "corpus"
    rows, inputs = wide.table_of(wide.read_recordings(options.data.resolve(), work), work, encoders)
    specs = [EncoderSpec(encoder.name, encoder.block_dims, encoder.fingerprint()) for encoder in encoders]
    found = held_out(rows, inputs, specs, options.data / "labels")
    results = {
        "songs": songs(rows, found.music),
        "degraded": {
            "songs": degraded(rows, found.music, "music", labelled=True),
            "music, free recordings": degraded(rows, found.music, "music", labelled=False),
            "sound, free recordings": degraded(rows, found.sound, "sound", labelled=False),
        },
        "domains": domains(rows, found.domain),
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
