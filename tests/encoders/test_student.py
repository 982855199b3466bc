"""Student: FullBand's frames unchanged, the perceptron by its formula, our promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf
from torch import Tensor

from mmmos.encoders.fullband import RATE, FullBand
from mmmos.encoders.student import POOLED, RATINGS, SCORES, Perceptron, Student, over_time
from mmmos.errors import ModelFormatError
from tests.encoders.independence import assert_independent
from tests.sounds import music_tensor, white_noise


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Random weights and scales."""
    torch.manual_seed(1)
    start = Perceptron().state_dict()
    return {key: value + 0.05 * torch.randn_like(value).abs() for key, value in start.items()}


@pytest.fixture(scope="module")
def encoder(state: dict[str, Tensor]) -> Student:
    return Student(state)


def test_perceptron_follows_its_formula(state: dict[str, Tensor]) -> None:
    network, x = Perceptron(), 3 * torch.randn(2, POOLED)
    network.load_state_dict(state)
    found = network.eval()(x).detach().numpy()
    p = {key: value.double().numpy() for key, value in state.items()}

    def gelu(values: np.ndarray) -> np.ndarray:
        return np.asarray(values * (1 + erf(values / 2**0.5)) / 2)

    z = np.clip((x.double().numpy() - p["input_mean"]) / p["input_std"], -6, 6)
    hidden = gelu(z @ p["first.weight"].T + p["first.bias"])
    hidden = hidden + gelu(hidden @ p["second.weight"].T + p["second.bias"])
    out = hidden @ p["last.weight"].T + p["last.bias"] + z @ p["direct.weight"].T
    out[:, : len(SCORES)] = out[:, : len(SCORES)] * p["score_std"] + p["score_mean"]
    np.testing.assert_allclose(found, out, rtol=1e-4, atol=1e-3)


def test_frames_are_fullband_s_and_the_ratings_of_the_clip(encoder: Student) -> None:
    wave = music_tensor(1.5, RATE)
    ours, theirs = encoder.encode(wave).frames, FullBand().encode(wave).frames
    assert encoder.block_dims == (*FullBand.block_dims, RATINGS)
    assert torch.equal(ours[..., :-RATINGS], theirs)
    ratings = ours[..., -RATINGS:]
    assert torch.equal(ratings, ratings[:, :1].expand_as(ratings))
    torch.testing.assert_close(ratings[:, 0], encoder.rating(over_time(theirs)))


def test_gain_changes_no_rating(encoder: Student) -> None:
    wave = music_tensor(1.0, RATE)
    loud, soft = (encoder.encode(gain * wave).frames[0, 0, -RATINGS:] for gain in (1.0, 0.05))
    torch.testing.assert_close(loud, soft, atol=2e-3, rtol=1e-4)


def test_neighbours_and_padding_change_nothing(encoder: Student) -> None:
    assert_independent(encoder, [white_noise(s, seed, rate=RATE)[0] for seed, s in enumerate((0.1, 1.3, 1.3))])


def test_stays_frozen_with_gradient_to_the_waveform(encoder: Student) -> None:
    waves = music_tensor(1.0, RATE).requires_grad_()
    encoder(waves).frames[..., -RATINGS:].square().mean().backward()
    assert waves.grad is not None
    assert waves.grad.any()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_weights_are_loaded_strictly(state: dict[str, Tensor]) -> None:
    with pytest.raises(ModelFormatError, match=r"missing last\.bias"):
        Student({key: value for key, value in state.items() if key != "last.bias"})
    with pytest.raises(ModelFormatError, match=r"unknown head"):
        Student(state | {"head": torch.zeros(1)})
