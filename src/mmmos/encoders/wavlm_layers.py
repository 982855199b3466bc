"""The layers of WavLM: the first convolution with its norm, a transformer block, and the distance buckets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from mmmos.encoders.wavlm_checkpoint import WavLMConfig

GROUP_NORM_EPS = 1e-5


def normal_parameter(*shape: int, divisor: float = 1.0) -> nn.Parameter:
    """A parameter of normally distributed numbers; on the meta device, where torch takes 2 s for that, of none."""
    empty = torch.empty(shape)
    return nn.Parameter(empty if empty.is_meta else torch.randn(shape) / divisor)


class NormalisedConv(nn.Module):
    """First convolution, GroupNorm of each channel over the clip, GELU, in float32: [B, S] -> [B, T, channels].

    With m and C the mean and the covariance of the samples under the kernel w, the channel has mean w · m
    and variance w · C w: the norm scales and shifts the kernel. It is computed in float64, since
    w · C w is a small difference of large numbers if the kernel does not respond to the loud part of the clip.
    """

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = normal_parameter(kernel, channels, divisor=math.sqrt(kernel))
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, waves: Tensor) -> Tensor:
        """[B, S] -> [B, T, channels]."""
        with torch.autocast(waves.device.type, enabled=False):
            under = waves.float().unfold(1, len(self.weight), self.stride)  # [B, T, kernel]
            mean = under.double().mean(dim=1, keepdim=True)
            centred, weight = under.double() - mean, self.weight.double()
            covariance = centred.transpose(1, 2) @ centred / under.shape[1]
            variance = (weight * (covariance @ weight)).sum(dim=1, keepdim=True)  # [B, 1, channels]
            weight = weight * self.scale * (variance + GROUP_NORM_EPS).rsqrt()  # [B, kernel, channels]
            shift = self.shift - mean @ weight
            return F.gelu(torch.baddbmm(shift.float(), under, weight.float()))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`.to(torch.bfloat16)` and similar calls move these tensors to the device and leave them float32."""

        def moved(tensor: Tensor) -> Tensor:
            other = fn(tensor)
            return other if other.dtype == tensor.dtype else tensor.to(other.device)

        return super()._apply(moved, recurse)  # type: ignore


class Block(nn.Module):
    """Attention and perceptron, each with its norm after it: [B, T, width] -> the same."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.gate = nn.Linear(config.width // config.heads, 2)
        self.gate_scale = nn.Parameter(torch.ones(config.heads, 1, 1))
        self.out = nn.Linear(config.width, config.width)
        self.norm1 = nn.LayerNorm(config.width, config.eps)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        self.norm2 = nn.LayerNorm(config.width, config.eps)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """`bias` [heads, T, T] of each pair of frames."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, T, 64]
        # The gate's input is the head's slice of x itself, not q.
        a, b = self.gate(x.view(*x.shape[:2], self.heads, -1)).sigmoid().transpose(1, 2).split(1, dim=-1)
        logits = (a * (b * self.gate_scale - 1) + 2) * bias
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=logits.to(q.dtype))
        x = self.norm1(x + self.out(attended.transpose(1, 2).flatten(2)))
        out: Tensor = self.norm2(x + self.down(F.gelu(self.up(x))))
        return out

    def targets(self) -> dict[str, Tensor]:
        """The parameters by unilm's names, except for the gate, whose weights are published in another form."""
        targets = {
            "self_attn.grep_a": self.gate_scale[None],
            **named_parameters_of("self_attn.out_proj", self.out),
            **named_parameters_of("self_attn_layer_norm", self.norm1),
            **named_parameters_of("fc1", self.up),
            **named_parameters_of("fc2", self.down),
            **named_parameters_of("final_layer_norm", self.norm2),
        }
        for part, weight, bias in zip("qkv", self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), strict=True):
            targets |= {f"self_attn.{part}_proj.weight": weight, f"self_attn.{part}_proj.bias": bias}
        return targets


def buckets(distance: Tensor, count: int, far: int) -> Tensor:
    """Bucket of each distance in frames from query to key.

    Half of the buckets are for keys after the query. In each half, the first half of the buckets have one distance
    each; the others widen up to `far`.

    >>> buckets(torch.tensor([-5000, -80, -79, 0, 1, 79, 80, 800]), 320, 800)
    tensor([159,  80,  79,   0, 161, 239, 240, 319])
    """
    half, near = count // 2, count // 4
    steps = distance.abs()
    wide = (steps.clamp(min=near).double() / near).log() / math.log(far / near) * (half - near)
    return steps.where(steps < near, near + wide.long()).clamp(max=half - 1) + half * (distance > 0)


def valid_frames(samples: int, padded: int, frames: int) -> int:
    """Valid frames of a clip of so many samples that is padded to `padded`, which give `frames`: the published rule.

    The rule gives every frame the same number of samples and drops the rest.

    >>> [valid_frames(samples, 160_000, 499) for samples in (160_000, 16_000, 400)]
    [499, 50, 2]
    """
    return min(frames, math.ceil(samples / (padded // frames)))


def named_parameters_of(name: str, module: nn.Linear | nn.LayerNorm) -> dict[str, Tensor]:
    """Weight and bias by their names in a checkpoint."""
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
