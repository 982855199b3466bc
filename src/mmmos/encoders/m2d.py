"""M2D-CLAP (Niizumi et al., Interspeech 2024; M2D: ICASSP 2023), the paper's encoder of general sound.

    wave 16 kHz ► log-mel [80, L], a frame every 10 ms ► chunks of 1001 frames ► patches of 16 mels × 16 frames

      mels 64-79  │ ▢ ▢ ▢     ▢ │                                                        ┌ 768 of the highest mels
          ...     │ ▢ ▢ ▢ ... ▢ │ ► 768 per patch + position ► 12 transformer blocks ► norm ┤ ...
      mels  0-15  │ ▢ ▢ ▢     ▢ │   with a class token, dropped at the end               └ 768 of the lowest mels
                    0 1 2    61   time steps, 6.25 per second                     stacked: 3840 per time step

The network is a plain vision transformer (ViT). m2d_checkpoint.py reads its weights.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmos.encoders.base import Encoder
from mmmos.encoders.m2d_checkpoint import (
    HEAD,
    NORM_STATS,
    M2DConfig,
    find_checkpoint,
    fit_config,
    input_sizes,
    read_state,
)
from mmmos.encoders.mel import mel_filters
from mmmos.encoders.weights import load_strictly
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

FRAMES = 100  # per second, of the spectrogram: 160 samples at 16 kHz, 320 at 32 kHz
WINDOWS = 40  # per second, if they did not overlap: 400 samples at 16 kHz, 800 at 32 kHz; the FFT is as long
LOW_HZ = 50.0  # where the lowest mel band begins; the highest ends at Nyquist
FLOOR = torch.finfo(torch.float32).eps  # 1.19e-7, added to the power before the logarithm
EPS = 1e-6  # of every LayerNorm


class M2D(Encoder):
    """Waveforms to 6.25 time steps per second, each the 5 patches at that time, lowest mels first: 3840 values.

    N samples are L = N // 160 + 1 frames and T = 62 (L // 1001) + min(62, ceil((L mod 1001) / 16)) steps: 62 for 10 s,
    63 for 10.01 s. Chunks are encoded separately; of the 1001 frames of each, the first 992 are used, as published. In
    the last chunk, up to 15 frames of zeros fill the last patch. They are appended to the normalised spectrogram, so
    they have the mean level of the training data in every band, not silence, which is 2.1 standard deviations lower.
    Their number depends on the clip's length only, so features still depend on the clip alone.

    The front end always computes in float32, whatever the network's dtype; frames have the dtype of the waveforms.
    """

    name = "m2d"
    parts = ("transform",)

    def __init__(self, config: M2DConfig | None = None) -> None:
        """With random weights; `from_checkpoint` reads trained ones."""
        super().__init__()
        self.config = config = config or M2DConfig()
        bands, steps = config.grid
        self.sample_rate = config.sample_rate
        self.dim = bands * config.width
        self.block_dims = (self.dim,)
        self.rate_hz = FRAMES / config.patch_size[1]
        self.min_samples = config.sample_rate // 10  # 0.1 s; reflection at the edges needs more than half a window
        self.front = _LogMel(config.sample_rate, config.input_size[0])
        embed = nn.Conv2d(1, config.width, config.patch_size, config.patch_size)
        self.patch_embed = nn.ModuleDict({"proj": embed})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + bands * steps, config.width))
        self.blocks = nn.Sequential(*(_Block(config.width, config.hidden) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.width, EPS)
        self.train()

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        options: LoadOptions = DEFAULT_OPTIONS,
        *,
        input_size: Sequence[int] | None = None,
        patch_size: Sequence[int] | None = None,
        sample_rate: int | None = None,
    ) -> Self:
        """Read a released checkpoint: the file, or its folder.

        `input_size` (80, 1001), `patch_size` (16, 16) and `sample_rate` 16000 override the folder's name; with all
        three given, the name does not matter. Depth and widths are those of the weights.
        Raises `ModelNotFoundError`, `ModelFormatError`.
        """
        path = find_checkpoint(Path(path))
        sizes = input_sizes(path, input_size, patch_size, sample_rate)
        state = read_state(path, options)
        encoder = cls(fit_config(state, path, *sizes))
        load_strictly(encoder, state, str(path), share=True)
        return encoder

    def settings(self) -> dict[str, Any]:
        """Options that the weights do not determine; arguments of `from_checkpoint`."""
        config = self.config
        return {"input_size": config.input_size, "patch_size": config.patch_size, "sample_rate": config.sample_rate}

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> [B, T, 3840]."""
        log_mel = self.front(waves).to(self.cls_token.dtype)
        chunks = [self._chunk(chunk) for chunk in log_mel.split(self.config.input_size[1], dim=2)]
        return torch.cat(chunks, dim=1).to(waves.dtype)

    def _chunk(self, log_mel: Tensor) -> Tensor:
        """One chunk [B, 80, at most 1001] -> [B, at most 62, 3840]."""
        bands, most = self.config.grid
        wide, frames = self.config.patch_size[1], log_mel.shape[2]
        steps = min(math.ceil(frames / wide), most)
        log_mel = F.pad(log_mel, (0, steps * wide - frames))  # negative for a whole chunk (-9), which is cropped
        first, places = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        places = places.view(1, bands, most, -1)[:, :, :steps].flatten(1, 2)
        patches = self.patch_embed["proj"](log_mel[:, None]).flatten(2).transpose(1, 2)  # [B, bands x steps, 768]
        tokens = torch.cat([(self.cls_token + first).expand(len(patches), -1, -1), patches + places], dim=1)
        encoded = torch.unflatten(self.transform(tokens)[:, 1:], 1, (bands, steps))
        return encoded.transpose(1, 2).flatten(2)

    def transform(self, tokens: Tensor) -> Tensor:
        """The transformer blocks and the norm after them: tokens [B, 1 + bands x steps, 768] -> the same shape."""
        out: Tensor = self.norm(self.blocks(tokens))
        return out


class _LogMel(nn.Module):
    """Normalised logarithm of the power in mel bands: waveforms [B, S] -> [B, mels, L], always in float32."""

    window: Tensor
    filters: Tensor
    norm_stats: Tensor

    def __init__(self, sample_rate: int, mels: int) -> None:
        super().__init__()
        self.fft, self.hop = sample_rate // WINDOWS, sample_rate // FRAMES
        filters = torch.from_numpy(mel_filters(sample_rate, self.fft, mels, LOW_HZ)).float()
        self.register_buffer("window", torch.hann_window(self.fft), persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("norm_stats", torch.tensor(NORM_STATS))

    def forward(self, waves: Tensor) -> Tensor:
        with torch.autocast(waves.device.type, enabled=False):
            spectrum = torch.stft(waves.float(), self.fft, self.hop, window=self.window, return_complex=True)
            power = self.filters @ torch.view_as_real(spectrum).square().sum(-1)
            normal: Tensor = ((power + FLOOR).log() - self.norm_stats[0]) / self.norm_stats[1]
            return normal

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`.to(torch.bfloat16)` and similar calls move these tensors to the device and leave them float32."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)  # type: ignore


class _Block(nn.Module):
    """Attention and perceptron, each with its norm before it: [B, T, width] -> the same."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPS)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.norm2 = nn.LayerNorm(width, EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, -1, HEAD))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # [B, heads, T, 64]
        x = x + self.attn["proj"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))
        return out
