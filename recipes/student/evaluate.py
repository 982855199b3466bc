"""The student on human ratings that its training did not read, next to its teachers.

    python -m recipes.student.evaluate DATA --models FOLDER [--work build/student] [--student FILE]

Ridge regression on the mean and deviation of each encoder's frames, alpha by grouped cross-validation inside each
training fold. Songs: MUSDB18 clips (full band), ten folds by song, with one degraded version of each clip for the
severity. Codecs: MUSHRA scores, codec families left out, next to what the level of the high band alone gives. Writes
WORK/evaluation.json.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.stats import rankdata

from mmmos.encoders.base import Encoder
from mmmos.encoders.table import load_encoder
from mmmos.scores import AXES
from recipes.lite.chains import SCENES, degrade
from recipes.lite.corpus import seed
from recipes.student.network import Student
from recipes.student.segments import HELD_OUT
from recipes.student.teachers import TEACHERS

Array = NDArray[np.float64]
ALPHAS = 10.0 ** np.arange(0, 6)
FOLDS = 10
THRESHOLD, DROPS = 0.3, {"PQ": 5.0, "PC": 0.0, "CE": 3.0, "CU": 5.0}  # of the pilot: clean head minus severity
HIGH, LOW = slice(68, 84), slice(20, 60)  # of its spectrum: 7.5-13 kHz, 0.8-5.4 kHz
DRAWS = 1000  # of the bootstrap
OWN_SCORE = {"nisqa": 64, "student": 96 + 768 + 384}  # column of the predicted MOS


def pooled(encoder: Encoder, samples: Array, rate: int) -> Array:
    """Mean and deviation of the frames of a clip at -24 dBFS RMS."""
    level = 10 ** (-24 / 20) / max(float(np.sqrt(np.mean(samples**2))), 1e-6)
    wave = soxr.resample(samples * level, rate, encoder.sample_rate, "HQ").astype(np.float32)
    frames = encoder.encode(torch.from_numpy(wave)[None]).frames[0]
    return torch.cat([frames.mean(0), frames.std(0, correction=0)]).double().numpy()


class Ridge:
    """Linear regression on standardized columns, for every alpha from one decomposition of the rows' products."""

    def __init__(self, x: Array, y: Array) -> None:
        self.mean, self.std, self.offset = x.mean(0), x.std(0) + 1e-6, y.mean(0)
        self.z = (x - self.mean) / self.std
        self.values, self.vectors = np.linalg.eigh(self.z @ self.z.T)
        self.projected = self.vectors.T @ (y - self.offset)

    def predict(self, x: Array, alpha: float) -> Array:
        """[N, D] -> [N, targets]."""
        dual = self.vectors @ (self.projected / (self.values.clip(min=0) + alpha)[:, None])
        z = np.clip((x - self.mean) / self.std, -6, 6)
        return (z @ self.z.T) @ dual + self.offset


def folds_of(groups: list[str], count: int) -> NDArray[np.int64]:
    """The fold of each row; a group's rows are in one fold."""
    order = {group: i % count for i, group in enumerate(sorted(set(groups), key=lambda group: seed("fold", group)))}
    return np.array([order[group] for group in groups])


def fit(x: Array, y: Array, groups: list[str]) -> tuple[Ridge, float]:
    """A ridge regression with the alpha that predicts left-out groups best."""
    folds, errors = folds_of(groups, 5), np.zeros(len(ALPHAS))
    for fold in np.unique(folds):
        inner = Ridge(x[folds != fold], y[folds != fold])
        for i, alpha in enumerate(ALPHAS):
            errors[i] += np.sum((inner.predict(x[folds == fold], alpha) - y[folds == fold]) ** 2 / y.var(0))
    return Ridge(x, y), float(ALPHAS[errors.argmin()])


def crossed(x: Array, y: Array, groups: list[str], folds: NDArray[np.int64]) -> Array:
    """Predictions of each fold by a regression on the others."""
    out = np.zeros_like(y)
    for fold in np.unique(folds):
        train = np.flatnonzero(folds != fold)
        ridge, alpha = fit(x[train], y[train], [groups[i] for i in train])
        out[folds == fold] = ridge.predict(x[folds == fold], alpha)
    return out


def srcc(a: Array, b: Array) -> float:
    """Spearman's rank correlation."""
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def agreement(predicted: Array, labels: Array, groups: list[str]) -> dict[str, Any]:
    """SRCC with its interval, and mean absolute error."""
    error = float(np.abs(predicted - labels).mean())
    return {
        "srcc": round(srcc(predicted, labels), 3),
        "interval": interval(predicted, labels, groups),
        "mae": round(error, 3),
    }


def interval(a: Array, b: Array, groups: list[str]) -> list[float]:
    """2.5 and 97.5 percentiles of the SRCC over resampled groups."""
    rng, members = np.random.default_rng(0), {g: np.flatnonzero([g == h for h in groups]) for g in set(groups)}
    names, draws = sorted(members), []
    for _ in range(DRAWS):
        rows = np.concatenate([members[names[i]] for i in rng.integers(len(names), size=len(names))])
        draws.append(srcc(a[rows], b[rows]))
    return [round(float(value), 3) for value in np.percentile(draws, [2.5, 97.5])]


