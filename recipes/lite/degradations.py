"""Twenty-two kinds of degradation, each in four steps of rising severity. Only their order is known."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, istft, sosfiltfilt, stft

from mmmos.encoders.mel import mel_filters
from recipes.lite.codec import through_codec
from recipes.lite.griffin_lim import reconstruct, transform

RATE = 24_000  # Hz, of the codecs
LEVEL_DB = -26.0  # dBFS RMS of every clip, less where its peak would clip
Wave = NDArray[np.float64]


def level(x: Wave) -> Wave:
    """The samples at LEVEL_DB, or as near to it as the peak allows."""
    gain = 10 ** (LEVEL_DB / 20) / max(float(np.sqrt(np.mean(x**2))), 1e-9)
    return x * min(gain, 0.99 / max(float(np.abs(x).max()), 1e-9))


@dataclass(frozen=True)
class Job:
    """What a degradation may need besides the samples."""

    rate: int
    band: int  # Hz, bandwidth of the recording
    rng: np.random.Generator
    babble: Wave  # four voices
    backing: Wave  # other instruments or sounds


def _add(x: Wave, noise: Wave, snr: float) -> Wave:
    return x + noise * np.sqrt(np.mean(x**2) / max(float(np.mean(noise**2)), 1e-12)) * 10 ** (-snr / 20)


def _pink(x: Wave, rng: np.random.Generator) -> Wave:
    bins = np.fft.rfft(rng.standard_normal(len(x)))
    return np.fft.irfft(bins / np.sqrt(np.arange(len(bins)) + 20), len(x))


def _hum(x: Wave, job: Job) -> Wave:
    t, base = np.arange(len(x)) / job.rate, job.rng.choice([50, 60])
    return np.sum([np.sin(2 * np.pi * base * k * t + k * k) / k for k in (1, 2, 3, 5, 7)], axis=0)


def limited(x: Wave, rate: int, edge: float) -> Wave:
    """Low-pass filtered at `edge` Hz."""
    return np.asarray(sosfiltfilt(butter(8, min(edge / (rate / 2), 0.95), output="sos"), x))


def _reverb(x: Wave, job: Job, t60: float) -> Wave:
    tail = job.rng.standard_normal(int(t60 * job.rate)) * 10 ** (-3 * np.arange(int(t60 * job.rate)) / t60 / job.rate)
    wet = fftconvolve(x, tail)[: len(x)]
    return _add(x, wet, 6 - 8 * t60)  # the longer the tail, the less of the direct sound


def _loss(x: Wave, job: Job, fraction: float) -> Wave:
    packet = job.rate // 50
    lost = job.rng.random(len(x) // packet + 1) < fraction
    return x * (1 - np.repeat(lost, packet)[: len(x)])


def _bins(x: Wave, job: Job, change: Callable[[Any], Any]) -> Wave:
    size = 2 * (job.rate // 50)
    _, _, bins = stft(x, nperseg=size, noverlap=3 * size // 4)
    return np.asarray(istft(change(bins), nperseg=size, noverlap=3 * size // 4)[1][: len(x)])


def _holes(x: Wave, job: Job, fraction: float) -> Wave:
    def punch(bins: Any) -> Any:
        coarse = job.rng.random((bins.shape[0] // 8 + 1, bins.shape[1] // 8 + 1)) > fraction
        return bins * np.kron(coarse, np.ones((8, 8)))[: bins.shape[0], : bins.shape[1]]

    return _bins(x, job, punch)


def _phase(x: Wave, job: Job, spread: float) -> Wave:
    return _bins(x, job, lambda bins: bins * np.exp(1j * spread * job.rng.standard_normal(bins.shape)))


def _denoised(x: Wave, job: Job, snr: float) -> Wave:
    """Noise, then spectral subtraction, which leaves musical noise."""
    floor = np.sqrt(np.mean(x**2)) * 10 ** (-snr / 20)

    def subtract(bins: Any) -> Any:
        noise = np.median(np.abs(stft(floor * job.rng.standard_normal(len(x)), nperseg=2 * (job.rate // 50))[2]))
        return bins * np.maximum(0, 1 - 1.5 * noise / np.maximum(np.abs(bins), 1e-9))

    return _bins(x + floor * job.rng.standard_normal(len(x)), job, subtract)


def _separated(x: Wave, job: Job, fault: float) -> Wave:
    """Separated from a mixture by a mask with errors: the backing leaks, and the clip has holes."""
    size = 2 * (job.rate // 50)
    own, mixture = (stft(part, nperseg=size)[2] for part in (x, _add(x, np.resize(job.backing, len(x)), 0)))
    ideal = np.abs(own) ** 2 / np.maximum(np.abs(own) ** 2 + np.abs(mixture - own) ** 2, 1e-12)
    coarse = job.rng.uniform(-1, 1, (own.shape[0] // 6 + 1, own.shape[1] // 3 + 1))
    mask = np.clip(ideal + fault * np.kron(coarse, np.ones((6, 3)))[: own.shape[0], : own.shape[1]], 0, 1)
    return np.asarray(istft(mask * mixture, nperseg=size)[1][: len(x)])


def _wow(x: Wave, job: Job, percent: float) -> Wave:
    """The pitch varies by `percent`, at 2 or 6 Hz."""
    hz, fine = job.rng.choice([2, 6]), 4
    t = np.arange(len(x)) / job.rate
    moved = t + percent / 100 / (2 * np.pi * hz) * np.sin(2 * np.pi * hz * t)
    return np.interp(moved * fine * job.rate, np.arange(fine * len(x)), soxr.resample(x, 1, fine)[: fine * len(x)])


def _vocoded(x: Wave, job: Job, bands: float) -> Wave:
    """Reconstructed from the magnitudes of `bands` mel bands by Griffin-Lim iterations."""
    size = 2 * (job.rate // 50)
    filters = mel_filters(job.rate, size, int(bands), low_hz=40.0)
    magnitude = np.maximum(np.linalg.pinv(filters) @ (filters @ np.abs(transform(x, size))), 0)
    phase = 2 * np.pi * job.rng.random(magnitude.shape)
    return reconstruct(magnitude, phase, size, rounds=16)[: len(x)]


def _chain(x: Wave, job: Job, links: float) -> Wave:
    """`links` different degradations in sequence, each in its second step."""
    single = [kind for kind in DEGRADATIONS if kind != "chain"]
    for kind in job.rng.choice(single, 4, replace=False)[: int(links)]:
        function, steps = DEGRADATIONS[str(kind)]
        x = np.resize(function(level(x), replace(job, rng=np.random.default_rng(len(x))), steps[1]), len(x))
    return x


def _codec(name: str, container: str) -> Callable[[Wave, Job, float], Wave]:
    def through(x: Wave, job: Job, kbps: float) -> Wave:
        wide = soxr.resample(level(x), job.rate, RATE).astype(np.float32)
        decoded = through_codec(wide, RATE, name, container, kbps)
        decoded = decoded[1024 * (name == "aac") :]  # the encoder's delay, which no header states
        return soxr.resample(decoded, RATE, job.rate)

    return through


def _vorbis(x: Wave, job: Job, waste: float) -> Wave:
    data = io.BytesIO()
    wide = soxr.resample(level(x), job.rate, RATE)
    with soundfile.SoundFile(data, "w", RATE, 1, format="OGG", subtype="VORBIS", compression_level=waste) as file:
        file.write(wide)
    data.seek(0)
    return soxr.resample(soundfile.read(data)[0], RATE, job.rate)


def _coarse(x: Wave, job: Job, bits: float) -> Wave:
    step = 2 * np.abs(x).max() / 2**bits
    return np.round(x / step) * step


def _clip(x: Wave, job: Job, times_rms: float) -> Wave:
    edge = times_rms * np.sqrt(np.mean(x**2))
    return np.clip(x, -edge, edge)


DEGRADATIONS: dict[str, tuple[Callable[[Wave, Job, float], Wave], tuple[float, float, float, float]]] = {
    "white": (lambda x, job, db: _add(x, job.rng.standard_normal(len(x)), db), (30, 20, 10, 0)),
    "pink": (lambda x, job, db: _add(x, _pink(x, job.rng), db), (30, 20, 10, 0)),
    "babble": (lambda x, job, db: _add(x, np.resize(job.babble, len(x)), db), (25, 15, 7, 0)),
    "mnru": (lambda x, job, db: x * (1 + 10 ** (-db / 20) * job.rng.standard_normal(len(x))), (30, 22, 14, 6)),
    "low pass": (
        lambda x, job, fraction: limited(x, job.rate, fraction * min(job.band, 12_000)),
        (0.6, 0.4, 0.25, 0.15),
    ),
    "mp3": (_codec("libmp3lame", "mp3"), (40, 24, 16, 8)),
    "opus": (_codec("libopus", "ogg"), (24, 14, 9, 6)),
    "aac": (_codec("aac", "adts"), (40, 24, 16, 10)),
    "vorbis": (_vorbis, (0.6, 0.8, 0.9, 1.0)),
    "clipping": (_clip, (2.5, 1.5, 0.8, 0.3)),
    "reverb": (_reverb, (0.25, 0.5, 1.0, 2.0)),
    "loss": (_loss, (0.03, 0.08, 0.18, 0.35)),
    "quantised": (_coarse, (8, 6.5, 5, 3.5)),
    "hum": (lambda x, job, db: _add(x, _hum(x, job), db), (25, 15, 5, -5)),
    "holes": (_holes, (0.1, 0.25, 0.45, 0.65)),
    "phase": (_phase, (0.4, 0.8, 1.4, 3.0)),
    "denoised": (_denoised, (25, 15, 8, 0)),
    "bleed": (lambda x, job, db: _add(x, np.resize(job.backing, len(x)), db), (25, 15, 8, 2)),
    "separated": (_separated, (0.1, 0.3, 0.6, 1.0)),
    "wow": (_wow, (0.3, 1, 3, 8)),
    "vocoded": (_vocoded, (80, 40, 24, 12)),
    "chain": (_chain, (1, 2, 3, 4)),
}
"""Name -> function of samples, `Job` and strength; and its four strengths."""
