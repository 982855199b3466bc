"""WavLM Base+ (Chen et al., IEEE JSTSP 2022), the paper's speech encoder: 94 million weights.

    wave 16 kHz ► 7 convolutions: 25 ms each 20 ms ► LayerNorm ► linear 512 -> 768 ─┐
                  GroupNorm over time after the first, GELU after each              │
         state 0 ◄────── LayerNorm ◄──── sum with GELU(convolution over 128 frames) ┘
            └► 12 blocks, a LayerNorm after each residual sum ► states 1 to 12
               attention logits: q · k / 8 + gate(head, frame of q) × bias(head, distance from q to k)

What is done otherwise than published gives the same result. The GroupNorm becomes part of the first
convolution, clip by clip (`_First`). q, k and v are one product. Of the eight gate values of a head only
the sums of four and four are used, so their weights are summed, and the weight norm of the long convolution
is undone, at loading. No dropout is built, nor the vector that hides frames in pre-training.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmos.encoders.base import Encoder
from mmmos.encoders.wavlm_checkpoint import WavLMConfig, fill, read_published
from mmmos.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    Layers = Literal["last", "all"] | Sequence[float]
    """Which of the 13 states become frames; numbers are their weights in a sum."""

RATE = 16_000  # Hz
GATES = 8  # published values a head and frame
GROUP_NORM_EPS = 1e-5


class WavLM(Encoder):
    """Frames of 768 values, 50 a second: T = 1 + (S - 400) // 320, frame t from sample 320 t to 320 t + 400.

    `layers="last"` gives state 12; 13 numbers give the sum of states 0 to 12 with those weights, shared by all axes;
    "all" gives the states side by side, 13 blocks of 768 columns, for heads that weigh them by axis.
    A block's attention logits take 48 T² bytes: give long clips in windows.
    """

    name = "wavlm"
    sample_rate = RATE

    def __init__(self, config: WavLMConfig | None = None, layers: Layers = "last", pad_seconds: float = 0) -> None:
        """Of random weights; `from_checkpoint` reads trained ones.

        Clips shorter than `pad_seconds` are padded with zeros to it, as the audiobox model was published.
        """
        super().__init__()
        self.config = config = config or WavLMConfig()
        named = isinstance(layers, str)
        if layers not in ("last", "all") if named else len(layers) != config.depth + 1:
            raise UsageError(f"WavLM gives the layers 'last' or 'all' or {config.depth + 1} weights, not {layers!r}")
        self.layers = layers if isinstance(layers, str) else tuple(map(float, layers))
        self.pad_seconds = pad_seconds
        self.block_dims = (config.width,) * (config.depth + 1 if layers == "all" else 1)
        self.dim = sum(self.block_dims)
        self.rate_hz = RATE / math.prod(stride for *_, stride in config.convs)
        self.min_samples = 1  # and back from one frame to the samples it is made of:
        for _, kernel, stride in reversed(config.convs):
            self.min_samples = (self.min_samples - 1) * stride + kernel
        self.first = _First(*config.convs[0])
        self.convs = nn.ModuleList(
            nn.Conv2d(n, m, (1, kernel), (1, stride), bias=False)
            for (n, *_), (m, kernel, stride) in pairwise(config.convs)
        )
        channels, width, reach = config.convs[-1][0], config.width, config.reach
        self.norm = nn.LayerNorm(channels, config.eps)
        self.project = nn.Linear(channels, width)
        self.near = nn.Conv1d(width, width, reach, padding=reach // 2, groups=config.groups)
        self.near_norm = nn.LayerNorm(width, config.eps)
        self.bias = nn.Parameter(torch.randn(config.buckets, config.heads))
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.convs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train()

    @classmethod
    def from_checkpoint(
        cls, path: Path, *, trust_checkpoint: bool = False, layers: Layers = "last", pad_seconds: float = 0
    ) -> Self:
        """Read a published checkpoint: unilm's file, the hub's folder, or a file with its config.json beside it.

        `layers` and `pad_seconds` are those of the class. Raises `ModelNotFoundError`, `ModelFormatError`.
        """
        config, state, source = read_published(Path(path), trust_checkpoint)
        with torch.device("meta"):  # no use in drawing 94 million numbers
            encoder = cls(config, layers, pad_seconds)
        encoder.to_empty(device="cpu")
        encoder.load(state, source)
        return encoder

    def load(self, state: Any, source: str) -> None:
        """Take published tensors, by the names of either layout: all of them and no others.

        Raises `ModelFormatError` that names `source` and the first keys at fault.
        """
        gain = self.near.weight.new_empty(1, 1, self.config.reach)
        places = {
            "feature_extractor.conv_layers.0.0.weight": self.first.weight.T[:, None],
            "feature_extractor.conv_layers.0.2.weight": self.first.scale,
            "feature_extractor.conv_layers.0.2.bias": self.first.shift,
            "encoder.layers.0.self_attn.relative_attention_bias.weight": self.bias,
            "encoder.pos_conv.0.weight_g": gain,
            "encoder.pos_conv.0.weight_v": self.near.weight.detach(),  # a place to copy to: it is changed below
            "encoder.pos_conv.0.bias": self.near.get_parameter("bias"),
            **_both("layer_norm", self.norm),
            **_both("post_extract_proj", self.project),
            **_both("encoder.layer_norm", self.near_norm),
        }
        for i, conv in enumerate(self.convs, 1):
            places[f"feature_extractor.conv_layers.{i}.0.weight"] = conv.get_parameter("weight").squeeze(2)
        blocks = [block for block in self.blocks if isinstance(block, _Block)]
        gates = [(torch.empty(GATES, self.config.width // self.config.heads), torch.empty(GATES)) for _ in blocks]
        for i, (block, (weight, bias)) in enumerate(zip(blocks, gates, strict=True)):
            places |= {f"encoder.layers.{i}.{key}": place for key, place in block.places().items()}
            places[f"encoder.layers.{i}.self_attn.grep_linear.weight"] = weight
            places[f"encoder.layers.{i}.self_attn.grep_linear.bias"] = bias
        fill(places, state, source)
        self.near.weight.mul_(gain / self.near.weight.norm(dim=(0, 1), keepdim=True))
        for block, (weight, bias) in zip(blocks, gates, strict=True):
            block.gate.weight.copy_(weight.view(2, GATES // 2, -1).sum(dim=1))
            block.gate.bias.copy_(bias.view(2, GATES // 2).sum(dim=1))

    def settings(self) -> dict[str, Any]:
        """What the weights do not show; arguments of `from_checkpoint`."""
        return {"layers": self.layers, "pad_seconds": self.pad_seconds}

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> [B, T, 768], or [B, T, 13 × 768]."""
        missing = round(self.pad_seconds * RATE) - waves.shape[1]
        if missing <= 0:
            states, heard = self.states(waves), None
        else:
            lengths = torch.full((len(waves),), waves.shape[1], device=waves.device)
            padded = F.pad(waves, (0, missing))
            states, heard = self.states(padded, lengths), math.ceil(waves.shape[1] * self.rate_hz / RATE)
        if isinstance(self.layers, tuple):
            weighted = (weight * state for weight, state in zip(self.layers, states, strict=True))
            mixed = sum(weighted, start=waves.new_zeros(()))
        else:
            mixed = torch.cat(tuple(deque(states, maxlen=len(self.block_dims))), dim=-1)
        return mixed[:, :heard].to(waves.dtype)

    def states(self, waves: Tensor, lengths: Tensor | None = None) -> Iterator[Tensor]:
        """What enters the first block, and what leaves each: [B, S] -> 13 times [B, T, 768].

        With `lengths` [B] only the frames of `valid_frames` are attended to, as in the audiobox model, which
        pads clips with zeros; its GroupNorm hears the zeros all the same.
        """
        x = self.first(waves).to(self.project.weight.dtype)  # [B, T, 512]
        x = x.transpose(1, 2).unsqueeze(2)  # [B, 512, 1, T], not moved in memory: "channels last"
        for conv in self.convs:
            x = F.gelu(conv(x))
        x = self.project(self.norm(x.squeeze(2).transpose(1, 2)))
        frames, invalid = x.shape[1], None
        if lengths is not None:
            invalid = ~valid_frames(lengths, waves.shape[1], frames)[:, None, None]
            x = x.masked_fill(invalid[:, 0, 0, :, None], 0)
        near = self.near(x.transpose(1, 2))[..., :frames]  # an even kernel gives a frame too many
        x = self.near_norm(x + F.gelu(near).transpose(1, 2))
        yield x
        bias = self._bias(frames)
        for block in self.blocks:
            x = block(x, bias, invalid)
            yield x

    def _bias(self, frames: int) -> Tensor:
        """What is added to the logits of two frames, before the gate: [heads, T of q, T of k]."""
        distance = torch.arange(1 - frames, frames)
        index = buckets(distance, self.config.buckets, self.config.max_distance).to(self.bias.device)
        # One row of all distances, under a window that starts a place earlier for each later q.
        return self.bias[index].T.unfold(1, frames, 1).flip(1)


