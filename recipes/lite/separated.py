"""Vocals of the rated songs as separation leaves them: with what it does not remove, and with what it removes too much.

Separation takes them out of the mixture by a mask with errors, in four steps; or the rest of the song remains in the
background, at four levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mmmos.encoders.base import Encoder
from mmmos.io.lists import read_rows
from mmmos.scores import AXES
from recipes.lite.chains import Wave
from recipes.lite.corpus import degrade, seed
from recipes.lite.degradations import RATE, Job
from recipes.lite.heads import CLEAN, REMIXED
from recipes.lite.versions import Array, Version, encoded

KINDS = ("bleed", "separated")
SEVERITIES = (0.0, 0.15, 0.35, 0.55, 0.75)  # of the vocals and of the four steps
AUDIBLE = 0.01  # fraction of the mixture's power in the vocals, for an excerpt to have vocals


def read_vocals(folder: Path) -> Iterator[tuple[str, dict[tuple[str, int], Wave]]]:
    """Songs of `musdb18_aes` with vocals: by kind and step, samples at RATE."""
    paths = {(row["song"], row["stem"]): folder / row["path"] for _, row in read_rows(folder / "manifest.csv")}
    for song in dict.fromkeys(song for song, _ in paths):
        if (song, "vocals") in paths and (song, "mixture") in paths:
            vocals, mixture = (_read(paths[song, stem]) for stem in ("vocals", "mixture"))
            if np.mean(vocals**2) > AUDIBLE * np.mean(mixture**2):
                yield song, separated(song, vocals, mixture)


def separated(song: str, vocals: Wave, mixture: Wave) -> dict[tuple[str, int], Wave]:
    """The vocals [S], and what separation leaves of them, by kind and step."""
    made, backing = {(CLEAN, 0): vocals}, mixture - vocals
    for kind, step in product(KINDS, range(1, len(SEVERITIES))):
        noise = np.random.default_rng(seed(song, kind))
        made[kind, step] = degrade(vocals, kind, step, "", Job(RATE, RATE // 2, noise, backing, backing))
    return made


def table_of(data: Path, work: Path, encoders: list[Encoder]) -> tuple[list[Version], Array]:
    """All versions and their inputs [N, D]."""
    made = list(read_vocals(data / "musdb18_aes"))
    unrated = (float("nan"),) * len(AXES)
    rows = [
        Version(f"vocals of {song}", "music", REMIXED, song, song, f"{kind} {step}", SEVERITIES[step], unrated)
        for song, versions in made
        for kind, step in versions
    ]
    waves = [(f"vocals of {song}", lambda own=own: [(x, RATE) for x in own.values()]) for song, own in made]
    return rows, encoded(waves, work, encoders)


def _read(path: Path) -> Wave:
    samples, rate = soundfile.read(path)
    return np.asarray(soxr.resample(samples, rate, RATE))
