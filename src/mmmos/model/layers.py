"""Layers of the aggregators: standardisation, a weighted sum of hidden states, and a BLSTM."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class Blstm(nn.Module):
    """One bidirectional LSTM layer over sequences of any lengths, with one bias per gate, initialised as in torch.

    Padding comes last and has gates of 0: forward it comes after all states that count, backward it leaves the initial
    state of 0 unchanged. So a clip's states do not depend on the batch. All inputs go through one product, and in
    training, where they are constants, their gradient is not computed.

    Shape:
        - frames: [B, T, D]
        - mask: [B, T] bool, True where a frame is valid
        - returns: [B, T, 2 H], forward and backward states; those in the padding have no meaning
    """

    def __init__(self, input_dim: int, hidden: int) -> None:
        super().__init__()
        # Both directions, each with its input, forget and output gate and its candidate.
        self.weight_hh = nn.Parameter(torch.empty(2, hidden, 4 * hidden))
        linear = nn.Linear(input_dim, 2 * 4 * hidden)  # drawn twice: so a seed gives the same later layers as before
        self.weight_ih, self.bias = linear.weight, linear.bias
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, 2 H]."""
        given = F.linear(frames[mask], self.weight_ih, self.bias)
        given = given.to(torch.promote_types(given.dtype, torch.float32))
        padded = given.new_zeros(*mask.shape, given.shape[-1]).index_put((mask,), given)
        forward, backward = padded.chunk(2, dim=-1)
        hidden = self.weight_hh.shape[1]
        state = cell = given.new_zeros(2, len(mask), hidden)
        states = []
        with torch.autocast(given.device.type, enabled=False):  # rounding errors would accumulate over many small steps
            for step in torch.stack([forward, backward.flip(1)]).unbind(dim=2):
                gates = step.baddbmm(state, self.weight_hh)  # [2, B, 4 H]
                opened, candidate = torch.split(gates, [3 * hidden, hidden], dim=-1)
                input_gate, forget_gate, output_gate = opened.sigmoid().chunk(3, dim=-1)
                cell = forget_gate * cell + input_gate * candidate.tanh()
                state = output_gate * cell.tanh()
                states.append(state)
        forward, backward = torch.stack(states, dim=2)
        return torch.cat([forward, backward.flip(1)], dim=-1)
