"""A model folder: what is saved comes back to the bit, and nothing that is not whole is loaded."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mmmos.encoders.base import EncoderSpec, Features
from mmmos.errors import MmmosError, ModelFormatError, ModelNotFoundError, UsageError
from mmmos.hub.options import LoadOptions
from mmmos.model.folder import load_folder, save_ensemble, save_model
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig
from mmmos.model.info import ModelInfo
from mmmos.model.load import load_model
from mmmos.model.quality import ModelConfig
from mmmos.model.system import Member
from mmmos.scores import AXES, Scale
from tests.toys import toy_member

CONFIG = ModelConfig(
    (EncoderSpec("toy", (3, 1), "0" * 64, {"gain": 2.0}), EncoderSpec("other", (5,), "1" * 64)),
    fusion=FusionConfig("mean_std", "none", standardize=True),
    heads=HeadConfig(head_layers=2, head_hidden=3, dropout=0.1),
)
ABOUT = ModelInfo(calibrated=True, training={"data": ["a", 1, None]}, check={"CE": 1.5})
WEIGHTS = np.array([[0.25, 0.5, 1.0, 1 / 3], [0.75, 0.5, 0.0, 2 / 3]])


def member(seed: int) -> Member:
    """Random weights, fitted statistics, and a scale that no short decimal gives."""
    model = toy_member(seed, CONFIG).model
    rows = torch.randn(20, model.aggregator.output_dim, generator=torch.Generator().manual_seed(seed))
    model.aggregator.fit(rows)
    return Member(model, Scale((1 / 3, 5.0, 1e-7, 9.99), (1.0, 2 / 3, 1e-3, 12.0)))


@pytest.fixture
def single(tmp_path: Path) -> Path:
    save_model(tmp_path / "single", member(0), ABOUT, "# A card\n")
    return tmp_path / "single"


@pytest.fixture
def ensemble(tmp_path: Path) -> Path:
    save_ensemble(tmp_path / "pair", [member(0), member(1)], WEIGHTS, ABOUT, "# A card\n")
    return tmp_path / "pair"


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def assert_same(loaded: Member, saved: Member) -> None:
    assert loaded.model.config == saved.model.config
    assert loaded.scale == saved.scale
    ours, theirs = loaded.model.state_dict(), saved.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
    features = {
        name: Features(torch.randn(3, 4, dim), torch.ones(3, 4, dtype=torch.bool), 1.0)
        for name, dim in (("toy", 4), ("other", 5))
    }
    assert torch.equal(loaded.model(features), saved.model(features))


def test_a_model_comes_back_to_the_bit(single: Path) -> None:
    loaded = load_model(single)
    assert_same(loaded.members[0], member(0))
    assert loaded.info == ABOUT
    assert loaded.name == str(single)
    assert loaded.encoders == CONFIG.encoders
    np.testing.assert_array_equal(loaded.weights, np.ones((1, 4)))
    assert (single / "README.md").read_text() == "# A card\n"


def test_an_ensemble_comes_back_to_the_bit(ensemble: Path) -> None:
    loaded = load_model(str(ensemble))
    for i, found in enumerate(loaded.members):
        assert_same(found, member(i))
    assert loaded.info == ABOUT
    np.testing.assert_array_equal(loaded.weights, WEIGHTS)


def test_single_model_takes_the_place_of_an_ensemble(ensemble: Path) -> None:
    save_model(ensemble, member(5), ModelInfo(), "One.\n")
    (loaded,) = load_folder("one", ensemble).members
    assert_same(loaded, member(5))


def test_a_loaded_model_is_frozen_and_in_evaluation_mode(single: Path) -> None:
    model = load_model(single).members[0].model
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_saving_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_model(tmp_path / name, member(0), ABOUT, "card\n")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_axes_are_stored_by_name(single: Path) -> None:
    def turn(data: dict[str, Any]) -> None:
        data["scale"]["mean"] = dict(reversed(data["scale"]["mean"].items()))

    edit(single / "config.json", turn)
    assert load_model(single).members[0].scale == member(0).scale


def set_in(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


def remove(*keys: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_in("speed", to=1), "exactly the fields about, format, model, scale"),
        (remove("about"), "exactly the fields"),
        (set_in("model", "depth", to=1), "ModelConfig has unknown fields: depth; a later version of mmmos wrote it"),
        (remove("model", "heads"), "heads"),
        (
            set_in("model", "heads", "depth", to=1),
            "HeadConfig has unknown fields: depth; a later version of mmmos wrote it",
        ),
        (remove("model", "heads", "hidden"), "HeadConfig has missing or unknown fields: hidden"),
        (set_in("model", "heads", "layers", to=0), "at least one layer"),
        (set_in("model", "heads", "layers", to="two"), "config.json"),
        (
            set_in("model", "fusion", "depth", to=1),
            "FusionConfig has unknown fields: depth; a later version of mmmos wrote it",
        ),
        (set_in("model", "fusion", "pool", to="median"), "median"),
        (set_in("model", "fusion", "embed_norm", to="L2"), "L2"),
        (remove("model", "encoders", 0, "fingerprint"), "EncoderSpec has missing or unknown fields: fingerprint"),
        (set_in("model", "encoders", 0, "columns", to=7), "config.json"),
        (set_in("model", "aggregator", to="lstm"), "lstm"),
        (set_in("model", to=[1]), "config.json"),
        (set_in("model", to=None), "config.json"),
        (remove("scale", "std", "PQ"), "PQ"),
        (set_in("scale", "std", "PQ", to=0.0), "positive"),
        (set_in("scale", "mean", "PQ", to=float("nan")), "finite"),
        (set_in("about", "price", to=1), "ModelInfo has unknown fields: price; a later version of mmmos wrote it"),
        (set_in("about", "label_range", to=[5, 1]), "label_range is 5 to 1"),
        (set_in("about", "label_range", to=[1, float("nan")]), "label_range is 1 to nan"),
        (set_in("about", "label_range", to="1-5"), "about: "),
        (set_in("about", "trained_on", to=7), "about: "),
        (set_in("format", to=2), "format 2; this version of mmmos reads format 1; a later version of mmmos wrote it"),
        (set_in("format", to="1"), "format '1'"),
    ],
)
def test_a_config_that_is_not_exactly_right_is_refused(
    single: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    edit(single / "config.json", change)
    with pytest.raises(ModelFormatError) as caught:
        load_model(single)
    assert words in str(caught.value)
    assert str(single) in str(caught.value) or "lstm" in words


@pytest.mark.parametrize("missing", [(), ("label_range",), ("label_range", "trained_on")])
def test_folder_of_an_earlier_version_has_the_scale_0_10(single: Path, missing: tuple[str, ...]) -> None:
    for name in missing:
        edit(single / "config.json", remove("about", name))
    info = load_model(single).info
    assert info == ABOUT
    assert (info.label_range, info.scale) == ((0.0, 10.0), "0-10")


def test_label_range_is_kept_by_model_ensemble_and_members(tmp_path: Path) -> None:
    info = replace(ABOUT, label_range=(1, 5), trained_on=("ab", "cd"))
    save_model(tmp_path / "single", member(0), info, "")
    save_ensemble(tmp_path / "pair", [member(0), member(1)], WEIGHTS, info, "")
    for name in ("single", "pair"):
        assert load_model(tmp_path / name).info == info
    assert load_model(tmp_path / "pair" / "member-1").info.scale == "1-5"


def test_a_later_format_is_reported_even_with_other_fields(single: Path) -> None:
    edit(single / "config.json", lambda data: data.update(format=2, novelty=1))
    with pytest.raises(ModelFormatError, match="reads format 1"):
        load_model(single)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "null"])
def test_a_config_that_is_no_json_object_is_refused(single: Path, text: str) -> None:
    (single / "config.json").write_text(text)
    with pytest.raises(ModelFormatError, match=r"config\.json"):
        load_model(single)


@pytest.mark.parametrize("kind", ["missing", "unknown", "reshaped"])
def test_tensors_are_loaded_strictly(single: Path, kind: str) -> None:
    path = single / "model.safetensors"
    state = load_file(path)
    key = "heads.axes.PQ.1.bias"
    if kind == "unknown":
        state["extra"] = torch.zeros(1)
    elif kind == "missing":
        del state[key]
    else:
        state[key] = torch.zeros(1, 1)
    save_file(state, path)
    with pytest.raises(ModelFormatError, match=r"model\.safetensors does not fit QualityModel: .*(extra|PQ\.1\.bias)"):
        load_model(single)


@pytest.mark.parametrize("left", [0, 7, 100, -1])
def test_truncated_weights_are_refused(single: Path, left: int) -> None:
    path = single / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ModelFormatError, match=r"model\.safetensors cannot be read"):
        load_model(single)


def test_missing_weights_are_refused(single: Path) -> None:
    (single / "model.safetensors").unlink()
    with pytest.raises(ModelFormatError, match=r"model\.safetensors cannot be read"):
        load_model(single)


class _Trap:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("dump", [pickle.dumps, None])
def test_a_pickle_in_place_of_safetensors_is_refused_unread(single: Path, dump: Callable[[Any], bytes] | None) -> None:
    sprung, weights = single / "sprung", single / "model.safetensors"
    trap = _Trap(str(sprung))
    if dump:
        weights.write_bytes(dump(trap))
    else:
        torch.save({"state": trap}, weights)
    with pytest.raises(ModelFormatError, match="cannot be read"):
        load_model(single)
    assert not sprung.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_in("weights", 0, "PQ", to=0.5), "must sum to 1"),
        (set_in("weights", 0, "PQ", to=float("nan")), "must sum to 1"),
        (remove("weights", 0), "weights [1] of 2 members"),
        (remove("members", 0), "weights [2] of 1 members"),
        (remove("weights", 0, "PQ"), "a number for each member and axis"),
        (set_in("weights", 0, "PQ", to="much"), "a number for each member and axis"),
        (set_in("weights", to=7), "a number for each member and axis"),
        (lambda data: data.update(members=[], weights=[]), "weights [0] of 0 members"),
        (set_in("members", to=7), "ensemble.json"),
        (set_in("members", 1, to="../single"), "../single"),
        (set_in("members", 1, to=".."), "folders next to it"),
        (set_in("members", 1, to="/"), "folders next to it"),
        (set_in("strategy", to="all"), "exactly the fields"),
        (set_in("format", to=0), "format 0"),
        (set_in("about", "price", to=1), "ModelInfo has unknown fields: price; a later version of mmmos wrote it"),
    ],
)
def test_an_ensemble_that_is_not_exactly_right_is_refused(
    single: Path, ensemble: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    edit(ensemble / "ensemble.json", change)
    with pytest.raises(ModelFormatError) as caught:
        load_model(ensemble)
    assert words in str(caught.value)


def test_an_ensemble_without_one_of_its_members_is_refused(ensemble: Path) -> None:
    shutil.rmtree(ensemble / "member-1")
    with pytest.raises(MmmosError, match=r"member-1.*no config\.json"):
        load_model(ensemble)


def test_members_must_agree_on_their_encoders(ensemble: Path) -> None:
    edit(ensemble / "member-1" / "config.json", set_in("model", "encoders", 0, "fingerprint", to="2" * 64))
    with pytest.raises(ModelFormatError, match="disagree on the encoder toy"):
        _ = load_model(ensemble).encoders


def test_sha256_changes_with_every_file_that_decides_a_score(ensemble: Path) -> None:
    files = sorted(path for path in ensemble.rglob("*") if path.is_file() and path.name != "README.md")
    assert len(files) == 5
    seen = {load_model(ensemble).sha256}
    for path in files:
        before = path.read_bytes()
        if path.suffix == ".json":
            path.write_bytes(before + b"\n")
        else:
            save_file({key: value + 1e-6 for key, value in load_file(path).items()}, path)
        seen.add(load_model(ensemble).sha256)
        path.write_bytes(before)
    assert len(seen) == 6
    assert load_model(ensemble).sha256 in seen


def test_sha256_ignores_the_folders_location_and_card(ensemble: Path, tmp_path: Path) -> None:
    expected = load_model(ensemble).sha256
    (ensemble / "README.md").write_text("another card")
    moved = shutil.copytree(ensemble, tmp_path / "elsewhere")
    assert load_model(moved).sha256 == expected


def test_members_that_change_places_make_another_model(ensemble: Path) -> None:
    before = load_model(ensemble).sha256
    (ensemble / "member-0").rename(ensemble / "kept")
    (ensemble / "member-1").rename(ensemble / "member-0")
    (ensemble / "kept").rename(ensemble / "member-1")
    assert load_model(ensemble).sha256 != before


@pytest.mark.parametrize(
    "name", ["lit", "Lite", "nosuch", "no/such", "./lite", "/no/such", "~/lite", "a/b/c", "a/b c", "lite/", "a//b", ""]
)
def test_unknown_model_name_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError) as caught:
        load_model(name)
    message = str(caught.value)
    assert str(Path(name)) in message or repr(name) in message or "the name of the model is empty" in message


def test_a_file_is_no_model(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(single.parent)
    with pytest.raises(ModelNotFoundError, match=r"single/model\.safetensors"):
        load_model("single/model.safetensors")


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json"):
        load_model(tmp_path)


def test_a_folder_goes_before_a_hub_model_of_the_same_name(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(single.parent.parent)
    name = f"{single.parent.name}/single"
    assert_same(load_model(name).members[0], member(0))


@pytest.mark.parametrize("name", ["someone/model", "some-one/model-1.5"])
def test_a_hub_id_is_fetched_with_the_options_given(
    single: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = []

    def snapshot_download(repo: str, **options: Any) -> str:
        requested.append((repo, options))
        return str(single)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    loaded = load_model(name, LoadOptions(revision="abc", cache_dir=tmp_path, local_files_only=True, token="t"))
    assert loaded.name == name
    ((repo, options),) = requested
    assert repo == name
    patterns = options.pop("allow_patterns")
    assert options == {"revision": "abc", "cache_dir": tmp_path, "local_files_only": True, "token": "t"}
    assert not any(pattern.endswith((".pt", ".bin", "*")) for pattern in patterns)


def test_a_hub_id_is_not_found_offline(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no model 'someone/model': .* hub does not give it"):
        load_model("someone/model", LoadOptions(cache_dir=tmp_path))


def test_save_model_writes_whole_config(single: Path) -> None:
    data = json.loads((single / "config.json").read_text())
    assert data["model"] == json.loads(json.dumps(CONFIG.stored()))
    assert data["scale"]["mean"] == dict(zip(AXES, member(0).scale.mean, strict=True))
    assert data["about"] == json.loads(json.dumps(ABOUT.stored()))


def test_save_model_refuses_what_is_not_json_and_leaves_no_model(tmp_path: Path) -> None:
    """The config is written last, so a save that fails leaves a folder that does not load."""
    with pytest.raises(ValueError, match="JSON"):
        save_model(tmp_path / "m", toy_member(0), ModelInfo(training={"loss": float("nan")}), "")
    assert {path.name for path in (tmp_path / "m").iterdir()} == {"README.md", "model.safetensors"}
    with pytest.raises(ModelNotFoundError):
        load_model(tmp_path / "m")


def test_sha256_is_of_names_and_bytes(single: Path) -> None:
    """Written out, so that a change of the rule, which would give every row another sha256, is seen."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        digest.update(f"{name}\n".encode() + (single / name).read_bytes())
    assert load_model(single).sha256 == digest.hexdigest()


