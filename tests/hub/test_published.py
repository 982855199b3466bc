"""What comes from a hub is what the hub announced, with consent, and stays usable without it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from mmmos.encoders.table import load_encoder
from mmmos.errors import LicenseError, ModelFormatError, ModelNotFoundError
from mmmos.hub.fetch import fetch_folder, reason
from mmmos.hub.options import LoadOptions
from mmmos.hub.published import CONSENT, PUBLISHED, locate
from mmmos.inference.predictor import Predictor, from_pretrained
from mmmos.model.folder import save_ensemble
from mmmos.model.info import ModelInfo
from mmmos.model.load import load_model
from tests.hub.conftest import FILES, PROXIES, WAVLM, WEIGHTS
from tests.hub_server import COMMIT, HubServer
from tests.sounds import music
from tests.toys import ToyEncoder, toy_member

MUQ, TOY = "OpenMuQ/MuQ-large-msd-iter", "someone/toy"


@pytest.fixture
def toy_hub(online: HubServer, toy_encoder: ToyEncoder, tmp_path: Path) -> HubServer:
    """The hub with an ensemble on the toy encoder, and files next to it that belong to no model folder."""
    save_ensemble(tmp_path / "toy", [toy_member(0), toy_member(1)], np.full((2, 4), 0.5), ModelInfo(), "# A card\n")
    files = {str(path.relative_to(tmp_path / "toy")): path.read_bytes() for path in (tmp_path / "toy").rglob("*.*")}
    online.repositories[TOY] = files | {
        "code.py": b"raise SystemExit",
        "weights.pt": b"a pickle",
        ".gitattributes": b"",
    }
    return online


def assert_whole(folder: Path) -> None:
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: FILES[name] for name in PUBLISHED["wavlm"].files
    }


def test_the_files_that_are_needed_are_fetched_once_each(online: HubServer) -> None:
    assert_whole(locate("wavlm", LoadOptions(accept_licenses=("wavlm",))))
    bodies = {file: online.bodies(file) for file in FILES}
    assert bodies == {"config.json": [""], "pytorch_model.bin": [""], "flax_model.msgpack": []}


def test_a_second_call_asks_the_hub_nothing_not_even_for_consent(online: HubServer) -> None:
    first = locate("wavlm", LoadOptions(accept_licenses=("wavlm",)))
    online.requests.clear()
    assert locate("wavlm") == first
    assert online.requests == []


def test_without_consent_the_hub_is_not_asked_at_all(online: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONSENT, "muq, audiobox")
    with pytest.raises(
        LicenseError, match=r"MIT by its repository.*--accept-license wavlm.*MMMOS_ACCEPT_LICENSE=wavlm"
    ):
        locate("wavlm", LoadOptions(accept_licenses=("muq",)))
    with pytest.raises(LicenseError):
        load_encoder("wavlm")
    monkeypatch.delenv(CONSENT)
    with pytest.raises(LicenseError, match=r"CC BY 4\.0"):
        load_model("audiobox")
    assert online.requests == []


@pytest.mark.parametrize("names", ["wavlm", "muq, wavlm"])
def test_the_environment_consents_too(online: HubServer, monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    monkeypatch.setenv(CONSENT, names)
    assert_whole(locate("wavlm"))


def test_a_download_goes_on_where_it_was_cut(online: HubServer) -> None:
    online.cut = ["pytorch_model.bin"] * 2
    assert_whole(locate("wavlm", LoadOptions(accept_licenses=("wavlm",))))
    # It keeps whole blocks of 1000 bytes: 25 of the first half, then 12 of the half of what was left.
    assert online.bodies("pytorch_model.bin") == ["", "bytes=25000-", "bytes=37000-"]


def test_broken_downloads_are_one_message_and_no_partial_file(online: HubServer) -> None:
    online.cut = ["config.json"] * 40
    with pytest.raises(ModelNotFoundError, match=f"does not give config.json of {WAVLM}: ") as caught:
        locate("wavlm", LoadOptions(accept_licenses=("wavlm",)))
    assert "\n" not in str(caught.value)
    online.cut = []
    assert_whole(locate("wavlm", LoadOptions(accept_licenses=("wavlm",))))


def test_damaged_download_is_removed_and_fetched_again(online: HubServer, tmp_path: Path) -> None:
    online.corrupt = ["pytorch_model.bin"]
    with pytest.raises(ModelFormatError, match=r"pytorch_model.bin was damaged.*try again"):
        locate("wavlm", LoadOptions(accept_licenses=("wavlm",)))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == len(WEIGHTS)]
    assert_whole(locate("wavlm", LoadOptions(accept_licenses=("wavlm",))))
    assert online.bodies("pytorch_model.bin") == ["", ""]
    assert online.bodies("config.json") == [""]


def test_damaged_cache_file_is_fetched_again(online: HubServer) -> None:
    weights = locate("wavlm", LoadOptions(accept_licenses=("wavlm",))) / "pytorch_model.bin"
    weights.resolve().write_bytes(WEIGHTS[::-1])
    with pytest.raises(ModelFormatError, match="damaged"):
        locate("wavlm")
    assert_whole(locate("wavlm", LoadOptions(accept_licenses=("wavlm",))))


@pytest.mark.parametrize("whole", [True, False])
def test_shared_store_of_the_cache_is_checked(online: HubServer, tmp_path: Path, whole: bool) -> None:
    folder = locate("wavlm", LoadOptions(accept_licenses=("wavlm",)))
    blob = (folder / "pytorch_model.bin").resolve()
    shared = tmp_path / "cache" / "blobs" / "ab" / ("ab" * 32)  # named by another hash than sha256
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    if whole:
        assert_whole(locate("wavlm"))
        return
    shared.write_bytes(WEIGHTS[::-1])
    with pytest.raises(ModelFormatError, match="damaged"):
        locate("wavlm")
    assert not shared.exists()
    assert not blob.is_symlink()
    assert_whole(locate("wavlm", LoadOptions(accept_licenses=("wavlm",))))


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_what_is_cached_is_found_when_the_hub_is_gone(online: HubServer, revision: str | None) -> None:
    first = locate("wavlm", LoadOptions(accept_licenses=("wavlm",), revision=revision))
    online.stop()
    assert locate("wavlm", LoadOptions(revision=revision)) == first


@pytest.mark.slow
@pytest.mark.parametrize("obstacle", ["no network", "HF_HUB_OFFLINE", "local_files_only", "half"])
def test_uncached_file_is_named_with_the_fetch_command(
    online: HubServer, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    online.repositories[MUQ] = {"config.json": b"{}"}
    online.commit = str(PUBLISHED["muq"].revision)
    if obstacle == "half":
        with pytest.raises(ModelNotFoundError, match=r"model.safetensors"):
            locate("muq", LoadOptions(accept_licenses=("muq",)))
    if obstacle == "no network":
        online.stop()
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", obstacle == "HF_HUB_OFFLINE")
    online.requests.clear()
    # Where nothing can be fetched, there is nothing to consent to.
    accept = ("muq",) if obstacle == "no network" else ()
    with pytest.raises(ModelNotFoundError) as caught:
        locate("muq", LoadOptions(accept_licenses=accept, local_files_only=obstacle in ("local_files_only", "half")))
    command = f"hf download {MUQ} config.json model.safetensors --revision {PUBLISHED['muq'].revision}"
    assert str(caught.value).endswith(command)
    assert online.requests == []


def test_pinned_revision_is_requested(online: HubServer) -> None:
    online.repositories[MUQ] = {"config.json": b"{}", "model.safetensors": WEIGHTS}
    with pytest.raises(ModelNotFoundError, match=f"at {PUBLISHED['muq'].revision}: it has no such revision"):
        locate("muq", LoadOptions(accept_licenses=("muq",)))
    assert locate("muq", LoadOptions(accept_licenses=("muq",), revision="main")).name == COMMIT
    online.commit = str(PUBLISHED["muq"].revision)
    assert locate("muq", LoadOptions(accept_licenses=("muq",))).name == PUBLISHED["muq"].revision


def test_what_the_hub_does_not_have_is_said_in_one_line(online: HubServer) -> None:
    def refusal(name: str, revision: str | None = None) -> str:
        with pytest.raises(ModelNotFoundError) as caught:
            locate(name, LoadOptions(accept_licenses=(name,), revision=revision))
        return str(caught.value)

    online.repositories["facebook/audiobox-aesthetics"] = {"config.json": b"{}"}
    online.commit = "1" * 40
    gives_no = "the hub does not give"
    assert refusal("wavlm", "v9") == f"{gives_no} config.json of {WAVLM} at v9: it has no such revision"
    assert refusal("audiobox") == (f"{gives_no} model.safetensors of facebook/audiobox-aesthetics: it has no such file")
    assert refusal("muq", "main") == (
        f"{gives_no} config.json of {MUQ} at main: there is no such repository, or not for you"
    )


@pytest.mark.parametrize(("words", "line"), [("of size 5\nbut\n\n  has 4\n", "of size 5 but has 4"), ("", "OSError")])
def test_whatever_the_client_says_is_reported_in_one_line(words: str, line: str) -> None:
    assert reason(OSError(words)) == line


def test_what_is_on_no_hub_says_how_it_is_had(online: HubServer) -> None:
    with pytest.raises(
        ModelNotFoundError,
        match=r"m2d is neither on a hub nor in a package.*download m2d_clap_vit_base\S+ from the releases",
    ):
        load_encoder("m2d", accept_licenses=["m2d"])
    assert online.requests == []


@pytest.mark.slow
def test_model_on_the_hub_scores_as_before(toy_hub: HubServer, tmp_path: Path) -> None:
    local, remote = Predictor(load_model(tmp_path / "toy")), from_pretrained(TOY, device="cpu")
    wave = music(2.0)
    ours, theirs = (predictor.score(wave, sample_rate=16_000) for predictor in (local, remote))
    assert ours.PQ == theirs.PQ
    assert ours.provenance.model_sha256 == theirs.provenance.model_sha256
    assert theirs.provenance.model == TOY


@pytest.mark.slow
def test_nothing_but_a_model_folder_s_files_is_fetched(toy_hub: HubServer, tmp_path: Path) -> None:
    folder = fetch_folder(TOY)
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds == {".json", ".safetensors", ".md"}
    assert (folder / "member-1" / "model.safetensors").is_file()
    assert not [request for request in toy_hub.requests if request.endswith((".py", ".pt", ".gitattributes"))]


@pytest.mark.slow
def test_a_model_that_is_cached_is_not_fetched_again(toy_hub: HubServer) -> None:
    folder = fetch_folder(TOY)
    toy_hub.requests.clear()
    assert fetch_folder(TOY) == folder
    assert not [request for request in toy_hub.requests if not request.startswith("GET /api/")]
    toy_hub.requests.clear()
    assert (
        fetch_folder(TOY, LoadOptions(local_files_only=True))
        == fetch_folder(TOY, LoadOptions(revision=COMMIT))
        == folder
    )
    assert toy_hub.requests == []
    toy_hub.stop()
    assert fetch_folder(TOY) == folder


@pytest.mark.slow
def test_damaged_model_download_is_fetched_again(toy_hub: HubServer) -> None:
    toy_hub.corrupt = ["member-1/model.safetensors"]
    with pytest.raises(ModelFormatError, match=r"model.safetensors was damaged"):
        load_model(TOY)
    assert len(load_model(TOY).members) == 2


@pytest.mark.slow
def test_a_model_s_download_goes_on_where_it_was_cut(toy_hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    file = "member-0/model.safetensors"
    toy_hub.cut = [file]
    assert len(load_model(TOY).members) == 2
    blocks = len(toy_hub.repositories[TOY][file]) // 2 // 100
    assert toy_hub.bodies(file) == ["", f"bytes={100 * blocks}-"]


@pytest.mark.slow
def test_model_refused_by_the_hub_is_one_message(toy_hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(name: str, **where: object) -> str:
        with pytest.raises(ModelNotFoundError) as caught:
            load_model(name, LoadOptions(**where))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    begin = "not a folder, and the hub does not give it"
    assert refusal(TOY, revision="v9") == f"no model {TOY!r}: {begin} at v9: it has no such revision"
    assert refusal("some/one") == f"no model 'some/one': {begin}: there is no such repository, or not for you"
    assert "no model '--/..'" in refusal("--/..")
    toy_hub.repositories["some/code"] = {"code.py": b""}
    assert "is not a model folder: it has no config.json" in refusal("some/code")
    toy_hub.cut = ["ensemble.json"] * 40
    assert refusal(TOY).startswith(f"no model {TOY!r}: {begin}: ")
    local = refusal("some/other", local_files_only=True)
    assert local.startswith(f"no model 'some/other': {begin}: it is not in the cache, and the network is not used (")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    toy_hub.requests.clear()
    assert "HF_HUB_OFFLINE" in refusal("some/other")
    assert toy_hub.requests == []


SCRIPT = """
import json, sys
from mmmos.hub.published import locate
from mmmos.errors import MmmosError
try:
    print(json.dumps({"folder": str(locate(sys.argv[1]))}))
