"""From the encoders' features to one vector per clip: reduce (fusion.py), then aggregate, which is the trained part.

    reduced clip [B, T', D]   mlp      the single frame                              ─► [B, D]
    T' = 1 where pooled       blstm_h  LSTM over the single frame, final states      ─► [B, 2 H]
                              blstm_t  LSTM over all frames, mean of the states      ─► [B, 2 H]

Before that, if so configured, WavLM's hidden states are summed with learned weights and all values are standardised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mmmos.encoders.base import Features
from mmmos.model.blstm import Blstm
from mmmos.model.fusion import FusionConfig, Reduction, fuse_aligned, fuse_pooled, normalise, pool
from mmmos.model.layers import FIT_ROWS, Standardizer, WeightedLayerSum


class Aggregator(nn.Module, ABC):
    """From features to one vector per clip. Subclasses define `kind` and `aggregate`.

    `block_dims` are the widths of each encoder's blocks of values; encoders are in the order of the fused frame. Raises
    ValueError for blocks that do not fit the config.

    Shape:
        - features[name].frames: [B, T, sum of block_dims[name]]
        - returns: [B, output_dim], or [B, A, output_dim] if every axis has its own layer sum
    """

    kind: Literal["pooled", "aligned"]
    """The kind of reduction that it needs."""
    by_axis = False
    """Whether it supports a separate vector for each axis."""
    input_dim: int
    """D' of reduced clips."""
    output_dim: int
    """H."""

    def __init__(self, block_dims: Mapping[str, Sequence[int]], config: FusionConfig) -> None:
        super().__init__()
        self.encoders = tuple(block_dims)
        self.config = config
        pooled = self.kind == "pooled"
        self.reduction = Reduction(
            encoders=self.encoders,
            kind=self.kind,
            norm=config.embed_norm if pooled else config.frame_norm,
            summed=config.summed,
            pool=config.pool if pooled else None,
            align=None if pooled else config.align,
            align_rate_hz=None if pooled else config.align_rate_hz,
        )
        statistics = 2 if pooled and config.pool == "mean_std" else 1
        blocks = {name: statistics * list(widths) for name, widths in block_dims.items()}
        self.reduced_widths = [sum(widths) for widths in blocks.values()]  # of each encoder's part of a reduced frame
        self.input_dim = sum(self.reduced_widths)
        self.states = _layer_sum(block_dims, config, self.by_axis)
        if config.summed:
            blocks[config.summed] = blocks[config.summed][:1]
        self.widths = [sum(widths) for widths in blocks.values()]  # the same with the hidden states summed
        scales = [torch.full((width,), (statistics * width) ** -0.5) for widths in blocks.values() for width in widths]
        self.standardizer = Standardizer(torch.cat(scales)) if config.standardize else None

    def reduce(self, features: Mapping[str, Features]) -> Features:
        """The part without parameters; training computes it once per clip and keeps the result."""
        if self.kind == "aligned":
            return fuse_aligned(features, self.encoders, self.config)
        return fuse_pooled({name: pool(features[name]) for name in self.encoders}, self.encoders, self.config)

    def fit(self, rows: Tensor) -> None:
        """Fit the standardisation, if any, to all frames [n, input_dim] of the reduced training clips."""
        if self.standardizer is not None:
            with torch.no_grad():
                self.standardizer.fit(self._sum_layers(part) for part in torch.split(rows, FIT_ROWS))

    def prepare(self, frames: Tensor) -> Tensor:
        """Reduced frames, with hidden states summed and all values standardised if so configured.

        Shape:
            - frames: [..., input_dim]
            - returns: [..., sum of widths], or [..., A, sum of widths] if every axis has its own layer sum
        """
        fused = self._sum_layers(frames)
        return fused if self.standardizer is None else self.standardizer(fused)

    def _sum_layers(self, frames: Tensor) -> Tensor:
        frames = frames.to(torch.promote_types(frames.dtype, torch.float32))  # a training set may hold them in float16
        if self.states is None:
            return frames
        parts = torch.split(frames, self.reduced_widths, dim=-1)
        index = self.encoders.index(str(self.config.summed))
        mixed = normalise(self.states(parts[index]), self.reduction.norm)  # [..., sums, D]
        expanded = [part.unsqueeze(-2).expand(*mixed.shape[:-1], -1) for part in parts]
        fused = torch.cat([*expanded[:index], mixed, *expanded[index + 1 :]], dim=-1)
        return fused if mixed.shape[-2] > 1 else fused.squeeze(-2)

    @abstractmethod
    def aggregate(self, reduced: Features) -> Tensor:
        """The part with parameters: reduced clips -> [B, output_dim] or [B, A, output_dim]."""

    def forward(self, features: Mapping[str, Features]) -> Tensor:
        """Features of a batch -> [B, output_dim] or [B, A, output_dim]."""
        return self.aggregate(self.reduce(features))


