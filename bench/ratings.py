"""How many ratings a model of one's own needs, to bench/results/ratings.json: a learning curve on two rated sets.

    MMMOS_DATA=FOLDER python -m bench.ratings [--draws 5] [--work FOLDER]

FOLDER holds `codec_mushra` and `musdb18_aes`. Whole codec families, or whole songs in five folds, are held out; from
the other clips whole signals or songs are drawn until there are as many clips as wanted, the same for every method.
lite saw both sets in its own training, so figures of methods that begin with it are too good; those of `from scratch`
are not.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.score import ROOT, machine
from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.features.extractor import FeatureExtractor
from mmmos.features.source import EncoderSource
from mmmos.hub.options import LoadOptions
from mmmos.metrics import utterance_metrics
from mmmos.model.load import load_model
from mmmos.model.quality import build_aggregator
from mmmos.model.system import combine
from mmmos.scores import AXES, LabelRange
from mmmos.training.closed_form import clip_inputs
from mmmos.training.dataset import TrainingSet, build_training_set
from mmmos.training.loop import predict
from mmmos.training.maps import MAPS, Rated, choose_map
from mmmos.training.ridge import Sample, fit_linear, group_folds
from mmmos.training.settings import get_preset

Array = NDArray[np.float64]
SIZES = (30, 100, 300)
LITE_RANGE: LabelRange = (0.0, 10.0)


@dataclass(frozen=True)
class Rows:
    """A rated set on one axis, with lite's scores and inputs.

    Shape:
        - inputs: [N, D]; all others: [N]
    """

    inputs: Array
    scores: Array
    domains: NDArray[np.str_]
    labels: Array
    held: NDArray[np.str_]  # what is held out as a whole
    groups: NDArray[np.str_]  # what is drawn as a whole
    label_range: LabelRange

    def rated(self, rows: NDArray[np.intp]) -> Rated:
        """Some of the clips, for a calibration."""
        own = (self.scores[rows], self.labels[rows], self.domains[rows], self.groups[rows])
        return Rated(*own, LITE_RANGE, self.label_range)

    def sample(self, rows: NDArray[np.intp], prior: bool, warm: bool) -> Sample:
        """Some of the clips, for a ridge regression."""
        scores = self.scores[rows] if prior else None
        nothing = np.full(len(rows), "")
        return Sample(self.inputs[rows], self.labels[rows], scores, self.groups[rows], nothing, "", warm)


def _ridge(rows: Rows, train: NDArray[np.intp], test: NDArray[np.intp], *, prior: bool, warm: bool = False) -> Array:
    return fit_linear(rows.sample(train, prior, warm)).predict(rows.inputs[test], rows.scores[test] if prior else None)


def _calibrate(rows: Rows, train: NDArray[np.intp], test: NDArray[np.intp]) -> Array:
    maps = choose_map(rows.rated(train)).maps
    pairs = zip(rows.domains[test], rows.scores[test], strict=True)
    return np.array([float(maps.get(domain, maps[""])(np.array(score))) for domain, score in pairs])


METHODS: dict[str, Callable[[Rows, NDArray[np.intp], NDArray[np.intp]], Array]] = {
    "mean rating": lambda rows, train, test: np.full(len(test), rows.labels[train].mean()),
    "lite, rescaled": lambda rows, train, test: MAPS["rescale"](rows.rated(train))(rows.scores[test]),
    "calibrate": _calibrate,
    "train --from lite": lambda rows, train, test: _ridge(rows, train, test, prior=True, warm=True),
    "train": lambda rows, train, test: _ridge(rows, train, test, prior=True),
    "from scratch": lambda rows, train, test: _ridge(rows, train, test, prior=False),
}


def draws(rows: Rows, size: int, count: int) -> Iterator[list[tuple[NDArray[np.intp], NDArray[np.intp]]]]:
    """Training and test rows of every fold, for each draw; all other rows are drawn where there are too few."""
    every = np.arange(len(rows.labels))
    for seed in range(count):
        found = []
        for name in sorted(set(rows.held.tolist())):
            others = every[rows.held != name]
            order = np.random.default_rng(seed).permutation(sorted(set(rows.groups[others].tolist())))
            drawn: list[int] = []
            for group in order:
                if len(drawn) < size:
                    drawn += [i for i in others if rows.groups[i] == group]
            found.append((np.array(drawn), every[rows.held == name]))
        yield found


def curve(rows: Rows, count: int) -> Iterator[dict[str, float | int | str | None]]:
    """SRCC and MSE of each method and size, the mean over draws of the figures of all held-out clips."""
    for size in SIZES:
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in METHODS}
        clips: list[int] = []
        for folds in draws(rows, size, count):
            clips += [len(train) for train, _ in folds]
            for name, method in METHODS.items():
                values = np.zeros(len(rows.labels))
                for train, test in folds:
                    values[test] = np.clip(method(rows, train, test), *rows.label_range)
                found = utterance_metrics(values, rows.labels)
                figures[name].append((found["SRCC"], found["MSE"]))
        for name, values_of in figures.items():
            srcc, mse = np.mean(values_of, axis=0)
            shown = None if name == "mean rating" else round(float(srcc), 3)
            yield {"size": size, "clips": round(np.mean(clips)), "method": name, "SRCC": shown, "MSE": round(mse, 4)}
        if min(clips) < size:  # every other clip was drawn: larger sizes are the same
            return


def read_set(name: str, folder: Path) -> tuple[list[LabelledClip], dict[str, tuple[str, str]]]:
    """The rated clips, and by clip what is held out and what is drawn as a whole."""
    rows, groups = [], {}
    for row in csv.DictReader((folder / name / "manifest.csv").open(encoding="utf-8")):
        if name == "codec_mushra":
            labels: tuple[float, ...] = (np.nan, np.nan, np.nan, float(row["mushra"]))
            path, keys = folder / name / row["path"], (row["system"].split()[0], row["signal"])
        else:
            labels = tuple(float(row[axis]) for axis in AXES)
            path, keys = folder / name / "audio_44k" / Path(row["path"]).name, (row["song"], row["song"])
        if row.get("label_suspect") != "1":
            rows.append(LabelledClip(Clip(row["path"], str(path)), labels, group=keys[1]))
            groups[row["path"]] = keys
    return rows, groups


def lite_scores(table: TrainingSet) -> tuple[Array, Array, list[str]]:
    """Scores of lite [N, A] from pooled features, the inputs of its heads [N, D], and the domains."""
    lite = load_model("lite")
    own = [member.scale.to_labels(predict(member.model, table).double().numpy()) for member in lite.members]
    inputs = clip_inputs(lite.members[0].model, table)
    with torch.no_grad():
        gates = [member.model.heads.domain_probabilities(torch.from_numpy(inputs).float()) for member in lite.members]
    best = torch.stack(gates).mean(0).argmax(dim=1)
    return np.clip(combine(np.stack(own), lite.weights)[0], *LITE_RANGE), inputs, [lite.domains[i] for i in best]


def main() -> None:
    """Encode both sets, draw, fit and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("ratings-work"), help="folder of the feature cache")
    options = parser.parse_args()
    settings, lite = get_preset("small"), load_model("lite")
    source = EncoderSource(tuple(spec.name for spec in lite.encoders), LoadOptions("cpu"))
    extractor = FeatureExtractor.load(source, settings.encoder_options, options.work, "pooled")
    found = []
    for name in ("codec_mushra", "musdb18_aes"):
        clips, groups = read_set(name, Path(os.environ["MMMOS_DATA"]))
        plans = extractor.prepare([row.clip for row in clips], settings.eval_crop).plans
        table = build_training_set(clips, plans, extractor, build_aggregator(lite.members[0].model.config))
        scores, inputs, domains = lite_scores(table)
        held, group = (np.array([groups[row.clip.id][i] for row in table.rows]) for i in (0, 1))
        if name == "musdb18_aes":
            held = group_folds(group, np.full(len(group), True)).astype(str)
        label_range = (0.0, 100.0) if name == "codec_mushra" else (0.0, 10.0)
        for i, axis in enumerate(AXES):
            labels = table.labels[:, i].double().numpy()
            if np.isfinite(labels).all():
                rows = Rows(inputs, scores[:, i], np.array(domains), labels, held, group, label_range)
                found += [{"set": name, "axis": axis, **line} for line in curve(rows, options.draws)]
                print(name, axis, *found[-len(METHODS) :], sep="\n  ")
    target = Path(__file__).parent / "results" / "ratings.json"
    words = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    data = {"machine": machine(), "commit": commit, "draws": options.draws, "rows": found}
    target.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
