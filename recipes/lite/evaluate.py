"""Accuracy of `lite` on clips that it was not trained on: the figures of docs/MODEL_CARD.md.

    python -m recipes.lite.evaluate --data DIR [--work build/lite] [--out recipes/lite/results.json]

All parameters are fitted again inside each fold, and music's decays are chosen there. The encoders and the weights of
the sources were chosen on these folds, so the figures are slightly optimistic.

    unseen     folds by song, by speech signal and, for free recordings, by package
    family     each codec family left out in turn, or each family of degradations
    transfer   one set left out completely, as an unknown listening test is
    subsets    the same for every subset of the encoders
    order      constructed versions of recordings: degradations, several sources, vocals separated from mixtures

Each is compared with DistillMOS's and DNSMOS's own scores, which were not trained on these ratings, and with the mean
label of the stem, which no model knows.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmmos.data.manifest import LabelledClip, label_array
from mmmos.metrics import bootstrap, srcc, system_means
from mmmos.model.quality import ModelConfig, build_model
from mmmos.scores import AXES
from mmmos.training.dataset import TrainingSet
from mmmos.training.loop import predict
from recipes.lite.build import ENCODERS, ROOT, encode, read_data, train_members
from recipes.lite.heads import (
    CLEAN,
    CODEC,
    DOMAINS,
    FREE,
    MUSIC,
    QUALITY,
    REMIXED,
    Norms,
    count_pairs,
    degradation_of,
    degradation_pairs,
    fit_direction,
    fit_experts,
    fit_inputs,
    opinions,
    read_norms,
)

FOLDS = 5
CODEC_FAMILIES = {"Proposed": "proposed", "Lyra": "Lyra", "AudioDec": "AudioDec", "Reference": "original"}
NAMES = {"distillmos": "DistillMOS", "dnsmos": "DNSMOS"}  # of predictors that are encoders here
DEGRADATION_FAMILIES = {
    "something added": ("white", "pink", "babble", "hum", "bleed"),
    "band": ("low pass",),
    "codecs": ("mp3", "opus", "aac", "vorbis"),
    "amplitude": ("clipping", "quantised", "mnru"),
    "time": ("reverb", "loss", "wow"),
    "spectrum": ("holes", "phase", "denoised", "separated", "vocoded"),
}

Array = NDArray[Any]
Fold = Callable[[LabelledClip], str | None]
PC, PQ = AXES.index("PC"), AXES.index("PQ")


def cross_predict(
    table: TrainingSet, config: ModelConfig, norms: dict[str, Norms], fold_of: Fold
) -> tuple[Array, Array]:
    """Predictions [N, A] and domain probabilities [N, E] by models that were not trained on a row's fold."""
    predictions, probabilities = np.zeros((len(table.rows), len(AXES))), np.zeros((len(table.rows), len(DOMAINS)))
    for held, seen in _folds(table, fold_of):
        members = train_members(table.take(seen), config, norms)
        unseen = table.take([table.rows[i] for i in held])
        scores = [member.scale.to_labels(predict(member.model, unseen).numpy()) for member in members]
        predictions[held] = np.mean(scores, axis=0)
        reduced = unseen.inputs.batch([crops[0][0] for crops in unseen.crops])
        with torch.no_grad():
            by_member = [
                member.model.heads.domain_probabilities(member.model.aggregator.aggregate(reduced))
                for member in members
            ]
        probabilities[held] = np.mean([member.numpy() for member in by_member], axis=0)
    return predictions, probabilities


def cross_score(
    table: TrainingSet,
    config: ModelConfig,
    norms: dict[str, Norms],
    fold_of: Fold,
    encoders: Sequence[str] = ENCODERS,
    without: Callable[[LabelledClip], bool] = lambda row: False,
    extra: Array | None = None,
) -> Array:
    """Scores [N, A] of one model that knows the domain, NaN where there is no fold.

    Training uses only `encoders` and leaves out the rows that `without` selects; `extra` [N, E] are further inputs.
    """
    scores = np.full((len(table.rows), len(AXES)), np.nan)
    used = columns_of(config, encoders)
    for held, seen in _folds(table, fold_of):
        seen = [row for row in seen if not without(row)]
        x = fit_inputs(build_model(config), table.take(seen), table) * used
        x = x if extra is None else np.concatenate([x, extra], axis=1)
        index = {id(row): i for i, row in enumerate(table.rows)}
        experts = fit_experts(x[[index[id(row)] for row in seen]], seen, norms, config)
        for domain in DOMAINS:
            here = [i for i in held if table.rows[i].domain == domain]
            scores[here] = experts.score(x[here], domain)
    return scores