def _layer_sum(block_dims: Mapping[str, Sequence[int]], config: FusionConfig, by_axis: bool) -> WeightedLayerSum | None:
    """The learned layer sum of the config, or None; `by_axis`: whether the aggregator supports one for each axis."""
    if config.summed is None:
        return None
    widths = block_dims.get(config.summed, ())
    if len(widths) < 2 or len(set(widths)) > 1:
        raise ValueError(
            f"wavlm_output={config.wavlm_output} requires {config.summed} with layers='all', not blocks of {widths}"
        )
    if config.wavlm_output == "weighted_per_axis" and not by_axis:
        raise ValueError("wavlm_output=weighted_per_axis gives four vectors per clip; only mlp accepts them")
    return WeightedLayerSum(len(widths), config.wavlm_output == "weighted_per_axis")


class MlpAggregator(Aggregator):
    """The fused vector itself; only the heads are trained."""

    kind = "pooled"
    by_axis = True

    def __init__(self, block_dims: Mapping[str, Sequence[int]], config: FusionConfig) -> None:
        super().__init__(block_dims, config)
        self.output_dim = sum(self.widths)

    def aggregate(self, reduced: Features) -> Tensor:
        """[B, 1, D] -> [B, D], or [B, A, D]."""
        return self.prepare(reduced.frames[:, 0])


class BlstmH(Aggregator):
    """An LSTM over the fused vector as a sequence of one step; its final states are concatenated.

    With one step, and initial states of zero, the recurrent weights and the forget gates have no effect and are not
    trained: each direction is a gated layer. With "tokens" each encoder's part of the vector is a step, projected to
    2 H values by a linear map of its own.
    """

    kind = "pooled"

    def __init__(self, block_dims: Mapping[str, Sequence[int]], config: FusionConfig) -> None:
        super().__init__(block_dims, config)
        self.output_dim = 2 * config.blstm_hidden
        tokens = config.blstm_h_input == "tokens"
        self.tokens = nn.ModuleList(nn.Linear(width, self.output_dim) for width in self.widths) if tokens else None
        self.blstm = Blstm(self.output_dim if tokens else sum(self.widths), config.blstm_hidden)

    def aggregate(self, reduced: Features) -> Tensor:
        """[B, 1, D] -> [B, 2 H]."""
        steps = self.prepare(reduced.frames)
        if self.tokens is not None:
            parts = zip(self.tokens, torch.split(steps[:, 0], self.widths, dim=-1), strict=True)
            steps = torch.stack([project(part) for project, part in parts], dim=1)
        states = self.blstm(steps, torch.ones(steps.shape[:2], dtype=torch.bool, device=steps.device))
        forward, backward = states.chunk(2, dim=-1)
        return torch.cat([forward[:, -1], backward[:, 0]], dim=-1)


class BlstmT(Aggregator):
    """An LSTM over the aligned frames, followed by the mean of its states over time."""

    kind = "aligned"

    def __init__(self, block_dims: Mapping[str, Sequence[int]], config: FusionConfig) -> None:
        super().__init__(block_dims, config)
        self.output_dim = 2 * config.blstm_hidden
        self.blstm = Blstm(sum(self.widths), config.blstm_hidden)

    def aggregate(self, reduced: Features) -> Tensor:
        """[B, T, D] -> [B, 2 H]."""
        states: Tensor = self.blstm(self.prepare(reduced.frames), reduced.mask)
        weight = reduced.mask.to(states.dtype).unsqueeze(-1)
        return (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


AGGREGATORS: dict[str, type[Aggregator]] = {"mlp": MlpAggregator, "blstm_h": BlstmH, "blstm_t": BlstmT}
"""Name -> class."""
