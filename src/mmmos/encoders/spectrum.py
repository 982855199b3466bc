"""A plain mel spectrum as an encoder without weights: a baseline for the networks."""

from __future__ import annotations

import torch
from torch import Tensor

from mmmos.encoders.base import Encoder
from mmmos.encoders.mel import mel_filters

RATE = 24_000  # Hz: covers up to 12 kHz, while the networks next to it stop at 8
HOP, FFT = 480, 2048  # samples: 50 frames of 85 ms per second
BANDS = 64
RANGE_DB = 80.0  # below the clip's loudest band; fainter levels are raised to this limit


class Spectrum(Encoder):
    """Levels of 64 mel bands in bels, 50 frames per second: T = 1 + S // 480, frame t centred on sample 480 t.

    They are relative to the clip's mean level, so a gain changes nothing.
    """

    name = "spectrum"
    sample_rate = RATE
    dim = BANDS
    block_dims = (BANDS,)
    rate_hz = RATE / HOP
    min_samples = FFT // 2 + 1  # reflection at the edges needs more than half a window

    filters: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = mel_filters(RATE, FFT, BANDS, low_hz=40.0)
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        # There are no weights, so the fingerprint of a version depends on these numbers.
        self.register_buffer("layout", torch.tensor([RATE, HOP, FFT, BANDS, RANGE_DB]))
        self.train()

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> [B, T, 64]."""
        with torch.autocast(waves.device.type, enabled=False):
            bins = torch.stft(waves.float(), FFT, HOP, window=self.window, return_complex=True)
            power = self.filters @ bins.abs().square()
            loudest = power.amax(dim=(1, 2), keepdim=True).clamp(min=1e-20)
            level = (power / loudest).clamp(min=10 ** (-RANGE_DB / 10)).log10()
            return (level - level.mean(dim=(1, 2), keepdim=True)).transpose(1, 2)