def _folds(table: TrainingSet, fold_of: Fold) -> list[tuple[list[int], list[LabelledClip]]]:
    """For each fold, the numbers of the held-out rows and the rows to train on."""
    folds = [fold_of(row) for row in table.rows]
    found = []
    for fold in sorted({name for name in folds if name is not None}):
        held = [i for i, name in enumerate(folds) if name == fold]
        found.append((held, [row for row, name in zip(table.rows, folds, strict=True) if name != fold]))
    return found


def columns_of(config: ModelConfig, encoders: Sequence[str]) -> Array:
    """1 for the columns of the fused vector that come from these encoders, 0 for the others: [D]."""
    parts = [np.full(2 * sum(spec.block_dims), float(spec.name in encoders)) for spec in config.encoders]
    return np.concatenate(parts)


def numbered(groups: Sequence[str], seed: int = 0) -> dict[str, str]:
    """A fold for each group, groups shuffled once."""
    order = np.random.default_rng(seed).permutation(len(groups))
    return {groups[at]: f"fold {i % FOLDS}" for i, at in enumerate(order)}


def codec_family(row: LabelledClip) -> str | None:
    """The codec of a clip's system."""
    if row.set != CODEC:
        return None
    return next(name for start, name in CODEC_FAMILIES.items() if row.system.startswith(start))


