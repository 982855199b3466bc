"""From one vector a clip to four scores in z units: one head an axis, which share nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmos.scores import AXES


@dataclass(frozen=True)
class HeadConfig:
    """Shape of each axis's head."""

    layers: int = 1  # 1 is a linear map, as published
    hidden: int | None = None  # width of the layers before the last; the input's when None
    dropout: float = 0.0  # before each layer, in training
    layer_norm: bool = False  # before each GELU
    states: int = 1  # of an encoder, side by side in the vector; above 1 each axis takes its own weighted sum of them
    l2: bool = False  # bring that sum to length 1


class Heads(nn.Module):
    """A weighted sum of states if there are several, `layers - 1` times (linear, GELU), then one number.

    Shape:
        - input: [B, H]
        - output: [B, A] in the order of `AXES`, z units
    """

    def __init__(self, input_dim: int, config: HeadConfig) -> None:
        super().__init__()
        if config.layers < 1:
            raise ValueError(f"a head has at least one layer, not {config.layers}")
        if config.states < 1 or input_dim % config.states:
            raise ValueError(f"{input_dim} values are not {config.states} states of equal width")
        self.axes = nn.ModuleDict({axis: _head(input_dim, config) for axis in AXES})

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, H] -> [B, A]."""
        return torch.cat([self.axes[axis](vectors) for axis in AXES], dim=-1)


class WeightedState(nn.Module):
    """Softmax-weighted sum of states: [B, states × D] -> [B, D], of length 1 if so asked.

    Pooling over time and this sum may trade places, so it works on pooled states (Audiobox Aesthetics; the
    weights begin equal).
    """

    def __init__(self, states: int, l2: bool) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((states,), 1 / states))
        self.l2 = l2

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, states × D] -> [B, D]."""
        states = vectors.reshape(len(vectors), len(self.weights), -1)
        mixed = torch.einsum("bsd,s->bd", states, self.weights.softmax(dim=0))
        return F.normalize(mixed, dim=-1) if self.l2 else mixed


def _head(input_dim: int, config: HeadConfig) -> nn.Sequential:
    width = input_dim // config.states
    layers: list[nn.Module] = [WeightedState(config.states, config.l2)] if config.states > 1 or config.l2 else []
    hidden = config.hidden or width
    for _ in range(config.layers - 1):
        layers += [nn.Dropout(config.dropout), nn.Linear(width, hidden)]
        layers += [nn.LayerNorm(hidden)] if config.layer_norm else []
        layers.append(nn.GELU())
        width = hidden
    return nn.Sequential(*layers, nn.Dropout(config.dropout), nn.Linear(width, 1))
