"""DNSMOS P.808 (Reddy, Gopal and Cutler, ICASSP 2021): an opinion score, learned from ratings of noisy speech.

    log-mel [B, 1, T, 120] ─ conv ─ pool ─ conv ─ pool ─ conv ─ conv ─ pool ─ conv ─► 64 channels of T / 8 × 15
                                                                                            │ maximum
                                                                 opinion score ◄─ 64 ◄─ 64 ◄┘

The weights, 56 thousand, are those of the PyPI package `speechmos` 0.0.1.1 (MIT), model_v8;
recipes/encoders/dnsmos.py made the file. The ratings are of noisy speech and of the outputs of noise suppressors.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmos.encoders.base import Encoder
from mmmos.encoders.mel import mel_filters
from mmmos.encoders.weights import bundled_state, load_strictly

RATE = 16_000  # Hz
HOP = 160  # samples, 10 ms
FFT = 321  # samples
MELS = 120
RANGE_DB = 80.0  # below the clip's loudest band; fainter levels are raised to this limit
SHORTEST = 9 * RATE  # samples: the duration that the network was trained on; a shorter clip is repeated
CHANNELS = (1, 32, 32, 32, 32, 64)  # of the convolutions
POOLED = (0, 1, 3)  # convolutions after which time and frequency are halved
FRAME = 8 * HOP  # samples per frame


class DNSMOS(Encoder):
    """Waveforms at 16 kHz to 12.5 frames a second, T = ceil(S / 1280), each the opinion score (1-5) of the clip.

    A clip under 9 s is repeated to 9 s and scored once. The package doubles it until it is longer, and averages over
    windows of 9 s with a hop of 1 s: this changes some clips of 3 s by 0.1. A longer clip is scored as a whole, by the
    maximum of each channel over time: split long clips into windows. A gain changes nothing here, while the package
    gives lower scores to clips at 40 dB below full scale or less. The channels that the score is computed from are not
    used as frames: from them, heads learn how a clip was degraded more than how good it is (dev/LOG.md).
    """

    name = "dnsmos"
    parts = ("score",)
    sample_rate = RATE
    dim = 1
    block_dims = (1,)
    rate_hz = RATE / FRAME
    min_samples = RATE // 10
    window: Tensor
    filters: Tensor

    def __init__(self, state: dict[str, Tensor] | None = None) -> None:
        """Weights as recipes/encoders/dnsmos.py names them; the bundled ones by default."""
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(n, m, 3, padding=1) for n, m in pairwise(CHANNELS))
        width = CHANNELS[-1]
        self.rating = nn.Sequential(
            *(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
        )
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        filters = torch.from_numpy(mel_filters(RATE, FFT, MELS)).float()
        self.register_buffer("filters", filters, persistent=False)
        load_strictly(self, bundled_state(self.name) if state is None else state, f"{self.name} weights")
        self.convs.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train()

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> the clip's score in every frame, [B, ceil(S / 1280), 1]."""
        samples = waves.shape[1]
        if samples < SHORTEST:
            waves = waves.repeat(1, math.ceil(SHORTEST / samples))[:, :SHORTEST]
        return self.score(self.log_mel(waves))[:, None, None].expand(-1, math.ceil(samples / FRAME), -1)

    def log_mel(self, waves: Tensor) -> Tensor:
        """Decibels below the loudest band, from 0 down to -80, as 1 down to -1: [B, S] -> [B, ceil(S / 160), 120]."""
        with torch.autocast(waves.device.type, enabled=False):
            padded = F.pad(waves.float(), (FFT // 2, FFT // 2))
            bins = torch.stft(padded, FFT, HOP, window=self.window, center=False, return_complex=True)
            power = self.filters @ torch.view_as_real(bins).square().sum(dim=-1)
            loudest = power.amax(dim=(1, 2), keepdim=True).clamp(min=1e-20)
            level = 10 * (power / loudest).clamp(min=10 ** (-RANGE_DB / 10)).log10()
            return (1 + level / (RANGE_DB / 2)).transpose(1, 2)

    def score(self, log_mel: Tensor) -> Tensor:
        """The network: N log-mel spectra [N, T, 120] -> opinion scores [N]."""
        x = log_mel[:, None]
        for i, conv in enumerate(self.convs):
            x = conv(x)
            # ReLU is monotonic, so the maximum may come first, which leaves fewer values for ReLU.
            x = F.relu(F.max_pool2d(x, 2) if i in POOLED else x)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round the score to steps of 1/64
            score: Tensor = self.rating(x.amax(dim=(2, 3)).float())[:, 0]
        return score
