"""The student next to its teachers, on speech that its training did not see.

    python -m recipes.student.evaluate DATA --models FOLDER [--work build/student]

Codecs: correlation with the MUSHRA scores of 128 clips of seven codecs, none of which was among the degradations, and
whose ratings nothing was fitted to. Orders: the less degraded of two versions of a recording should get the higher
score; recordings of packages that were held out, all degradations of `recipes.lite`, with those that training left out
on their own. Writes WORK/evaluation.json. What the teachers say is kept in WORK/codecs.npz and WORK/orders.npz.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from mmmos.encoders.student import DOMAINS, SCORES, Perceptron, over_time
from mmmos.io.lists import read_rows
from mmmos.metrics import srcc
from recipes.lite.corpus import seed
from recipes.lite.degradations import DEGRADATIONS, Job, Wave
from recipes.student.segments import COSTLY, RATE, SIZE, Segments, at_level, read, read_sources
from recipes.student.teachers import Teachers

Array = NDArray[np.float64]
SUMMED = ("mos", "distillmos", "dnsmos")  # one score of each teacher
RECORDINGS, KINDS, STEPS = 30, 5, (1, 2, 4)  # of the orders: recordings, degradations of each, and their steps
DRAWS = 500  # of the bootstrap
Versions = Iterator[tuple[Wave, tuple[str, ...]]]  # samples at RATE, and what is known of them


def codec_clips(data: Path) -> Versions:
    """The rated clips, each with its signal and its score."""
    for _, row in read_rows(data / "codec_mushra" / "manifest.csv"):
        samples, rate = soundfile.read(data / "codec_mushra" / row["path"], always_2d=True)
        yield soxr.resample(samples.mean(1), rate, RATE, "HQ"), (row["signal"], row["mushra"])


def ordered_clips(clips: Path, data: Path) -> Versions:
    """Recordings and their versions, each with the recording's number, the degradation and its step."""
    segments = Segments([source for source in read_sources(clips, data) if source.held_out])
    for number in range(RECORDINGS):
        rng = np.random.default_rng(seed("order", number))
        x = read(segments.draw("speech", rng).path, rng)
        yield x, (str(number), "clean", "0")
        for kind in rng.permutation(list(DEGRADATIONS))[:KINDS]:
            function, strengths = DEGRADATIONS[str(kind)]
            babble, backing = (read(segments.draw(domain, rng).path, rng) for domain in ("speech", "music"))
            for step in STEPS:
                job = Job(RATE, RATE // 2, np.random.default_rng(number), babble, backing)
                yield np.resize(function(x, job, strengths[step - 1]), SIZE), (str(number), str(kind), str(step))


def scored(kept: Path, versions: Callable[[], Versions], models: Path) -> dict[str, NDArray[Any]]:
    """Pooled frames [N, 2752], the teachers' scores [N, 7] and what is known [N, K] of clips; kept in a file."""
    if not kept.is_file():
        teachers, found = Teachers(models), dict[str, list[Any]]()
        for samples, known in versions():
            x = at_level(np.nan_to_num(samples))
            frames = teachers.front.frames_of(torch.from_numpy(teachers.log_mel(x))[None])
            found.setdefault("pooled", []).append(over_time(frames)[0].numpy())
            found.setdefault("scores", []).append(teachers.scores(x))
            found.setdefault("known", []).append(known)
        arrays: dict[str, Any] = {name: np.array(values) for name, values in found.items()}
        np.savez(kept.with_suffix(".partial.npz"), **arrays)
        kept.with_suffix(".partial.npz").rename(kept)
    return dict(np.load(kept))


def columns(scores: Array, who: str) -> dict[str, Array]:
    """Scores [N, 7] by name, and the sum of z-scores of `SUMMED`."""
    z = (scores - scores.mean(0)) / scores.std(0)
    total = z[:, [SCORES.index(name) for name in SUMMED]].sum(1)
    return {f"{who}, {name}": scores[:, i] for i, name in enumerate(SCORES)} | {f"{who}, sum": total}


def interval(statistic: Callable[[NDArray[np.int64]], float], groups: NDArray[Any]) -> list[float]:
    """2.5 and 97.5 percentiles of a statistic of rows, over resampled groups of rows."""
    rng, names = np.random.default_rng(0), np.unique(groups)
    members = [np.flatnonzero(groups == name) for name in names]
    draws = [
        statistic(np.concatenate([members[i] for i in rng.integers(len(names), size=len(names))])) for _ in range(DRAWS)
    ]
    return [round(float(value), 3) for value in np.percentile(draws, [2.5, 97.5])]


def on_codecs(scores: dict[str, Array], signals: NDArray[Any], mushra: Array) -> dict[str, Any]:
    """SRCC with the listeners and its interval over signals; of the two sums also the difference."""
    found = {}
    for name, values in scores.items():

        def agreement(rows: NDArray[np.int64], values: Array = values) -> float:
            return srcc(values[rows], mushra[rows])

        found[name] = {"srcc": round(srcc(values, mushra), 3), "interval": interval(agreement, signals)}
    both = scores["student, sum"], scores["teachers, sum"]

    def gain(rows: NDArray[np.int64]) -> float:
        return srcc(both[0][rows], mushra[rows]) - srcc(both[1][rows], mushra[rows])

    return found | {"student's sum minus the teachers'": interval(gain, signals)}


def on_orders(scores: dict[str, Array], known: NDArray[Any]) -> dict[str, Any]:
    """Fraction of pairs of one recording and degradation in the right order: of all, and of `COSTLY`."""
    recording, kind, step = known[:, 0].astype(int), known[:, 1], known[:, 2].astype(int)
    better, worse = np.nonzero(
        (recording[:, None] == recording)
        & ((kind[:, None] == kind) | (kind[:, None] == "clean"))
        & (step[:, None] < step)
    )
    new = np.isin(kind[worse], COSTLY)
    found: dict[str, Any] = {"pairs": len(better), "pairs of degradations that training left out": int(new.sum())}
    for name, values in scores.items():
        right = values[better] > values[worse]

        def fraction(rows: NDArray[np.int64], right: NDArray[np.bool_] = right) -> float:
            return float(right[rows].mean())

        found[name] = {
            "right": round(float(right.mean()), 3),
            "interval": interval(fraction, recording[worse]),
            "right, left out": round(float(right[new].mean()), 3),
        }
    return found


def main() -> None:
    """Evaluate the teachers and the student."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of codec_mushra")
    parser.add_argument("--models", type=Path, required=True, help="folder of the teachers' released weights")
    parser.add_argument("--work", type=Path, default=Path("build/student"), help="folder of clips/ and the student")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work, network = options.work, Perceptron()
    network.load_state_dict({key: value.float() for key, value in load_file(work / "student.safetensors").items()})
    network.eval().requires_grad_(False)

    def all_scores(table: dict[str, NDArray[Any]]) -> dict[str, Array]:
        own = network(torch.from_numpy(table["pooled"]).float())[:, : -len(DOMAINS)].double().numpy()
        return columns(table["scores"].astype(float), "teachers") | columns(own, "student")

    codecs = scored(work / "codecs.npz", lambda: codec_clips(options.data), options.models)
    orders = scored(work / "orders.npz", lambda: ordered_clips(work / "clips", options.data), options.models)
    result = {
        "codecs": on_codecs(all_scores(codecs), codecs["known"][:, 0], codecs["known"][:, 1].astype(float)),
        "orders": on_orders(all_scores(orders), orders["known"]),
    }
    (work / "evaluation.json").write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
