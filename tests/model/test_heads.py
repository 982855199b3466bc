"""Four heads with nothing in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmmos.model.heads import HeadConfig, Heads
from mmmos.scores import AXES


@pytest.mark.parametrize("config", [HeadConfig(), HeadConfig(head_layers=3, head_hidden=5, layer_norm=True)])
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
        (HeadConfig(head_layers=2), (7 * 7 + 7) + (7 + 1)),
        (HeadConfig(head_layers=2, head_hidden=3), (7 * 3 + 3) + (3 + 1)),
        (HeadConfig(head_layers=4, head_hidden=3), (7 * 3 + 3) + 2 * (3 * 3 + 3) + (3 + 1)),
        (HeadConfig(head_layers=3, head_hidden=3, layer_norm=True), (7 * 3 + 3) + (3 * 3 + 3) + 2 * (3 + 3) + (3 + 1)),
    ],
)
def test_parameter_count(config: HeadConfig, one_head: int) -> None:
    assert sum(p.numel() for p in Heads(7, config).parameters()) == 4 * one_head


def test_one_layer_is_a_linear_map_in_the_order_of_the_axes() -> None:
    heads, x = Heads(6, HeadConfig()), torch.randn(5, 6)
    for i, axis in enumerate(AXES):
        linear = heads.axes[axis][-1]
        expected = x.numpy() @ linear.weight.detach().numpy()[0] + linear.bias.item()
        np.testing.assert_allclose(heads(x)[:, i].detach(), expected, atol=1e-6)


def test_layers_before_the_last_are_not_linear() -> None:
    heads, x = Heads(6, HeadConfig(head_layers=2)), torch.randn(5, 6)
    middle = (heads(x) + heads(-x)) / 2
    assert not torch.allclose(middle, heads(torch.zeros_like(x)), atol=1e-3)


def test_a_vector_of_its_own_goes_to_each_axis() -> None:
    heads, x = Heads(6, HeadConfig(head_layers=2)), torch.randn(5, 4, 6)
    together = heads(x)
    assert together.shape == (5, 4)
    for i in range(4):
        torch.testing.assert_close(together[:, i], heads(x[:, i])[:, i])
    assert torch.equal(heads(x[:, :1].expand(-1, 4, -1)), heads(x[:, 0]))


def test_vectors_of_other_axes_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        Heads(6, HeadConfig())(torch.randn(5, 3, 6))


def test_rows_do_not_depend_on_each_other() -> None:
    heads, x = Heads(6, HeadConfig(head_layers=2)).eval(), torch.randn(5, 6)
    for i in range(5):
        torch.testing.assert_close(heads(x[i : i + 1]), heads(x)[i : i + 1])


def test_dropout_is_for_training() -> None:
    heads, x = Heads(50, HeadConfig(dropout=0.5)), torch.ones(1, 50)
    assert not torch.equal(heads.train()(x), heads(x))
    assert torch.equal(heads.eval()(x), heads(x))


def test_a_head_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        Heads(6, HeadConfig(head_layers=0))


def severe_heads() -> Heads:
    """Heads with two domains, of which the first has a severity of twice the first input minus 1."""
    heads = Heads(3, HeadConfig(domains=("a", "b"), severity=True))
    assert heads.severity is not None
    with torch.no_grad():
        heads.severity.estimate.weight.zero_()[0, 0] = 2.0
        heads.severity.estimate.bias.copy_(torch.tensor([-1.0, 0.0]))
        heads.severity.drop.copy_(torch.tensor([[1.0, 1.0], [2.0, 1.0], [0.0, 1.0], [3.0, 1.0]]))
    return heads.eval()


def test_severity_lowers_scores_above_its_threshold_alone() -> None:
    heads, plain = severe_heads(), Heads(3, HeadConfig(domains=("a", "b")))
    plain.load_state_dict({k: v for k, v in heads.state_dict().items() if not k.startswith("severity")})
    x = torch.tensor([[-4.0, 1.0, 0.5], [0.5, 1.0, 0.5], [1.5, 1.0, 0.5]])
    probability = heads.domain_probabilities(x)[:, :1]
    severity = torch.tensor([[0.0], [0.0], [2.0]])
    expected = plain(x) - probability * severity * torch.tensor([1.0, 2.0, 0.0, 3.0])
    torch.testing.assert_close(heads(x), expected)


def test_severity_without_domains_is_refused() -> None:
    with pytest.raises(ValueError, match="need domains"):
        HeadConfig(severity=True)


def test_support_measures_distance_along_directions_and_rest() -> None:
    heads = Heads(4, HeadConfig(domains=("a", "b"), severity=True, support=1, support_inputs=3))
    assert heads.support is not None
    assert heads.severity is not None
    with torch.no_grad():
        for parameter in (*heads.support.parameters(), *heads.severity.parameters()):
            parameter.zero_()
        heads.support.center[0] = 1.0
        heads.support.directions[0, 0] = 1.0
        heads.support.precision.fill_(0.5)
        heads.support.rest.fill_(0.1)
    x = torch.tensor([[1.0, 0.0, 0.0, 9.0], [3.0, 0.0, 0.0, 0.0], [1.0, 1.0, 2.0, 0.0]])
    torch.testing.assert_close(heads.novelty(x), torch.tensor([0.0, 2.0, 0.5]))
    with torch.no_grad():
        heads.severity.estimate.bias.copy_(torch.tensor([0.3, 5.0]))
        heads.support.severity[0] = 5.0
    torch.testing.assert_close(heads.novelty(x), torch.tensor([1.5, 2.0, 1.5]))


def test_novelty_is_zero_without_a_support() -> None:
    assert severe_heads().novelty(torch.ones(2, 3)).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="need a severity"):
        HeadConfig(domains=("a",), support=3)
