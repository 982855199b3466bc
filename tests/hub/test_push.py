"""A pushed model is loaded as it was, with a card that the hub can index; what licences forbid is not pushed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard, constants

from mmmos.errors import LicenseError, ModelFormatError, ModelNotFoundError, UsageError
from mmmos.hub.options import LoadOptions
from mmmos.hub.terms import LICENSES, NON_COMMERCIAL, check_terms
from mmmos.inference.predictor import Predictor, from_pretrained
from mmmos.model.folder import load_folder, save_ensemble, save_model
from mmmos.model.info import ModelInfo
from mmmos.model.load import load_model
from mmmos.model.push import card_of, push_to_hub
from mmmos.model.quality import ModelConfig
from tests.hub_server import COMMIT, HubServer
from tests.sounds import music
from tests.toys import ToyEncoder, toy_config, toy_member

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own

REPO, TOKEN = "someone/quality", "hf_secret"
TRAINING = {
    "agreement": {"PQ": {"n": 40, "SRCC": 0.71234, "LCC": 0.7, "MSE": None}, "CE": {"SRCC": None}},
    "result": {"agreement_on": "held-out clips"},
}


@pytest.fixture
def folder(toy_encoder: ToyEncoder, tmp_path: Path) -> Path:
    """An ensemble's folder, with files that do not belong to it."""
    found = tmp_path / "toy"
    card = "---\nlicense: mit\n---\n\n# My model\n\nTrained on 40 clips.\n"
    info = ModelInfo(training=TRAINING, rated=("PQ", "CE"))
    save_ensemble(found, [toy_member(0), toy_member(1)], np.full((2, 4), 0.5), info, card)
    (found / "labels.csv").write_text("private")
    (found / "encoder.safetensors").write_bytes(b"weights of others")
    return found