class _First(nn.Module):
    """First convolution, GroupNorm of each channel over the clip, GELU, in float32: [B, S] -> [B, T, channels].

    With m and C the mean and the covariance of the samples under the kernel w, the channel has mean w · m
    and variance w · C w: the norm scales and shifts the kernel. In float64, since w · C w is a small
    difference of large numbers where a kernel is deaf to what is loud in the clip.
    """

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.randn(kernel, channels) / math.sqrt(kernel))
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, waves: Tensor) -> Tensor:
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
        """`.to(torch.bfloat16)` and its like move these tensors to their device and leave them float32."""

        def moved(tensor: Tensor) -> Tensor:
            other = fn(tensor)
            return other if other.dtype == tensor.dtype else tensor.to(other.device)

        return super()._apply(moved, recurse)  # type: ignore


class _Block(nn.Module):
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

    def forward(self, x: Tensor, bias: Tensor, invalid: Tensor | None) -> Tensor:
        """`bias` [heads, T, T] of each pair of frames; frames `unheard` [B, 1, 1, T] are not attended to."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, T, 64]
        # The gate sees its head's share of the input itself, not q.
        a, b = self.gate(x.view(*x.shape[:2], self.heads, -1)).sigmoid().transpose(1, 2).split(1, dim=-1)
        logits = (a * (b * self.gate_scale - 1) + 2) * bias
        if invalid is not None:
            logits = logits.masked_fill(invalid, -torch.inf)
        heard = F.scaled_dot_product_attention(q, k, v, attn_mask=logits.to(q.dtype))
        x = self.norm1(x + self.out(heard.transpose(1, 2).flatten(2)))
        out: Tensor = self.norm2(x + self.down(F.gelu(self.up(x))))
        return out

    def places(self) -> dict[str, Tensor]:
        """Where published tensors go, by unilm's names; the gate's weights are published otherwise."""
        places = {
            "self_attn.grep_a": self.gate_scale[None],
            **_both("self_attn.out_proj", self.out),
            **_both("self_attn_layer_norm", self.norm1),
            **_both("fc1", self.up),
            **_both("fc2", self.down),
            **_both("final_layer_norm", self.norm2),
        }
        for part, weight, bias in zip("qkv", self.qkv.weight.chunk(3), self.qkv.bias.chunk(3), strict=True):
            places |= {f"self_attn.{part}_proj.weight": weight, f"self_attn.{part}_proj.bias": bias}
        return places


def buckets(distance: Tensor, count: int, far: int) -> Tensor:
    """Bucket of each distance in frames from query to key.

    Half of the buckets are for keys after the query. Of each half, half have one distance each, and the others
    widen up to `far`.

    >>> buckets(torch.tensor([-5000, -80, -79, 0, 1, 79, 80, 800]), 320, 800)
    tensor([159,  80,  79,   0, 161, 239, 240, 319])
    """
    half, near = count // 2, count // 4
    steps = distance.abs()
    wide = (steps.clamp(min=near).double() / near).log() / math.log(far / near) * (half - near)
    return steps.where(steps < near, near + wide.long()).clamp(max=half - 1) + half * (distance > 0)


def valid_frames(lengths: Tensor, samples: int, frames: int) -> Tensor:
    """Whether a frame of a padded clip holds sound, by the published rule: lengths [B] -> [B, frames] bool.

    The rule gives every frame an equal share of the samples and drops the rest.

    >>> valid_frames(torch.tensor([160_000, 16_000, 400]), 160_000, 499).sum(dim=1)
    tensor([499,  50,   2])
    """
    return torch.arange(frames, device=lengths.device) * (samples // frames) < lengths[:, None]


def _both(name: str, module: nn.Linear | nn.LayerNorm) -> dict[str, Tensor]:
    return {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
