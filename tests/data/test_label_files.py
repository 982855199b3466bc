"""Label files: what is on disk comes first, what is fetched is fetched once and is what was published."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mmmos.data.label_files import LABEL_FILES, LabelFile, find_label_file, is_published, label_file
from mmmos.errors import ManifestError

CONTENT = b'{"data_path": "/your_path/PAM/a.wav"}\n'
DATA = Path(os.environ.get("MMMOS_DATA", "no-data"))


@dataclass
class Home:
    """A server on this machine in place of the public home."""

    url: str = ""
    content: bytes = CONTENT
    status: int = 200
    promised: int | None = None  # bytes; as many as there are if None
    requests: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, home: Home, *args: object) -> None:
        self.home = home
        super().__init__(*args)

    def do_GET(self) -> None:
        self.home.requests.append(self.path)
        self.send_response(self.home.status)
        self.send_header("Content-Length", str(self.home.promised or len(self.home.content)))
        self.end_headers()
        self.wfile.write(self.home.content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Home]:
    """The public home of AES_PAM, with an empty cache and no data root on this side."""
    home = Home()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, home))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    home.url = f"http://127.0.0.1:{server.server_port}/main/AES_PAM.jsonl"
    monkeypatch.setitem(LABEL_FILES, "AES_PAM", LabelFile(1, hashlib.sha256(CONTENT).hexdigest(), home.url))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("MMMOS_DATA", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield home
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_fetched_once_and_kept(home, tmp_path):
    assert find_label_file("AES_PAM") is None
    path = label_file("AES_PAM")
    assert path == tmp_path / "cache" / "mmmos" / "labels" / "AES_PAM.jsonl"
    assert path.read_bytes() == CONTENT
    assert label_file("AES_PAM") == find_label_file("AES_PAM") == path
    assert home.requests == ["/main/AES_PAM.jsonl"]
    assert list(path.parent.iterdir()) == [path]


def test_a_file_at_hand_comes_before_the_cache_and_the_network(home, tmp_path, monkeypatch):
    label_file("AES_PAM")
    for place in ("root/labels", "given"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "AES_PAM.jsonl").write_bytes(b"of my own")
    monkeypatch.setenv("MMMOS_DATA", str(tmp_path / "root"))
    assert label_file("AES_PAM") == tmp_path / "root" / "labels" / "AES_PAM.jsonl"
    assert label_file("AES_PAM", tmp_path / "given") == tmp_path / "given" / "AES_PAM.jsonl"
    assert label_file("AES_PAM", tmp_path / "none") == tmp_path / "root" / "labels" / "AES_PAM.jsonl"
    assert len(home.requests) == 1


def test_a_changed_file_is_distinguished_from_the_published_one(home, tmp_path):
    path = label_file("AES_PAM")
    assert is_published("AES_PAM", path)
    path.write_bytes(CONTENT.rstrip())
    assert not is_published("AES_PAM", path)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"content": CONTENT + b"\n"}, "sha256"),
        ({"content": b""}, "sha256"),
        ({"status": 404}, "404"),
        ({"promised": 10_000}, "IncompleteRead"),
    ],
)
def test_what_is_not_the_published_file_is_not_kept(home, tmp_path, fault, said):
    for name, value in fault.items():
        setattr(home, name, value)
    with pytest.raises(ManifestError, match=said) as caught:
        label_file("AES_PAM")
    assert home.url in str(caught.value)
    assert "put AES_PAM.jsonl into" in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    home.content, home.status, home.promised = CONTENT, 200, None
    assert label_file("AES_PAM").read_bytes() == CONTENT


def test_without_a_network_the_error_names_the_address(home, monkeypatch):
    nobody = "http://127.0.0.1:9/AES_PAM.jsonl"
    monkeypatch.setitem(LABEL_FILES, "AES_PAM", LabelFile(1, "", nobody))
    with pytest.raises(ManifestError, match=f"{nobody} cannot be fetched.*MMMOS_DATA/labels"):
        label_file("AES_PAM")


def test_nothing_is_fetched_from_an_unreachable_hub(home, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ManifestError, match=f"{home.url} is not fetched"):
        label_file("AES_PAM")
    assert home.requests == []


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ManifestError, match=r"AES-PAM.*AES_PAM"):
        label_file("AES-PAM")


def test_the_homes_are_public_and_the_names_their_own():
    assert len({item.file_name for item in LABEL_FILES.values()}) == len({item.sha256 for item in LABEL_FILES.values()})
    for item in LABEL_FILES.values():
        assert item.url.startswith("https://raw.githubusercontent.com/")
        assert len(item.sha256) == 64


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "labels").is_dir(), reason="MMMOS_DATA names no folder with labels")
@pytest.mark.parametrize("name", LABEL_FILES)
def test_the_files_at_hand_are_the_published_ones(name):
    assert is_published(name, label_file(name))
