"""Recordings as people make and pass them on, or as networks make them: scenes of several faults, of a severity in 0-1.

The single degradations of `degradations.py` are known in order within a kind. Here one number orders all kinds: at
severity 0 a scene changes next to nothing, at 1 hardly anything of the recording's quality is left.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

from mmmos.encoders.mel import mel_filters
from recipes.lite.codec import through_codec
from recipes.lite.griffin_lim import reconstruct, transform

Wave = NDArray[np.float64]
Scene = Callable[[Wave, int, float, np.random.Generator], Wave]

GENERATED = "generated"  # the scene that networks make
TOP = 0.46  # of the sample rate: no filter is set above
CODEC_RATES = {"libmp3lame": (44_100, 32_000, 22_050), "aac": (44_100, 32_000, 22_050), "libopus": (48_000,) * 3}
"""Hz, of good, medium and low bit rates."""
CONTAINERS = {"libmp3lame": "mp3", "aac": "adts", "libopus": "ogg"}


def degrade(x: Wave, rate: int, severity: float, scene: str, rng: np.random.Generator) -> Wave:
    """Samples [S] after a scene, [S], at a peak of 0.9; `severity` is in 0-1."""
    y = SCENES[scene](_peak(x, 0.9), rate, severity, rng)
    return _peak(y, 0.9)


def noisy(x: Wave, rate: int, severity: float, rng: np.random.Generator) -> Wave:
    """Samples [S] with noise at a signal-to-noise ratio of 30 dB at severity 0 to -5 dB at 1, at a peak of 0.9."""
    return _peak(add(x, _noise(len(x), rate, rng, rng.uniform(0, 2)), 30 - 35 * severity), 0.9)


def _between(good: float, bad: float, severity: float) -> float:
    """From `good` to `bad`, on a logarithmic scale if both are positive."""
    if good > 0 and bad > 0:
        return float(good * (bad / good) ** severity)
    return good + (bad - good) * severity


def _peak(x: Wave, peak: float) -> Wave:
    return x * (peak / max(float(np.abs(x).max()), 1e-9))


def band(x: Wave, rate: int, low: float, high: float, order: int = 4) -> Wave:
    """Samples between two frequencies (Hz)."""
    high = min(high, TOP * rate)
    low = min(max(low, 10.0), high / 1.3)
    return np.asarray(sosfilt(butter(order, [low, high], "bandpass", fs=rate, output="sos"), x))


def add(x: Wave, noise: Wave, snr: float) -> Wave:
    """Samples with noise at a signal-to-noise ratio (dB)."""
    return x + noise * np.sqrt(np.mean(x**2) / max(float(np.mean(noise**2)), 1e-12)) * 10 ** (-snr / 20)


def _noise(size: int, rate: int, rng: np.random.Generator, slope: float) -> Wave:
    """Noise whose power falls with frequency to the power of `slope`."""
    hz = np.fft.rfftfreq(size, 1 / rate).clip(min=30)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) / hz ** (slope / 2), size)


def _swelling(size: int, rate: int, rng: np.random.Generator, hz: float) -> Wave:
    """A positive envelope that changes about `hz` times per second."""
    points = np.exp(rng.normal(0, 1, max(4, int(size / rate * hz) + 2)))
    return np.interp(np.linspace(0, len(points) - 1, size), np.arange(len(points)), points)


def _room(x: Wave, rate: int, rng: np.random.Generator, seconds: float, wet_db: float) -> Wave:
    t = np.arange(int(seconds * rate)) / rate
    tail = rng.standard_normal(len(t)) * 10 ** (-3 * t / seconds)
    return add(x, fftconvolve(x, tail)[: len(x)], -wet_db)


def _gain_control(x: Wave, rate: int, strength: float) -> Wave:
    """Divided by a power of its smoothed level."""
    pole = np.exp(-1 / (0.15 * rate))
    level = np.sqrt(lfilter([1 - pole], [1, -pole], x**2).clip(min=1e-8))
    return x / level**strength


def _driven(x: Wave, gain_db: float, hard: bool) -> Wave:
    y = _peak(x, 1.0) * 10 ** (gain_db / 20)
    return np.clip(y, -1, 1) if hard else np.tanh(y)


def _coarse(x: Wave, rate: int, bits: float, new_rate: float) -> Wave:
    """Samples that are held (which aliases) and rounded."""
    hold = np.floor(np.floor(np.arange(len(x)) * new_rate / rate) * rate / new_rate).astype(int)
    step = 2.0 ** (1 - bits) * np.abs(x).max()
    return np.round(x[hold] / step) * step


def _wow(x: Wave, rate: int, rng: np.random.Generator, percent: float) -> Wave:
    t = np.arange(len(x)) / rate
    hz = rng.uniform(0.5, 7)
    return np.interp(t + percent / 100 / (2 * np.pi * hz) * np.sin(2 * np.pi * hz * t), t, x)


def coded(x: Wave, rate: int, codec: str, kbps: float) -> Wave:
    """Through an encoder and decoder of FFmpeg; a low bit rate brings a low sample rate, as encoders choose it."""
    own = CODEC_RATES[codec][0 if kbps >= 64 else 1 if kbps >= 40 else 2]
    wide = soxr.resample(np.clip(x, -1, 1), rate, own).astype(np.float32)
    decoded = through_codec(wide, own, codec, CONTAINERS[codec], kbps)
    return _fitted(soxr.resample(decoded, own, rate), len(x))


def _fitted(x: Wave, size: int) -> Wave:
    return np.pad(x, (0, max(0, size - len(x))))[:size]


def _phone(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    """A telephone in the room: room, noise, small microphone, gain control, AAC."""
    x = _room(x, rate, rng, _between(0.15, 0.9, s), _between(-18, 3, s))
    x = add(x, _noise(len(x), rate, rng, rng.uniform(0, 2)), _between(55, 12, s))
    x = _gain_control(band(x, rate, _between(40, 350, s), _between(18_000, 4_500, s)), rate, 0.7 * s)
    return coded(_peak(x, 0.9), rate, "aac", _between(128, 24, s))


def _stage(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    """A concert from the audience: hall, crowd, overdriven input."""
    x = _room(x, rate, rng, _between(0.4, 2.5, s), _between(-15, 6, s))
    crowd = band(rng.standard_normal(len(x)), rate, 300, 4_000, 1) * _swelling(len(x), rate, rng, 5)
    x = _driven(add(x, crowd, _between(45, 6, s)), _between(0, 18, s), hard=bool(rng.random() < 0.5))
    return coded(_peak(x, 0.9), rate, "aac", _between(128, 32, s))


def _radio(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    x = band(x, rate, _between(30, 300, s), _between(16_000, 3_000, s), 6)
    x = _gain_control(x, rate, _between(0.1, 0.9, s))
    return add(x, _noise(len(x), rate, rng, 0), _between(50, 10, s))


def _tape(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    """Old media: flutter, saturation, hiss, crackle, dull."""
    x = _driven(_wow(x, rate, rng, _between(0.02, 1.5, s)), _between(-6, 12, s), hard=False)
    x = band(x, rate, _between(20, 200, s), _between(18_000, 3_500, s), 2)
    crackle = rng.standard_normal(len(x)) * (rng.random(len(x)) < 1e-4 + 4e-4 * s)
    x = add(x, _noise(len(x), rate, rng, 0.3), _between(60, 16, s))
    return add(x, crackle, _between(50, 12, s))


def _telephone(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    x = band(x, rate, _between(30, 350, s), _between(17_000, 3_000, s), 8)
    x = _coarse(np.sign(x) * np.abs(x) ** 0.5, rate, _between(14, 5, s), rate)
    return coded(_peak(np.sign(x) * x**2, 0.9), rate, "libopus", _between(96, 6, s))


def _uploads(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    """Downloaded and uploaded again, each time in another format."""
    for _ in range(1 + round(3 * s)):
        codec = str(rng.choice(list(CODEC_RATES)))
        x = coded(_peak(x, 0.9), rate, codec, _between(160, 8 if codec == "libopus" else 20, s))
    return x


def _loud(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    """The loudness war, and inputs that are overdriven."""
    return _driven(_gain_control(x, rate, 0.3 * s), _between(-3, 32, s), hard=bool(rng.random() < 0.7))


def _lofi(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    return _coarse(x, rate, _between(14, 3.5, s), _between(rate, 7_000, s**2))


def _wind(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    gusts = _noise(len(x), rate, rng, 2.5) * _swelling(len(x), rate, rng, 2)
    return _driven(add(x, gusts, _between(35, -8, s)), _between(-3, 10, s), hard=True)


def _interference(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    """Noise in some band, or mains hum."""
    if rng.random() < 0.3:
        t, base = np.arange(len(x)) / rate, rng.choice([50, 60])
        return add(x, np.sum([np.sin(2 * np.pi * base * k * t) / k for k in (1, 2, 3, 5, 7, 11)], axis=0), 40 - 40 * s)
    low = 100 * 100 ** rng.random()
    return add(x, band(rng.standard_normal(len(x)), rate, low, low * rng.uniform(1.3, 6)), _between(45, 2, s))


def _dropouts(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    """Packets that are lost or repeated."""
    packet = rate // 50
    parts = _fitted(x, -(-len(x) // packet) * packet).reshape(-1, packet).copy()
    for i in np.flatnonzero(rng.random(len(parts)) < 0.35 * s**1.5):
        parts[i] = parts[i - 1] if rng.random() < 0.5 else 0
    return parts.reshape(-1)[: len(x)]


def _generated(x: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    """A network's waveform: magnitudes inexact or of few mel bands, phases invented, first the high ones."""
    size = 4 * round(rate * rng.choice([0.005, 0.01, 0.02]))
    bins = transform(x, size)
    magnitude = np.abs(bins)
    magnitude = _inexact(magnitude, s, rng) if rng.random() < 0.5 else _of_mel_bands(magnitude, rate, s, rng)
    hz = np.fft.rfftfreq(size, 1 / rate)
    spread = np.pi * s**0.5 / (1 + (_between(8_000, 500, s) / hz.clip(min=1)) ** 4)
    phase = np.angle(bins) + spread[:, None] * rng.standard_normal(bins.shape)
    return _fitted(reconstruct(magnitude, phase, size, rounds=rng.choice([0, 4, 16])), len(x))


