"""A hub on this machine, and this process as its client."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import close_session, constants

from mmmos.hub.published import CONSENT
from tests.hub_server import HubServer

WAVLM = "microsoft/wavlm-base-plus"
WEIGHTS = np.random.default_rng(0).bytes(50_001)
FILES = {"config.json": b'{"a": 1}\n', "pytorch_model.bin": WEIGHTS, "flax_model.msgpack": b"not requested"}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A hub with the files of WavLM, which nobody asks unless a test points the client there."""
    with HubServer({WAVLM: FILES}) as server:
        yield server


@pytest.fixture
def online(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """That hub, used by this process, whose cache is empty and which waits for nothing."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv(CONSENT, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"), raising=False)
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None, raising=False)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    close_session()
    yield hub
    close_session()
