"""Services on a toy model: in this process, and behind a real server on a free port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from unittest import mock

import httpx2 as httpx
import pytest
import soundfile
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from mmmos.encoders.table import ENCODERS
from mmmos.inference.predictor import Predictor
from mmmos.inference.stream import ClipStream
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.serve.app import create_app
from mmmos.serve.limits import Limits
from tests.sounds import music
from tests.toys import CPU, ToyEncoder, toy_member, toy_model

WAIT = 30.0
"""s after which a test fails rather than waits."""


class GatedStream(ClipStream):
    """Scores no window while its gate is closed."""

    gate: threading.Event

    def score_batch(self) -> None:
        assert self.gate.wait(WAIT)
        super().score_batch()


class GatedPredictor(Predictor):
    """A predictor whose model waits while `gate` is cleared."""

    gate: threading.Event

    def clip_stream(self, progress: Progress = NO_PROGRESS) -> ClipStream:
        stream = GatedStream(**vars(super().clip_stream(progress)))
        stream.gate = self.gate
        return stream


def new_toy() -> GatedPredictor:
    """An ensemble of two toys; its gate is open."""
    with mock.patch.dict(ENCODERS, {"toy": ToyEncoder}):
        predictor = GatedPredictor(toy_model(toy_member(0), toy_member(1)), CPU)
    predictor.gate = threading.Event()
    predictor.gate.set()
    return predictor


@pytest.fixture
def toy() -> Iterator[GatedPredictor]:
    """A predictor of this test; its gate opens at the end."""
    predictor = new_toy()
    yield predictor
    predictor.gate.set()
    predictor.close()


def wav(seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> bytes:
    """A file of music."""
    file = BytesIO()
    soundfile.write(file, music(seconds, rate)[:, None].repeat(channels, 1), rate, format="WAV")
    return file.getvalue()


def wait_for(reached: Callable[[], bool]) -> None:
    """Wait until a condition holds. Fails after `WAIT`."""
    end = time.monotonic() + WAIT
    while not reached():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.01)


@pytest.fixture
def client_of(toy: GatedPredictor) -> Iterator[Callable[..., TestClient]]:
    """`client_of(Limits(...), token)` is a client of a service in this process that is ready."""
    with ExitStack() as stack:

        def make(limits: Limits | None = None, token: str | None = None) -> TestClient:
            client = stack.enter_context(TestClient(create_app(toy, limits, token, decoders=1)))
            wait_for(lambda: client.get("/readyz").status_code == 200)
            return client

        yield make


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    """A client of a service with default limits, for tests that leave it as it was."""
    with TestClient(create_app(new_toy(), decoders=1)) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        yield client


@contextmanager
def served(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of a real server in a thread, which is ready."""
    config = uvicorn.Config(app, "127.0.0.1", 0, log_config=None)
    server, listening = uvicorn.Server(config), config.bind_socket()
    listening.listen()  # requests wait from now on; without this they are refused until the application has started
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    limits = httpx.Limits(max_connections=None)
    try:
        with httpx.Client(base_url=address, timeout=WAIT, limits=limits) as client:
            wait_for(lambda: client.get("/readyz").status_code == 200)
            yield client
    finally:
        server.should_exit = True
        thread.join(WAIT)
        listening.close()
        assert not thread.is_alive()
