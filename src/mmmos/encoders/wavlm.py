"""WavLM Base+ (Chen et al., IEEE JSTSP 2022), the paper's speech encoder: 94 million weights.

    wave 16 kHz ► 7 convolutions: 25 ms every 20 ms ► LayerNorm ► linear 512 -> 768 ─┐
                  GroupNorm over time after the first, GELU after each              │
         state 0 ◄────── LayerNorm ◄──── sum with GELU(convolution over 128 frames) ┘
            └► 12 blocks, a LayerNorm after each residual sum ► states 1 to 12
               attention logits: q · k / 8 + gate(head, frame of q) × bias(head, distance from q to k)

Differences from the published code do not change the result. The GroupNorm is folded into the first convolution, for
each clip (`NormalisedConv`). q, k and v are computed by one product. Loading sums the gate weights, since only the
sums of four and four of a head's eight gate values are used, and undoes the weight norm of the positional convolution.
Dropout and the mask vector of pre-training are not built.
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
from mmmos.encoders.wavlm_checkpoint import WavLMConfig, copy_weights, read_published
from mmmos.encoders.wavlm_layers import (
    Block,
    NormalisedConv,
    buckets,
    named_parameters_of,
    normal_parameter,
    valid_frames,
)
from mmmos.errors import UsageError
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    Layers = Literal["last", "all"] | Sequence[float]
    """Which of the 13 states become frames; numbers are their weights in a sum."""

RATE = 16_000  # Hz
GATES = 8  # published values per head and frame

EARLIER_NAMES = {"conv0": "first", "pos_conv": "near", "pos_conv_norm": "near_norm"}
"""Attribute -> its name in fingerprints."""


class WavLM(Encoder):
    """Frames of 768 values, 50 per second: T = 1 + (S - 400) // 320, frame t from sample 320 t to 320 t + 400.

    `layers="last"` gives state 12; 13 numbers give the sum of states 0 to 12 with those weights, shared by all axes;
    "all" concatenates the states, 13 blocks of 768 columns, for heads that weight them by axis.
    A block's attention logits take 48 T² bytes: split long clips into windows.
    """

    name = "wavlm"
    sample_rate = RATE
    parts = ("convolve", "transform")

    def __init__(self, config: WavLMConfig | None = None, layers: Layers = "last", pad_seconds: float = 0) -> None:
        """With random weights; `from_checkpoint` reads trained ones.

        Clips shorter than `pad_seconds` are padded with zeros to it, as in the published audiobox model.
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
        self.min_samples = _inputs(1, config.convs)
        self.conv0 = NormalisedConv(*config.convs[0])
        self.convs = nn.ModuleList(
            nn.Conv2d(n, m, (1, kernel), (1, stride), bias=False)
            for (n, *_), (m, kernel, stride) in pairwise(config.convs)
        )
        channels, width, kernel = config.convs[-1][0], config.width, config.pos_conv_kernel
        self.norm = nn.LayerNorm(channels, config.eps)
        self.project = nn.Linear(channels, width)
        self.pos_conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=config.groups)
        self.pos_conv_norm = nn.LayerNorm(width, config.eps)
        self.bias = normal_parameter(config.buckets, config.heads)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.convs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train()

    @classmethod
    def from_checkpoint(
        cls, path: Path, options: LoadOptions = DEFAULT_OPTIONS, *, layers: Layers = "last", pad_seconds: float = 0
    ) -> Self:
        """Read a published checkpoint: unilm's file, the hub's folder, or a file with its config.json next to it.

        `layers` and `pad_seconds` are those of the class. Raises `ModelNotFoundError`, `ModelFormatError`.
        """
        config, state, source = read_published(Path(path), options)
        with torch.device("meta"):  # avoids drawing 94 million random numbers
            encoder = cls(config, layers, pad_seconds)
        encoder.to_empty(device="cpu")
        encoder.load(state, source)
        return encoder

    def load(self, state: Any, source: str) -> None:
        """Copy published tensors, named as in either layout: all of them and no others.

        Raises `ModelFormatError` that names `source` and the first keys at fault.
        """
        gain = self.pos_conv.weight.new_empty(1, 1, self.config.pos_conv_kernel)
        targets = {
            "feature_extractor.conv_layers.0.0.weight": self.conv0.weight.T[:, None],
            "feature_extractor.conv_layers.0.2.weight": self.conv0.scale,
            "feature_extractor.conv_layers.0.2.bias": self.conv0.shift,
            "encoder.layers.0.self_attn.relative_attention_bias.weight": self.bias,
            "encoder.pos_conv.0.weight_g": gain,
            "encoder.pos_conv.0.weight_v": self.pos_conv.weight.detach(),  # gets a copy, changed below
            "encoder.pos_conv.0.bias": self.pos_conv.get_parameter("bias"),
            **named_parameters_of("layer_norm", self.norm),
            **named_parameters_of("post_extract_proj", self.project),
            **named_parameters_of("encoder.layer_norm", self.pos_conv_norm),
        }
        for i, conv in enumerate(self.convs, 1):
            targets[f"feature_extractor.conv_layers.{i}.0.weight"] = conv.get_parameter("weight").squeeze(2)
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        gates = [(torch.empty(GATES, self.config.width // self.config.heads), torch.empty(GATES)) for _ in blocks]
        for i, (block, (weight, bias)) in enumerate(zip(blocks, gates, strict=True)):
            targets |= {f"encoder.layers.{i}.{key}": target for key, target in block.targets().items()}
            targets[f"encoder.layers.{i}.self_attn.grep_linear.weight"] = weight
            targets[f"encoder.layers.{i}.self_attn.grep_linear.bias"] = bias
        copy_weights(targets, state, source)
        self.pos_conv.weight.mul_(gain / self.pos_conv.weight.norm(dim=(0, 1), keepdim=True))
        for block, (weight, bias) in zip(blocks, gates, strict=True):
            block.gate.weight.copy_(weight.view(2, GATES // 2, -1).sum(dim=1))
            block.gate.bias.copy_(bias.view(2, GATES // 2).sum(dim=1))

    def fingerprint_key(self, key: str) -> str:
        """Fingerprints of saved models use the names that these layers had when the first model was saved."""
        layer, _, rest = key.partition(".")
        return f"{EARLIER_NAMES.get(layer, layer)}.{rest}" if rest else key

    def settings(self) -> dict[str, Any]:
        """Options that the weights do not determine; arguments of `from_checkpoint`."""
        return {"layers": self.layers, "pad_seconds": self.pad_seconds}

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> [B, T, 768], or [B, T, 13 × 768]."""
        x = self._embed(waves)
        return self.transform(x, self._bias(x.shape[1])).to(waves.dtype)

    def states(self, waves: Tensor) -> Iterator[Tensor]:
        """The input of the first block and the output of each: [B, S] -> 13 times [B, T, 768]."""
        x = self._embed(waves)
        return self._states(x, self._bias(x.shape[1]))

    def _embed(self, waves: Tensor) -> Tensor:
        """[B, S] -> [B, T, 768], before the positions.

        Padding enters the GroupNorm and the convolutions of the last frames, as published. The published network
        masks the other frames of the padding, so that no frame of the clip depends on them: here they are cut.
        """
        samples, padded = waves.shape[1], max(waves.shape[1], round(self.pad_seconds * RATE))
        first = self.conv0(F.pad(waves, (0, padded - samples))).to(self.project.weight.dtype)
        if padded > samples:
            frames = 1 + math.floor((padded - self.min_samples) * self.rate_hz / RATE)
            first = first[:, : _inputs(valid_frames(samples, padded, frames), self.config.convs[1:])]
        return self.convolve(first)

    def convolve(self, first: Tensor) -> Tensor:
        """The other convolutions and the projection: output of the first [B, T of it, 512] -> [B, T, 768]."""
        x = first.transpose(1, 2).unsqueeze(2)  # [B, 512, 1, T], not moved in memory: "channels last"
        for conv in self.convs:
            x = F.gelu(conv(x))
        projected: Tensor = self.project(self.norm(x.squeeze(2).transpose(1, 2)))
        return projected

    def transform(self, x: Tensor, bias: Tensor) -> Tensor:
        """The positions and the blocks: [B, T, 768], [heads, T, T] of `_bias` -> the layers as `frames` gives them."""
        states = self._states(x, bias)
        if isinstance(self.layers, tuple):
            weighted = (weight * state for weight, state in zip(self.layers, states, strict=True))
            return sum(weighted, start=x.new_zeros(()))
        return torch.cat(tuple(deque(states, maxlen=len(self.block_dims))), dim=-1)

    def _states(self, x: Tensor, bias: Tensor) -> Iterator[Tensor]:
        positions = self.pos_conv(x.transpose(1, 2))[..., : x.shape[1]]  # an even kernel gives an extra frame
        x = self.pos_conv_norm(x + F.gelu(positions).transpose(1, 2))
        yield x
        for block in self.blocks:
            x = block(x, bias)
            yield x

    def _bias(self, frames: int) -> Tensor:
        """Bias of the attention logits before the gate: [heads, T of q, T of k]."""
        distance = torch.arange(1 - frames, frames)
        index = buckets(distance, self.config.buckets, self.config.max_distance).to(self.bias.device)
        # A sliding window over one row of all distances, starting one earlier for each later q.
        return self.bias[index].T.unfold(1, frames, 1).flip(1)


def _inputs(frames: int, convs: Sequence[tuple[int, int, int]]) -> int:
    """How many inputs convolutions (channels, kernel, stride) need for so many outputs."""
    for _, kernel, stride in reversed(convs):
        frames = (frames - 1) * stride + kernel
    return frames
