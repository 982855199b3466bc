import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from versa.utterance_metrics.mmmos_scores import mmmos_metric, mmmos_setup

KEYS = {"mmmos_PQ", "mmmos_PC", "mmmos_CE", "mmmos_CU"}


@pytest.fixture(scope="module")
def model():
    (config,) = yaml.safe_load(Path("egs/separate_metrics/mmmos.yaml").read_text())
    assert config.pop("name") == "mmmos"
    return mmmos_setup(**config)


@pytest.mark.parametrize("fs", [8000, 16000, 44100])
def test_scores_are_finite_at_any_rate(model, fs):
    audio = np.sin(2 * np.pi * 440 * np.arange(2 * fs) / fs) * 0.3
    scores = mmmos_metric(model, audio, fs)
    assert set(scores) == KEYS
    assert all(type(value) is float and 0 <= value <= 10 for value in scores.values())


def test_silence_has_no_score(model):
    assert all(math.isnan(value) for value in mmmos_metric(model, np.zeros(16000), 16000).values())


def test_noise_lowers_production_quality(model):
    time = np.arange(32000) / 16000
    clean = 0.1 * np.sin(2 * np.pi * 220 * time) * (1 + np.sin(2 * np.pi * 3 * time))
    noisy = clean + 0.1 * np.random.default_rng(0).standard_normal(len(clean))
    assert mmmos_metric(model, noisy, 16000)["mmmos_PQ"] < mmmos_metric(model, clean, 16000)["mmmos_PQ"]