class Evaluation:
    """All clips, and the figures of models on clips they were not trained on."""

    def __init__(
        self, table: TrainingSet, config: ModelConfig, norms: dict[str, Norms], limits: dict[str, str]
    ) -> None:
        self.table, self.config, self.norms = table, config, norms
        self.rows = list(table.rows)
        self.labels = label_array(self.rows)
        self.groups = np.array([row.group for row in self.rows])
        self.systems = np.array([row.system for row in self.rows])
        self.sets = np.array([row.set for row in self.rows])
        self.domains = np.array([row.domain for row in self.rows])
        self.limited = np.array([bool(limits.get(Path(str(row.clip.path)).name)) for row in self.rows])
        self.music, self.codec = self.sets == MUSIC, self.sets == CODEC
        self.others = {NAMES[name]: table.inputs.frames[:, i].double().numpy() for name, i in opinions(config).items()}
        # A package's recordings resemble each other, so they are held out as a whole; so are a song and its remixes.
        units = {row.clip: row.source or row.group for row in self.rows}
        folds = numbered(sorted(set(units.values())))
        self.fold_of: Fold = lambda row: folds[units[row.clip]]

    def cross_score(self, fold_of: Fold, **options: Any) -> Array:
        """See `cross_score`."""
        return cross_score(self.table, self.config, self.norms, fold_of, **options)

    def agreement(self, name: str, prediction: Array, axis: int, part: NDArray[np.bool_]) -> dict[str, Any]:
        """SRCC with the raters, with its 95 % interval over groups."""
        known = part & np.isfinite(prediction) & np.isfinite(self.labels[:, axis])
        p, t, g = prediction[known], self.labels[known, axis], self.groups[known]
        return {"figure": name, "axis": AXES[axis], **_srcc(p, t, g)}

    def figures(self, unseen: Array) -> list[dict[str, Any]]:
        """Agreement with people, of predictions for unseen clips."""
        music, codec = self.music, self.codec
        stems = self.stem_means()
        found = [self.agreement("music, unseen songs", unseen[:, i], i, music) for i in range(len(AXES))]
        for i in range(len(AXES)):
            found.append(self.agreement("music, mean label of the stem (not a model)", stems[:, i], i, music))
        found += [self.agreement(f"music, {name} alone", scores, PQ, music) for name, scores in self.others.items()]
        found.append(self.agreement("music, trained without its ratings", self.without_music(), PQ, music))
        for stem in sorted(set(self.systems[music])):
            part = music & (self.systems == stem)
            found += [
                self.agreement(f"music, unseen songs, {stem} only", unseen[:, i], i, part) for i in range(len(AXES))
            ]
        by_family = self.cross_score(codec_family)[:, PQ]
        transfer = self.cross_score(lambda row: CODEC if row.set == CODEC else None)[:, PQ]
        found += [
            self.agreement("speech codecs, unseen signals", unseen[:, PQ], PQ, codec),
            self.agreement("speech codecs, unseen codec families", by_family, PQ, codec),
            self.agreement("speech codecs, trained without their ratings", transfer, PQ, codec),
            *(
                self.agreement(f"speech codecs, {name} alone", scores, PQ, codec)
                for name, scores in self.others.items()
            ),
        ]
        names, target = np.unique(self.systems[codec]), system_means(self.labels[codec, PQ], self.systems[codec])
        alone = {f"{name} alone": scores for name, scores in self.others.items()}
        for name, scores in {"unseen signals": unseen[:, PQ], **alone}.items():
            means = system_means(scores[codec], self.systems[codec])
            found.append({"figure": f"speech codecs, {name}, per system", "axis": "PQ", **_srcc(means, target, names)})
        return found

    def without_music(self) -> Array:
        """PQ [N] from codec ratings and the order of degradations only, songs and their remixes left out."""
        index = [i for i, row in enumerate(self.rows) if row.set not in (MUSIC, REMIXED)]
        seen = [self.rows[i] for i in index]
        x = fit_inputs(build_model(self.config), self.table.take(seen), self.table)
        return x @ fit_direction(x[index], seen, PQ, replace(QUALITY["sound"], music=0.0), self.config)

    def stem_means(self) -> Array:
        """For each rated excerpt of music the mean label of its stem over the other songs: [N, A]."""
        means = np.full_like(self.labels, np.nan)
        for i in np.flatnonzero(self.music):
            others = self.music & (self.systems == self.systems[i]) & (self.groups != self.groups[i])
            means[i] = self.labels[others].mean(axis=0)
        return means

    def errors(self, unseen: Array) -> dict[str, Any]:
        """Mean absolute error on music, of predictions and of the constant that is best for the other songs."""
        mean = np.stack([self.labels[self.music & (self.groups != g)].mean(axis=0) for g in self.groups[self.music]])
        labels = self.labels[self.music]
        kinds = {"lite": unseen[self.music], "the mean of the other songs": mean}
        return {
            name: {axis: round(float(np.abs(prediction - labels)[:, i].mean()), 2) for i, axis in enumerate(AXES)}
            for name, prediction in kinds.items()
        }

    def order(self, scores: Array) -> dict[str, list[float]]:
        """How often the less degraded of two versions scores higher, and the number of pairs: by domain and kind."""
        hits: dict[str, list[bool]] = {}
        for better, worse in zip(*degradation_pairs(self.rows, self.sets == FREE), strict=True):
            domain, kind = self.domains[better], degradation_of(self.rows[worse])[0]
            keys = [domain, f"{domain}, {kind}", *[f"{domain}, band limited"] * bool(self.limited[worse])]
            for key in keys:
                hits.setdefault(key, []).append(bool(scores[better] > scores[worse]))
        return {key: [round(float(np.mean(hit)), 2), len(hit)] for key, hit in sorted(hits.items())}

    def counts(self, scores: Array) -> dict[str, list[float]]:
        """How often more simultaneous sources have the higher PC: by domain, and of stems of one song."""
        hits: dict[str, list[bool]] = {}
        for fewer, more in zip(*count_pairs(self.rows, np.isin(self.sets, (FREE, REMIXED))), strict=True):
            key = "stems of a song" if self.sets[more] == REMIXED else self.domains[more]
            hits.setdefault(key, []).append(bool(scores[more] > scores[fewer]))
        return {key: [round(float(np.mean(hit)), 2), len(hit)] for key, hit in sorted(hits.items())}

    def separated(self, scores: Array) -> dict[str, Any]:
        """SRCC of PQ with how cleanly vocals were separated from their mixture: mean over songs, 95 % over songs."""
        found = []
        for song in np.unique(self.groups[self.sets == REMIXED]):
            versions = {
                i: degradation_of(self.rows[i]) for i in np.flatnonzero((self.sets == REMIXED) & (self.groups == song))
            }
            for kind in ("bleed", "separated"):
                severity = {i: level for i, (name, level) in versions.items() if name in (kind, CLEAN)}
                if len(severity) > 1:
                    found.append(srcc(scores[list(severity)], -np.array(list(severity.values()))))
        drawn = np.random.default_rng(0).choice(found, (1000, len(found))).mean(axis=1)
        low, high = np.quantile(drawn, (0.025, 0.975))
        return {"srcc": round(float(np.mean(found)), 3), "low": round(float(low), 3), "high": round(float(high), 3)}

    def unseen_degradations(self) -> dict[str, dict[str, list[float]]]:
        """The order of degradations when training left out their family, by family and domain."""
        found = {}
        for family, kinds in DEGRADATION_FAMILIES.items():
            hidden = {row.clip for row in self.rows if row.set == FREE and degradation_of(row)[0] in kinds}
            scores = self.cross_score(self.fold_of, without=lambda row, hidden=hidden: row.clip in hidden)[:, PQ]
            hits: dict[str, list[bool]] = {}
            for better, worse in zip(*degradation_pairs(self.rows, self.sets == FREE), strict=True):
                if self.rows[worse].clip in hidden:
                    hits.setdefault(self.domains[worse], []).append(bool(scores[better] > scores[worse]))
            found[family] = {key: [round(float(np.mean(hit)), 2), len(hit)] for key, hit in sorted(hits.items())}
        return found

    def subsets(self) -> list[dict[str, Any]]:
        """The main figures for every subset of the encoders."""
        found = []
        for count in range(1, len(ENCODERS) + 1):
            for names in combinations(ENCODERS, count):
                unseen = self.cross_score(self.fold_of, encoders=names)
                family = self.cross_score(codec_family, encoders=names)[:, PQ]
                transfer = self.cross_score(lambda row: CODEC if row.set == CODEC else None, encoders=names)[:, PQ]
                figures: dict[str, Any] = {"encoders": names}
                found.append(figures)
                music = self.labels[self.music]
                figures |= {a: round(srcc(unseen[self.music, i], music[:, i]), 3) for i, a in enumerate(AXES)}
                rated = self.labels[self.codec, PQ]
                for name, scores in (("signals", unseen[:, PQ]), ("families", family), ("transfer", transfer)):
                    figures[name] = round(srcc(scores[self.codec], rated), 3)
                order = self.order(unseen[:, PQ])
                found[-1]["order"] = round(float(np.mean([order[domain][0] for domain in DOMAINS])), 3)
        return found

    def detected_domains(self, probabilities: Array) -> dict[str, dict[str, float]]:
        """For each kind of clip, the fraction that is classified as each domain."""
        detected = probabilities.argmax(axis=1)
        kinds = np.array([f"{row.domain}, {row.set if row.set != FREE else 'free recordings'}" for row in self.rows])
        solo = self.music & (self.systems == "vocals")
        kinds[self.sets == REMIXED] = "music, remixed stems"
        parts = {kind: kinds == kind for kind in sorted(set(kinds))} | {"music, solo vocals of musdb18_aes": solo}
        return {
            kind: {name: round(float((detected[part] == i).mean()), 2) for i, name in enumerate(DOMAINS)}
            for kind, part in parts.items()
        }


