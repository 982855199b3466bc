"""From the encoders' features to one vector a clip: reduce (fusion.py), then aggregate, which is what is trained.

    reduced clip [B, T', D]   mlp      the one frame itself                          ─► [B, D]
    T' = 1 where pooled       blstm_h  LSTM over the one frame, final states         ─► [B, 2 H]
                              blstm_t  LSTM over all frames, states averaged         ─► [B, 2 H]

Before that, where the config says so, WavLM's states are summed with learned weights and all values standardised.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mmmos.encoders.base import Features
from mmmos.model.fusion import FusionConfig, Reduction, fuse_aligned, fuse_pooled, normalise, pool
from mmmos.scores import AXES

CLIP_DEVIATIONS = 6.0
"""Standardised values are clipped here: a feature that training hardly saw must not decide a score."""

FIT_ROWS = 1024
"""Rows that statistics are taken of at once."""


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

    def fit(self, parts: Iterable[Tensor]) -> None:
        """Take means and deviations from rows [..., D], given in parts; a value that never varies is left out."""
        count, mean, squares = 0, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for part in parts:
            rows = part.double().flatten(0, -2)
            variance, own = torch.var_mean(rows, dim=0, correction=0)
            share, count = len(rows), count + len(rows)
            squares = squares + share * variance + (own - mean).square() * (share * (count - share) / count)
            mean = mean + (own - mean) * (share / count)
        std = (squares / count).sqrt()
        varies = std > 1e-4 * (1 + mean.abs())  # less is what float16 in the cache leaves of a constant
        self.center.copy_(mean)
        self.factor.copy_(torch.where(varies, 1 / std.clamp(min=1e-12), torch.zeros_like(std)))

    def forward(self, fused: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        z = ((fused - self.center) * self.factor).clamp(-CLIP_DEVIATIONS, CLIP_DEVIATIONS)
        return z * self.weight


class StateSum(nn.Module):
    """Sums of states with softmax weights that are learned and begin equal: one for all axes, or one an axis.

    Pooling and aligning are linear, so they may trade places with this sum (Audiobox Aesthetics).
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


class Blstm(nn.Module):
    """One bidirectional LSTM layer over sequences of any lengths, biases as one, drawn as torch's own are.

    Padding comes last and has gates of 0: forward it is too late to matter, backward it leaves a state of 0 as it is.
    So a clip's states are those of the clip alone. All inputs go through one product, and in training, where they
    are constants, none is spent on their gradient.

    Shape:
        - frames: [B, T, D]
        - mask: [B, T] bool, True where a frame is real
        - returns: [B, T, 2 H], states forward and backward; what stands in the padding means nothing
    """

    def __init__(self, input_dim: int, hidden: int) -> None:
        super().__init__()
        self.read = nn.Linear(input_dim, 2 * 4 * hidden)  # directions, then input, forget, output gate and candidate
        self.recur = nn.Parameter(torch.empty(2, hidden, 4 * hidden))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, 2 H]."""
        read = self.read(frames[mask])
        read = read.to(torch.promote_types(read.dtype, torch.float32))
        padded = read.new_zeros(*mask.shape, read.shape[-1]).index_put((mask,), read)
        ahead, back = padded.chunk(2, dim=-1)
        hidden = self.recur.shape[1]
        state = cell = read.new_zeros(2, len(mask), hidden)
        states = []
        with torch.autocast(read.device.type, enabled=False):  # many small steps: their errors would add up
            for given in torch.stack([ahead, back.flip(1)]).unbind(dim=2):
                gates = given.baddbmm(state, self.recur)  # [2, B, 4 H]
                opened, candidate = torch.split(gates, [3 * hidden, hidden], dim=-1)
                enter, keep, leave = opened.sigmoid().chunk(3, dim=-1)
                cell = keep * cell + enter * candidate.tanh()
                state = leave * cell.tanh()
                states.append(state)
        ahead, back = torch.stack(states, dim=2)
        return torch.cat([ahead, back.flip(1)], dim=-1)


class Aggregator(nn.Module, ABC):
    """From features to one vector a clip. Subclasses define `kind` and `aggregate`.

    `columns` are the widths of each encoder's blocks of columns, encoders in the order of the fused frame. Raises
    ValueError for columns or a config that do not go together.

    Shape:
        - features[name].frames: [B, T, sum of columns[name]]
        - returns: [B, output_dim], or [B, A, output_dim] if every axis has its own sum of states
    """

    kind: Literal["pooled", "aligned"]
    """What it wants clips reduced to."""
    by_axis = False
    """Whether it can give each axis a vector of its own."""
    input_dim: int
    """D' of reduced clips."""
    output_dim: int
    """H."""

    def __init__(self, columns: Mapping[str, Sequence[int]], config: FusionConfig) -> None:
        super().__init__()
        self.encoders = tuple(columns)
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
        blocks = {name: statistics * list(widths) for name, widths in columns.items()}
        self.reduced_widths = [sum(widths) for widths in blocks.values()]  # of each encoder's share
        self.input_dim = sum(self.reduced_widths)
        self.states = _state_sum(columns, config, self.by_axis)
        if config.summed:
            blocks[config.summed] = blocks[config.summed][:1]
        self.widths = [sum(widths) for widths in blocks.values()]  # the same with states summed
        scales = [torch.full((width,), (statistics * width) ** -0.5) for widths in blocks.values() for width in widths]
        self.standardizer = Standardizer(torch.cat(scales)) if config.standardize else None

    def reduce(self, features: Mapping[str, Features]) -> Features:
        """The part without parameters: what training computes once a clip and keeps."""
        if self.kind == "aligned":
            return fuse_aligned(features, self.encoders, self.config)
        return fuse_pooled({name: pool(features[name]) for name in self.encoders}, self.encoders, self.config)

    def fit(self, rows: Tensor) -> None:
        """Fit what is fitted rather than learned, on all frames [n, input_dim] of the reduced training clips."""
        if self.standardizer is not None:
            with torch.no_grad():
                self.standardizer.fit(self._sum_states(part) for part in torch.split(rows, FIT_ROWS))

    def prepare(self, frames: Tensor) -> Tensor:
        """Reduced frames, states summed and all standardised if so configured.

        Shape:
            - frames: [..., input_dim]
            - returns: [..., sum of widths], or [..., A, sum of widths] if every axis has its own sum of states
        """
        fused = self._sum_states(frames)
        return fused if self.standardizer is None else self.standardizer(fused)

    def _sum_states(self, frames: Tensor) -> Tensor:
        frames = frames.to(torch.promote_types(frames.dtype, torch.float32))  # a table may keep them in float16
        if self.states is None:
            return frames
        shares = torch.split(frames, self.reduced_widths, dim=-1)
        place = self.encoders.index(str(self.config.summed))
        mixed = normalise(self.states(shares[place]), self.reduction.norm)  # [..., sums, D]
        beside = [share.unsqueeze(-2).expand(*mixed.shape[:-1], -1) for share in shares]
        fused = torch.cat([*beside[:place], mixed, *beside[place + 1 :]], dim=-1)
        return fused if mixed.shape[-2] > 1 else fused.squeeze(-2)

    @abstractmethod
    def aggregate(self, reduced: Features) -> Tensor:
        """The part with parameters: reduced clips -> [B, output_dim] or [B, A, output_dim]."""

    def forward(self, features: Mapping[str, Features]) -> Tensor:
        """Features of a batch -> [B, output_dim] or [B, A, output_dim]."""
        return self.aggregate(self.reduce(features))


