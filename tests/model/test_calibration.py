"""Maps of a calibration: piecewise linear, the same in NumPy and torch, stored in a model folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmmos.errors import ModelFormatError, UsageError
from mmmos.inference.clip_scores import WindowResult, with_scores
from mmmos.inference.predictor import Predictor
from mmmos.model.calibration import Calibration, Knots
from mmmos.model.folder import load_folder, save_ensemble, save_model
from mmmos.model.heads import HeadConfig
from mmmos.model.info import ModelInfo
from mmmos.model.system import ScoringModel
from mmmos.scores import AXES, Scores
from tests.sounds import music
from tests.toys import CPU, ToyEncoder, toy_config, toy_member, toy_model

CURVE = Knots((0, 2, 5, 10), (1, 1.5, 4, 5))
LINE = Knots((0, 10), (1, 5))
PQ = AXES.index("PQ")


def calibration(**by_domain: Knots) -> Calibration:
    """A map of PQ from 0-10 to 1-5, with those of domains."""
    maps = {"PQ": {"": LINE, **by_domain}}
    return Calibration(maps, (0, 10), "ratings.csv, 9 clips", "toys", "0" * 64, {"PQ": {"MSE": 0.5}})


def calibrated(model: ScoringModel, found: Calibration) -> ScoringModel:
    info = ModelInfo(calibrated=True, calibration=found, rated=("PQ",), label_range=(1, 5))
    return replace(model, info=info)


def test_knots_interpolate_and_keep_the_ends():
    scores = np.array([-3.0, 0.0, 1.0, 3.5, 10.0, 12.0])
    assert CURVE(scores).tolist() == pytest.approx([1, 1, 1.25, 2.75, 5, 5])
    assert np.isnan(CURVE(np.array([np.nan]))).all()


def test_tensor_equals_knots_and_continues_straight():
    scores = torch.tensor([0.0, 1.0, 2.0, 4.9, 10.0], dtype=torch.float64, requires_grad=True)
    values = CURVE.tensor(scores)
    assert values.tolist() == pytest.approx(CURVE(scores.detach().numpy()).tolist())
    values.sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == pytest.approx([0.25, 0.25, 0.25, 2.5 / 3, 0.2])
    assert LINE.tensor(torch.tensor([15.0])).item() == pytest.approx(7)


@pytest.mark.parametrize(
    ("x", "y"), [((0,), (1,)), ((0, 10), (1,)), ((0, 0), (1, 2)), ((0, 10), (5, 1)), ((0, float("nan")), (1, 2))]
)
def test_knots_refuse_what_is_not_increasing(x: tuple[float, ...], y: tuple[float, ...]):
    with pytest.raises(ValueError, match="two or more knots"):
        Knots(x, y)


def test_apply_takes_the_map_of_the_domain():
    found = calibration(music=CURVE)
    scores = np.full(4, 5.0)
    assert found.apply(scores, "music")[PQ] == 4
    assert found.apply(scores, "speech")[PQ] == found.apply(scores, None)[PQ] == 3
    assert np.isnan(found.apply(scores, "music")[[i for i in range(4) if i != PQ]]).all()


def test_with_scores_maps_the_combined_score():
    model = calibrated(toy_model(toy_member(0), toy_member(1)), calibration())
    result = WindowResult(
        np.array([[4.0] * 4, [11.0] * 4]), np.empty(0)
    )  # the second member is clipped for its spread alone
    found = with_scores(Scores(), model, result)
    assert (found.PQ, found.PQ_std) == pytest.approx((1 + 0.4 * 7.5, 0.4 * 3))
    assert np.isnan([found.CE, found.CU, found.PC]).all()
    assert "out_of_range" not in found.warnings
    beyond = with_scores(Scores(), model, replace(result, prediction=result.prediction + 4))
    assert "out_of_range" in beyond.warnings
    assert beyond.PQ == 5


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.usefixtures("toy_encoder")
def test_folder_keeps_a_calibration(members: int, tmp_path: Path):
    model = calibrated(toy_model(*(toy_member(i) for i in range(members))), calibration(music=CURVE))
    if members == 1:
        save_model(tmp_path, model.members[0], model.info, "")
    else:
        save_ensemble(tmp_path, model.members, model.weights, model.info, "")
    found = load_folder("m", tmp_path)
    assert found.info == model.info
    assert found.info.source_range == (0, 10)


@pytest.mark.usefixtures("toy_encoder")
def test_folder_with_a_wrong_map_is_refused(tmp_path: Path):
    model = calibrated(toy_model(toy_member(0)), calibration())
    save_model(tmp_path, model.members[0], model.info, "")
    config = json.loads((tmp_path / "config.json").read_text())
    config["about"]["calibration"]["maps"]["PQ"][""]["y"] = [5, 1]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFormatError, match=r"about: a map has two or more knots"):
        load_folder("m", tmp_path)


def test_info_without_a_calibration_is_stored_as_before():
    assert "calibration" not in ModelInfo().stored()
    assert ModelInfo.from_stored(ModelInfo().stored()) == ModelInfo()


def test_ensembles_refuse_calibrated_members():
    info = ModelInfo(calibration=calibration(), label_range=(1, 5))
    with pytest.raises(UsageError, match="calibrate the ensemble"):
        ModelInfo.of_ensemble([info, info], {})


@pytest.mark.slow
def test_module_gives_calibrated_scores(toy_encoder: ToyEncoder):
    config = toy_config(heads=HeadConfig(domains=("speech", "music")))
    plain = toy_model(toy_member(3, config))
    wave = music(0.5)
    before = Predictor(plain, CPU).score(wave, sample_rate=16_000)
    domain = before.domain or ""
    predictor = Predictor(calibrated(plain, calibration(**{domain: CURVE})), CPU)
    scores = predictor.score(wave, sample_rate=16_000)
    waves = torch.from_numpy(wave)[None].requires_grad_()
    values = predictor.module(waves, sample_rate=16_000)
    assert values[0, PQ].item() == pytest.approx(scores.PQ, abs=0.01)
    assert CURVE(np.array(before.PQ)) == pytest.approx(scores.PQ)
    values[0, PQ].backward()
    assert waves.grad is not None
    assert waves.grad.isfinite().all()
    assert waves.grad.any()
    silent = predictor.module(torch.zeros(1, 16_000), sample_rate=16_000)
    assert silent[0, PQ] == 1
    assert scores.provenance is not None
    assert (scores.provenance.calibrated, scores.provenance.calibrated_on) == (True, "ratings.csv, 9 clips")
