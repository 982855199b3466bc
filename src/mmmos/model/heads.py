"""From one vector per clip to four scores in z units: one head per axis.

With domains, each head has an output per domain, and a gate, common to all axes, gives the domain probabilities.
With a severity, each domain's scores fall with the estimated severity of the clip's degradation, where it exceeds zero:

    vector ─┬─► gate: softmax over the domains ───────────────────────────────┐
            ├─► head of an axis: a score per domain ─┐                        │
            └─► severity per domain, at least 0 ─────┴─► score - drop × severity ─┴─► mean weighted by the probabilities
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
    severity: bool = False  # whether each domain's scores fall with a severity of degradation

    def __post_init__(self) -> None:
        object.__setattr__(self, "domains", tuple(self.domains))  # JSON has lists
        if self.severity and not self.domains:
            raise ValueError("heads with a severity need domains")


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
        self.severity = Severity(input_dim, len(config.domains)) if config.severity else None

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, H] or [B, A, H] -> [B, A]."""
        by_axis = vectors.unbind(dim=1) if vectors.ndim == 3 else [vectors] * len(AXES)
        scores = torch.stack([self.axes[axis](own) for axis, own in zip(AXES, by_axis, strict=True)], dim=1)
        if self.gate is None:
            return scores.squeeze(-1)
        if self.severity is not None:
            scores = scores - self.severity(vectors)
        return (scores * self.domain_probabilities(vectors).unsqueeze(1)).sum(dim=-1)

    def domain_probabilities(self, vectors: Tensor) -> Tensor:
        """Probability of each domain, [B, H] -> [B, domains], rows sum to 1; [B, 0] without domains."""
        if self.gate is None:
            return vectors.new_zeros(len(vectors), 0)
        logits: Tensor = self.gate(vectors)
        return logits.softmax(dim=-1)


class Severity(nn.Module):
    """How far each domain's scores fall: linear in the part of a linear severity that is above zero, its threshold.

    A separate part from the heads, since one linear function cannot be exact on clean clips and steep on degraded ones.

    Shape:
        - input: [B, H]
        - output: [B, A, domains], z units, at least 0 if `drop` is
    """

    def __init__(self, input_dim: int, domains: int) -> None:
        super().__init__()
        self.estimate = nn.Linear(input_dim, domains)
        self.drop = nn.Parameter(torch.zeros(len(AXES), domains))  # z units per unit of severity

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, H] -> [B, A, domains]."""
        severity: Tensor = self.estimate(vectors)
        return self.drop * severity.relu().unsqueeze(1)


def _head(input_dim: int, config: HeadConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    width, hidden = input_dim, config.head_hidden or input_dim
    for _ in range(config.head_layers - 1):
        layers += [nn.Dropout(config.dropout), nn.Linear(width, hidden)]
        layers += [nn.LayerNorm(hidden)] if config.layer_norm else []
        layers.append(nn.GELU())
        width = hidden
    return nn.Sequential(*layers, nn.Dropout(config.dropout), nn.Linear(width, max(1, len(config.domains))))