def test_combined_about_holds_for_every_member():
    first = ModelInfo(
        rated=("CE", "PQ"), clip_output=True, label_range=(1, 5), trained_on=("a", "b"), commercial_use=True
    )
    other = replace(first, rated=("PQ",), trained_on=("b", "c"), calibrated=True, training={"epochs": 3})
    found = ModelInfo.of_ensemble([first, other], {"members": ["x", "y"]})
    expected = ModelInfo(rated=("PQ",), clip_output=True, label_range=(1, 5), trained_on=("a", "b", "c"))
    assert found == replace(expected, commercial_use=True, training={"members": ["x", "y"]})
    with pytest.raises(UsageError, match="differ in scale: 0-10 and 1-5"):
        ModelInfo.of_ensemble([first, replace(first, label_range=(0, 10))], {})


def test_member_of_an_ensemble_scores_what_the_ensemble_scores(tmp_path: Path):
    info = ModelInfo(rated=("PQ",), clip_output=True, label_range=(1, 5), trained_on=("a",), check={"PQ": 3.0})
    save_ensemble(tmp_path / "e", [toy_member(0), toy_member(1)], np.full((2, 4), 0.5), info, "")
    for name in ("member-0", "member-1"):
        assert load_folder(name, tmp_path / "e" / name).info == replace(info, check={})
