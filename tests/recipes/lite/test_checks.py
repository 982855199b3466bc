"""Checks on signals: what they count, with scores made from the samples."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import welch

import mmmos
from mmmos.scores import AXES, Scores
from recipes.lite import checks
from tests.sounds import music, notes

RATE = 24_000


def clip(seconds: float = 2.0) -> checks.Clip:
    return checks.PEAK * music(seconds, RATE).astype(np.float64), RATE


def level(x: checks.Wave, rate: int) -> Scores:
    """The RMS level as every score; sound if it is faint."""
    bels = float(np.log10(np.sqrt(np.mean(x**2)) + 1e-9))
    return Scores(*[bels] * len(AXES), domain="sound" if bels < -3 else "music")


def test_gain_is_the_largest_change():
    found = checks.gain(level, {"music": [clip()]})
    assert found["music"] == pytest.approx(dict.fromkeys(AXES, 1.0))
    same = checks.gain(lambda x, rate: Scores(*[5.0] * 4), {"music": [clip()]})
    assert same["music"] == dict.fromkeys(AXES, 0.0)


def test_lowered_counts_clips_and_points():
    found = checks.lowered(level, [clip(), clip(1.0)], lambda x, rate: 0.1 * x)
    assert found == pytest.approx({"lowered": 1.0, "points": 1.0, "clips": 2})
    assert checks.lowered(level, [clip()], checks.clipped)["lowered"] == 0.0  # clipping makes it louder


def test_changes_of_samples_are_what_their_names_say():
    x, rate = clip()
    assert len(np.unique(checks.quantised(x, rate).round(9))) <= 2**checks.BITS + 1
    assert np.mean(np.abs(checks.clipped(x, rate)) > 0.99 * np.abs(x).max()) > 0.1
    hz, before = welch(x, rate, nperseg=2048)
    _, after = welch(checks.low_pass(3_000)(x, rate), rate, nperseg=2048)
    assert after[hz > 4_500].sum() < 1e-3 * before[hz > 4_500].sum()
    ((voice, own),) = checks.narrow_voices([clip()])
    _, noisy = welch(checks.noisy_above(10.0)(voice, own) - voice, own, nperseg=2048)
    assert noisy[hz > 7_900].sum() > 0.95 * noisy.sum()


def test_crossfade_is_the_largest_step():
    loud, faint = clip(), (1e-6 * clip()[0], RATE)
    assert checks.crossfade(level, loud, faint) == pytest.approx([0] * 4, abs=0.2)  # both are brought to one level

    def jump(x: checks.Wave, rate: int) -> Scores:
        return Scores(*[float(np.argmax(np.abs(np.fft.rfft(x))) > len(x) * 2_000 // rate)] * 4)

    time = np.arange(2 * RATE) / RATE
    tones = [(np.sin(2 * np.pi * hz * time), RATE) for hz in (500, 5_000)]
    assert checks.crossfade(jump, *tones).tolist() == [1.0] * 4


def test_short_compares_the_domain_with_that_of_the_clip():
    x, rate = clip(4.0)
    quiet = np.concatenate([x[:rate], 1e-6 * x[:rate], 1e-6 * x, 1e-6 * x])
    found = checks.short(level, {"music": [(x, rate)], "sound": [(quiet, rate)] * 3})
    assert found["music"]["same"] == 1.0
    assert found["sound"]["same"] < 1.0


@pytest.mark.slow
def test_bundled_model_does_not_depend_on_the_gain():
    predictor = mmmos.load("lite", device="cpu")

    def score(x: checks.Wave, rate: int) -> Scores:
        return predictor.score(x.astype(np.float32), sample_rate=rate)

    two = {"music": [clip(1.0)], "speech": [(0.1 * notes(1.0)[0].double().numpy(), 16_000)]}
    assert max(value for axes in checks.gain(score, two).values() for value in axes.values()) < 0.05