def _state_sum(columns: Mapping[str, Sequence[int]], config: FusionConfig, by_axis: bool) -> StateSum | None:
    """The learned sum that the config asks for; `by_axis` says whether an aggregator can have one for each axis."""
    if config.summed is None:
        return None
    widths = columns.get(config.summed, ())
    if len(widths) < 2 or len(set(widths)) > 1:
        raise ValueError(f"{config.wavlm_output} wants {config.summed} with layers='all', not with columns {widths}")
    if config.wavlm_output == "weighted_per_axis" and not by_axis:
        raise ValueError("weighted_per_axis gives four vectors a clip; of the aggregators only mlp takes them")
    return StateSum(len(widths), config.wavlm_output == "weighted_per_axis")


class MlpAggregator(Aggregator):
    """The fused vector itself; the heads do the rest."""

    kind = "pooled"
    by_axis = True

    def __init__(self, columns: Mapping[str, Sequence[int]], config: FusionConfig) -> None:
        super().__init__(columns, config)
        self.output_dim = sum(self.widths)

    def aggregate(self, reduced: Features) -> Tensor:
        """[B, 1, D] -> [B, D], or [B, A, D]."""
        return self.prepare(reduced.frames[:, 0])


class BlstmH(Aggregator):
    """An LSTM over the fused vector as a sequence of one step, its final states side by side.

    With one step, and states that begin at zero, the recurrent weights and the forget gates do nothing and learn
    nothing: each direction is a gated layer. With "tokens" each encoder's share is a step, brought to 2 H values by a
    linear map of its own.
    """

    kind = "pooled"

    def __init__(self, columns: Mapping[str, Sequence[int]], config: FusionConfig) -> None:
        super().__init__(columns, config)
        self.output_dim = 2 * config.blstm_hidden
        tokens = config.blstm_h_input == "tokens"
        self.tokens = nn.ModuleList(nn.Linear(width, self.output_dim) for width in self.widths) if tokens else None
        self.blstm = Blstm(self.output_dim if tokens else sum(self.widths), config.blstm_hidden)

    def aggregate(self, reduced: Features) -> Tensor:
        """[B, 1, D] -> [B, 2 H]."""
        steps = self.prepare(reduced.frames)
        if self.tokens is not None:
            shares = zip(self.tokens, torch.split(steps[:, 0], self.widths, dim=-1), strict=True)
            steps = torch.stack([project(share) for project, share in shares], dim=1)
        states = self.blstm(steps, torch.ones(steps.shape[:2], dtype=torch.bool, device=steps.device))
        ahead, back = states.chunk(2, dim=-1)
        return torch.cat([ahead[:, -1], back[:, 0]], dim=-1)


class BlstmT(Aggregator):
    """An LSTM over the aligned frames, its states averaged over time."""

    kind = "aligned"

    def __init__(self, columns: Mapping[str, Sequence[int]], config: FusionConfig) -> None:
        super().__init__(columns, config)
        self.output_dim = 2 * config.blstm_hidden
        self.blstm = Blstm(sum(self.widths), config.blstm_hidden)

    def aggregate(self, reduced: Features) -> Tensor:
        """[B, T, D] -> [B, 2 H]."""
        states: Tensor = self.blstm(self.prepare(reduced.frames), reduced.mask)
        weight = reduced.mask.to(states.dtype).unsqueeze(-1)
        return (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


AGGREGATORS: dict[str, type[Aggregator]] = {"mlp": MlpAggregator, "blstm_h": BlstmH, "blstm_t": BlstmT}
"""Name -> class."""
