"""Global settings of torch and numpy change no score, and loading and scoring change no setting."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

import mmmos
from mmmos.audio.decoder import SequentialDecoder
from mmmos.encoders.m2d import M2D
from mmmos.encoders.m2d_checkpoint import M2DConfig
from mmmos.encoders.table import ENCODERS
from mmmos.encoders.torch_settings import building
from mmmos.encoders.wavlm import WavLM
from mmmos.hub.options import LoadOptions
from mmmos.inference.predictor import Predictor
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig
from mmmos.scores import AXES, Scores
from tests.sounds import music
from tests.toys import CPU, ToyEncoder, toy_config, toy_member, toy_model

RATE = 44_100
WAVE = music(0.5, RATE)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def strict_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


SETTINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "default float64": lambda: default_dtype(torch.float64),
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "deterministic": deterministic,
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True, check_nan=True),
    "numpy raises": lambda: np.errstate(all="raise"),
    "warnings raise": strict_warnings,
}
GRADIENT_SETTINGS = [name for name in SETTINGS if name not in ("inference mode", "no grad")]


def axes(scores: Scores) -> list[float]:
    return [scores[axis] for axis in AXES]


def gradient(scorer: Predictor) -> torch.Tensor:
    wave = torch.from_numpy(WAVE).clone().requires_grad_()
    scorer.module(wave, sample_rate=RATE).sum().backward()
    return wave.grad


@pytest.fixture(scope="module")
def short_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "short.wav"
    soundfile.write(path, WAVE, RATE)
    return path


@pytest.fixture(scope="module")
def expected(scorer: Predictor, short_file: Path) -> tuple[list[float], list[float], torch.Tensor]:
    """Scores of an array and a file, and the gradient, under torch's own settings."""
    array, file = scorer.score(WAVE, sample_rate=RATE), scorer.score(short_file)
    return axes(array), axes(file), gradient(scorer)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", SETTINGS)
def test_scoring_is_the_same_under(name, scorer, expected, short_file):
    with SETTINGS[name]():
        assert axes(scorer.score(WAVE, sample_rate=RATE)) == expected[0]
        assert axes(scorer.score(short_file)) == expected[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", SETTINGS)
def test_loading_is_the_same_under(name, expected):
    with SETTINGS[name](), mmmos.load(device="cpu") as loaded:
        module = loaded.module
    assert axes(loaded.score(WAVE, sample_rate=RATE)) == expected[0]
    assert loaded.module is module
    assert torch.equal(gradient(loaded), expected[2])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("name", GRADIENT_SETTINGS)
def test_gradients_are_the_same_under(name, scorer, expected):
    wave = torch.from_numpy(WAVE).clone().requires_grad_()
    with SETTINGS[name]():
        reward = scorer.module(wave, sample_rate=RATE).sum()
    (slope,) = torch.autograd.grad(reward, wave)
    assert torch.equal(slope, expected[2])


@pytest.mark.slow
@pytest.mark.parametrize("make", [WavLM, lambda: M2D(M2DConfig(width=64, depth=1, hidden=64))], ids=["wavlm", "m2d"])
def test_networks_are_built_in_float32(make):
    with default_dtype(torch.float64), building():
        encoder = make()
    assert {tensor.dtype for tensor in (*encoder.parameters(), *encoder.buffers())} == {torch.float32}


@pytest.mark.slow
def test_loading_and_scoring_leave_global_state_alone(short_file):
    def state() -> list[object]:
        return [
            *(torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()),
            *(torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")),
            *(torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()),
            *(torch.random.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()),
            *(np.geterr(), list(warnings.filters)),
        ]

    before = state()
    with mmmos.load(device="cpu") as scorer:
        scorer.score(short_file)
        gradient(scorer)
        assert state() == before


@pytest.mark.parametrize("level", [1e-42, 1e-39, 3.9])
def test_numbers_that_round_raise_nothing(toys, level):
    wave = np.tile(np.float32([level, -level, 0.3 * level]), (2, 8_000))
    plain = toys.score(wave, sample_rate=RATE)
    with np.errstate(all="raise"):
        assert repr(toys.score(wave, sample_rate=RATE)) == repr(plain)


@pytest.mark.slow
def test_loading_in_threads_leaves_the_default_type_alone():
    with default_dtype(torch.float64), ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: mmmos.load(device="cpu").close(), range(4)))
        assert torch.get_default_dtype() == torch.float64


