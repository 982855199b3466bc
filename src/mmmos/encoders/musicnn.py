"""musicnn, trained to tag the Million Song Dataset (Pons and Serra, ISMIR 2019): the bundled music encoder.

    log-mel [B, 96, T] ── 5 convolutions, max over frequency ──► 64 ── 7-wide ──► 64 ── 7-wide ─+─► 64 ── 7-wide ─+─► 64
                          38 or 67 mels × 7 frames: timbre        │          │     residual           residual
                          1 mel × 128, 64, 32 frames: rhythm      └──────────┴── concatenated: 212 per frame ┐
                                       200 per patch ◄─ ReLU, BatchNorm ◄── dense ◄── max and mean over time ─┘

The weights are those of the PyPI package `musicnn` 0.1.0 (ISC), model MSD_musicnn; recipes/encoders/musicnn.py made
the file. In training, 497 of 561 first-layer and 44 of 64 second-layer channels died: their weights are below 1e-6, so
their output is the same constant for every sound. We leave them out; their effect on later layers is folded into a
bias. The published 753 values per frame are our 212 and 541 constants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from mmmos.encoders.base import Encoder
from mmmos.encoders.level import at_level, checked_level
from mmmos.encoders.mel import mel_filters
from mmmos.encoders.weights import bundled_state, load_strictly

if TYPE_CHECKING:
    from torch import Tensor

SAMPLE_RATE = 16_000  # Hz
HOP = 256  # samples, 16 ms
FFT = 512  # samples
MELS = 96
PATCH = 3 * SAMPLE_RATE // HOP  # frames, 187: the 3 s that the network was trained on
SHORTEST_TAIL = SAMPLE_RATE // HOP + 1  # frames, 63: a last patch under 1 s joins the one before

FRONT = ((38, 7, 23), (67, 7, 14), (1, 128, 3), (1, 64, 7), (1, 32, 17))
"""(mels, frames, live channels) of the first layer's kernels."""
MIDDLE = 64  # channels of each 7-wide convolution
MIDDLE_LIVE = 20  # channels of the first of these that are not constant; they come first
FRONT_DIM = sum(channels for *_, channels in FRONT)  # 64
FRAME_DIM = FRONT_DIM + MIDDLE_LIVE + 2 * MIDDLE  # 212
PATCH_DIM = 200


class _Unit(nn.Module):
    """Weights of a convolution or product, then ReLU, then the affine map that BatchNorm is at inference."""

    def __init__(self, channels: int, *kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, *kernel))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))


