"""FullBand: YAMNet's first eight blocks on its own spectrum continued to 21 kHz, for faults that are above 8 kHz.

    wave 48 kHz, at one level ► log-mel [L, 96] ► 3 × 3, stride 2 ► 32 ► 8 × (3 × 3 per channel, 1 × 1)
          │ mean of 16 spectra                                5th block │                  8th block │
          └► 96 values          mean in three bands, 3 × 256 = 768 values ◄┘    mean over mels, 512 ◄┘

YAMNet's 64 mel bands, from 125 Hz to 7.5 kHz, are evenly spaced in mel; here four more of the same width are below
them and 28 above. A convolution does not depend on where in the spectrum it is, so its weights need no change, and no
weights of its own are bundled. The middle of a network that was trained to name sounds still contains how they were
recorded and coded; its end contains little of that (dev/LOG.md).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmmos.encoders import yamnet
from mmmos.encoders.base import Encoder
from mmmos.encoders.level import at_level
from mmmos.encoders.mel import mel_filters
from mmmos.encoders.weights import bundled_state, load_strictly

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RATE = 48_000  # Hz
FACTOR = RATE // yamnet.RATE
WINDOW, HOP, FFT = FACTOR * yamnet.WINDOW, FACTOR * yamnet.HOP, FACTOR * yamnet.FFT  # samples
BELOW, MELS = 4, 96  # mel bands below YAMNet's, and all bands
LEVEL_DB = -24.0  # RMS in dB of full scale
MIDDLE, BLOCKS = 5, 8  # blocks up to the middle, and all
BANDS = 3  # of the middle's output: below 1.6 kHz, up to 6.4 kHz, above
STRIDE = 16  # spectra per frame
SHORTEST = WINDOW + (yamnet.PATCH - 1) * HOP  # samples, 0.975 s; a shorter clip is repeated


class FullBand(Encoder):
    """Waveforms at 48 kHz to 6.25 frames a second, in three blocks: spectrum, middle and end of the network.

    A clip is brought to -24 dB of full scale first, so that a gain changes nothing. A recording with a lower sample
    rate than 48 kHz is resampled to it and has nothing in its highest bands. N samples give L = 1 + (N - 1200) // 480
    spectra and L // 16 frames.
    """

    name = "fullband"
    parts = ("start", "finish")
    sample_rate = RATE
    block_dims: tuple[int, ...] = (MELS, BANDS * yamnet.BLOCKS[MIDDLE - 1][0], yamnet.BLOCKS[BLOCKS - 1][0])
    dim = sum(block_dims)
    rate_hz = RATE / HOP / STRIDE
    min_samples = RATE // 10
    window: Tensor
    filters: Tensor

    def __init__(self, state: dict[str, Tensor] | None = None) -> None:
        """Weights of YAMNet's first convolution and first eight blocks; the bundled ones by default."""
        super().__init__()
        sizes = yamnet.BLOCKS[:BLOCKS]
        inputs = (yamnet.FIRST, *(channels for channels, _ in sizes))
        self.first = yamnet.Convolution(1, yamnet.FIRST, 2)
        self.blocks = nn.Sequential(*(yamnet.Block(n, m, s) for n, (m, s) in zip(inputs, sizes, strict=False)))
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters()).float(), persistent=False)
        if state is None:
            whole = bundled_state("yamnet")
            state = {key: whole[key] for key in self.state_dict()}
        load_strictly(self, state, "yamnet weights")
        for part in (self.first, self.blocks):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train()

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> [B, L // 16, 1376]."""
        return self.frames_of(self.log_mel(waves))

    def frames_of(self, log_mel: Tensor) -> Tensor:
        """Spectra [B, L, 96] -> [B, L // 16, 1376]."""
        middle = self.start(log_mel)
        return torch.cat([*self.lower(log_mel, middle), self.finish(middle)], dim=2)

    def start(self, log_mel: Tensor) -> Tensor:
        """Output of the 5th block, [B, L, 96] -> [B, 256, L // 8, 12]."""
        x = log_mel[:, None].contiguous(memory_format=torch.channels_last)
        middle: Tensor = self.blocks[:MIDDLE](self.first(x))
        return middle

    def finish(self, middle: Tensor) -> Tensor:
        """The blocks after the middle and their mean over mels, [B, 256, L // 8, 12] -> [B, L // 16, 512]."""
        end: Tensor = self.blocks[MIDDLE:](middle)  # [B, 512, L // 16, 6]
        return end.mean(dim=3).transpose(1, 2)

    def lower(self, log_mel: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
        """Spectrum and middle per frame, [B, L // 16, 96] and [B, L // 16, 768]."""
        bands = middle.reshape(*middle.shape[:3], BANDS, -1).mean(dim=4)  # [B, 256, L // 8, 3]
        return grouped(log_mel, STRIDE), grouped(bands.permute(0, 2, 3, 1).flatten(2), STRIDE // 8)

    def log_mel(self, waves: Tensor) -> Tensor:
        """log(magnitude + 0.001) in mel bands, at one level: [B, S] -> [B, L, 96], in float32."""
        with torch.autocast(waves.device.type, enabled=False):
            waves = waves.float()
            if waves.shape[1] < SHORTEST:
                waves = waves.repeat(1, math.ceil(SHORTEST / waves.shape[1]))[:, :SHORTEST]
            waves = at_level(waves, LEVEL_DB)
            bins = torch.fft.rfft(waves.unfold(1, WINDOW, HOP) * self.window, FFT).abs()
            # A window at 48 kHz has three times the samples of YAMNet's, and so three times the magnitude.
            log_mel: Tensor = (bins @ self.filters.T / FACTOR + yamnet.OFFSET).log()
            return log_mel


def grouped(values: Tensor, size: int) -> Tensor:
    """Means over `size` steps of time in a row, without a last part group: [B, T, D] -> [B, T // size, D]."""
    whole = values.shape[1] // size
    batch, _, width = values.shape
    return values[:, : whole * size].reshape(batch, whole, size, width).mean(dim=2)


def filters() -> NDArray[np.float64]:
    """YAMNet's mel filters between others of the same width in mel, [96, 769]."""
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (yamnet.LOW_HZ, yamnet.HIGH_HZ))
    step = (high - low) / (yamnet.MELS + 1)
    edges = (low - BELOW * step, low + (MELS + 1 - BELOW) * step)
    low_hz, high_hz = (700 * (10 ** (mel / 2595) - 1) for mel in edges)
    return mel_filters(RATE, FFT, MELS, low_hz, high_hz, htk=True, unit_area=False, linear_in_mel=True)
