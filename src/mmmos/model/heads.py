"""From one vector per clip to four scores in z units: one head per axis.

With domains, each head has an output per domain, and a gate, common to all axes, gives the domain probabilities.
With a severity, each domain's scores fall with the estimated severity of the clip's degradation, where it exceeds zero:

    vector ─┬─► gate: softmax over the domains ───────────────────────────────┐
            ├─► head of an axis: a score per domain ─┐                        │
            └─► severity per domain, at least 0 ─────┴─► score - drop × severity ─┴─► mean weighted by the probabilities

With a support, they also measure how far a clip is from the rated clips.
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
    support: int = 0  # number of directions in which the distance from rated clips is measured; 0: it is not
    support_inputs: int = 0  # number of inputs that it is measured on

    def __post_init__(self) -> None:
        object.__setattr__(self, "domains", tuple(self.domains))  # JSON has lists
        if self.severity and not self.domains:
            raise ValueError("heads with a severity need domains")
        if self.support and not (self.severity and self.support_inputs):
            raise ValueError("heads with a support need a severity and inputs")


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
        self.support = Support(config) if config.support else None

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

    def novelty(self, vectors: Tensor) -> Tensor:
        """How far clips are from the rated clips, [B, H] -> [B]: above 1 they are not similar; 0 without a support."""
        if self.support is None or self.severity is None:
            return vectors.new_zeros(len(vectors))
        distance: Tensor = self.support(vectors)
        severity: Tensor = self.severity.estimate(vectors).relu() * self.support.severity
        return torch.maximum(distance, severity.amax(dim=1))


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


class Support(nn.Module):
    """Squared distance of inputs from those of rated clips, in units of the largest that counts as similar.

    Along the principal directions of the rated clips, each is weighted by its precision; all that is left has one
    common precision, `rest`. The severity of degradation has a limit, too.

    Shape:
        - input: [B, H], of which `columns` count
        - output: [B]
    """

    columns: Tensor

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        inputs = config.support_inputs
        self.register_buffer("columns", torch.arange(inputs))
        self.center = nn.Parameter(torch.zeros(inputs))
        # Orthonormal; float16, because these are half of a small model's weights.
        self.directions = nn.Parameter(torch.zeros(config.support, inputs, dtype=torch.float16))
        self.precision = nn.Parameter(torch.zeros(config.support))
        self.rest = nn.Parameter(torch.zeros(()))
        self.severity = nn.Parameter(torch.zeros(len(config.domains)))  # 1 / limit; 0: without a limit

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, H] -> [B]."""
        moved = vectors[:, self.columns] - self.center
        along = (moved @ self.directions.to(moved.dtype).T).square()
        left = moved.square().sum(dim=1) - along.sum(dim=1)
        return along @ self.precision + self.rest * left


def _head(input_dim: int, config: HeadConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    width, hidden = input_dim, config.head_hidden or input_dim
    for _ in range(config.head_layers - 1):
        layers += [nn.Dropout(config.dropout), nn.Linear(width, hidden)]
        layers += [nn.LayerNorm(hidden)] if config.layer_norm else []
        layers.append(nn.GELU())
        width = hidden
    return nn.Sequential(*layers, nn.Dropout(config.dropout), nn.Linear(width, max(1, len(config.domains))))
