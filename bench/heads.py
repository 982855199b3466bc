"""Training time of the paper's sixteen configurations on cached features, to bench/results/heads.json.

    python -m bench.heads [--epochs 1] [--clips 3400] [--workers 2] [--work FOLDER]

Features are generated, at full width (768 + 1024 + 3840 values) and length (62 frames of 10 s, float16, in a file that
all processes map). Time does not depend on what they are. Each configuration is trained as `mmmos experiment` does, in
processes of one thread, for a few epochs; the time of the ten that the paper allows is computed from that.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import torch

from bench.score import ROOT, machine
from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import EncoderSpec
from mmmos.experiments.config import find_experiment, read_experiment
from mmmos.experiments.single_run import Run, train_run
from mmmos.io.atomic import replacing
from mmmos.model.quality import ModelConfig
from mmmos.processes import run_in_processes
from mmmos.scores import AXES
from mmmos.training.dataset import Sequences, TrainingSet

WIDTHS = {"wavlm": 768, "muq": 1024, "m2d": 3840}
FRAMES = 62
DEV_FRACTION = 434 / 3367  # the paper's


def generated(clips: int, width: int, frames: int, file: Path, seed: int) -> TrainingSet:
    """Noise with labels of its own."""
    rng = np.random.default_rng(seed)
    kind = np.float16 if frames > 1 else np.float32
    if not file.is_file():
        with replacing(file) as partial, open(partial, "wb") as out:
            for _ in range(clips):
                out.write((rng.standard_normal((frames, width), dtype=np.float32) * width**-0.5).astype(kind).tobytes())
    labels = rng.uniform(0, 10, (clips, len(AXES)))
    rows = tuple(LabelledClip(Clip(f"{seed}-{i}"), tuple(map(float, labels[i]))) for i in range(clips))
    inputs = Sequences.mapped(file, tuple(range(0, clips * frames + 1, frames)), width, 6.25)
    return TrainingSet(rows, inputs, tuple(((i, 1.0),) for i in range(clips)), torch.from_numpy(labels).float())


def runs(tables: dict[str, TrainingSet], clips: int, epochs: int, precision: str, work: Path) -> list[Run]:
    """The sixteen rows of Table III, each with the tables that it is trained on."""
    found = []
    for row in read_experiment(find_experiment("paper")).grid:
        if row.table != "III":
            continue
        settings = row.settings.replace({"epochs": epochs, "early_stop_patience": None, "precision": precision})
        frames = FRAMES if settings.aggregator == "blstm_t" else 1
        width = sum(WIDTHS[name] for name in row.encoders)
        keys: list[str] = []
        for part, fraction in (("train", 1.0), ("dev", DEV_FRACTION)):
            suffix = "float16" if frames > 1 else "float32"
            keys.append(f"{part}-{width}-{frames}.{suffix}")
            if keys[-1] not in tables:
                tables[keys[-1]] = generated(round(clips * fraction), width, frames, work / keys[-1], len(tables))
        specs = tuple(EncoderSpec(name, (WIDTHS[name],), "0" * 64) for name in row.encoders)
        config = ModelConfig(specs, settings.aggregator, settings.fusion(row.encoders), settings.heads())
        folder = work / f"{precision}-{row.row}"
        shutil.rmtree(folder, ignore_errors=True)
        train, dev = keys
        found.append(Run(folder, config, settings, 42, train, dev, {}, (), frames * width))
    return sorted(found, key=lambda run: -run.cost)


def main() -> None:
    """Measure both precisions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--clips", type=int, default=3400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench_heads")
    options = parser.parse_args()
    tables: dict[str, TrainingSet] = {}
    rows = []
    for precision in ("float32", "bfloat16"):
        jobs = runs(tables, options.clips, options.epochs, precision, options.work)
        start = time.perf_counter()
        for run, error in run_in_processes(train_run, jobs, tables, options.workers):
            if error is not None:
                raise SystemExit(f"{run.folder.name}: {error}")
        hours = (time.perf_counter() - start) / options.epochs * 10 / 3600
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        rows.append({"precision": precision, "hours": round(hours, 2), "process_peak_gib": round(peak, 1)})
        print(rows[-1])
    words = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    size = {"clips": options.clips, "epochs": options.epochs, "workers": options.workers}
    data = {"commit": commit, "machine": machine(), **size}
    (ROOT / "bench" / "results" / "heads.json").write_text(json.dumps({**data, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
