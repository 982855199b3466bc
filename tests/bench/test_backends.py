"""The benchmarks' models with compiled encoders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.backends import openvino_predictors
from mmmos.encoders.base import EncoderSpec
from mmmos.inference.predictor import Predictor
from mmmos.model.quality import ModelConfig
from mmmos.scores import AXES
from tests.sounds import RATE, music
from tests.toys import CPU, PartedToy, is_rounded, toy_member, toy_model


@pytest.mark.slow
def test_openvino_predictors_score_like_torch(tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="the extra mmmos[fast] is not installed")
    config = ModelConfig((EncoderSpec("toy", PartedToy.block_dims, PartedToy().fingerprint()),))
    model = replace(toy_model(toy_member(0, config)), loaded={"toy": PartedToy()})
    predictors = {"torch": Predictor(model, CPU), **openvino_predictors(model, {RATE: music(10.0)}, tmp_path)}
    scores = {}
    for name, predictor in predictors.items():
        with predictor:
            found = predictor.score(music(2.0), sample_rate=RATE)
            scores[name] = np.array([found[axis] for axis in AXES])
    exact = scores.pop("torch")
    assert list(scores) == ["openvino float32", "openvino bfloat16", "openvino int8"]
    changes = {name.split()[1]: np.abs(value - exact).max() for name, value in scores.items()}
    assert changes.pop("float32") < 1e-4
    assert all(1e-6 * is_rounded(precision) <= change < 0.2 for precision, change in changes.items())
    assert len(list((tmp_path / "networks").iterdir())) == 2