def _srcc(prediction: Array, target: Array, groups: Array) -> dict[str, Any]:
    low, high = bootstrap(srcc, prediction, target, groups)
    found = {"srcc": srcc(prediction, target), "low": low, "high": high}
    return {"n": len(target), **{name: round(value, 3) for name, value in found.items()}}


def main() -> None:
    """Print the figures and keep them for the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of musdb18_aes, codec_mushra and labels")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lite", help="folder of intermediate results")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "recipes" / "lite" / "results.json", help="where the figures go"
    )
    options = parser.parse_args()
    rows = read_data(options.data.resolve(), options.work)
    table, config = encode(rows, options.work / "cache")
    with open(options.work / "corpus" / "corpus" / "manifest.csv", newline="") as file:
        limits = {row["path"]: row["limit"] for row in csv.DictReader(file)}
    study = Evaluation(table, config, read_norms(options.data / "labels"), limits)
    unseen, probabilities = cross_predict(table, config, study.norms, study.fold_of)
    quality = {"lite": unseen[:, PQ], **study.others}
    figures: dict[str, Any] = {
        "figures": study.figures(unseen),
        "songs": len(set(study.groups[study.music])),
        "mean_absolute_error": study.errors(unseen),
        "order": {name: study.order(scores) for name, scores in quality.items()},
        "unseen_damage": study.unseen_degradations(),
        "counts": study.counts(unseen[:, PC]),
        "separated": {name: study.separated(scores) for name, scores in quality.items()},
        "domains": study.detected_domains(probabilities),
        "subsets": study.subsets(),
    }
    options.out.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")
    for item in figures["figures"]:
        interval = f"[{item['low']:.2f}, {item['high']:.2f}]"
        print(f"{item['figure']:<45} {item['axis']}  {item['srcc']:6.3f}  {interval}  n={item['n']}")


if __name__ == "__main__":
    main()
