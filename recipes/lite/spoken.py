"""What PQ of speech learns from: codecs that listeners rated, and free recordings degraded in known order.

Each free recording gets `KINDS` kinds of degradation, each in two of four steps. Half of them are made at the
recording's own sample rate and half at 24 kHz, so that noise reaches higher than the voice: what is added above a
narrow band must not pass for bandwidth. `BAND_NOISE` is in any band up to 12 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from mmmos.encoders.base import Encoder
from mmmos.io.lists import read_rows
from recipes.lite import chains, versions
from recipes.lite.corpus import LIMITED_FRACTION, LIMITS, degrade, seed
from recipes.lite.degradations import DEGRADATIONS, RATE, Job, Wave, level
from recipes.lite.heads import CLEAN, CODEC, FREE

RECORDINGS = 100  # free ones
KINDS = 6  # of degradation, per recording
STEPS = ((1, 3), (2, 4), (1, 4))  # pairs of severities, of which each kind gets one
SEVERITIES = (0.2, 0.45, 0.7, 0.95)  # of a scene's four steps
BAND_NOISE = "band noise"
NOISE_DB = (25.0, 15.0, 5.0, -5.0)  # signal-to-noise ratio of the four steps of `BAND_NOISE`
BAND_HZ = (100.0, 12_000.0)
ALL_KINDS = (*DEGRADATIONS, *chains.SCENES, BAND_NOISE)


@dataclass(frozen=True)
class Spoken:
    """A recording of speech, or a degraded version of it."""

    path: str
    set: str
    group: str  # signal of a listening test, or file of a package
    source: str  # package
    kind: str = CLEAN  # of `ALL_KINDS`, or a listening test's system
    step: int = 0  # 1 to 4, 0 for a recording
    limit: str = ""  # as in corpus.py
    own_rate: bool = True  # whether it is degraded at the recording's sample rate instead of 24 kHz
    rating: float = math.nan  # of a listening test, 0-10


def read_speech(data: Path, work: Path) -> list[list[Spoken]]:
    """The rated codecs, each a list of one clip, and each free recording with its versions."""
    codecs = [
        Spoken(
            str(data / "codec_mushra" / row["path"]),
            *(CODEC, row["signal"], CODEC, row["system"]),
            rating=float(row["mushra"]) / 10,
        )
        for _, row in read_rows(data / "codec_mushra" / "manifest.csv")
    ]
    voices = [row for row in versions.free_rows(work) if row["domain"] == "speech"]
    free = sorted(voices, key=lambda row: seed("spoken", row["path"]))[:RECORDINGS]
    return [[row] for row in codecs] + [_versions(row, work / "corpus") for row in free]


def _versions(row: dict[str, Any], corpus: Path) -> list[Spoken]:
    rng = np.random.default_rng(seed("spoken", row["path"]))
    path = str(corpus / row["path"])
    found = [Spoken(path, FREE, row["source"], row["package"])]
    chances = [1 - LIMITED_FRACTION, *[LIMITED_FRACTION / len(LIMITS)] * len(LIMITS)]
    for kind in map(str, rng.permutation(ALL_KINDS)[:KINDS]):
        limit, own_rate = str(rng.choice(["", *LIMITS], p=chances)), bool(rng.random() < 0.5)
        for step in STEPS[rng.integers(len(STEPS))]:
            found.append(Spoken(path, FREE, row["source"], row["package"], kind, step, limit, own_rate))
    return found


def samples_of(spoken: Spoken, others: Others) -> tuple[Wave, int]:
    """Its samples [S] and their rate (Hz)."""
    x, rate = others.read(spoken.path)
    if spoken.set != FREE or not spoken.step:
        return x, rate
    if not spoken.own_rate or spoken.kind == BAND_NOISE:
        x, rate = soxr.resample(x, rate, RATE), RATE
    rng = np.random.default_rng(seed(spoken.path.rsplit("/", 1)[-1], spoken.kind))  # the same in all steps of a kind
    if spoken.kind in chains.SCENES:
        return chains.degrade(x, rate, SEVERITIES[spoken.step - 1], spoken.kind, rng), rate
    if spoken.kind == BAND_NOISE:
        return _band_noise(x, rate, NOISE_DB[spoken.step - 1], rng), rate
    babble = sum((others.like(x, rate, "speech", rng) for _ in range(4)), np.zeros_like(x))
    job = Job(rate, others.bandwidth(spoken.path), rng, babble, others.like(x, rate, "music", rng))
    return degrade(x, spoken.kind, spoken.step, spoken.limit, job), rate


def _band_noise(x: Wave, rate: int, snr: float, rng: np.random.Generator) -> Wave:
    """Noise in a band of a third of an octave to three octaves."""
    low = BAND_HZ[0] * (BAND_HZ[1] / BAND_HZ[0] / 1.3) ** rng.random()
    high = min(low * 2 ** rng.uniform(0.4, 3), BAND_HZ[1])
    return chains.add(x, chains.band(rng.standard_normal(len(x)), rate, low, high), snr)


class Others:
    """The free clips, from which backgrounds are drawn."""

    def __init__(self, work: Path) -> None:
        self._rows = {str(work / "corpus" / row["path"]): row for row in versions.free_rows(work)}
        self._of = {name: [p for p, row in self._rows.items() if row["domain"] == name] for name in ("speech", "music")}

    @cache  # noqa: B019  a process has one, of 600 short clips
    def read(self, path: str) -> tuple[Wave, int]:
        """Samples [S] and rate of a file."""
        x, rate = soundfile.read(path, always_2d=True)
        return level(x.mean(1)), rate

    def bandwidth(self, path: str) -> int:
        """Hz, of a free clip."""
        return int(self._rows[path]["bandwidth"])

    def like(self, x: Wave, rate: int, domain: str, rng: np.random.Generator) -> Wave:
        """A clip of that domain with the length, rate and RMS of `x`."""
        other, own = self.read(str(rng.choice(self._of[domain])))
        wave = np.resize(soxr.resample(other, own, rate), len(x))
        return np.asarray(wave * np.sqrt(np.mean(x**2) / max(float(np.mean(wave**2)), 1e-12)))


def table_of(
    recordings: Sequence[Sequence[Spoken]], work: Path, encoders: Sequence[Encoder]
) -> tuple[list[Spoken], versions.Array]:
    """All clips and their inputs [N, D], means and standard deviations of the encoders' frames one after the other."""
    others = Others(work)
    waves = [
        (f"spoken {Path(versions[0].path).name}", lambda group=versions: [samples_of(v, others) for v in group])
        for versions in recordings
    ]
    rows = [row for versions in recordings for row in versions]
    return rows, versions.encoded(waves, work, encoders)