except MmmosError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


class Client:
    """The package in a process of its own, which knows the hub from its environment alone."""

    def __init__(self, url: str, home: Path) -> None:
        inherited = {key: value for key, value in os.environ.items() if key.upper() not in PROXIES}
        self.environment = inherited | {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}

    def run(self, *words: str, **environment: str) -> str:
        done = subprocess.run(words, env=self.environment | environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def locate(self, name: str, **environment: str) -> dict[str, str]:
        answer: dict[str, str] = json.loads(self.run(sys.executable, "-c", SCRIPT, name, **environment))
        return answer


@pytest.fixture
def client(hub: HubServer, tmp_path: Path) -> Client:
    return Client(hub.url, tmp_path / "home")


@pytest.mark.slow
def test_interrupted_fetch_completes_and_then_works_offline(client: Client, hub: HubServer) -> None:
    assert client.locate("wavlm")["error"] == "LicenseError"
    assert hub.requests == []
    large = 500 * WEIGHTS
    hub.repositories[WAVLM] = FILES | {"pytorch_model.bin": large}
    hub.cut = ["pytorch_model.bin"]
    found = client.locate("wavlm", MMMOS_ACCEPT_LICENSE="wavlm")
    assert (Path(found["folder"]) / "pytorch_model.bin").read_bytes() == large
    assert hub.bodies("pytorch_model.bin") == ["", f"bytes={constants.DOWNLOAD_CHUNK_SIZE}-"]
    hub.stop()
    assert client.locate("wavlm", HF_HUB_OFFLINE="1") == found


@pytest.mark.slow
def test_the_command_in_an_offline_refusal_mends_it(client: Client, hub: HubServer) -> None:
    refusal = client.locate("wavlm", HF_HUB_OFFLINE="1", MMMOS_ACCEPT_LICENSE="wavlm")
    assert refusal["error"] == "ModelNotFoundError"
    assert hub.requests == []
    program, *words = shlex.split(refusal["message"].rpartition(": ")[2])
    client.run(str(Path(sys.executable).with_name(program)), *words)
    hub.stop()
    assert_whole(Path(client.locate("wavlm", HF_HUB_OFFLINE="1")["folder"]))
