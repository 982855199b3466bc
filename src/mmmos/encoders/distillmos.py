"""DistillMOS: a small speech-quality network distilled from XLS-R, as a frozen encoder.

    wave 16 kHz ► peak 1 ► STFT 20 ms / 10 ms, |X|^0.3 ► 6 convolutions ► linear 1024 -> 200
         ► + position ► 7 transformer blocks ► 200 values per 20 ms frame ► attention pooling ► MOS

Published by B. Stahl and H. Gamper as "Distillation and Pruning for Scalable Self-Supervised
Representation-Based Speech Quality Assessment" (package `distillmos` 0.9.1, MIT). The network is
reimplemented; `recipes/encoders/distillmos.py` converts the published weights.

The position table has 384 rows, so the transformer processes segments of 7.68 s. A shorter clip is
padded with zeros to one segment, and attention and pooling include that padding, as published: 1 s of
speech scores as 1 s of speech and 6.68 s of silence. A longer clip, padded to whole frames, is covered
by as few segments as possible, the first at its start, the last at its end. Here we differ from the
package, which takes a segment at least every second and scales each to its own peak: we scale the clip
once, by its own peak. So the convolutions, most of the work, run once over the clip, and only their
edges once per segment; the result is that of convolving each segment alone.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmos.encoders.base import Encoder
from mmmos.encoders.weights import bundled_state, load_strictly

RATE = 16_000  # Hz
WINDOW = 20 * RATE // 1000  # samples, of the STFT: 161 bins
HOP = WINDOW // 2  # samples
FRAME = 2 * HOP  # samples per frame: the last convolution has a stride of two STFT columns
SEGMENT = 384  # frames, 7.68 s
EDGE = 4  # frames at either end of a segment that depend on where it ends: a reach of 6 STFT columns and half a window
CHANNELS = (2, 64, 64, 128, 256, 256, 256)  # of the convolutions; the first 2 are the real and the imaginary part
BINS = 4  # frequencies after the last convolution, of 161
WIDTH = 200  # of the transformer
HEADS = 8
BLOCKS = 7


class DistillMOS(Encoder):
    """Frames of 200 transformer outputs and, as column 201, the MOS (1-5) of the frame's segment.

    `state` is a dict as `recipes/encoders/distillmos.py` writes it; None loads the bundled weights.
    Activations of the first convolution take 4 MB per second of audio: split long clips into windows.
    """

    name = "distillmos"
    parts = ("convolve", "transform")
    sample_rate = RATE
    dim = WIDTH + 1
    block_dims = (WIDTH, 1)
    rate_hz = RATE / FRAME
    min_samples = RATE // 10
    window: Tensor
    position: Tensor

    def __init__(self, state: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        last = len(CHANNELS) - 2
        # Kernels are [.., time, frequency]: an STFT is [time, bin, part] in memory, which is
        # "channels last" already, so no activation is ever copied to another layout.
        self.convs = nn.ModuleList(
            nn.Conv2d(n, m, 3, stride=(2 if i == last else 1, 2 if i else 1), padding=(1, 0))
            for i, (n, m) in enumerate(pairwise(CHANNELS))
        )
        self.project = nn.Linear(BINS * CHANNELS[-1], WIDTH)
        self.blocks = nn.Sequential(*(_Block() for _ in range(BLOCKS)))
        self.attend = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, 1))
        self.rating = nn.Linear(WIDTH, 1)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("position", positions(), persistent=False)
        load_strictly(self, bundled_state(self.name) if state is None else state, self.name)
        self.convs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train()

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] -> [B, T, 201] with T = ceil(S / 320); overlapping segments are averaged."""
        hidden, mos, index = self._segments(waves)
        values = torch.cat([hidden, mos[..., None, None].expand(-1, -1, SEGMENT, 1)], dim=-1)
        # No frame lies in more than two segments, so the sum does not depend on its order.
        total = values.new_zeros(len(waves), int(index[-1, -1]) + 1, self.dim)
        total = total.index_add(1, index.flatten(), values.flatten(1, 2))
        mean = total / torch.bincount(index.flatten())[:, None]
        return mean[:, : math.ceil(waves.shape[1] / FRAME)]

    def score(self, waves: Tensor) -> Tensor:
        """MOS of each clip, from 1 (bad) to 5 (excellent): [B, S] -> [B], the mean over segments."""
        return self._segments(waves)[1].mean(dim=1)

    def _segments(self, waves: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Transformer outputs [B, N, 384, 200], MOS [B, N], and the frames that they cover [N, 384]."""
        index = cover(math.ceil(waves.shape[1] / FRAME)).to(waves.device)
        shape = (len(waves), len(index))
        hidden = self.transform((self._local(waves, index) + self.position).flatten(0, 1))
        pooled = (self.attend(hidden).softmax(dim=1).transpose(1, 2) @ hidden)[:, 0]
        mos = 1 + 4 * torch.sigmoid(self.rating(pooled)[:, 0])
        return hidden.view(*shape, SEGMENT, WIDTH), mos.view(shape), index

    def _local(self, waves: Tensor, index: Tensor) -> Tensor:
        """Each segment's convolved frames: [B, S], frames of the segments [N, 384] -> [B, N, 384, 200]."""
        frames, total = math.ceil(waves.shape[1] / FRAME), int(index[-1, -1]) + 1
        computed = min(frames + 2 * EDGE, total)
        waves = waves / (waves.abs().amax(dim=1, keepdim=True) + 1e-8)
        waves = F.pad(waves, (0, computed * FRAME - waves.shape[1]))
        local = self._convolved(waves)
        # All frames inside the padding, away from its ends, are equal: compute one and repeat it.
        local = local[:, torch.maximum(index.clamp(max=computed - EDGE), index - (total - computed))]
        if len(index) == 1:
            return local
        # The ends of a segment are reflected and zero-padded as if the clip ended there.
        strips = waves.unfold(1, 2 * EDGE * FRAME, FRAME)[:, index[:, [0, -2 * EDGE]].T]  # [B, 2, N, 8 frames]
        first, last = self._convolved(strips.flatten(0, 2)).view(*strips.shape[:3], 2 * EDGE, WIDTH).unbind(1)
        return torch.cat([first[:, :, :EDGE], local[:, :, EDGE:-EDGE], last[:, :, -EDGE:]], dim=2)

    def _convolved(self, waves: Tensor) -> Tensor:
        """Whole frames of samples, [B, 320 T] -> [B, T, 200]."""
        margin = (WINDOW - HOP) // 2
        columns = F.pad(waves, (margin, margin), mode="reflect").unfold(1, WINDOW, HOP) * self.window
        return self.convolve(compress(torch.view_as_real(torch.fft.rfft(columns))))

    def convolve(self, spectra: Tensor) -> Tensor:
        """The convolutions and the projection: compressed spectra [B, 2T, 161, 2] -> [B, T, 200]."""
        x = spectra.permute(0, 3, 1, 2)
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1, inplace=True)
        out: Tensor = self.project(x.permute(0, 2, 3, 1).flatten(2))
        return out

    def transform(self, x: Tensor) -> Tensor:
        """The transformer blocks: segments [N, 384, 200] -> the same shape."""
        out: Tensor = self.blocks(x)
        return out


