"""Ensembles of folders: their scores are the weighted means of their models', and the strategies choose by labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.spectrum import Spectrum
from mmmos.ensemble import composite_metrics
from mmmos.errors import UsageError
from mmmos.inference.predictor import load
from mmmos.model.folder import save_ensemble, save_model
from mmmos.model.fusion import FusionConfig
from mmmos.model.info import ModelInfo
from mmmos.model.load import load_model
from mmmos.model.quality import ModelConfig
from mmmos.paper import CHECK_MARKED
from mmmos.scores import AXES
from mmmos.training.ensembles import join_models, make_ensemble
from tests.toys import CPU, toy_member

SPEC = EncoderSpec("spectrum", Spectrum.block_dims, Spectrum().fingerprint())
CONFIG = ModelConfig((SPEC,), fusion=FusionConfig("mean_std", "none"))
INFO = ModelInfo(rated=("CE", "PC", "PQ"), clip_output=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of random weights: two single ones, and an ensemble of unequal weights."""
    root = tmp_path_factory.mktemp("models")
    for name, seed in (("a", 0), ("b", 1)):
        save_model(root / name, toy_member(seed, CONFIG), INFO, "")
    weights = np.array([[0.25] * 4, [0.75] * 4])
    save_ensemble(root / "pair", [toy_member(2, CONFIG), toy_member(3, CONFIG)], weights, INFO, "")
    return {name: root / name for name in ("a", "b", "pair")}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    import soundfile

    root, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for i in range(5):
        noise = rng.standard_normal(32_000) * np.linspace(0.02, 0.02 + 0.05 * i, 32_000)
        soundfile.write(root / f"{i}.wav", np.convolve(noise, np.ones(1 + i) / (1 + i), "same"), 16_000)
    return [Clip(f"{i}.wav", str(root / f"{i}.wav")) for i in range(5)]


@pytest.fixture(scope="module")
def each(folders: dict[str, Path], clips: list[Clip]) -> dict[str, np.ndarray]:
    """The scores of the clips by each model alone."""
    return {name: scores_of(folder, clips) for name, folder in folders.items()}


def scores_of(model: Path, clips: list[Clip]) -> np.ndarray:
    with load(model, device="cpu") as predictor:
        return np.array([[scores[axis] for axis in AXES] for scores in predictor.stream(clips)])


@pytest.mark.slow
def test_all_gives_the_mean_of_the_models_scores(folders, clips, each, tmp_path):
    made = make_ensemble(tmp_path / "all", {k: str(v) for k, v in folders.items()}, options=CPU, lists={})
    found = scores_of(tmp_path / "all", clips)
    np.testing.assert_allclose(found, np.mean([*each.values()], axis=0), atol=1e-6)
    assert np.isnan(found[:, 1]).all()  # nobody rated CU
    assert {name: row["PQ"] for name, row in made.weights.items()} == pytest.approx(dict.fromkeys(folders, 1 / 3))
    joined = load_model(tmp_path / "all")
    assert len(joined.members) == 4
    np.testing.assert_allclose(joined.weights[:, 0], [1 / 3, 1 / 3, 1 / 12, 1 / 4])
    assert set(joined.info.check) == {"CE", "PC", "PQ"}


@pytest.mark.slow
def test_a_strategy_chooses_by_labels(folders, clips, each, tmp_path):
    """Labels that are one model's scores: it is the best, and the only member of the folder."""
    rows = [LabelledClip(clip, tuple(labels)) for clip, labels in zip(clips, each["pair"], strict=True)]
    rows.append(LabelledClip(Clip("gone", str(tmp_path / "gone.wav")), (1.0, 2.0, 3.0, 4.0)))
    models = {name: str(folder) for name, folder in folders.items()}
    made = make_ensemble(tmp_path / "best", models, "pam_top_1", CPU, lists={"dev": rows})
    assert {name: row["PQ"] for name, row in made.weights.items()} == {"a": 0.0, "b": 0.0, "pair": 1.0}
    np.testing.assert_allclose(scores_of(tmp_path / "best", clips), each["pair"], atol=1e-6)
    labels = each["pair"]
    expected = composite_metrics(np.stack([*each.values(), labels])[:, :, [0, 2, 3]], labels[:, [0, 2, 3]])
    for name, metrics in zip([*folders, "ensemble"], expected, strict=True):
        assert made.figures["dev"][name] == pytest.approx(metrics, abs=1e-6)


