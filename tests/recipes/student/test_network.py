"""Student: FullBand's part unchanged, the trained part by its formula, our promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmmos.encoders.fullband import RATE, FullBand
from mmmos.errors import ModelFormatError
from recipes.student.learner import start_weights
from recipes.student.network import DOMAINS, SCORES, WIDTH, Student, is_trained, over_time
from tests.encoders.independence import assert_independent
from tests.sounds import music_tensor, white_noise


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """The trained part, moved away from YAMNet's weights."""
    torch.manual_seed(1)
    start = {key: value for key, value in start_weights().items() if is_trained(key)}
    return {key: value + 0.01 * torch.randn_like(value) for key, value in start.items()}


@pytest.fixture(scope="module")
def encoder(state: dict[str, Tensor]) -> Student:
    return Student(state)


def test_lower_blocks_are_fullband_s(encoder: Student) -> None:
    wave = music_tensor(1.5, RATE)
    ours, theirs = encoder.encode(wave).frames, FullBand().encode(wave).frames
    assert torch.equal(ours[..., : 96 + 768], theirs[..., : 96 + 768])
    assert encoder.block_dims == (96, 768, WIDTH, len(SCORES) + len(DOMAINS))


def test_ratings_follow_from_the_values(encoder: Student) -> None:
    _, _, values, ratings = encoder.encode(music_tensor(1.5, RATE)).frames.split(encoder.block_dims, dim=2)
    assert torch.equal(ratings, ratings[:, :1].expand_as(ratings))
    torch.testing.assert_close(encoder.rating(over_time(values)), ratings[:, 0], atol=1e-5, rtol=1e-4)


def test_trained_part_changes_the_values(encoder: Student, state: dict[str, Tensor]) -> None:
    wave = music_tensor(1.5, RATE)
    for key in ("blocks.5.depthwise.weight", "mels", "project.bias"):
        other = Student(state | {key: state[key] + 0.1})
        assert not torch.allclose(other.encode(wave).frames, encoder.encode(wave).frames, atol=1e-3)


def test_neighbours_and_padding_change_nothing(encoder: Student) -> None:
    assert_independent(encoder, [white_noise(s, seed, rate=RATE)[0] for seed, s in enumerate((0.1, 1.3, 1.3))])


def test_stays_frozen_with_gradient_to_the_waveform(encoder: Student) -> None:
    waves = music_tensor(1.0, RATE).requires_grad_()
    encoder(waves).frames.square().mean().backward()
    assert waves.grad is not None
    assert waves.grad.any()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_weights_are_loaded_strictly(state: dict[str, Tensor]) -> None:
    with pytest.raises(ModelFormatError, match=r"missing project\.bias"):
        Student({key: value for key, value in state.items() if key != "project.bias"})
    with pytest.raises(ModelFormatError, match=r"unknown head"):
        Student(state | {"head": torch.zeros(1)})
