"""Shards of segments: log-mel spectra for the student, and the outputs of its teachers.

    python -m recipes.student.teachers --models FOLDER [--work build/student] [--data DATA] [--segments 20000]

FOLDER holds the released weights (`TEACHERS` has their homes and sha256). Writes WORK/shards/train-NNNN.npz and
held-out-NNNN.npz of `PER_SHARD` segments each; an interrupted run resumes with the next shard.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch

from mmmos.encoders import yamnet
from mmmos.encoders.distillmos import DistillMOS
from mmmos.encoders.dnsmos import DNSMOS
from mmmos.encoders.fullband import FullBand
from mmmos.encoders.table import load_encoder
from mmmos.io.atomic import hash_file
from recipes.lite.corpus import seed
from recipes.lite.degradations import Wave
from recipes.student.segments import RATE, Segments, read_sources

PER_SHARD = 50
HELD_OUT_SHARDS = 8
TEACHERS = {
    "efficientat": (
        "mn04_as_mAP_432.pt",
        "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1/mn04_as_mAP_432.pt",
        "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c",
    ),
    "nisqa": (
        "nisqa.tar",
        "https://github.com/gabrielmittag/NISQA/raw/master/weights/nisqa.tar",
        "7ec4cf937514dd3f8860b21e66fabd8ca87a168572675ef8d979c4c4ad2e805c",
    ),
}
"""Encoder -> file, home and sha256. The others, YAMNet, DistillMOS and DNSMOS, are in the package."""


class Teachers:
    """Published networks and what they say of a segment."""

    def __init__(self, models: Path) -> None:
        for file, home, sha256 in TEACHERS.values():
            if not (models / file).is_file():
                raise SystemExit(f"{models / file} is missing: download {home}")
            if hash_file(models / file) != sha256:
                raise SystemExit(f"{models / file} is not the file of {home}: its sha256 is not {sha256[:16]}...")
        paths = {name: models / file for name, (file, _, _) in TEACHERS.items()}
        self.efficientat: Any = load_encoder("efficientat", paths["efficientat"], trust_checkpoint=True)
        self.nisqa: Any = load_encoder("nisqa", paths["nisqa"], trust_checkpoint=True)
        self.yamnet = yamnet.YAMNet()
        self.distillmos, self.dnsmos = DistillMOS(), DNSMOS()
        self.front = FullBand()

    @torch.no_grad()
    def targets(self, x: Wave, speech: float, number: int) -> dict[str, np.ndarray]:
        """Spectrum and targets of a segment [S] at RATE; scores are NaN where a teacher did not run.

        The slower ones score all segments with speech, and a part of the others.
        """
        at = {rate: self._at(x, rate) for rate in (16_000, 32_000, 48_000)}
        maps = self.efficientat.maps(at[32_000])
        scores = np.full(7, np.nan, np.float32)
        if speech > 0.3 or seed("nisqa", number) % 3 == 0:
            scores[:5] = self.nisqa.score(at[48_000])[0]
        if speech > 0.3 or seed("distillmos", number) % 16 == 0:
            scores[5] = self.distillmos.score(at[16_000])[0]
        if speech > 0.3 or number % 9 == 0:
            scores[6] = self.dnsmos.frames(at[16_000])[0, 0, 0]
        return {
            "log_mel": self.front.log_mel(at[48_000])[0].numpy().astype(np.float16),
            "frames": maps.mean(2)[0].T.numpy().astype(np.float16),
            "yamnet": self._yamnet(at[16_000]).numpy().astype(np.float16),
            "scores": scores,
        }

    def _yamnet(self, waves: torch.Tensor) -> torch.Tensor:
        """YAMNet's mean embedding, from patches that do not overlap: [1, S] -> [1024]."""
        patches = self.yamnet.log_mel(waves)[0].unfold(0, yamnet.PATCH, yamnet.PATCH).transpose(1, 2)
        mean: torch.Tensor = self.yamnet.embed(patches).mean(0)
        return mean

    @staticmethod
    def _at(x: Wave, rate: int) -> torch.Tensor:
        y = x if rate == RATE else soxr.resample(x, RATE, rate, "HQ")
        return torch.from_numpy(y.astype(np.float32))[None]


def make_shard(path: Path, segments: Segments, teachers: Teachers, first: int) -> None:
    """Write PER_SHARD segments."""
    columns: dict[str, list[Any]] = {}
    for number in range(first, first + PER_SHARD):
        x, fractions, source = segments.make(number)
        row = teachers.targets(x, float(fractions[0]), number)
        row |= {"domain": fractions.astype(np.float32), "group": np.array(source.group)}
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    partial = path.with_suffix(".partial.npz")
    arrays: dict[str, Any] = {name: np.stack(values) for name, values in columns.items()}
    np.savez(partial, **arrays)
    partial.rename(path)


def main() -> None:
    """Make the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="folder of the teachers' released weights")
    parser.add_argument("--work", type=Path, default=Path("build/student"), help="folder with clips/; output folder")
    parser.add_argument("--data", type=Path, help="folder of musdb18_aes and codec_mushra, to add their recordings")
    parser.add_argument("--segments", type=int, default=20_000, help="number of segments for training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shards = options.work / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    teachers = Teachers(options.models)
    count = options.segments // PER_SHARD
    jobs = [("train", i) for i in range(count)]
    for i in range(HELD_OUT_SHARDS):
        jobs.insert(3 * i + 2, ("held-out", i))
    for kind, i in jobs:
        path = shards / f"{kind}-{i:04}.npz"
        if path.is_file():
            continue
        sources = [s for s in read_sources(options.work / "clips", options.data) if s.held_out == (kind != "train")]
        start = time.monotonic()
        make_shard(path, Segments(sources), teachers, (i + count * (kind != "train")) * PER_SHARD)
        print(f"{path.name}: {len(sources)} clips, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
