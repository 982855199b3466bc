"""Four heads that share nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmmos.heads import HeadConfig, Heads
from mmmos.scores import AXES

STATES = HeadConfig(layers=2, hidden=5, layer_norm=True, states=3, l2=True)


@pytest.mark.parametrize("config", [HeadConfig(), HeadConfig(layers=3, hidden=5), STATES])
@pytest.mark.parametrize("axis", AXES)
def test_an_axis_teaches_its_own_head_alone(config: HeadConfig, axis: str) -> None:
    heads = Heads(6, config)
    heads(torch.randn(3, 6))[:, AXES.index(axis)].sum().backward()
    for other in AXES:
        learns = [bool(p.grad is not None and p.grad.any()) for p in heads.axes[other].parameters()]
        assert all(learns) if other == axis else not any(learns)


@pytest.mark.parametrize(
    ("config", "one_head"),
    [
        (HeadConfig(), 7 + 1),
        (HeadConfig(layers=2), (7 * 7 + 7) + (7 + 1)),
        (HeadConfig(layers=2, hidden=3), (7 * 3 + 3) + (3 + 1)),
        (HeadConfig(layers=4, hidden=3), (7 * 3 + 3) + 2 * (3 * 3 + 3) + (3 + 1)),
        (HeadConfig(layers=3, hidden=3, layer_norm=True), (7 * 3 + 3) + (3 * 3 + 3) + 2 * (3 + 3) + (3 + 1)),
    ],
)
def test_parameter_count(config: HeadConfig, one_head: int) -> None:
    assert sum(p.numel() for p in Heads(7, config).parameters()) == 4 * one_head
    with_states = Heads(3 * 7, replace(config, states=3))
    assert sum(p.numel() for p in with_states.parameters()) == 4 * (one_head + 3)


def test_one_layer_is_a_linear_map_in_the_order_of_the_axes() -> None:
    heads, x = Heads(6, HeadConfig()), torch.randn(5, 6)
    for i, axis in enumerate(AXES):
        linear = heads.axes[axis][-1]
        expected = x.numpy() @ linear.weight.detach().numpy()[0] + linear.bias.item()
        np.testing.assert_allclose(heads(x)[:, i].detach(), expected, atol=1e-6)


def test_layers_before_the_last_are_not_linear() -> None:
    heads, x = Heads(6, HeadConfig(layers=2)), torch.randn(5, 6)
    middle = (heads(x) + heads(-x)) / 2
    assert not torch.allclose(middle, heads(torch.zeros_like(x)), atol=1e-3)


@pytest.mark.parametrize("l2", [False, True])
def test_each_axis_takes_its_own_weighted_sum_of_the_states(l2: bool) -> None:
    heads, x = Heads(3 * 4, HeadConfig(states=3, l2=l2)), torch.randn(5, 3 * 4)
    states = x.numpy().reshape(5, 3, 4)
    with torch.no_grad():
        for axis in AXES:
            heads.axes[axis][0].weights.copy_(torch.randn(3))
    for i, axis in enumerate(AXES):
        weights = np.exp(heads.axes[axis][0].weights.detach().numpy())
        mixed = np.average(states, axis=1, weights=weights)
        if l2:
            mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        linear = heads.axes[axis][-1]
        expected = mixed @ linear.weight.detach().numpy()[0] + linear.bias.item()
        np.testing.assert_allclose(heads(x)[:, i].detach(), expected, atol=1e-6)


def test_states_have_equal_weights_before_training() -> None:
    heads, x = Heads(3 * 4, HeadConfig(states=3)), torch.randn(5, 4)
    same = heads(x.repeat(1, 3))
    torch.testing.assert_close(heads(torch.cat([3 * x, 0 * x, 0 * x], dim=1)), same)


def test_length_alone_does_not_matter_once_it_is_brought_to_1() -> None:
    heads, x = Heads(6, HeadConfig(layers=2, l2=True)), torch.randn(5, 6)
    torch.testing.assert_close(heads(1000 * x), heads(x))


def test_states_of_unequal_width_are_refused() -> None:
    for states in (0, 4):
        with pytest.raises(ValueError, match=f"{states} states of equal width"):
            Heads(6, HeadConfig(states=states))


def test_rows_do_not_depend_on_each_other() -> None:
    heads, x = Heads(6, HeadConfig(layers=2)).eval(), torch.randn(5, 6)
    for i in range(5):
        torch.testing.assert_close(heads(x[i : i + 1]), heads(x)[i : i + 1])


def test_dropout_is_for_training() -> None:
    heads, x = Heads(50, HeadConfig(dropout=0.5)), torch.ones(1, 50)
    assert not torch.equal(heads.train()(x), heads(x))
    assert torch.equal(heads.eval()(x), heads(x))


def test_a_head_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        Heads(6, HeadConfig(layers=0))
