"""Scenes of degradations: their severity orders them, whatever the sample rate."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import stft

from recipes.lite import noises, vowels
from recipes.lite.chains import GENERATED, SCENES, coded, degrade
from tests.sounds import music

RATE = 24_000


def distance(x: np.ndarray, y: np.ndarray) -> float:
    """Mean difference of the levels (dB) of two clips in time and frequency, after a common gain."""

    def levels(wave: np.ndarray) -> np.ndarray:
        power = np.abs(stft(wave / wave.std(), nperseg=512)[2]) ** 2
        return 10 * np.log10(power.reshape(-1, power.shape[-1]) + 1e-6)

    return float(np.abs(levels(x) - levels(y)).mean())


@pytest.mark.parametrize("scene", SCENES)
def test_severity_orders_the_versions_of_a_clip(scene: str) -> None:
    x = music(1.0, RATE).astype(np.float64)
    found = [distance(x, degrade(x, RATE, severity, scene, np.random.default_rng(3))) for severity in (0.0, 0.5, 1.0)]
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("seed", range(8))  # all kinds of magnitudes, with and without Griffin and Lim's phases
def test_severity_orders_generated_versions(seed: int) -> None:
    x = music(1.0, RATE).astype(np.float64)
    found = [
        distance(x, degrade(x, RATE, severity, GENERATED, np.random.default_rng(seed))) for severity in (0, 0.5, 1)
    ]
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize("rate", [8_000, 44_100])
@pytest.mark.parametrize("scene", SCENES)
def test_scene_keeps_length_and_peak_at_any_rate(scene: str, rate: int) -> None:
    x = music(0.5, rate).astype(np.float64)
    y, again = (degrade(x, rate, 1.0, scene, np.random.default_rng(0)) for _ in range(2))
    assert y.shape == x.shape
    assert np.isfinite(y).all()
    assert np.abs(y).max() == pytest.approx(0.9)
    assert np.array_equal(y, again)


@pytest.mark.slow
def test_codec_of_many_bits_changes_little() -> None:
    x = music(1.0, 44_100).astype(np.float64)
    for codec in ("libmp3lame", "aac", "libopus"):
        good, bad = (distance(x, coded(x, 44_100, codec, kbps)) for kbps in (256, 16))
        assert good < bad, codec


@pytest.mark.parametrize("name", ["a 110", "u 240"])
def test_vowel_has_its_pitch_and_ends_in_silence(name: str) -> None:
    x = vowels.vowel(name, np.random.default_rng(0))
    assert 1.5 <= len(x) / vowels.RATE <= 6
    assert x[0] == 0
    part = x[vowels.RATE // 2 :][: vowels.RATE // 4]
    lags = np.arange(vowels.RATE // 300, vowels.RATE // 70)
    similar = [np.corrcoef(part[:-lag], part[lag:])[0, 1] for lag in lags]
    assert vowels.RATE / lags[int(np.argmax(similar))] == pytest.approx(float(name.split()[1]), rel=0.05)


@pytest.mark.parametrize("name", noises.NAMES[::6])
def test_noise_is_as_loud_as_a_recording(name: str) -> None:
    x = noises.noise(name, np.random.default_rng(0))
    assert 1.5 <= len(x) / noises.RATE <= 6
    assert np.isfinite(x).all()
    assert 0.1 < np.abs(x).max() < 0.7
