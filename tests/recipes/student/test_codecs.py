"""Every codec gives back a signal of the same length that is the input's, changed."""

from __future__ import annotations

import av
import numpy as np
import pytest
from scipy import signal

from recipes.student.codecs import CODECS, transmitted
from tests.sounds import swelling_tones

RATE = 48_000
BITS = (32_000, 96_000)


def _coded(x: np.ndarray, bits: int) -> np.ndarray:
    """Through MP2, without its delay of 524 samples at 44.1 kHz."""
    return np.roll(transmitted(x, RATE, "mp2", bits), -round(524 * RATE / 44_100))


@pytest.mark.parametrize("codec", CODECS)
def test_transmitted_is_the_input_changed(codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this build of FFmpeg has no {codec}")
    x = swelling_tones(1.0, RATE).astype(float)
    y = transmitted(x, RATE, codec, CODECS[codec][2][-1])
    assert y.shape == x.shape
    assert not np.allclose(y, x, atol=1e-3)
    both = np.fft.rfft(x, 2 * RATE) * np.conj(np.fft.rfft(y, 2 * RATE))
    likeness = np.abs(np.fft.irfft(both)).max() / (np.linalg.norm(x) * np.linalg.norm(y))
    assert likeness > 0.5
    assert np.array_equal(y, transmitted(x, RATE, codec, CODECS[codec][2][-1]))


def test_fewer_bits_are_further_from_the_input() -> None:
    x = swelling_tones(1.0, RATE).astype(float)
    levels = [np.abs(signal.stft(wave, RATE, nperseg=2048)[2]) for wave in (x, *(_coded(x, bits) for bits in BITS))]
    errors = [np.abs(level - levels[0]).mean() for level in levels[1:]]
    assert errors[0] > 1.2 * errors[1]
