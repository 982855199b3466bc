"""From one vector per clip to four scores in z units: one head per axis.

With domains, each head has an output per domain, and a gate, common to all axes, gives the domain probabilities:

    vector ─┬─► gate: softmax over the domains ──────┐
            └─► head of an axis: a score per domain ─┴─► mean weighted by the probabilities
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmmos.scores import AXES


@dataclass(frozen=True)
class HeadSettings:
    """The shape of the heads as far as users choose it."""

    # Heads, one per axis
    head_layers: int = 1  # 1 is a linear map
    head_hidden: int | None = None  # width before the last layer; by default that of the input
    dropout: float = 0.0  # before each layer


@dataclass(frozen=True)
class HeadConfig(HeadSettings):
    """Shape of each axis's head."""

    layer_norm: bool = False  # before each GELU
    domains: tuple[str, ...] = ()  # clip types with an output each; empty: one output for all

    def __post_init__(self) -> None:
        object.__setattr__(self, "domains", tuple(self.domains))  # JSON has lists


class Heads(nn.Module):
    """`head_layers - 1` times (linear, GELU), then one number, or one number per domain and their weighted mean.

    Shape:
        - input: [B, H], or [B, A, H] with a vector for each axis
        - output: [B, A] in the order of `AXES`, z units
    """

    def __init__(self, input_dim: int, config: HeadConfig) -> None:
        super().__init__()
        if config.head_layers < 1:
            raise ValueError(f"a head has at least one layer, not {config.head_layers}")
        self.axes = nn.ModuleDict({axis: _head(input_dim, config) for axis in AXES})
        self.gate = nn.Linear(input_dim, len(config.domains)) if config.domains else None

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, H] or [B, A, H] -> [B, A]."""
        by_axis = vectors.unbind(dim=1) if vectors.ndim == 3 else [vectors] * len(AXES)
        scores = torch.stack([self.axes[axis](own) for axis, own in zip(AXES, by_axis, strict=True)], dim=1)
        if self.gate is None:
            return scores.squeeze(-1)
        return (scores * self.domain_probabilities(vectors).unsqueeze(1)).sum(dim=-1)

    def domain_probabilities(self, vectors: Tensor) -> Tensor:
        """Probability of each domain, [B, H] -> [B, domains], rows sum to 1; [B, 0] without domains."""
        if self.gate is None:
            return vectors.new_zeros(len(vectors), 0)
        logits: Tensor = self.gate(vectors)
        return logits.softmax(dim=-1)


def _head(input_dim: int, config: HeadConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    width, hidden = input_dim, config.head_hidden or input_dim
    for _ in range(config.head_layers - 1):
        layers += [nn.Dropout(config.dropout), nn.Linear(width, hidden)]
        layers += [nn.LayerNorm(hidden)] if config.layer_norm else []
        layers.append(nn.GELU())
        width = hidden
    return nn.Sequential(*layers, nn.Dropout(config.dropout), nn.Linear(width, max(1, len(config.domains))))
