"""Shards of segments: log-mel spectra for the student, and the outputs of its teachers.

    python -m recipes.student.teachers --models FOLDER [--work build/student] [--data DATA] [--segments 20000]

FOLDER holds the released weights of NISQA v2 (`NISQA` has their home and sha256); DistillMOS and DNSMOS are in the
package. Writes WORK/shards/train-NNNN.npz and held-out-NNNN.npz of `PER_SHARD` segments each; an interrupted run
resumes with the next shard. With `--part I N`, N processes work together.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch

from mmmos.encoders.device import has_fast_bfloat16
from mmmos.encoders.distillmos import DistillMOS
from mmmos.encoders.dnsmos import DNSMOS
from mmmos.encoders.fullband import FullBand
from mmmos.encoders.table import load_encoder
from mmmos.io.atomic import hash_file
from recipes.lite.corpus import seed
from recipes.lite.degradations import Wave
from recipes.student.segments import RATE, Segments, read_sources

PER_SHARD = 50
HELD_OUT_SHARDS = 12
LEAST_SPEECH = 0.3  # of a segment's power, for all teachers to score it
PART = {"nisqa": 0.15, "distillmos": 0.04, "dnsmos": 0.1}  # of the other segments that a teacher scores
NISQA = (
    "nisqa.tar",
    "https://github.com/gabrielmittag/NISQA/raw/master/weights/nisqa.tar",
    "7ec4cf937514dd3f8860b21e66fabd8ca87a168572675ef8d979c4c4ad2e805c",
)
"""File, home and sha256."""


class Teachers:
    """Published networks and what they say of a segment."""

    def __init__(self, models: Path) -> None:
        file, home, sha256 = NISQA
        if not (models / file).is_file():
            raise SystemExit(f"{models / file} is missing: download {home}")
        if hash_file(models / file) != sha256:
            raise SystemExit(f"{models / file} is not the file of {home}: its sha256 is not {sha256[:16]}...")
        self.nisqa: Any = load_encoder("nisqa", models / file, trust_checkpoint=True)
        self.distillmos, self.dnsmos = DistillMOS(), DNSMOS()
        self.front = FullBand()

    def targets(self, x: Wave, speech: float, number: int) -> dict[str, np.ndarray]:
        """Spectrum and scores of a segment [S] at RATE; scores are NaN where a teacher did not run.

        All score segments with speech, and each a part of the others.
        """
        ran = [speech > LEAST_SPEECH or seed(name, number) % 1000 < 1000 * PART[name] for name in PART]
        return {"log_mel": self.log_mel(x).astype(np.float16), "scores": self.scores(x, ran)}

    @torch.no_grad()
    def log_mel(self, x: Wave) -> np.ndarray:
        """FullBand's spectrum of a segment [S] at RATE, [L, 96]."""
        spectrum: np.ndarray = self.front.log_mel(_at(x, RATE))[0].numpy()
        return spectrum

    @torch.no_grad()
    def scores(self, x: Wave, ran: Sequence[bool] = (True, True, True)) -> np.ndarray:
        """NISQA's five, DistillMOS's and DNSMOS's of a segment [S] at RATE, [7]; NaN of those that do not run."""
        scores = np.full(7, np.nan, np.float32)
        if ran[0]:
            scores[:5] = self.nisqa.score(_at(x, RATE))[0]
        narrow = _at(x, self.distillmos.sample_rate)
        if ran[1]:
            with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):  # changes .01 points
                scores[5] = self.distillmos.score(narrow)[0].float()
        if ran[2]:
            scores[6] = self.dnsmos.frames(narrow)[0, 0, 0]
        return scores


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
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="every Nth shard, from I")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shards = options.work / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    teachers = Teachers(options.models)
    count = options.segments // PER_SHARD
    jobs = [("train", i) for i in range(count)]
    for i in range(HELD_OUT_SHARDS):
        jobs.insert(3 * i + 2, ("held-out", i))
    first, parts = options.part
    for kind, i in jobs[first::parts]:
        path = shards / f"{kind}-{i:04}.npz"
        if path.is_file():
            continue
        sources = [s for s in read_sources(options.work / "clips", options.data) if s.held_out == (kind != "train")]
        start = time.monotonic()
        make_shard(path, Segments(sources), teachers, (i + count * (kind != "train")) * PER_SHARD)
        print(f"{path.name}: {len(sources)} clips, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