@pytest.mark.slow
def test_pam_list_overrides_dev_for_strategies_of_pam(folders, clips, each, tmp_path):
    lists = {
        which: [LabelledClip(clip, tuple(labels)) for clip, labels in zip(clips, each[name], strict=True)]
        for which, name in (("dev", "b"), ("pam", "a"))
    }
    models = {name: str(folder) for name, folder in folders.items()}
    made = make_ensemble(tmp_path / "one", models, "pam_top_1", CPU, lists=lists)
    assert [name for name, row in made.weights.items() if row["PQ"]] == ["a"]
    assert set(made.figures) == {"dev", "pam"}


def test_submitted_finds_configurations_by_name(folders, tmp_path):
    models = {CHECK_MARKED[0]: str(folders["a"]), "other": str(folders["b"])}
    made = make_ensemble(tmp_path / "it", models, "submitted", CPU, lists={})
    assert {name: row["CE"] for name, row in made.weights.items()} == {CHECK_MARKED[0]: 1.0, "other": 0.0}


@pytest.mark.parametrize(
    ("strategy", "lists", "message"),
    [
        ("best", {}, "unknown strategy 'best'; choose one of submitted, all"),
        ("dev_top_8", {}, "dev_top_8 chooses models by rated clips: give a list of them with --dev"),
        ("pam_top_4", {"dev": [LabelledClip(Clip("x", "/none/x.wav"), (1.0,) * 4)]}, "--dev: no clip has a label"),
        ("submitted", {}, "none of a, b is a configuration that the paper submitted"),
    ],
)
def test_strategies_refuse_what_they_cannot_choose_by(folders, tmp_path, strategy, lists, message):
    models = {name: str(folders[name]) for name in ("a", "b")}
    with pytest.raises(UsageError, match=message):
        make_ensemble(tmp_path / "none", models, strategy, CPU, lists=lists)
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_make_ensemble_names_axes_that_it_loses(folders, tmp_path, caplog: pytest.LogCaptureFixture):
    save_model(tmp_path / "pq", toy_member(5, CONFIG), replace(INFO, rated=("PQ",)), "")
    make_ensemble(tmp_path / "both", {"a": str(folders["a"]), "pq": str(tmp_path / "pq")}, options=CPU, lists={})
    assert caplog.messages == ["pq has no score of PC or CE, so the ensemble has none either"]
    assert set(load_model(tmp_path / "both").info.rated) == {"PQ"}


def test_models_that_cannot_be_combined_are_refused(folders):
    a, b = load_model(folders["a"]), load_model(folders["b"])
    other_spec = replace(CONFIG, encoders=(replace(SPEC, fingerprint="0" * 64),))
    cases = {
        "scale": replace(b, info=replace(b.info, label_range=(1.0, 5.0))),
        "trained on the same encoders": replace(b, members=(toy_member(1, other_spec),)),
        "encoder in its own file": replace(b, loaded={"spectrum": Spectrum()}),
    }
    for message, model in cases.items():
        with pytest.raises(UsageError, match=message):
            join_models("x", [a, model], np.full((2, 4), 0.5))


@pytest.mark.slow
def test_command_prints_weights_and_writes_a_model(
    folders, clips, each, tmp_path, run_mmmos: Callable[..., tuple[int, str, str]]
):
    out = tmp_path / "out"
    status, printed, _ = run_mmmos("ensemble", folders["a"], f"second={folders['b']}", "-o", out)
    assert status == 0
    assert json.loads(printed)["weights"]["second"] == dict.fromkeys(AXES, 0.5)
    np.testing.assert_allclose(scores_of(out, clips[:1]), np.mean([each["a"], each["b"]], axis=0)[:1], atol=1e-6)
    status, _, err = run_mmmos("ensemble", folders["a"], "-o", out)
    assert status == 2
    assert "--overwrite" in err
    status, _, err = run_mmmos("ensemble", folders["a"], folders["a"], "-o", tmp_path / "twice")
    assert status == 2
    assert "two models are called a" in err
