"""What the tests share: sounds made from formulas, the sample clips, the bundled scorer."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings
from numpy.typing import NDArray
from torch import Tensor, nn

from mmmos import cli
from mmmos.encoders.base import Encoder, EncoderSpec
from mmmos.encoders.table import ENCODERS
from mmmos.inference.predictor import Predictor, from_pretrained
from mmmos.model.quality import ModelConfig, QualityModel
from mmmos.model.system import Member, ModelInfo, ScoringModel
from mmmos.scores import Scale

settings.register_profile("untimed", deadline=None)  # a busy machine does not fail a test
settings.load_profile("untimed")

# Test processes share the cores; more threads than cores make each of them slower.
torch.set_num_threads(1)
os.environ["HF_HUB_OFFLINE"] = "1"
# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("mmmos", deadline=None)
hypothesis.settings.load_profile("mmmos")

SAMPLES = Path(__file__).parent.parent / "samples"

Wave = NDArray[np.float32]


def music(seconds: float, rate: int = 16_000, seed: int = 0) -> Wave:
    """A plucked chord over faint noise, [S]: wide-band, not silent, not clipped."""
    t = np.arange(round(seconds * rate)) / rate
    chord = sum(np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6, 1318.5))
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.1 * np.exp(-3 * (t % 0.5)) * chord + 0.01 * noise).astype(np.float32)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """A test draws the same numbers whichever tests ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    """`make_file("a.wav", seconds=2.0, rate=16_000, channels=1)` writes such a file and gives its path."""

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
def scorer() -> Iterator[Predictor]:
    """The bundled model on the CPU."""
    predictor = from_pretrained("lite", device="cpu")
    yield predictor
    predictor.close()


class ToyEncoder(Encoder):
    """Log power of 10-ms frames along four directions: all that an encoder is, without a network."""

    name = "toy"
    sample_rate = 16_000
    dim = 4
    columns = (3, 1)
    rate_hz = 100.0
    min_samples = 160

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        directions = torch.randn(4, 160, generator=torch.Generator().manual_seed(0))
        self.directions = nn.Parameter(directions / directions.norm(dim=1, keepdim=True))
        self.drop = nn.Dropout(0.5)  # tells when the encoder is not in evaluation mode

    def settings(self) -> dict[str, float]:
        return {"gain": self.gain}

    def frames(self, waves: Tensor) -> Tensor:
        heard = self.drop(nn.functional.linear(waves.unfold(1, 160, 160), self.directions))
        return (self.gain * heard.square() + 1e-4).log()


@pytest.fixture
def toy_encoder(monkeypatch: pytest.MonkeyPatch) -> ToyEncoder:
    """A `ToyEncoder`, which `load_encoder("toy")` finds as long as the test lasts."""
    monkeypatch.setitem(ENCODERS, "toy", ToyEncoder)
    return ToyEncoder().train()


def toy_config(**options: object) -> ModelConfig:
    """A model on `ToyEncoder`; `options` are other fields of its config."""
    return ModelConfig((EncoderSpec("toy", ToyEncoder.columns, ToyEncoder().fingerprint()),), **options)


def toy_member(seed: int, config: ModelConfig | None = None) -> Member:
    """A model of random weights with the scale 5 ± 1 on every axis."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = QualityModel(config or toy_config()).eval().requires_grad_(False)
    return Member(model, Scale((5.0,) * 4, (1.0,) * 4))


def toy_model(*members: Member, weights: NDArray[np.float64] | None = None) -> ScoringModel:
    """The members as an ensemble, all alike if no weights [M, A] are given."""
    if weights is None:
        weights = np.full((len(members), 4), 1 / len(members))
    return ScoringModel("toys", members, weights, ModelInfo(), "0" * 64)


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
