"""How good is `lite` on clips that it was not trained on? The figures of docs/MODEL_CARD.md.

    python scripts/evaluate_lite.py --data DIR [--work build/lite] [--out docs/lite.json]

Everything that training decides is decided again inside each fold, the epoch to stop at included: the
members of a fold hold out some of its training songs for that. Three questions are asked:

    unseen     folds by song and by speech signal: material of a known kind
    family     each codec family left out in turn: damage of an unknown kind
    transfer   one set left out altogether: an unknown listening test

and beside each stand what a trivial predictor gets: DistillMOS's own score, which saw none of these sets,
and the mean label of the stem, which knows what no model is told.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from build_lite import MAIN_SET, ROOT, encode, read_data, train_members
from numpy.typing import NDArray

from mmmos.dataset import Table
from mmmos.manifest import LabelledClip, label_array
from mmmos.metrics import bootstrap, srcc, system_means
from mmmos.model import ModelConfig
from mmmos.scores import AXES
from mmmos.train import predict

FOLDS = 5
CODEC_SET = "codec_mushra"
FAMILIES = {"Proposed": "proposed", "Lyra": "Lyra", "AudioDec": "AudioDec", "Reference": "original"}
MOS_COLUMN = 200  # of DistillMOS's pooled frames, which come first in a row: its own score


def cross_predict(table: Table, config: ModelConfig, fold_of: Callable[[LabelledClip], str | None]) -> NDArray[Any]:
    """Predictions [N, A] for every row by models that saw no row of its fold; NaN where the fold is None."""
    folds = [fold_of(row) for row in table.rows]
    predictions = np.full((len(table.rows), len(AXES)), np.nan)
    for fold in sorted({name for name in folds if name is not None}):
        held = [name == fold for name in folds]
        members = train_members(table.take([row for row, out in zip(table.rows, held, strict=True) if not out]), config)
        unseen = table.take([row for row, out in zip(table.rows, held, strict=True) if out])
        scores = [member.scale.to_labels(predict(member.model, unseen).numpy()) for member in members]
        predictions[held] = np.mean(scores, axis=0)
    return predictions


def numbered(rows: list[LabelledClip], seed: int = 0) -> dict[str, str]:
    """A fold for each group, groups shuffled once."""
    groups = sorted({row.group for row in rows})
    order = np.random.default_rng(seed).permutation(len(groups))
    return {groups[at]: f"fold {i % FOLDS}" for i, at in enumerate(order)}


def family(system: str) -> str:
    """The codec that a system is a setting of."""
    return next(name for start, name in FAMILIES.items() if system.startswith(start))


def agreement(prediction: NDArray[Any], target: NDArray[Any], groups: NDArray[Any]) -> dict[str, Any]:
    """SRCC with its 95 % interval over groups."""
    known = np.isfinite(prediction) & np.isfinite(target)
    p, t, g = prediction[known], target[known], groups[known]
    low, high = bootstrap(srcc, p, t, g)
    return {"n": len(p), "srcc": round(srcc(p, t), 3), "low": round(low, 3), "high": round(high, 3)}


def evaluate(table: Table, config: ModelConfig) -> dict[str, Any]:
    """All figures of the card."""
    rows = list(table.rows)
    labels = label_array(rows)
    groups = np.array([row.group for row in rows])
    systems = np.array([row.system for row in rows])
    music = np.array([row.set == MAIN_SET for row in rows])
    codec = ~music
    mos = table.inputs.frames[:, MOS_COLUMN].double().numpy()
    quality = AXES.index("PQ")

    fold = numbered(rows)
    unseen = cross_predict(table, config, lambda row: fold[row.group])
    by_family = cross_predict(table, config, lambda row: None if row.set == MAIN_SET else family(row.system))
    transfer = cross_predict(table, config, lambda row: None if row.set == MAIN_SET else "codec")

    def row(name: str, prediction: NDArray[Any], axis: int, part: NDArray[np.bool_]) -> dict[str, Any]:
        found = agreement(prediction[part], labels[part, axis], groups[part])
        return {"figure": name, "axis": AXES[axis], **found}

    found = [row("music, unseen songs", unseen[:, i], i, music) for i in range(len(AXES))]
    found += [
        row("music, mean label of the stem (not a model)", stem_means(labels, rows)[:, i], i, music) for i in range(4)
    ]
    found += [row("music, DistillMOS alone", mos, quality, music)]
    for stem in sorted({row.system for row in rows if row.set == MAIN_SET}):
        found += [
            row(f"music, unseen songs, {stem} only", unseen[:, i], i, music & (systems == stem)) for i in range(4)
        ]
    found += [
        row("speech codecs, unseen signals", unseen[:, quality], quality, codec),
        row("speech codecs, unseen codec families", by_family[:, quality], quality, codec),
        row("speech codecs, trained on music alone", transfer[:, quality], quality, codec),
        row("speech codecs, DistillMOS alone", mos, quality, codec),
    ]
    means = system_means(unseen[codec, quality], systems[codec]), system_means(labels[codec, quality], systems[codec])
    own = system_means(mos[codec], systems[codec])
    names = np.unique(systems[codec])
    found += [
        {"figure": "speech codecs, unseen signals, per system", "axis": "PQ", **agreement(*means, names)},
        {"figure": "speech codecs, DistillMOS alone, per system", "axis": "PQ", **agreement(own, means[1], names)},
    ]
    error = np.abs(unseen[music] - labels[music])
    return {
        "figures": found,
        "songs": len({row.group for row in rows if row.set == MAIN_SET}),
        "mean_absolute_error": {axis: round(float(error[:, i].mean()), 2) for i, axis in enumerate(AXES)},
    }


def stem_means(labels: NDArray[Any], rows: list[LabelledClip]) -> NDArray[Any]:
    """For each row the mean label of its stem over the other songs."""
    means = np.full_like(labels, np.nan)
    for i, row in enumerate(rows):
        others = [other.system == row.system and other.group != row.group for other in rows]
        means[i] = labels[others].mean(axis=0)
    return means


def main() -> None:
    """Print the figures and keep them for the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of musdb18_aes and codec_mushra")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lite", help="folder of intermediate results")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "lite.json", help="where the figures go")
    options = parser.parse_args()
    rows = read_data(options.data.resolve(), options.work)
    table, config = encode(rows, options.work / "cache")
    figures = evaluate(table, config)
    options.out.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    for item in figures["figures"]:
        interval = f"[{item['low']:.2f}, {item['high']:.2f}]"
        print(f"{item['figure']:<45} {item['axis']}  {item['srcc']:6.3f}  {interval}  n={item['n']}")


if __name__ == "__main__":
    main()
