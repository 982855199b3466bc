"""From the encoders' features to one vector a clip: fuse, then aggregate.

Fusing has no parameters: pool every encoder's frames over time, normalise each pooled vector, put
them side by side (paper, section III.B). Training does it once a clip and keeps the result.

    WavLM   [B, T1, D1] ─ pool ─ normalise ─┐
    MuQ     [B, T2, D2] ─ pool ─ normalise ─┼─► [B, D1 + D2 + ...] ─► aggregator ─► [B, H]
    M2D     [B, T3, D3] ─ pool ─ normalise ─┘
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmos.encoders.base import Features

CLIP_DEVIATIONS = 6.0
"""Standardised values are clipped here: a feature that training hardly saw must not decide a score."""


@dataclass(frozen=True)
class FusionConfig:
    """How the encoders' features become one vector."""

    pool: Literal["mean", "mean_std"] = "mean"  # over time, real frames only
    embed_norm: Literal["l2", "none", "layernorm"] = "l2"  # of each encoder's pooled vector
    standardize: bool = False  # z-score each value on the training rows, weigh every block of an encoder alike

    def __post_init__(self) -> None:
        if self.pool not in ("mean", "mean_std") or self.embed_norm not in ("l2", "none", "layernorm"):
            raise ValueError(f"no features are pooled by {self.pool!r} or normalised by {self.embed_norm!r}")


def pool(features: Features, how: str) -> Tensor:
    """Statistics over the real frames: [B, D] for "mean", [B, 2 D] for "mean_std" (population)."""
    weight = features.mask.to(features.frames.dtype).unsqueeze(-1)
    count = weight.sum(dim=1).clamp(min=1)
    mean = (features.frames * weight).sum(dim=1) / count
    if how == "mean":
        return mean
    variance = ((features.frames - mean.unsqueeze(1)).square() * weight).sum(dim=1) / count
    # The root's slope at zero is infinite; a constant feature must still have a gradient.
    return torch.cat([mean, variance.clamp(min=1e-12).sqrt()], dim=-1)


def fuse(features: Mapping[str, Features], encoders: Sequence[str], config: FusionConfig) -> Tensor:
    """One vector a clip, encoders side by side in the order of `encoders`.

    Shape:
        - features[name].frames: [B, T, D] at each encoder's own rate
        - returns: [B, sum of D], twice that for "mean_std"
    """
    vectors = []
    for name in encoders:
        vector = pool(features[name], config.pool)
        if config.embed_norm == "l2":
            vector = F.normalize(vector, dim=-1, eps=1e-12)
        elif config.embed_norm == "layernorm":
            vector = F.layer_norm(vector, vector.shape[-1:])
        vectors.append(vector)
    return torch.cat(vectors, dim=-1)


class Standardizer(nn.Module):
    """z-scores fitted on training rows, clipped, each block of columns scaled by 1 / sqrt(its width).

    So 200 values of a network's frames and its one verdict have the same say before training begins.
    """

    center: Tensor
    factor: Tensor

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros_like(weight))
        self.register_buffer("factor", torch.ones_like(weight))
        self.register_buffer("weight", weight, persistent=False)

    def fit(self, fused: Tensor) -> None:
        """Take means and deviations from the rows [N, D]; a value that never varies is left out."""
        std, mean = torch.std_mean(fused, dim=0, correction=0)
        varies = std > 1e-4 * (1 + mean.abs())  # less is what float16 in the cache leaves of a constant
        self.center.copy_(mean)
        self.factor.copy_(torch.where(varies, 1 / std.clamp(min=1e-12), torch.zeros_like(std)))

    def forward(self, fused: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        z = ((fused - self.center) * self.factor).clamp(-CLIP_DEVIATIONS, CLIP_DEVIATIONS)
        return z * self.weight


class MlpAggregator(nn.Module):
    """The fused vector itself, standardised if the config says so; the heads do the rest.

    Shape:
        - features[name].frames: [B, T, sum of columns[name]]
        - returns: [B, output_dim]
    """

    def __init__(self, columns: Mapping[str, Sequence[int]], config: FusionConfig) -> None:
        super().__init__()
        self.encoders = tuple(columns)
        self.config = config
        statistics = 2 if config.pool == "mean_std" else 1
        weights = [
            torch.full((width,), (statistics * width) ** -0.5)
            for widths in columns.values()
            for _ in range(statistics)
            for width in widths
        ]
        self.output_dim = sum(map(len, weights))
        self.standardizer = Standardizer(torch.cat(weights)) if config.standardize else None

    def reduce(self, features: Mapping[str, Features]) -> Tensor:
        """The part without parameters, [B, D]: what training computes once a clip."""
        return fuse(features, self.encoders, self.config)

    def fit(self, reduced: Tensor) -> None:
        """Fit what is fitted rather than learned, on the training rows [N, D]."""
        if self.standardizer is not None:
            self.standardizer.fit(reduced)

    def aggregate(self, reduced: Tensor) -> Tensor:
        """The part with parameters: [B, D] -> [B, output_dim]."""
        return reduced if self.standardizer is None else self.standardizer(reduced)

    def forward(self, features: Mapping[str, Features]) -> Tensor:
        """Features of a batch -> [B, output_dim]."""
        return self.aggregate(self.reduce(features))


AGGREGATORS = {"mlp": MlpAggregator}
