"""Another sample rate, differentiably. Files are resampled by soxr, which gradients do not pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

ZEROS = 24  # zero crossings of the filter on either side
ROLLOFF = 0.945  # of the lower Nyquist frequency: where the filter begins to fall


def resample(waves: Tensor, old_rate: int, new_rate: int) -> Tensor:
    """Band-limited interpolation with a windowed sinc (Smith, "Digital Audio Resampling"), zeros beyond the ends.

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
    scale = ROLLOFF * min(1.0, new / old)  # of the filter, in zero crossings an input sample
    reach = math.ceil(ZEROS / scale)
    taps = torch.arange(-reach, reach + old, dtype=torch.float64)
    # Of every `old` inputs come `new` outputs, each at another place between them.
    distance = (taps - torch.arange(new, dtype=torch.float64).unsqueeze(1) * old / new) * scale
    window = torch.cos(distance.clamp(-ZEROS, ZEROS) * math.pi / (2 * ZEROS)).square()
    kernels = (torch.sinc(distance) * window * scale).to(waves)
    samples = waves.shape[1]
    padded = F.pad(waves, (reach, reach + old))
    out = F.conv1d(padded.unsqueeze(1), kernels.unsqueeze(1), stride=old)
    return out.transpose(1, 2).flatten(1)[:, : math.ceil(samples * new / old)]
