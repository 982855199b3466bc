"""What the heads learn from besides speech of known order: recordings, excerpts and degraded versions of them.

- The rated songs are the good end of music. Each gets degraded versions (`chains.py`) of known severity s, whose scores
  are those of the song minus `DROPS` × s. One linear function for both would lose the songs, so there are two: a head
  of the songs alone, minus a severity that is zero below a threshold.
- Vocals that were separated from their mixture (`separated.py`) are further degraded versions.
- Sound has no rated audio: its quality is the severity, which versions of music teach, too, on the scale of
  AES-natural's ratings of sound.
- The gate also learns excerpts of 0.8 to 2 s, degraded versions, sustained vowels (`vowels.py`), noises
  (`noises.py`), and notes and human sounds (`single.py`).

All heads are linear functions of means of the encoders' frames, at one level, so they depend neither on the gain nor on
how many frames a clip has.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from mmmos.encoders.base import Encoder
from mmmos.io.atomic import write_text
from mmmos.io.delimited import csv_text
from mmmos.io.lists import read_rows
from mmmos.model.fusion import pool
from mmmos.scores import AXES
from recipes.lite import noises, vowels
from recipes.lite.chains import GENERATED, RECORDED, Wave, degrade, noisy
from recipes.lite.corpus import cut_packages, seed
from recipes.lite.heads import FREE, MUSIC
from recipes.lite.single import HUMAN, NOTES, cut_single

Array = NDArray[np.float64]
Waves = Callable[[], list[tuple[Wave, int]]]

SECONDS = 10.0  # of a clip, at most
CLIPS = 200  # of free recordings per domain, about
VOWELS, NOISES = "vowels", "noises"  # sets
GATE_ONLY = (VOWELS, NOISES, NOTES, HUMAN)
"""Sets that only the gate learns from."""
VOCALS = "__vocals"  # end of the names of solo vocals
VERSIONS = {MUSIC: 5, FREE: 5, VOWELS: 3, NOISES: 0, NOTES: 1, HUMAN: 2}  # degraded versions of each clip
NOISY = 2  # further versions of free speech: noise must not make it sound effects
EXCERPT = (0.8, 2.0)  # s, of a short excerpt of each free clip and song, for the gate


@dataclass(frozen=True)
class Version:
    """A recording, or a degraded version or an excerpt of it."""

    clip: str  # path of the recording
    domain: str
    set: str
    group: str  # song, or file of the package
    source: str  # song or package
    scene: str  # of `SCENES`, "clean" or "excerpt"
    severity: float
    labels: tuple[float, ...]  # of the recording, in the order of AXES; NaN without ratings


def read_recordings(data: Path, work: Path) -> list[Version]:
    """The rated songs at full bandwidth, clips of free packages, and what only the gate learns from."""
    songs = [row for _, row in read_rows(data / "musdb18_aes" / "manifest.csv") if row["label_suspect"] == "0"]
    folder = data / "musdb18_aes" / "audio_44k"
    found = [
        Version(
            str(folder / Path(row["path"]).name),
            *("music", MUSIC, row["song"], row["song"], "clean", 0.0),
            tuple(float(row[axis]) for axis in AXES),
        )
        for row in songs
    ]
    unrated = (math.nan,) * len(AXES)
    for row in (*free_rows(work), *_rows(work, "single.csv", cut_single)):
        path, kind = str(work / "corpus" / row["path"]), row.get("set", FREE)
        found.append(Version(path, row["domain"], kind, row["source"], row["package"], "clean", 0.0, unrated))
    kinds = (("speech", VOWELS, vowels.NAMES), ("sound", NOISES, noises.NAMES))
    return found + [
        Version(name, domain, kind, name, kind, "clean", 0.0, unrated)
        for domain, kind, names in kinds
        for name in names
    ]


def free_rows(work: Path) -> list[dict[str, Any]]:
    """Rows of the free clips."""
    return _rows(work, "clean.csv", partial(cut_packages, clips=CLIPS))


def _rows(work: Path, name: str, cut: Callable[[Path, Path], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of clips, which `cut` writes to WORK/corpus once."""
    corpus, table = work / "corpus", work / name
    if not table.is_file():
        corpus.mkdir(parents=True, exist_ok=True)
        rows = cut(work, corpus)
        write_text(table, csv_text(list(rows[0]), (row.values() for row in rows)))
    return [dict(row) for _, row in read_rows(table)]