class _Front(_Unit):
    """Two-dimensional convolution and the maximum over frequency: [N, 1, mels, T] -> [N, channels, T]."""

    def forward(self, spectrum: Tensor) -> Tensor:
        # A maximum after a decreasing affine map is a minimum before it. So we negate the kernels of such channels,
        # take the maximum of the bare convolution, and do the rest on 1 value instead of up to 96.
        sign = self.scale.sign()
        width = self.weight.shape[-1]  # frames; TensorFlow appends the odd zero of "same" padding
        padded = F.pad(spectrum, ((width - 1) // 2, width // 2))
        peak = F.conv2d(padded, self.weight * sign[:, None, None, None], self.bias * sign).amax(2)
        return F.relu(peak * sign[:, None]) * self.scale[:, None] + self.shift[:, None]


class _Context(_Unit):
    """One-dimensional convolution over time: [N, inputs, T] -> [N, channels, T]."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv1d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)
        return F.relu(y) * self.scale[:, None] + self.shift[:, None]


class _Dense(_Unit):
    """Product: [N, inputs] -> [N, channels]."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.linear(x, self.weight, self.bias)) * self.scale + self.shift


class _Affine(nn.Module):
    """A BatchNorm at inference that is not folded into another layer.

    That of the input cannot be folded into the convolutions after it, since zeros are padded in between. The one
    before the dense layer could be, but then float16 would round weights that differ from the published ones.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class MusiCNN(Encoder):
    """Waveforms at 16 kHz to 62.5 frames per second: 212 values of the frame and 200 of its 3-s patch.

    T = 1 + S // 256, frame t centred on sample 256 t. Patches are 187 consecutive frames, each
    zero-padded by the network itself. The remainder of a clip is a shorter patch; under 63 frames (1 s) it
    is appended to the patch before, which then has up to 249 frames, and a clip shorter than a patch is
    one patch. Columns 0-211 are those that the published network pools over time, without the constants;
    columns 212-411 are its `penultimate` feature (after the last BatchNorm), repeated over the patch.

    Option `level_db`: brings each clip to this RMS level (dB of full scale) first, so that a gain changes nothing; by
    default the features depend on the level, as those of the published network do. Raises `UsageError` for a level that
    is not finite.
    """

    name = "musicnn"
    parts = ("patch",)
    sample_rate = SAMPLE_RATE
    dim = FRAME_DIM + PATCH_DIM  # 412
    block_dims = (FRAME_DIM, PATCH_DIM)
    rate_hz = SAMPLE_RATE / HOP
    min_samples = SAMPLE_RATE // 10  # 0.1 s; reflection at the edges needs more than FFT / 2
    window: Tensor
    filters: Tensor

    def __init__(self, state: dict[str, Tensor] | None = None, *, level_db: float | None = None) -> None:
        """Weights as recipes/encoders/musicnn.py names them; the bundled ones by default."""
        super().__init__()
        self.level_db = checked_level(level_db)
        self.input = _Affine(1)
        self.front = nn.ModuleList(_Front(channels, 1, mels, frames) for mels, frames, channels in FRONT)
        self.middle = nn.ModuleList(_Context(MIDDLE, inputs, 7) for inputs in (FRONT_DIM, MIDDLE, MIDDLE))
        self.pooled = _Affine(2 * FRAME_DIM)
        self.penultimate = _Dense(PATCH_DIM, 2 * FRAME_DIM)
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        filters = torch.from_numpy(mel_filters(SAMPLE_RATE, FFT, MELS)).float()
        self.register_buffer("filters", filters, persistent=False)
        load_strictly(self, bundled_state(self.name) if state is None else state, f"{self.name} weights")
        self.train(False)

    def settings(self) -> dict[str, Any]:
        """`level_db`, if there is one."""
        return {} if self.level_db is None else {"level_db": self.level_db}

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> frames [B, 1 + S // 256, 412]."""
        log_mel = self.log_mel(waves if self.level_db is None else at_level(waves, self.level_db))
        n_clips, n_frames, _ = log_mel.shape
        n_whole = max(0, n_frames - SHORTEST_TAIL) // PATCH
        whole, tail = log_mel[:, : n_whole * PATCH], log_mel[:, n_whole * PATCH :]
        features = self.patch(whole.reshape(n_clips * n_whole, PATCH, MELS)).reshape(n_clips, n_whole * PATCH, self.dim)
        return torch.cat([features, self.patch(tail)], 1)

    def log_mel(self, waves: Tensor) -> Tensor:
        """log10(10000 power + 1) in 96 mel bands: waveforms [B, S] -> [B, 1 + S // 256, 96].

        The package rounds the power through float16. We do not, to keep the gradient: rounding changes
        a feature by 3e-4 of its standard deviation over sounds.
        """
        spectrum = torch.stft(waves, FFT, HOP, window=self.window, pad_mode="reflect", return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        return torch.log10(1e4 * (self.filters @ power) + 1).transpose(1, 2)

    def patch(self, log_mel: Tensor) -> Tensor:
        """The network: N patches of equal length, log-mel [N, T, 96] -> frames [N, T, 412]."""
        spectrum: Tensor = self.input(log_mel).transpose(1, 2)[:, None]
        front = torch.cat([unit(spectrum) for unit in self.front], 1)
        first = self.middle[0](front)
        second = self.middle[1](first) + first
        third = self.middle[2](second) + second
        frames = torch.cat([front, first[:, :MIDDLE_LIVE], second, third], 1)
        pooled = self.pooled(torch.cat([frames.amax(2), frames.mean(2)], 1))
        summary = self.penultimate(pooled)
        return torch.cat([frames, summary[:, :, None].expand(-1, -1, frames.shape[2])], 1).transpose(1, 2)
