"""Fixtures of all tests: files of sound, the command in this process, the bundled scorer, a bucket.

What is slow to import is imported in the fixtures: pytest-xdist's controller, which runs no test, also loads this file.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from mmmos.audio.isolated import IsolatedDecoder
    from mmmos.encoders.base import Encoder
    from mmmos.features.cache import FeatureCache
    from mmmos.features.extractor import FeatureExtractor
    from mmmos.inference.predictor import Predictor
    from tests.toys import ToyEncoder

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.devnull  # no test speaks TLS: HTTP clients need not read the certificates
# A busy machine does not fail a test. `make check` takes the quick one.
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=60)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=15)
hypothesis.settings.load_profile("thorough")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is made until the tests are collected stays: the garbage collector need not look through it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_finish() -> None:
    """Dozens of torch's loggers would each get pytest's handlers six times a test, unless their parents have them."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger) and logger.name.startswith("torch."):
            logger.propagate = True


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Test processes share the cores: more threads than cores make each of them slower."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_sync() -> Iterator[None]:
    """Files of tests need not survive a power cut: they are left to the system to write."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _seed_and_log_level() -> None:
    """A test draws the same numbers and sees what users see of the log, whichever tests ran before it."""
    import torch

    if logging.root.level != logging.INFO:  # to set it clears a cache of thousands of loggers
        logging.root.setLevel(logging.INFO)
    torch.default_generator.manual_seed(0)  # torch.manual_seed formats a traceback for each absent kind of device


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """`make_file("a.wav", seconds=2.0, rate=16_000, channels=1)` writes such a file and gives its path."""
    import numpy as np
    import soundfile

    from tests.sounds import music

    def make(name: str, seconds: float = 2.0, rate: int = 16_000, channels: int = 1, **options: str) -> Path:
        path = tmp_path / name
        soundfile.write(path, np.tile(music(seconds, rate)[:, None], (1, channels)), rate, **options)
        return path

    return make


@pytest.fixture
def run_mmmos(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """`run_mmmos("score", "a.wav")` runs `mmmos score a.wav` in this process: exit status, stdout and stderr."""
    from mmmos import cli

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmmos", *map(str, words)])
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            cli.main()
            status = 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        finally:
            for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
                signal.signal(number, handler)
        return status, *capfd.readouterr()

    return call


@pytest.fixture(scope="session")
def decoder_process() -> Iterator[IsolatedDecoder]:
    """One decoder for all tests that use this fixture: starting one takes longer than most tests."""
    from mmmos.audio.isolated import IsolatedDecoder

    with IsolatedDecoder() as decoder:
        yield decoder


@pytest.fixture
def shared_decoder(decoder_process: IsolatedDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Feature extractors of the test decode in that process."""
    monkeypatch.setattr("mmmos.features.extractor.IsolatedDecoder", lambda: nullcontext(decoder_process))


@pytest.fixture(scope="session")
def scorer() -> Iterator[Predictor]:
    """The bundled model on the CPU."""
    from mmmos.inference.predictor import from_pretrained

    predictor = from_pretrained("lite", device="cpu")
    yield predictor
    predictor.close()


@pytest.fixture
def toy_encoder(monkeypatch: pytest.MonkeyPatch) -> ToyEncoder:
    """A `ToyEncoder`, which `load_encoder("toy")` finds as long as the test lasts."""
    from mmmos.encoders.table import ENCODERS
    from tests.toys import ToyEncoder

    monkeypatch.setitem(ENCODERS, "toy", ToyEncoder)
    return ToyEncoder().train()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a server on this machine that speaks S3's protocol."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, `s3://...`, which this process and those it starts can reach."""
    import fsspec

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    files = fsspec.filesystem("s3", use_listings_cache=False)
    bucket = f"bucket-{secrets.token_hex(4)}"
    files.mkdir(bucket)
    return f"s3://{bucket}"


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """An empty cache."""
    from mmmos.features.cache import FeatureCache

    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def toys() -> dict[str, Encoder]:
    """Two small encoders, of different frame rates."""
    from tests.toys import SlowToy, ToyEncoder

    return {"toy": ToyEncoder().train(), "slow": SlowToy().train()}


@pytest.fixture
def extractor(toys: dict[str, Encoder], cache: FeatureCache) -> FeatureExtractor:
    """The toys and the empty cache."""
    from mmmos.features.extractor import FeatureExtractor

    return FeatureExtractor(toys, cache)