@pytest.fixture
def writable(online: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """The hub, which accepts uploads, over the hub's older protocol for large files."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    online.token = TOKEN
    return online


@pytest.mark.slow
def test_pushed_model_is_loaded_with_the_same_scores(folder: Path, writable: HubServer) -> None:
    url = push_to_hub(folder, REPO, license="cc-by-4.0", token=TOKEN)
    assert url == f"{writable.url}/{REPO}/commit/{COMMIT}"
    assert sorted(writable.repositories[REPO]) == [
        *("README.md", "ensemble.json", "member-0/config.json", "member-0/model.safetensors"),
        *("member-1/config.json", "member-1/model.safetensors"),
    ]
    ours, theirs = Predictor(load_model(folder)), from_pretrained(REPO, device="cpu", revision="main")
    wave = music(1.0)
    scores = [predictor.score(wave, sample_rate=16_000) for predictor in (ours, theirs)]
    assert scores[0].PQ == scores[1].PQ
    assert theirs.model.sha256 == ours.model.sha256
    with pytest.raises(ModelNotFoundError, match="at v9: it has no such revision"):
        from_pretrained(REPO, revision="v9")


@pytest.mark.slow
def test_second_push_replaces_the_files(folder: Path, writable: HubServer) -> None:
    push_to_hub(folder, REPO, license="cc-by-4.0", token=TOKEN, private=True)
    assert writable.private == {REPO}
    writable.repositories[REPO] = {**writable.repositories[REPO], ".gitattributes": b"kept"}
    config = folder / "member-1" / "config.json"
    before = writable.repositories[REPO]["member-1/config.json"]
    config.write_text(config.read_text().replace('"std"', '"std" '))
    push_to_hub(folder, REPO, license="mit", token=TOKEN)
    assert writable.repositories[REPO]["member-1/config.json"] == config.read_bytes() != before
    assert b"license: mit" in writable.repositories[REPO]["README.md"]
    assert writable.repositories[REPO][".gitattributes"] == b"kept"


def test_card_has_metadata_that_the_hub_reads(folder: Path) -> None:
    text = card_of(folder, REPO, "cc-by-nc-4.0")
    card = ModelCard(text)
    data: Any = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-nc-4.0", "mmmos", "audio-classification")
    assert data.to_dict()["commercial_use"] is False
    results = {(item.metric_name, item.metric_type): item.metric_value for item in data.eval_results}
    assert results == {("SRCC of PQ", "spearmanr"): 0.7123, ("LCC of PQ", "pearsonr"): 0.7}
    assert data.metrics == ["pearsonr", "spearmanr"]
    assert "# My model\n\nTrained on 40 clips." in card.content
    assert f'mmmos.from_pretrained("{REPO}")' in text
    assert "PQ (Production Quality)" in text
    assert text.count("license:") == 1  # not the folder's own


def test_card_of_a_model_without_figures_or_readme(toy_encoder: ToyEncoder, tmp_path: Path) -> None:
    save_model(tmp_path / "m", toy_member(0), ModelInfo(), "")
    (tmp_path / "m" / "README.md").unlink()
    card = ModelCard(card_of(tmp_path / "m", REPO, "other"))
    data: Any = card.data
    assert (data.license, data.license_name) == ("other", "non-commercial")
    assert data.eval_results is None
    assert card.text.strip().startswith("# quality")


@pytest.mark.parametrize(
    ("part", "allowed"),
    [
        ("muq", set(NON_COMMERCIAL)),
        ("lite", set(NON_COMMERCIAL)),
        ("nisqa", {"cc-by-nc-sa-4.0"}),
        ("m2d", set()),
        ("wavlm", set(LICENSES)),
    ],
)
def test_terms_of_parts_limit_the_licence(part: str, allowed: set[str]) -> None:
    for name in LICENSES:
        if name in allowed:
            check_terms(name, ["spectrum", part])
            continue
        with pytest.raises(LicenseError, match=r"forbids (redistribution|the licence)"):
            check_terms(name, ["spectrum", part])


def test_unknown_licence_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LicenseError, match="the licence 'gpl' is not one of mit, apache"):
        check_terms("gpl", [])


def test_model_based_on_lite_is_not_pushed_for_commercial_use(tmp_path: Path, writable: HubServer) -> None:
    member = load_model("lite").members[2]
    heads = member.model.heads.state_dict()
    other = {name: torch.randn_like(weight) if weight.is_floating_point() else weight for name, weight in heads.items()}
    member.model.heads.load_state_dict(other)
    save_ensemble(tmp_path / "m", [member], np.ones((1, 4)), ModelInfo(), "")  # with the inputs of lite
    with pytest.raises(LicenseError, match="heads of lite"):
        push_to_hub(tmp_path / "m", REPO, license="mit", token=TOKEN)
    assert writable.requests == []


@pytest.mark.parametrize("name", ["m2d", "muq"])
def test_push_refuses_restricted_encoder_before_any_request(
    toy_encoder: ToyEncoder, tmp_path: Path, writable: HubServer, name: str
) -> None:
    config = toy_config()
    spec = replace(config.encoders[0], name=name)
    save_model(tmp_path / "m", toy_member(0, ModelConfig((spec,))), ModelInfo(), "")
    with pytest.raises(LicenseError, match="was trained with M"):
        push_to_hub(tmp_path / "m", REPO, license="cc-by-4.0", token=TOKEN)
    assert writable.requests == []


def test_encoder_from_a_local_file_is_refused(toy_encoder: ToyEncoder, tmp_path: Path) -> None:
    spec = replace(toy_config().encoders[0], checkpoint=str(tmp_path / "toy.pt"))
    save_model(tmp_path / "m", toy_member(0, ModelConfig((spec,))), ModelInfo(), "")
    with pytest.raises(ModelFormatError, match=r"its encoder toy was read from .*toy\.pt, which others do not have"):
        push_to_hub(tmp_path / "m", REPO, license="mit")


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="is not a model folder"):
        push_to_hub(tmp_path, REPO, license="mit")


def refusal(folder: Path, repository: str = REPO, **options: str) -> str:
    with pytest.raises(UsageError) as caught:
        push_to_hub(folder, repository, license="mit", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.slow
def test_hub_that_refuses_is_one_message(folder: Path, writable: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = refusal(folder, token="hf_other")
    assert refused.startswith(f"{REPO}: nothing was pushed: ")
    assert refused.endswith("log in with `hf auth login`, or give a token")
    assert REPO not in writable.repositories
    assert "nothing was pushed: " in refusal(folder, "no/such/name", token=TOKEN)
    assert "nothing was pushed: " in refusal(folder, token=TOKEN, revision="v9")
    assert not writable.repositories[REPO]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refusal(folder, token=TOKEN)


@pytest.mark.slow
def test_hub_that_cannot_be_reached_is_one_message(folder: Path, writable: HubServer, tmp_path: Path) -> None:
    writable.stop()
    with pytest.raises(ModelNotFoundError, match="cannot be reached, and it is not in the cache; check the network"):
        load_model("some/model", LoadOptions(cache_dir=tmp_path / "cache"))
    assert refusal(folder, token=TOKEN).startswith(f"{REPO}: nothing was pushed: the hub cannot be reached; ")


@pytest.mark.slow
def test_command_pushes_and_prints_the_commit(
    folder: Path, writable: HubServer, run_mmmos: Callable[..., tuple[int, str, str]]
) -> None:
    status, stdout, _ = run_mmmos("push", folder, REPO, "--license", "cc-by-4.0", "--dry-run")
    assert (status, stdout) == (0, card_of(folder, REPO, "cc-by-4.0"))
    assert writable.requests == []
    status, stdout, _ = run_mmmos("push", folder, REPO, "--license", "cc-by-4.0", "--token", TOKEN)
    assert status == 0
    assert json.loads(stdout) == {"commit": f"{writable.url}/{REPO}/commit/{COMMIT}"}
    status, _, stderr = run_mmmos("push", folder, REPO, "--license", "gpl")
    assert status == 2
    assert stderr.startswith("mmmos: the licence 'gpl' is not one of")


@pytest.mark.slow
def test_card_of_pushed_model_stays_out_of_its_folder(folder: Path, writable: HubServer) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    push_to_hub(folder, REPO, license="mit", token=TOKEN)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert load_folder("toy", folder).info.training["result"] == TRAINING["result"]