def songs(data: Path, encoders: dict[str, Encoder], work: Path) -> dict[str, Any]:
    """SRCC, interval and MAE of each axis, with and without the severity, and the SRCC of the severity."""
    with open(data / "musdb18_aes" / "manifest.csv", newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.DictReader(file) if row["label_suspect"] != "1"]
    groups = [row["song"] for row in rows]
    labels = np.array([[float(row[axis]) for axis in AXES] for row in rows])
    severity = np.array([np.random.default_rng(seed("severity", row["path"])).random() for row in rows])
    features = cached(work / "songs.npz", encoders, song_waves(data, rows, severity))
    folds, result = folds_of(groups, FOLDS), dict[str, Any]()
    drops = np.array([DROPS[axis] for axis in AXES])
    for name, both in features.items():
        clean = both[::2]
        predicted = crossed(clean, labels, groups, folds)
        s = np.stack([0 * severity, severity], axis=1).reshape(-1, 1)
        estimate = crossed(both, s, [song for song in groups for _ in range(2)], folds.repeat(2))[:, 0]
        lowered = predicted - np.maximum(0, estimate[::2] - THRESHOLD)[:, None] / (1 - THRESHOLD) * drops
        result[name] = {"severity": round(srcc(estimate, s[:, 0]), 3)}
        for kind, values in (("clean", predicted), ("minus severity", lowered)):
            result[name][kind] = {axis: agreement(values[:, i], labels[:, i], groups) for i, axis in enumerate(AXES)}
        unseen = np.array([seed("held out", f"musdb18_aes {song}") % HELD_OUT == 0 for song in groups])
        result[name]["songs the student never saw"] = {
            axis: round(srcc(predicted[unseen, i], labels[unseen, i]), 3) for i, axis in enumerate(AXES)
        }
    return result


def song_waves(data: Path, rows: list[dict[str, str]], severity: Array) -> Iterator[tuple[Array, int]]:
    """The clips, each followed by its degraded version."""
    for row, s in zip(rows, severity, strict=True):
        path = data / "musdb18_aes" / "audio_44k" / Path(row["path"]).name
        samples, rate = soundfile.read(path, always_2d=True)
        x, rng = samples.mean(1), np.random.default_rng(seed("scene", row["path"]))
        yield x, rate
        yield degrade(x, rate, float(s), str(rng.choice(list(SCENES))), rng), rate


def codecs(data: Path, encoders: dict[str, Encoder], work: Path) -> dict[str, Any]:
    """SRCC with MUSHRA scores, codec families left out."""
    with open(data / "codec_mushra" / "manifest.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))

    def waves() -> Iterator[tuple[Array, int]]:
        for row in rows:
            samples, rate = soundfile.read(data / "codec_mushra" / row["path"], always_2d=True)
            yield samples.mean(1), rate

    groups, families = [row["signal"] for row in rows], [row["system"].split()[0] for row in rows]
    y = np.array([[float(row["mushra"])] for row in rows])
    folds, result = folds_of(families, len(set(families))), dict[str, Any]()
    for name, x in cached(work / "codecs.npz", encoders, waves()).items():
        predicted = crossed(x, y, groups, folds)[:, 0]
        result[name] = agreement(predicted, y[:, 0], groups)
        if name == "fullband":
            result["level of the high band"] = round(srcc(x[:, HIGH].mean(1) - x[:, LOW].mean(1), y[:, 0]), 3)
        if name in OWN_SCORE:
            result[f"{name}'s own MOS"] = round(srcc(x[:, OWN_SCORE[name]], y[:, 0]), 3)
    return result


def cached(path: Path, encoders: dict[str, Encoder], waves: Iterable[tuple[Array, int]]) -> dict[str, Array]:
    """Features of each encoder, kept in a file by its fingerprint, and next to YAMNet's."""
    held = dict(np.load(path)) if path.is_file() else {}
    keys = {name: encoder.fingerprint() for name, encoder in encoders.items()}
    missing = {key: encoders[name] for name, key in keys.items() if key not in held}
    if missing:
        found: dict[str, list[Array]] = {key: [] for key in missing}
        for wave, rate in waves:
            for key, encoder in missing.items():
                found[key].append(pooled(encoder, wave, rate))
        held |= {key: np.array(values) for key, values in found.items()}
        np.savez(path, **held)
    features = {name: held[key] for name, key in keys.items()}
    pairs = {f"yamnet+{name}": np.hstack([features["yamnet"], features[name]]) for name in keys if name != "yamnet"}
    return features | pairs


def main() -> None:
    """Evaluate the teachers and the students."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of musdb18_aes and codec_mushra")
    parser.add_argument("--models", type=Path, required=True, help="folder of the teachers' released weights")
    parser.add_argument("--work", type=Path, default=Path("build/student"), help="output folder")
    parser.add_argument("--student", type=Path, help="weights that recipes.student.train wrote")
    options = parser.parse_args()
    torch.set_num_threads(1)
    encoders: dict[str, Encoder] = {name: load_encoder(name) for name in ("yamnet", "fullband")}
    if options.student:
        encoders["student"] = Student({key: value.float() for key, value in load_file(options.student).items()})
    for name, (file, _, _) in TEACHERS.items():
        encoders[name] = load_encoder(name, options.models / file, trust_checkpoint=True)
    result = {
        "songs": songs(options.data, encoders, options.work),
        "codecs": codecs(options.data, encoders, options.work),
    }
    (options.work / "evaluation.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
