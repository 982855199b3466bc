"""A model by its name: which one is meant, and that its encoders are the very ones it was trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.table import ENCODERS
from mmmos.encoders.weights import load_strictly
from mmmos.errors import MmmosError, ModelFormatError, ModelNotFoundError, UsageError
from mmmos.hub.options import LoadOptions
from mmmos.model import load as models
from mmmos.model.folder import load_folder, save_model
from mmmos.model.info import ModelInfo
from mmmos.model.load import load_encoders, load_model
from mmmos.model.quality import ModelConfig
from tests.toys import TRUSTED, ToyEncoder, toy_member, toy_model

FOUND = object()


class StoredEncoder(ToyEncoder):
    """A `ToyEncoder` with weights in a file."""

    @classmethod
    def from_checkpoint(cls, path: Path, options: LoadOptions, **settings: Any) -> StoredEncoder:
        if not path.is_file():
            raise ModelNotFoundError(f"no such checkpoint: {path}")
        encoder = cls(**settings)
        load_strictly(encoder, load_file(path), str(path))
        return encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", toy_member(0), ModelInfo(), "")
    return tmp_path / "model"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in."""
    path = tmp_path / "elsewhere"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the loader of the published baseline is called with, instead of being run."""
    requested: list[tuple[Any, ...]] = []

    def load(*arguments: Any) -> object:
        requested.append(arguments)
        return FOUND

    monkeypatch.setattr(models, "load_audiobox", load)
    return requested


@pytest.mark.parametrize("name", ["lite", Path("lite")])
def test_lite_is_the_bundled_model(name: str | Path, elsewhere: Path) -> None:
    model = load_model(name)
    with as_file(files("mmmos") / "bundled" / "lite") as folder:
        assert model.sha256 == load_folder("lite", folder).sha256
    assert model.name == "lite"
    assert {spec.name for spec in model.encoders} == {"yamnet", "student"}


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_nothing_called_lite_stands_before_the_bundled_model(folder: Path, elsewhere: Path, kind: str) -> None:
    expected = load_model("lite").sha256
    if kind == "folder":
        shutil.copytree(folder, "lite")
        assert load_model("./lite").sha256 == load_model(folder).sha256 != expected
    else:
        Path("lite").write_text("")
    assert load_model("lite").sha256 == expected


def test_audiobox_is_the_published_baseline(
    loaded: list[Any], folder: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, "audiobox")
    requested = []

    def locate(name: str, options: LoadOptions) -> Path:
        requested.append((name, options))
        return Path("cached")

    monkeypatch.setattr(models, "locate", locate)
    options = LoadOptions(accept_licenses=("audiobox",), revision="abc", local_files_only=True, token="t")
    assert load_model("audiobox", options) is FOUND
    assert requested == [("audiobox", options)]
    info = ModelInfo(calibrated=True, commercial_use=True, training={"source": "facebook/audiobox-aesthetics"})
    assert loaded == [("audiobox", Path("cached"), options, info)]


def test_audiobox_is_not_found_offline(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="audiobox"):
        load_model("audiobox", LoadOptions(cache_dir=tmp_path))


def test_the_baseline_folder_is_recognised_by_its_settings(loaded: list[Any], folder: Path) -> None:
    assert load_model(folder).encoders[0].name == "toy"
    assert loaded == []
    (folder / "config.json").write_text(json.dumps({"target_transform": {}}))
    assert load_model(folder, TRUSTED) is FOUND
    assert loaded == [(str(folder), folder, TRUSTED)]


def test_a_pt_file_is_the_baseline(loaded: list[Any], elsewhere: Path) -> None:
    Path("some.pt").write_bytes(b"")
    assert load_model("some.pt") is FOUND
    assert loaded == [("some.pt", Path("some.pt"), LoadOptions())]


@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt", "lite.zip", "models/model.safetensors"])
def test_another_file_is_no_model(
    loaded: list[Any], elsewhere: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(models, "fetch_folder", lambda *_, **__: pytest.fail("fetched"))
    Path("models").mkdir()
    Path(name).write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match=name):
        load_model(name)
    assert loaded == []


def test_a_folder_by_each_way_to_write_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    names = (folder, str(folder), "model", "./model", "model/", f"../{folder.parent.name}/model")
    found = [load_model(name) for name in names]
    assert {model.sha256 for model in found} == {found[0].sha256}
    assert [model.name for model in found] == list(map(str, names))


@pytest.mark.parametrize("name", ["light", "lite ", "LITE", "audio-box", "typo.pt", "./someone/model", "/a/b", "a/b/c"])
def test_load_model_refuses_a_typo_without_the_hub(name: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "fetch_folder", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(ModelNotFoundError) as caught:
        load_model(name)
    assert repr(name) in str(caught.value)
    assert "lite, audiobox" in str(caught.value)


def test_a_name_with_one_slash_is_a_hub_id(folder: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = []

    def fetch(name: str, options: LoadOptions) -> Path:
        requested.append((name, options))
        return folder

    monkeypatch.setattr(models, "fetch_folder", fetch)
    model = load_model("someone/model", LoadOptions(revision="abc"))
    assert (model.name, model.sha256) == ("someone/model", load_model(folder).sha256)
    assert requested == [("someone/model", LoadOptions(revision="abc"))]


def test_load_encoders_passes_all_options_but_the_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    received = []

    def locate(name: str, options: LoadOptions) -> Path:
        received.append((name, options))
        raise ModelNotFoundError("not here")

    monkeypatch.setattr("mmmos.encoders.table.locate", locate)
    options = LoadOptions(accept_licenses=("wavlm",), cache_dir=tmp_path, local_files_only=True, token="t")
    with pytest.raises(ModelNotFoundError, match="not here"):
        load_encoders(model_of(name="wavlm"), replace(options, revision="abc"))
    assert received == [("wavlm", options)]


def test_encoders_are_frozen_and_shared_by_all_members(toy_encoder: ToyEncoder) -> None:
    ((name, encoder),) = load_encoders(toy_model(toy_member(0), toy_member(1))).items()
    assert name == "toy"
    assert not encoder.training
    assert not any(weight.requires_grad for weight in encoder.parameters())
    assert encoder.fingerprint() == toy_encoder.fingerprint()


def test_an_encoder_in_the_models_own_file_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ENCODERS, "toy", raising=False)
    own = ToyEncoder()
    model = replace(toy_model(toy_member(0)), loaded={"toy": own})
    assert load_encoders(model)["toy"] is own
    with pytest.raises(ModelNotFoundError, match="toy"):
        load_encoders(replace(model, loaded={}))


def model_of(**changes: Any) -> Any:
    spec = EncoderSpec("toy", ToyEncoder.block_dims, ToyEncoder().fingerprint())
    return toy_model(toy_member(0, ModelConfig((replace(spec, **changes),))))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"fingerprint": "0" * 64}, ModelFormatError, "toys was trained on another version of the encoder toy"),
        ({"options": {"gain": 2.0}}, ModelFormatError, "another version"),
        ({"options": {"pitch": 2.0}}, ModelFormatError, "the encoder toy takes no options {'pitch': 2.0}"),
        ({"options": {"trust_checkpoint": True}}, ModelFormatError, "takes no options"),
        ({"options": {"options": TRUSTED}}, ModelFormatError, "takes no options"),
        ({"name": "tooy"}, ModelNotFoundError, "no encoder is called 'tooy'"),
        ({"checkpoint": "/somewhere/toy.pt"}, UsageError, "takes no checkpoint"),
    ],
)
def test_other_encoders_than_the_models_own_are_refused(
    toy_encoder: ToyEncoder, changes: dict[str, Any], error: type[MmmosError], message: str
) -> None:
    assert load_encoders(model_of())
    with pytest.raises(error, match=message):
        load_encoders(model_of(**changes))


def test_options_are_given_to_the_encoder(toy_encoder: ToyEncoder) -> None:
    model = model_of(options={"gain": 2.0}, fingerprint=ToyEncoder(gain=2.0).fingerprint())
    assert load_encoders(model)["toy"].settings() == {"gain": 2.0}


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """`stored("../toy.safetensors")` saves a model with that checkpoint in its config and gives its folder."""
    monkeypatch.setitem(ENCODERS, "toy", StoredEncoder)
    encoder = StoredEncoder()
    encoder.directions.data.mul_(2)

    def save(checkpoint: str) -> Path:
        folder = tmp_path / "models" / "mine"
        spec = EncoderSpec("toy", encoder.block_dims, encoder.fingerprint(), checkpoint=checkpoint)
        save_model(folder, toy_member(0, ModelConfig((spec,))), ModelInfo(), "")
        save_file(encoder.state_dict(), folder / checkpoint)
        return folder

    return save


@pytest.mark.parametrize("checkpoint", ["toy.safetensors", "../toy.safetensors"])
@pytest.mark.parametrize("relative", [True, False])
def test_checkpoint_path_is_relative_to_the_model_folder(
    stored: Callable[[str], Path], elsewhere: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: str, relative: bool
) -> None:
    folder = stored(checkpoint)
    save_file({"directions": torch.zeros(4, 160)}, elsewhere / "toy.safetensors")  # not this one
    monkeypatch.chdir(folder.parent)
    model = load_model("mine/" if relative else folder)
    monkeypatch.chdir(elsewhere)
    encoder = load_encoders(model)["toy"]
    assert encoder.fingerprint() == model.encoders[0].fingerprint
    assert encoder.fingerprint() != StoredEncoder().fingerprint()


def test_a_missing_or_different_checkpoint_is_reported(stored: Callable[[str], Path]) -> None:
    folder = stored("toy.safetensors")
    model = load_model(folder)
    save_file(StoredEncoder().state_dict(), folder / "toy.safetensors")
    with pytest.raises(ModelFormatError, match="another version"):
        load_encoders(model)
    (folder / "toy.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=str(folder / "toy.safetensors")):
        load_encoders(model)
