"""Layers of the aggregators: standardisation and a weighted sum of hidden states."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmmos.scores import AXES

CLIP_STDS = 6.0
"""Standardised values are clipped here: a value far outside the training data must not determine a score."""

FIT_ROWS = 1024
"""Rows per step when statistics are computed."""


class Standardizer(nn.Module):
    """z-scores fitted on training rows, clipped, each block of values scaled by 1 / sqrt(its width).

    So a block of 200 values and a block of one score have the same weight before training.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros_like(weight))
        self.register_buffer("scale", torch.ones_like(weight))
        self.register_buffer("weight", weight, persistent=False)

    def fit(self, parts: Iterable[Tensor]) -> None:
        """Compute means and standard deviations of rows [..., D], given in parts; constant values become 0."""
        count, mean, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for part in parts:
            rows = part.double().flatten(0, -2)
            variance, own = torch.var_mean(rows, dim=0, correction=0)
            size, count = len(rows), count + len(rows)
            squares = squares + size * variance + (own - mean).square() * (size * (count - size) / count)
            mean = mean + (own - mean) * (size / count)
        std = (squares / count).sqrt()
        varies = std > 1e-4 * (1 + mean.abs())  # float16 in the cache leaves less than this in a constant
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(varies, 1 / std.clamp(min=1e-12), torch.zeros_like(std)))

    def forward(self, fused: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        z = ((fused - self.mean) * self.scale).clamp(-CLIP_STDS, CLIP_STDS)
        return z * self.weight


class WeightedLayerSum(nn.Module):
    """Sums of hidden states with learned softmax weights, equal at first: one sum for all axes, or one per axis.

    Pooling and aligning are linear, so they may come before this sum (Audiobox Aesthetics).
    """

    def __init__(self, states: int, by_axis: bool) -> None:
        super().__init__()
        names = AXES if by_axis else ("all",)
        self.weights = nn.ParameterDict({name: nn.Parameter(torch.full((states,), 1 / states)) for name in names})

    def forward(self, states: Tensor) -> Tensor:
        """[..., states × D] -> [..., sums, D]."""
        weights = torch.stack(list(self.weights.values())).softmax(dim=-1)  # [sums, states]
        mixed: Tensor = weights @ torch.unflatten(states, -1, (weights.shape[1], -1))
        return mixed