@pytest.fixture
def toys(toy_encoder: ToyEncoder) -> Predictor:
    config = toy_config(heads=HeadConfig(dropout=0.5), fusion=FusionConfig("mean_std", "none"))
    return Predictor(toy_model(toy_member(0, config), toy_member(1, config)), CPU)


def redraw(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter)


@pytest.mark.parametrize(
    "change",
    [
        lambda parent: parent.half(),
        lambda parent: parent.double(),
        lambda parent: parent.bfloat16(),
        lambda parent: parent.to("cpu", torch.float16),
        lambda parent: parent.to_empty(device="cpu"),
        lambda parent: parent.to("meta"),
        lambda parent: parent.apply(redraw),
        lambda parent: parent.train(),
        lambda parent: parent.requires_grad_(True),
        lambda parent: parent.share_memory(),
        lambda parent: [nn.init.zeros_(parameter) for parameter in parent.parameters()],
    ],
    ids=lambda change: inspect.getsource(change).strip().rstrip(",").removeprefix("lambda parent: "),
)
def test_what_is_done_to_a_parent_changes_no_score(change, toys):
    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = nn.Linear(2, 2)
            self.reward = toys.module

    before, wave = axes(toys.score(WAVE, sample_rate=RATE)), torch.from_numpy(WAVE).requires_grad_()
    reward = toys.module(wave, sample_rate=RATE)
    agent = Agent()
    change(agent)
    assert axes(toys.score(WAVE, sample_rate=RATE)) == before
    assert torch.equal(agent.reward(wave, sample_rate=RATE), reward)
    assert set(agent.state_dict()) == {"policy.weight", "policy.bias"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))], ids=["deepcopy", "pickle"]
)
def test_copy_of_a_predictor_scores_the_same(copied, scorer, expected, short_file):
    with copied(scorer) as other:
        assert axes(other.score(short_file)) == expected[1]
        assert other.decoder.isolated.process is not scorer.decoder.isolated.process
        assert torch.equal(gradient(other), expected[2])


def test_copy_of_a_predictor_keeps_its_options(toys):
    options = LoadOptions("cpu", "bfloat16", token="hf_secret")
    saved = pickle.dumps(Predictor(toys.model, options, batch_size=3, decoder=SequentialDecoder(7)))
    assert b"hf_secret" not in saved
    other = pickle.loads(saved)
    assert (other.running.arithmetic, other.batch_size, other.decoder.isolated.deadline) == (torch.bfloat16, 3, 7)


def test_agent_with_the_module_can_be_copied_and_saved(toys):
    wave = torch.from_numpy(WAVE)
    agent = nn.Sequential(toys.module)
    file = io.BytesIO()
    torch.save(agent, file)
    file.seek(0)
    for other in (copy.deepcopy(agent), torch.load(file, weights_only=False)):
        assert torch.equal(other[0](wave), agent[0](wave))


@pytest.mark.slow
def test_bundled_encoders_ignore_a_float64_default():
    wave = torch.from_numpy(music(0.5, rate=24_000))[None]
    for name in ("distillmos", "dnsmos", "musicnn", "spectrum", "yamnet"):
        with building():
            plain = ENCODERS[name]()
        with default_dtype(torch.float64):
            other = mmmos.encoders.load_encoder(name)
            assert torch.equal(other.encode(wave).frames, plain.encode(wave).frames)
        assert other.fingerprint() == plain.fingerprint()
