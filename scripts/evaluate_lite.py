"""How good is `lite` on clips that it was not trained on? The figures of docs/MODEL_CARD.md.

    python scripts/evaluate_lite.py --data DIR [--work build/lite] [--out docs/lite.json]

What is fitted is fitted again inside each fold. The encoders, the shares of the sets and the decays were chosen on
these very folds, so the figures flatter by that much. Three questions are asked:

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
import torch
from build_lite import ROOT, encode, read_data, train_members
from lite_heads import CODEC, DOMAINS, FREE, MOS_COLUMN, MUSIC, Norms, pairs, read_norms
from numpy.typing import NDArray

from mmmos.dataset import Table
from mmmos.manifest import LabelledClip, label_array
from mmmos.metrics import bootstrap, srcc, system_means
from mmmos.model import ModelConfig
from mmmos.scores import AXES
from mmmos.train import predict

FOLDS = 5
FAMILIES = {"Proposed": "proposed", "Lyra": "Lyra", "AudioDec": "AudioDec", "Reference": "original"}

Array = NDArray[Any]


def cross_predict(
    table: Table, config: ModelConfig, norms: dict[str, Norms], fold_of: Callable[[LabelledClip], str | None]
) -> tuple[Array, Array]:
    """Predictions [N, A] and shares of the domains [N, E] by models that saw no row of a row's fold.

    NaN where the fold is None.
    """
    folds = [fold_of(row) for row in table.rows]
    predictions = np.full((len(table.rows), len(AXES)), np.nan)
    shares = np.full((len(table.rows), len(DOMAINS)), np.nan)
    for fold in sorted({name for name in folds if name is not None}):
        held = [name == fold for name in folds]
        print(f"{fold}: {sum(held)} clips held out")
        seen = table.take([row for row, out in zip(table.rows, held, strict=True) if not out])
        members = train_members(seen, config, norms)
        unseen = table.take([row for row, out in zip(table.rows, held, strict=True) if out])
        scores = [member.scale.to_labels(predict(member.model, unseen).numpy()) for member in members]
        predictions[held] = np.mean(scores, axis=0)
        reduced = unseen.inputs.batch([crops[0][0] for crops in unseen.crops])
        with torch.no_grad():
            told = [member.model.heads.shares(member.model.aggregator.aggregate(reduced)) for member in members]
        shares[held] = np.mean([share.numpy() for share in told], axis=0)
    return predictions, shares


def numbered(groups: list[str], seed: int = 0) -> dict[str, str]:
    """A fold for each group, groups shuffled once."""
    order = np.random.default_rng(seed).permutation(len(groups))
    return {groups[at]: f"fold {i % FOLDS}" for i, at in enumerate(order)}


def family(system: str) -> str:
    """The codec that a system is a setting of."""
    return next(name for start, name in FAMILIES.items() if system.startswith(start))


def agreement(prediction: Array, target: Array, groups: Array) -> dict[str, Any]:
    """SRCC with its 95 % interval over groups."""
    known = np.isfinite(prediction) & np.isfinite(target)
    p, t, g = prediction[known], target[known], groups[known]
    low, high = bootstrap(srcc, p, t, g)
    return {"n": len(p), "srcc": round(srcc(p, t), 3), "low": round(low, 3), "high": round(high, 3)}


def evaluate(table: Table, config: ModelConfig, norms: dict[str, Norms]) -> dict[str, Any]:
    """All figures of the card."""
    rows = list(table.rows)
    labels = label_array(rows)
    groups = np.array([row.group for row in rows])
    systems = np.array([row.system for row in rows])
    sets = np.array([row.set for row in rows])
    music, codec = sets == MUSIC, sets == CODEC
    mos = table.inputs.frames[:, MOS_COLUMN].double().numpy()
    quality = AXES.index("PQ")

    # A package's recordings resemble each other, so packages of free audio are held out whole.
    units = {id(row): row.source or row.group for row in rows}
    fold = numbered(sorted(set(units.values())))
    unseen, shares = cross_predict(table, config, norms, lambda row: fold[units[id(row)]])
    by_family, _ = cross_predict(table, config, norms, lambda row: family(row.system) if row.set == CODEC else None)
    transfer, _ = cross_predict(table, config, norms, lambda row: "all codecs" if row.set == CODEC else None)

    def row(name: str, prediction: Array, axis: int, part: NDArray[np.bool_]) -> dict[str, Any]:
        found = agreement(prediction[part], labels[part, axis], groups[part])
        return {"figure": name, "axis": AXES[axis], **found}

    found = [row("music, unseen songs", unseen[:, i], i, music) for i in range(len(AXES))]
    found += [
        row("music, mean label of the stem (not a model)", stem_means(labels, rows, music)[:, i], i, music)
        for i in range(4)
    ]
    found += [row("music, DistillMOS alone", mos, quality, music)]
    for stem in sorted(set(systems[music])):
        found += [
            row(f"music, unseen songs, {stem} only", unseen[:, i], i, music & (systems == stem)) for i in range(4)
        ]
    found += [
        row("speech codecs, unseen signals", unseen[:, quality], quality, codec),
        row("speech codecs, unseen codec families", by_family[:, quality], quality, codec),
        row("speech codecs, trained without their ratings", transfer[:, quality], quality, codec),
        row("speech codecs, DistillMOS alone", mos, quality, codec),
    ]
    target = system_means(labels[codec, quality], systems[codec])
    names = np.unique(systems[codec])
    for name, scores in (("unseen signals", unseen[:, quality]), ("DistillMOS alone", mos)):
        means = system_means(scores[codec], systems[codec])
        found.append({"figure": f"speech codecs, {name}, per system", "axis": "PQ", **agreement(means, target, names)})
    error = np.abs(unseen[music] - labels[music])
    return {
        "figures": found,
        "songs": len(set(groups[music])),
        "mean_absolute_error": {axis: round(float(error[:, i].mean()), 2) for i, axis in enumerate(AXES)},
        "order": [order(rows, scores, name) for name, scores in (("lite", unseen[:, quality]), ("DistillMOS", mos))],
        "domains": domain_shares(rows, shares),
    }


def order(rows: list[LabelledClip], scores: Array, name: str) -> dict[str, Any]:
    """Of free recordings: how often the less damaged of two versions has the higher PQ, by domain and by damage."""
    told: dict[str, list[bool]] = {}
    for domain in DOMAINS:
        for better, worse in zip(*pairs(rows, [domain]), strict=True):
            kind = rows[worse].system.rsplit(" ", 1)[0]
            for key in (domain, f"{domain}, {kind}"):
                told.setdefault(key, []).append(bool(scores[better] > scores[worse]))
    return {"scores": name, "right": {key: [round(float(np.mean(hit)), 2), len(hit)] for key, hit in told.items()}}


def domain_shares(rows: list[LabelledClip], shares: Array) -> dict[str, dict[str, float]]:
    """Of each kind of clip: how many are told to be of each domain."""
    told = shares.argmax(axis=1)
    kinds = np.array([f"{row.domain}, {row.set if row.set != FREE else 'free recordings'}" for row in rows])
    kinds = np.where(
        [row.set == MUSIC and row.system == "vocals" for row in rows], "music, solo vocals of musdb18_aes", kinds
    )
    return {
        kind: {name: round(float((told[kinds == kind] == i).mean()), 2) for i, name in enumerate(DOMAINS)}
        for kind in sorted(set(kinds))
    }


def stem_means(labels: Array, rows: list[LabelledClip], rated: NDArray[np.bool_]) -> Array:
    """For each row the mean label of its stem over the other songs."""
    means = np.full_like(labels, np.nan)
    for i in np.flatnonzero(rated):
        same = [j for j in np.flatnonzero(rated) if rows[j].system == rows[i].system]
        means[i] = labels[[j for j in same if rows[j].group != rows[i].group]].mean(axis=0)
    return means


def main() -> None:
    """Print the figures and keep them for the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of musdb18_aes and codec_mushra")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lite", help="folder of intermediate results")
    parser.add_argument("--corpus", type=Path, default=ROOT / "build" / "corpus" / "corpus", help="free audio")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "lite.json", help="where the figures go")
    options = parser.parse_args()
    rows = read_data(options.data.resolve(), options.corpus.resolve(), options.work)
    table, config = encode(rows, options.work / "cache")
    figures = evaluate(table, config, read_norms(options.data / "labels"))
    options.out.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    for item in figures["figures"]:
        interval = f"[{item['low']:.2f}, {item['high']:.2f}]"
        print(f"{item['figure']:<45} {item['axis']}  {item['srcc']:6.3f}  {interval}  n={item['n']}")


if __name__ == "__main__":
    main()