class _Block(nn.Module):
    """Transformer block with the norm after each residual sum, [B, T, 200] -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)  # [B, heads, T, 25]
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.norm1(x + self.out(attended))
        out: Tensor = self.norm2(x + self.down(F.relu(self.up(x))))
        return out


def cover(frames: int) -> Tensor:
    """The fewest evenly spaced segments that cover a clip of `frames` frames, as frame numbers [N, 384].

    >>> cover(500)[:, [0, -1]].tolist()
    [[0, 383], [116, 499]]
    """
    count = max(math.ceil(frames / SEGMENT), 1)
    spare = max(frames - SEGMENT, 0)
    starts = torch.tensor([spare * i // max(count - 1, 1) for i in range(count)])
    return starts[:, None] + torch.arange(SEGMENT)


def compress(spectrum: Tensor) -> Tensor:
    """Raise magnitudes to the power 0.3 and keep phases; real and imaginary part in the last axis.

    Magnitudes under 1e-12 are scaled as 1e-12 is. The power is used, since the gradient of a magnitude is not finite
    at zero. The gradient also grows towards zero: in it, magnitudes under 1e-4 get the factor of 1e-4, or a pause would
    outweigh everything else.

    >>> compress(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).norm(dim=-1) ** (1 / 0.3)
    tensor([5.0000, 0.0000])
    """
    power = spectrum.square().sum(dim=-1, keepdim=True)
    compressed = spectrum * power.clamp(min=1e-24) ** ((0.3 - 1) / 2)
    if not compressed.requires_grad:
        return compressed
    gentle = spectrum * power.clamp(min=1e-8) ** ((0.3 - 1) / 2)
    return gentle + (compressed - gentle).detach()


def positions() -> Tensor:
    """Sines and cosines of each frame's position in its segment, [384, 200]."""
    rates = torch.exp(torch.arange(0, WIDTH, 2) * (-math.log(2 * SEGMENT) / WIDTH))
    phase = torch.arange(SEGMENT)[:, None] * rates
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1)
