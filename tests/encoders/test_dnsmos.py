"""DNSMOS against the published package's front end and network, and our promises."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mmmos.encoders.dnsmos import DNSMOS, FRAME, HOP, MELS, POOLED, RATE, SHORTEST
from mmmos.encoders.weights import bundled_state
from mmmos.errors import AudioError, ModelFormatError
from tests.encoders.independence import assert_independent
from tests.sounds import white_noise

BUNDLED = files("mmmos") / "bundled" / "dnsmos.safetensors"
GOLDEN = Path(__file__).parents[1] / "golden" / "dnsmos.npz"


@pytest.fixture(scope="module")
def encoder() -> DNSMOS:
    return DNSMOS()


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def wave(golden: dict[str, np.ndarray]) -> torch.Tensor:
    """Three seconds [1, S], which the package's network received three times in a row."""
    return torch.from_numpy(golden["wave"].astype(np.float32) / 2**15)[None]


def test_log_mel_equals_the_package_s(encoder: DNSMOS, golden: dict[str, np.ndarray], wave: torch.Tensor) -> None:
    ours = encoder.log_mel(wave.repeat(1, 3))[0].numpy()
    assert ours.shape == (SHORTEST // HOP, MELS)
    np.testing.assert_allclose(ours[::10], golden["log_mel"], atol=1e-4)
    assert golden["log_mel"].min() == -1  # so that the floor was put to the test


def test_score_of_nine_seconds_equals_the_package_s(
    encoder: DNSMOS, golden: dict[str, np.ndarray], wave: torch.Tensor
) -> None:
    """The package's network ran with the weights as we round them, too."""
    score = encoder.encode(wave).frames[0, 0, 0].item()
    assert score == pytest.approx(golden["rounded"].item(), abs=1e-5)
    assert score == pytest.approx(golden["published"].item(), abs=1e-3)


def test_the_maximum_may_come_before_the_rectifier(encoder: DNSMOS, wave: torch.Tensor) -> None:
    """The published order: convolution, ReLU, maximum."""
    log_mel = encoder.log_mel(wave)
    x = log_mel[:, None]
    for i, conv in enumerate(encoder.convs):
        x = conv(x).relu()
        x = torch.max_pool2d(x, 2) if i in POOLED else x
    expected = encoder.rating(x.amax(dim=(2, 3)))[:, 0]
    torch.testing.assert_close(encoder.score(log_mel), expected)
    assert not torch.allclose(encoder.score(log_mel), encoder.score(log_mel.flip(2)), atol=0.1)


@pytest.mark.slow
def test_bfloat16_hardly_moves_it(encoder: DNSMOS, wave: torch.Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder.encode(wave).frames
    torch.testing.assert_close(half, encoder.encode(wave).frames, atol=0.01, rtol=0)
    assert half.dtype == torch.float32


@pytest.mark.parametrize("seconds", [0.1, 1.0, 8.99, 9.0, 9.01, 23.0])
def test_every_length(encoder: DNSMOS, seconds: float) -> None:
    features = encoder.encode(white_noise(seconds))
    assert features.frames.shape == (1, -(-round(seconds * RATE) // FRAME), 1)
    assert features.rate_hz == 12.5
    assert features.mask.all()
    assert features.frames.isfinite().all()
    assert torch.equal(features.frames, features.frames[:, :1].expand_as(features.frames))


def test_below_a_tenth_of_a_second_is_too_short(encoder: DNSMOS) -> None:
    with pytest.raises(AudioError, match=r"0\.100 s"):
        encoder.encode(white_noise(0.09))


@pytest.mark.parametrize("gain", [1e-4, 0.1, 3.0])
def test_a_gain_changes_nothing_here(encoder: DNSMOS, wave: torch.Tensor, gain: float) -> None:
    torch.testing.assert_close(encoder.encode(gain * wave).frames, encoder.encode(wave).frames, atol=1e-4, rtol=0)


def test_noise_lowers_the_score(encoder: DNSMOS, wave: torch.Tensor) -> None:
    clean, noisy, noisier = (
        encoder.encode(wave + white_noise(3.0, level=level)).frames[0, 0] for level in (0, 0.01, 0.03)
    )
    assert clean > noisy > noisier


@pytest.mark.slow
def test_neighbours_and_padding_change_nothing(encoder: DNSMOS) -> None:
    assert_independent(encoder, [white_noise(s, seed)[0] for seed, s in enumerate((0.1, 3.5, 9.5, 9.5))])


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.1, 0.0])
def test_gradient_reaches_the_waveform(encoder: DNSMOS, level: float) -> None:
    waves = white_noise(4.5, level=level, clips=2).requires_grad_()
    encoder(waves).frames.square().mean().backward()
    assert waves.grad is not None
    assert waves.grad.isfinite().all()
    assert bool(waves.grad.any()) == (level > 0)


def test_stays_frozen(encoder: DNSMOS) -> None:
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_weights_are_loaded_strictly(encoder: DNSMOS) -> None:
    state = bundled_state("dnsmos")
    assert DNSMOS(state).fingerprint() == encoder.fingerprint()
    del state["rating.4.bias"]
    with pytest.raises(ModelFormatError, match=r"missing rating\.4\.bias"):
        DNSMOS(state)


def test_bundled_file_says_where_it_is_from() -> None:
    with safe_open(str(BUNDLED), "np") as stored:
        notes = json.loads(stored.metadata()["source"])
        kinds = {name: stored.get_tensor(name).dtype for name in stored.keys()}  # noqa: SIM118 (not a dict)
    assert (notes["package"], notes["version"]) == ("speechmos", "0.0.1.1")
    assert notes["license"].startswith("MIT")
    assert len(notes["wheel_sha256"]) == 64
    assert all(kind == (np.float16 if name.endswith("weight") else np.float32) for name, kind in kinds.items())
