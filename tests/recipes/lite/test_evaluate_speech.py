"""Figures of speech, from made-up inputs in which one value is the quality."""

from __future__ import annotations

import numpy as np
import pytest

from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.student import RATINGS
from recipes.lite import evaluate_speech as study
from recipes.lite.fit import Examples
from recipes.lite.heads import CODEC, FREE
from recipes.lite.spoken import Spoken
from recipes.lite.versions import Version

SPECS = (EncoderSpec("yamnet", (3,), "imaginary"), EncoderSpec("student", (4, RATINGS), "imaginary"))
WIDTH = 2 * (3 + 4 + RATINGS)
VERSIONS = [("clean", 0), ("white", 1), ("white", 3), ("hum", 2)]


def made_up() -> Examples:
    rng = np.random.default_rng(0)
    voices = [Spoken(f"{i}", FREE, f"{i}", f"package {i % 8}", *made) for i in range(24) for made in VERSIONS]
    for i in range(32):
        voices.append(Spoken(f"c{i}", CODEC, f"signal {i % 8}", CODEC, ("Lyra 3", "AudioDec")[i % 2], rating=i % 8))
    quality = np.array([voice.rating if voice.set == CODEC else 4 - voice.step for voice in voices])
    inputs = rng.normal(0, 0.3, (len(voices), WIDTH))
    inputs[:, 6] += quality  # the first of the student's means
    row = Version("a", "speech", FREE, "a", "x", "clean", 0.0, (np.nan,) * 4)
    return Examples([row] * len(voices), inputs, [], np.zeros((0, WIDTH)), voices, inputs, SPECS)


@pytest.mark.slow
def test_figures_of_speech_are_those_of_clips_that_were_left_out():
    examples = made_up()
    found = study.evaluate_speech(examples, examples.voice_inputs[:, 6])
    codecs = found["codecs"]
    assert codecs["unseen signals"]["clips"] == 32
    assert codecs["unseen codec families"]["srcc"] > 0.9
    assert codecs["trained without their ratings"]["srcc"] > 0.7
    assert abs(codecs["copy of NISQA alone"]["srcc"]) < 0.7
    assert found["order"]["lite"]["all"] == [pytest.approx(1.0, abs=0.05), 24 * 4]
    assert found["order"]["copy of NISQA alone"]["all"][0] < 0.8
    assert found["noise"]["lite"] > 0.8
    assert found["unseen degradations"]["something added"][1] == 24 * 4
    assert found["codec systems"]["unseen signals"]["clips"] == 2


def test_scores_without_a_fold_are_nan():
    examples = made_up()
    faults = np.arange(WIDTH) >= 6
    found = study.cross_score(examples.voice_inputs, examples.voices, faults, lambda voice: None)
    assert np.isnan(found).all()


def test_order_counts_pairs_by_kind():
    voices = [Spoken("a", FREE, "a", "p", *made) for made in VERSIONS]
    assert study.order(voices, np.array([4.0, 3.0, 5.0, 1.0])) == {
        "all": [0.5, 4],
        "hum": [1.0, 1],
        "white": [1 / 3, 3],
    }
