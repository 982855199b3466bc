"""Another sample rate, differentiably. Files are resampled by soxr, which gradients do not pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

PASS, STOP = 0.913, 1.0  # of the lower Nyquist frequency: where the filter begins and ends to fall, as soxr's "HQ"
STOP_DB = 126.0
BETA = 0.1102 * (STOP_DB - 8.7)  # Kaiser's window for that depth
ZEROS = math.ceil((STOP_DB - 8) / (2.285 * math.pi * (STOP - PASS)) / 2)  # crossings on either side for that slope


def resample(waves: Tensor, old_rate: int, new_rate: int) -> Tensor:
    """Band-limited interpolation with a Kaiser-windowed sinc, zeros beyond the ends.

    Shape:
        - waves: [B, S] at `old_rate`, Hz
        - returns: [B, ceil(S × new_rate / old_rate)]

    >>> resample(torch.ones(1, 2400), 24_000, 16_000).shape
    torch.Size([1, 1600])
    """
    if old_rate == new_rate:
        return waves
    common = math.gcd(old_rate, new_rate)
    old, new = old_rate // common, new_rate // common
    scale = (PASS + STOP) / 2 * min(1.0, new / old)  # of the filter, in zero crossings an input sample
    reach = math.ceil(ZEROS / scale)
    taps = torch.arange(-reach, reach + old, dtype=torch.float64)
    # Of every `old` inputs come `new` outputs, each at another place between them.
    distance = (taps - torch.arange(new, dtype=torch.float64).unsqueeze(1) * old / new) * scale
    window = torch.i0(BETA * (1 - (distance / ZEROS).square()).clamp(min=0).sqrt()) / torch.i0(torch.tensor(BETA))
    window = torch.where(distance.abs() <= ZEROS, window, 0)
    kernels = (torch.sinc(distance) * window * scale).to(waves)
    samples = waves.shape[1]
    padded = F.pad(waves, (reach, reach + old))
    out = F.conv1d(padded.unsqueeze(1), kernels.unsqueeze(1), stride=old)
    return out.transpose(1, 2).flatten(1)[:, : math.ceil(samples * new / old)]