def _inexact(magnitude: Wave, s: float, rng: np.random.Generator) -> Wave:
    """Magnitudes [bins, T], blurred and with errors that neighbours share."""
    level = gaussian_filter(np.log(magnitude + 1e-5), 0.3 + 2.7 * s * rng.uniform(0.3, 1, 2))
    errors = gaussian_filter(rng.standard_normal(level.shape), 2)
    return np.exp(level + errors / errors.std() * (0.05 + 0.7 * s))


def _of_mel_bands(magnitude: Wave, rate: int, s: float, rng: np.random.Generator) -> Wave:
    """Magnitudes [bins, T] from mel bands, as their means or by least squares; bins in no band stay as they are."""
    bands = round(_between(320, 24, s))
    filters = mel_filters(rate, 2 * (len(magnitude) - 1), bands, 0, rate / 2, unit_area=False)
    filters = filters[filters.sum(axis=1) > 0]
    mel, covered = filters @ magnitude, filters.sum(axis=0)
    if rng.random() < 0.5:
        means = mel / filters.sum(axis=1, keepdims=True)
        found = filters.T @ means / covered.clip(min=1e-12)[:, None]
    else:
        found = np.maximum(np.linalg.pinv(filters) @ mel, 0)
    return np.where(covered[:, None] > 0, found, magnitude)


SCENES: dict[str, Scene] = {
    "phone": _phone,
    "stage": _stage,
    "radio": _radio,
    "tape": _tape,
    "telephone": _telephone,
    "uploads": _uploads,
    "loud": _loud,
    "lofi": _lofi,
    "wind": _wind,
    "interference": _interference,
    "dropouts": _dropouts,
    GENERATED: _generated,
}
"""Name -> function of samples [S], sample rate (Hz), severity and random generator."""
RECORDED = tuple(scene for scene in SCENES if scene != GENERATED)  # as people make and pass them on
