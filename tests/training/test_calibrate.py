"""From rated clips to a calibrated model folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.errors import ManifestError, TrainingError, UsageError
from mmmos.inference.predictor import Predictor, load
from mmmos.model.folder import save_model
from mmmos.model.info import ModelInfo
from mmmos.scores import Scores
from mmmos.training.calibrate import Calibrated, calibrate_folder
from tests.toys import CPU, toy_member, toy_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def predictor(toy_encoder: object) -> Predictor:
    return Predictor(toy_model(toy_member(0)), CPU)


def clips(labels: np.ndarray, folder: Path) -> list[LabelledClip]:
    """Rated clips without audio, two of each song; PQ is the last axis."""
    nothing = (float("nan"),) * 3
    return [
        LabelledClip(Clip(f"{i}", str(folder / f"{i}.wav")), (*nothing, float(label)), group=f"song{i // 2}")
        for i, label in enumerate(labels)
    ]


def given(values: np.ndarray) -> list[Scores]:
    return [Scores(id=str(i), PQ=float(value), CE=5.0) for i, value in enumerate(values)]


@pytest.fixture
def calibrate(predictor: Predictor, tmp_path: Path) -> Callable[..., Calibrated]:
    """Calibrate on 40 clips with scores from 2 to 8 and labels from 1 to 5."""
    scores = np.linspace(2, 8, 40)
    labels = 1.5 + 0.25 * scores + np.random.default_rng(0).normal(0, 0.1, 40)

    def run(**changed: object) -> Calibrated:
        options = {"folder": tmp_path / "new", "rows": clips(labels, tmp_path), "scores": given(scores)}
        options |= {"predictor": predictor, "name": "lab/ratings.csv", "label_range": (1.0, 5.0)}
        return calibrate_folder(**options | changed)

    return run


def test_calibrate_folder_makes_a_model_on_the_raters_scale(calibrate: Callable[..., Calibrated], tmp_path: Path):
    result = calibrate()
    assert (result.clips, result.scale, result.model) == (40, "1-5", "toys")
    assert result.axes["PQ"]["result"] == "calibrated"
    assert result.axes["PQ"]["MSE"] < 0.05 < result.axes["PQ"]["rescaled_MSE"]
    with load(tmp_path / "new", device="cpu") as found:
        info = found.model.info
        assert (info.rated, info.label_range, info.calibrated_on) == (("PQ",), (1, 5), "ratings.csv, 40 clips")
        assert info.calibration is not None
        assert info.calibration.knots("PQ", None)(np.array(5.0)) == pytest.approx(2.75, abs=0.1)
        assert found.provenance.calibrated
    assert "ratings.csv, 40 clips" in (tmp_path / "new" / "README.md").read_text()


def test_calibrate_folder_of_useless_scores_writes_nothing(calibrate: Callable[..., Calibrated], tmp_path: Path):
    shuffled = np.random.default_rng(1).permutation(np.linspace(2, 8, 40))
    with pytest.raises(TrainingError, match="calibration does not help"):
        calibrate(scores=given(shuffled))
    assert not (tmp_path / "new").exists()


def test_calibrate_folder_refuses_bad_ratings(calibrate: Callable[..., Calibrated], tmp_path: Path):
    with pytest.raises(ManifestError, match="outside the scale 1-5"):
        calibrate(rows=clips(np.linspace(1, 7, 40), tmp_path))
    with pytest.raises(UsageError, match="PQ is always 3"):
        calibrate(rows=clips(np.full(40, 3.0), tmp_path))
    with pytest.raises(UsageError, match="at least 5 are needed"):
        calibrate(rows=clips(np.array([1.0, 2, 3]), tmp_path), scores=given(np.ones(3)))
    mixed = [replace(row, set=str(i % 2)) for i, row in enumerate(clips(np.linspace(1, 5, 40), tmp_path))]
    with pytest.raises(UsageError, match="2 sets"):
        calibrate(rows=mixed)


def test_calibrate_folder_refuses_used_folders_and_models(
    calibrate: Callable[..., Calibrated], predictor: Predictor, tmp_path: Path
):
    calibrate()
    with pytest.raises(UsageError, match="holds other files"):
        calibrate()
    with (
        load(tmp_path / "new", device="cpu") as found,
        pytest.raises(UsageError, match="is calibrated already: calibrate toys instead"),
    ):
        calibrate(predictor=found, folder=tmp_path / "other")
    own = Predictor(replace(predictor.model, loaded={"toy": predictor.encoders["toy"]}), CPU)
    with pytest.raises(UsageError, match="encoders in its own file"):
        calibrate(predictor=own, folder=tmp_path / "other")


def test_calibrate_folder_leaves_out_clips_without_a_score(calibrate: Callable[..., Calibrated]):
    scores = given(np.linspace(2, 8, 40))
    scores[3] = Scores(id="3")
    assert calibrate(scores=scores).clips == 39


@pytest.mark.slow
@pytest.mark.usefixtures("toy_encoder")
def test_calibrate_command_scores_on_the_new_scale(
    run_mmmos: Run, make_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "toys", toy_member(0), ModelInfo(), "")
    names = [make_file(f"{i}.wav", seconds=0.5 + i / 10, rate=8000 * (1 + i % 3)).name for i in range(6)]
    _, out, _ = run_mmmos("score", *names, "--model", "toys")
    quality = {row["id"]: row["PQ"] for row in map(json.loads, out.splitlines())}
    span = max(quality.values()) - min(quality.values())
    lines = [f"{name},{1 + 2 * (value - min(quality.values())) / span}" for name, value in quality.items()]
    Path("r.csv").write_text("\n".join(["path,PQ", *lines, "missing.wav,3"]))
    status, out, err = run_mmmos("calibrate", "r.csv", "-o", "mine", "--model", "toys", "--scale", "1", "5")
    assert status == 0, err
    assert "1 of 7 listed clips is missing" in err
    assert json.loads(out)["axes"]["PQ"]["map"] == "line"
    _, out, _ = run_mmmos("score", names[0], "--model", "mine")
    row = json.loads(out)
    assert row["PQ"] == pytest.approx(float(lines[0].split(",")[1]), abs=0.05)
    assert (row["scale"], row["CE"], row["calibrated"], row["calibrated_on"]) == ("1-5", None, True, "r.csv, 6 clips")
