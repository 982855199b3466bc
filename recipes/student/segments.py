"""Segments of five seconds, mixed and degraded at random, for the student and its teachers.

Segment number i is the same in every run with the same clips: domains take turns, then packages, then clips, and a
random generator seeded with i chooses the rest. One in `HELD_OUT` packages is for evaluation only, by the hash of its
name, and so is one in as many songs and signals of the rated recordings, whose ratings are not read. Of the codec
clips only the originals are used: the student is evaluated on codecs that it never met.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from scipy.signal import butter, sosfilt

from mmmos.io.lists import read_rows
from recipes.lite.chains import SCENES, coded, degrade
from recipes.lite.corpus import seed
from recipes.lite.degradations import DEGRADATIONS, Job, Wave
from recipes.student.codecs import CODECS, transmitted
from recipes.student.speech import SUPPRESSORS, VOCODERS, Fault

RATE = 48_000  # Hz
SECONDS = 5
SIZE = SECONDS * RATE
DOMAINS = ("speech", "music", "sound")
TURNS = ("speech", "music", "speech", "sound", "speech", "music")  # of the main source: most teachers know speech
HELD_OUT = 6  # one in so many packages
COSTLY = ("chain", "vocoded", "wow")  # left out of the single degradations
WAYS = {
    "speech": {"none": 0.12, "vocoder": 0.26, "suppressed": 0.12, "single": 0.2, "scene": 0.18, "band": 0.12},
    "music": {"none": 0.2, "vocoder": 0.05, "suppressed": 0, "single": 0.3, "scene": 0.33, "band": 0.12},
    "sound": {"none": 0.25, "vocoder": 0.05, "suppressed": 0, "single": 0.3, "scene": 0.28, "band": 0.12},
}
"""Domain of the main source -> way of degrading it -> probability."""
SLOW = {"rnnoise": 0.2, "deepfilter": 0.1, "world": 0.2}  # how often, next to the others
REFERENCE = "Reference"  # system of the originals of the codec clips
CODEC = 0.3  # probability of a codec at the end


@dataclass(frozen=True)
class Source:
    """A recording."""

    path: Path
    domain: str
    group: str  # package, song or signal: wholly for training or wholly held out
    package: str  # packages of a domain take turns

    @property
    def held_out(self) -> bool:
        """Whether it is for evaluation only."""
        return seed("held out", self.group) % HELD_OUT == 0


def read_sources(clips: Path, data: Path | None) -> list[Source]:
    """The clips of `recipes.student.clips` and, with a data folder, the rated recordings without their ratings."""
    sources = []
    for _, row in read_rows(clips / "manifest.csv"):
        sources.append(Source(clips / row["path"], row["domain"], row["package"], row["package"]))
    if data is not None:
        for folder, domain, key in (("musdb18_aes", "music", "song"), ("codec_mushra", "speech", "signal")):
            for _, row in read_rows(data / folder / "manifest.csv"):
                if row.get("system", REFERENCE) != REFERENCE:
                    continue
                path = data / folder / row["path"]
                if folder == "musdb18_aes":
                    path = path.parent.parent / "audio_44k" / path.name
                sources.append(Source(path, domain, f"{folder} {row[key]}", folder))
    return sources


class Segments:
    """The segments of sources, by number."""

    def __init__(self, sources: list[Source]) -> None:
        self.by_domain: dict[str, list[list[Source]]] = {}
        for domain in DOMAINS:
            packages: dict[str, list[Source]] = {}
            for source in sources:
                if source.domain == domain:
                    packages.setdefault(source.package, []).append(source)
            self.by_domain[domain] = [packages[name] for name in sorted(packages)]

    def draw(self, domain: str, rng: np.random.Generator) -> Source:
        """A source of a domain: every package is as likely, but the rated recordings three times as likely."""
        packages = self.by_domain[domain]
        weights = np.array([3.0 if len({source.group for source in package}) > 1 else 1.0 for package in packages])
        package = packages[rng.choice(len(packages), p=weights / weights.sum())]
        return package[rng.integers(len(package))]

    def make(self, number: int) -> tuple[Wave, np.ndarray, Source]:
        """Samples [SIZE] at RATE, the fraction of each domain in its power, and the main source."""
        rng = np.random.default_rng(seed("segment", number))
        domain = TURNS[number % len(TURNS)]
        source = self.draw(domain, rng)
        x = read(source.path, rng)
        fractions = np.eye(len(DOMAINS))[DOMAINS.index(domain)]
        if rng.random() < 0.3:
            other = self.draw(str(rng.choice(DOMAINS)), rng)
            x, fractions = blend(x, read(other.path, rng), fractions, np.eye(3)[DOMAINS.index(other.domain)], rng)
        return self.degraded(x, domain, rng), fractions, source

    def degraded(self, x: Wave, domain: str, rng: np.random.Generator) -> Wave:
        """None, one or several degradations of any severity."""
        ways = WAYS[domain]
        way = rng.choice(list(ways), p=list(ways.values()))
        try:
            if way == "scene":
                x = degrade(x, RATE, rng.random(), str(rng.choice(list(SCENES))), rng)
            elif way == "band":
                x = banded(x, rng)
            elif way == "vocoder":
                x = one_of(VOCODERS, rng)(x, RATE, rng)
            elif way == "suppressed":
                x = one_of(SUPPRESSORS, rng)(self.noisy(x, rng), RATE, rng)
            elif way == "single":
                x = self.single(x, rng)
            if rng.random() < CODEC:
                x = through_codec(x, rng)
        except (av.FFmpegError, ValueError):  # a codec that refuses a bit rate: the segment stays without it
            pass
        return at_level(np.resize(np.nan_to_num(x), SIZE))

    def single(self, x: Wave, rng: np.random.Generator) -> Wave:
        """One or two degradations of recipes.lite, between or at their steps."""
        babble, backing = (read(self.draw(kind, rng).path, rng) for kind in ("speech", "music"))
        job = Job(RATE, RATE // 2, rng, babble, backing)
        for _ in range(rng.integers(1, 3)):
            kind = str(rng.choice([kind for kind in DEGRADATIONS if kind not in COSTLY]))
            function, steps = DEGRADATIONS[kind]
            strength = float(np.interp(rng.uniform(-0.5, 3), range(4), steps))
            x = np.resize(np.nan_to_num(function(x, job, strength)), SIZE)
        return x

    def noisy(self, x: Wave, rng: np.random.Generator) -> Wave:
        """With sounds, music or noise at 0 to 30 dB, or as it is."""
        kind = rng.choice(["sound", "sound", "music", "noise", "none"])
        if kind == "none":
            return x
        noise = pink(rng) if kind == "noise" else read(self.draw(str(kind), rng).path, rng)
        return at_level(x) + at_level(noise) * 10 ** (-rng.uniform(0, 30) / 20)


def one_of(faults: dict[str, Fault], rng: np.random.Generator) -> Fault:
    """One of them at random, the slow ones rarely."""
    weights = np.array([SLOW.get(name, 1.0) for name in faults])
    return faults[str(rng.choice(list(faults), p=weights / weights.sum()))]


def pink(rng: np.random.Generator) -> Wave:
    """Noise [SIZE] whose power falls with frequency, at most to its square."""
    hz = np.fft.rfftfreq(SIZE, 1 / RATE).clip(min=30)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(SIZE)) / hz ** rng.uniform(0, 1), SIZE)


def read(path: Path, rng: np.random.Generator) -> Wave:
    """Five seconds of a file at RATE and -24 dBFS RMS; a shorter file is repeated."""
    with soundfile.SoundFile(path) as file:
        need = SECONDS * file.samplerate
        file.seek(int(rng.integers(max(file.frames - need, 0) + 1)))
        x, rate = file.read(need, always_2d=True).mean(1), file.samplerate
    return at_level(np.resize(soxr.resample(x, rate, RATE, "HQ"), SIZE))


def blend(x: Wave, y: Wave, of_x: np.ndarray, of_y: np.ndarray, rng: np.random.Generator) -> tuple[Wave, np.ndarray]:
    """A sum at -3 to 20 dB, or a fade from one to the other, and the fraction of each domain in its power."""
    if rng.random() < 0.7:
        power = 10 ** (-rng.uniform(-3, 20) / 10)
        return x + np.sqrt(power) * y, (of_x + power * of_y) / (1 + power)
    ramp = np.clip(np.linspace(-1, 1, SIZE) * rng.uniform(1, 10) + rng.uniform(-0.8, 0.8) + 0.5, 0, 1)
    return np.sqrt(1 - ramp) * x + np.sqrt(ramp) * y, (1 - ramp.mean()) * of_x + ramp.mean() * of_y


def at_level(x: Wave) -> Wave:
    """At -24 dBFS RMS; a silent segment stays silent."""
    return x * (10 ** (-24 / 20) / max(float(np.sqrt(np.mean(x**2))), 1e-6))


def through_codec(x: Wave, rng: np.random.Generator) -> Wave:
    """One codec of today or of `CODECS`, at any bit rate."""
    if rng.random() < 0.5:
        codec, kbps = str(rng.choice(["aac", "libmp3lame", "libopus"])), 2 ** rng.uniform(4, 7)
        return coded(x / max(float(np.abs(x).max()), 1e-9), RATE, codec, kbps)
    codec = str(rng.choice(list(CODECS)))
    return transmitted(x, RATE, codec, int(rng.choice(CODECS[codec][2])))


def banded(x: Wave, rng: np.random.Generator) -> Wave:
    """Limited to a band, or with noise in a band, or both."""
    low, high = np.sort(2 ** rng.uniform(np.log2(50), np.log2(20_000), 2))
    noise = sosfilt(
        butter(4, [low, min(1.3 * high, 23_000)], "bandpass", fs=RATE, output="sos"), rng.standard_normal(SIZE)
    )
    kinds: dict[str, Callable[[], Wave]] = {
        "low": lambda: sosfilt(butter(6, max(high, 1_500), fs=RATE, output="sos"), x),
        "high": lambda: sosfilt(butter(4, min(low, 1_500), "highpass", fs=RATE, output="sos"), x),
        "noise": lambda: x + noise * np.sqrt(np.mean(x**2) / np.mean(noise**2)) * 10 ** (-rng.uniform(-5, 40) / 20),
    }
    for kind in rng.permutation(list(kinds))[: rng.integers(1, 3)]:
        x = kinds[str(kind)]()
    return x