def songs_of(rows: Sequence[Version]) -> list[int]:
    """Rows of the rated songs."""
    return [i for i, row in enumerate(rows) if row.set == MUSIC and row.scene == "clean"]


def is_solo_vocals(row: Version) -> bool:
    """Whether it is the vocal stem of a rated song."""
    return row.set == MUSIC and Path(row.clip).stem.endswith(VOCALS)


def versions_of(recording: Version) -> list[Version]:
    """The recording, an excerpt of it, and degraded versions; one of each song and free recording is `GENERATED`."""
    rng = np.random.default_rng(seed("versions", Path(recording.clip).name))
    scenes = list(rng.permutation(RECORDED)[: VERSIONS[recording.set]])
    scenes += [GENERATED] if recording.set in (MUSIC, FREE) else []
    degraded = [replace(recording, scene=str(scene), severity=float(rng.random())) for scene in scenes]
    if recording.domain == "speech" and recording.set == FREE:
        degraded += [replace(recording, scene=f"noise {i}", severity=float(rng.random())) for i in range(NOISY)]
    return [recording, replace(recording, scene="excerpt"), *degraded]


def samples_of(version: Version) -> tuple[Wave, int]:
    """Its samples [S] and their rate (Hz)."""
    if version.set == VOWELS:
        rate, x = vowels.RATE, vowels.vowel(version.clip, np.random.default_rng(seed("vowel", version.clip)))
    elif version.set == NOISES:
        rate, x = noises.RATE, noises.noise(version.clip, np.random.default_rng(seed("noise", version.clip)))
    else:
        with soundfile.SoundFile(version.clip) as file:
            rate = file.samplerate
            x = file.read(int(SECONDS * rate), always_2d=True).mean(1)
    rng = np.random.default_rng(seed("samples", Path(version.clip).name, version.scene))
    if version.scene == "clean":
        return x, rate
    if version.scene == "excerpt":
        size = min(len(x), int(rng.uniform(*EXCERPT) * rate))
        start = int(rng.integers(len(x) - size + 1))
        return x[start : start + size], rate
    if version.scene.startswith("noise"):
        return noisy(x, rate, version.severity, rng), rate
    return degrade(x, rate, version.severity, version.scene, rng), rate


def table_of(recordings: Sequence[Version], work: Path, encoders: Sequence[Encoder]) -> tuple[list[Version], Array]:
    """All versions and their inputs [N, D], the encoders' one after the other."""
    versions = [versions_of(recording) for recording in recordings]
    waves = [
        (Path(recording.clip).name, lambda group=group: [samples_of(version) for version in group])
        for recording, group in zip(recordings, versions, strict=True)
    ]
    rows = [version for group in versions for version in group]
    return rows, encoded(waves, work, encoders)


def encoded(recordings: Sequence[tuple[str, Waves]], work: Path, encoders: Sequence[Encoder]) -> Array:
    """Means and standard deviations of the encoders' frames [N, 2 D], computed once and kept in the work folder.

    Each recording is a name and the function that makes its versions.
    """
    torch.set_num_threads(1)
    fingerprints = {encoder.name: encoder.fingerprint() for encoder in encoders}
    inputs = []
    for number, (recording, waves) in enumerate(recordings):
        made: list[tuple[Wave, int]] = []
        parts = []
        for encoder in encoders:
            name = hashlib.sha256(f"{recording} {fingerprints[encoder.name]}".encode()).hexdigest()[:24]
            kept = work / encoder.name / f"{name}.npy"
            if not kept.is_file():
                made = made or waves()
                kept.parent.mkdir(parents=True, exist_ok=True)
                np.save(kept.with_suffix(".partial.npy"), np.stack([encode(x, rate, encoder) for x, rate in made]))
                kept.with_suffix(".partial.npy").rename(kept)
            parts.append(np.load(kept))
        inputs.append(np.concatenate(parts, axis=1))
        if number % 100 == 0:
            print(f"{number} of {len(recordings)} recordings encoded", flush=True)
    return np.concatenate(inputs).astype(np.float64)


def encode(x: Wave, rate: int, encoder: Encoder) -> NDArray[np.float32]:
    """Samples [S] -> mean and standard deviation of the encoder's frames, [2 D]."""
    wave = soxr.resample(x, rate, encoder.sample_rate).astype(np.float32)
    wave = np.pad(wave, (0, max(0, encoder.min_samples - len(wave))))
    return torch.cat(pool(encoder.encode(torch.from_numpy(wave)[None])), 1)[0].numpy()
