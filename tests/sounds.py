"""Sounds made from formulas, and the sample clips: NumPy arrays [S] first, then tensors for encoders."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor

SAMPLES = Path(__file__).parent.parent / "samples"
RATE = 16_000  # Hz, unless a test names another rate

Wave = NDArray[np.float32]


def seconds_at(seconds: float, rate: int) -> NDArray[np.float64]:
    """The time in seconds of each sample, [S]."""
    return np.arange(round(seconds * rate)) / rate


def music(seconds: float, rate: int = RATE, seed: int = 0) -> Wave:
    """A plucked chord over faint noise, [S]: wide-band, not silent, not clipped."""
    return _music(seconds, rate, seed).copy()


@functools.lru_cache(maxsize=64)  # most tests use the same few
def _music(seconds: float, rate: int, seed: int) -> Wave:
    t = seconds_at(seconds, rate)
    plucked = sum(np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6, 1318.5))
    hiss = np.random.default_rng(seed).standard_normal(len(t))
    return (0.1 * np.exp(-3 * (t % 0.5)) * plucked + 0.01 * hiss).astype(np.float32)


def music_and_sweep(seconds: float, seed: int = 0) -> Wave:
    """Music under a rising tone, [S]: no two windows are alike."""
    t = seconds_at(seconds, RATE)
    return (music(seconds, RATE, seed) + 0.1 * (1 + seed) * np.sin(2 * np.pi * (100 + 40 * t) * t)).astype(np.float32)


def chord(seconds: float, seed: int = 0) -> Wave:
    """A steady chord over noise, [S]."""
    t = seconds_at(seconds, RATE)
    hiss = np.random.default_rng(seed).standard_normal(len(t))
    return (sum(0.1 * np.sin(2 * np.pi * hz * t) for hz in (220, 330, 1320)) + 0.01 * hiss).astype(np.float32)


def sine(hz: float, seconds: float = 2.0, rate: int = RATE, level: float = 0.3) -> NDArray[np.float64]:
    """One steady tone, [S]."""
    return level * np.sin(2 * np.pi * hz * seconds_at(seconds, rate))


def faded_sine(hz: float, seconds: float = 1.0, rate: int = 48_000, level: float = 0.5) -> Wave:
    """A tone that fades in and out, [S]."""
    tone = sine(hz, seconds, rate, level)
    return (tone * np.hanning(len(tone))).astype(np.float32)


def sweep(seconds: float, first: float = 200.0, rate: int = RATE, channels: int = 1) -> Wave:
    """A tone that rises by 100 Hz a second, [S, C]: no two moments are alike."""
    t = seconds_at(seconds, rate)
    tone = 0.4 * np.sin(2 * np.pi * (first + 50 * t) * t)
    return np.stack([tone / (channel + 1) for channel in range(channels)], axis=1).astype(np.float32)


def swelling_tones(seconds: float, rate: int) -> Wave:
    """Tones under 5 kHz that swell and fade, [S]: the same sound at every rate."""
    t = seconds_at(seconds, rate)
    tones = sum(np.sin(2 * np.pi * hz * t) / number for number, hz in enumerate((311, 622, 933, 2_800, 4_900), start=1))
    return (0.1 * np.sin(2 * np.pi * t) ** 2 * tones).astype(np.float32)


def faded_tones(rate: int, seconds: float = 0.5) -> NDArray[np.float64]:
    """Tones up to 6 kHz that fade in and out, [S]."""
    t = seconds_at(seconds, rate)
    tones = sum(np.sin(2 * np.pi * hz * t + hz) for hz in (150.0, 1234.5, 3300.0, 6000.0))
    return tones * np.hanning(len(t))


def noise(seconds: float, rate: int = RATE, slope: float = 0.0, seed: int = 0) -> NDArray[np.float64]:
    """Noise whose power falls with frequency to the power of `slope`, [S]: 0 white, 1 pink, 2 brown."""
    size = round(seconds * rate)
    hz = np.fft.rfftfreq(size, 1 / rate)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(size)) * (hz > 20)
    wave = np.fft.irfft(spectrum / np.maximum(hz, 20) ** (slope / 2), size)
    return 0.5 * wave / np.abs(wave).max()


def dark_noise(rate: int) -> NDArray[np.float64]:
    """Two seconds of noise that falls by 24 dB an octave above 2 kHz, as through a wall, [S]."""
    return signal.sosfilt(signal.butter(4, 2_000, fs=rate, output="sos"), noise(2, rate))


def bass_string(rate: int) -> NDArray[np.float64]:
    """A plucked 55 Hz string through a four-pole low-pass at 300 Hz, as of an amplifier, [S]: 30 dB an octave."""
    t = seconds_at(2, rate)
    partials = np.zeros(rate + 1, complex)  # half a hertz a step
    partials[110::110] = rate / np.arange(1, len(partials[110::110]) + 1)
    string = signal.sosfilt(signal.butter(4, 300, fs=rate, output="sos"), np.fft.irfft(1j * partials))
    return 0.2 * string * np.exp(-2 * (t % 1))


def harmonics(rate: int) -> NDArray[np.float64]:
    """Two seconds of a flute-like tone, [S]: each partial 2 dB under the one before, without any noise."""
    t = seconds_at(2, rate)
    return 0.3 * sum(np.exp(-k / 4) * np.sin(2 * np.pi * 110 * k * t) for k in range(1, 60))


def music_tensor(seconds: float, rate: int = RATE, seed: int = 0) -> Tensor:
    """`music` as an encoder takes it, [1, S]."""
    return torch.from_numpy(music(seconds, rate, seed))[None]


def music_noise_silence(samples: int, rate: int = RATE, seed: int = 0) -> Tensor:
    """Music, then noise of torch's generator, then silence, a third each: [1, samples]."""
    clip = music_tensor(samples / rate, rate, seed)
    clip[:, samples // 3 : 2 * samples // 3] = 0.3 * torch.randn(2 * samples // 3 - samples // 3)
    clip[:, 2 * samples // 3 :] = 0
    return clip


def white_noise(seconds: float, seed: int = 0, clips: int = 1, level: float = 0.1, rate: int = RATE) -> Tensor:
    """Independent clips of white noise, [clips, S]."""
    return level * torch.randn(clips, round(seconds * rate), generator=torch.Generator().manual_seed(seed))


def notes(seconds: float, seed: int = 0, clips: int = 1, level: float = 0.1) -> Tensor:
    """Decaying notes of random pitch over noise, [clips, S]."""
    rng = np.random.default_rng(seed)
    t = seconds_at(seconds, RATE)
    pitch = 110 * 2 ** (rng.integers(0, 48, (clips, 1, 1)) / 12) * np.arange(1, 5)[:, None]
    played = np.sin(2 * np.pi * pitch * t).sum(1) * np.exp(-4 * (t % 0.5))
    return torch.from_numpy(level * (played + 0.1 * rng.normal(size=played.shape))).float()


def speech(seconds: float, seed: int = 0, hiss: float = 0.01) -> Tensor:
    """Something like speech, [S]: harmonics of a moving pitch, syllables, noise of the level `hiss` under it all."""
    draw = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    low, syllables, tilt = (torch.rand(3, generator=draw) * torch.tensor([100.0, 3.0, 1.0])).tolist()
    phase = 2 * math.pi * torch.cumsum(90 + low + 20 * torch.sin(2 * math.pi * 0.7 * time), 0) / RATE
    voice = sum(torch.sin(k * phase) / k ** (0.7 + tilt) for k in range(1, 30))
    envelope = torch.sin(math.pi * (2 + syllables) * time).clamp(min=0) ** 0.5
    return (0.1 * voice * envelope + hiss * torch.randn(len(time), generator=draw)).float()
