"""Differentiable resampling. Files are resampled by soxr, which has no gradients."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

PASS, STOP = 0.913, 1.0  # of the lower Nyquist frequency: the edges of the filter's transition band, as soxr's "HQ"
STOP_DB = 126.0
BETA = 0.1102 * (STOP_DB - 8.7)  # of the Kaiser window for that attenuation
ZEROS = math.ceil(
    (STOP_DB - 8) / (2.285 * math.pi * (STOP - PASS)) / 2
)  # zero crossings on either side for that transition band


MAX_DENOMINATOR = 640
"""Of the ratio of two rates: 11025 Hz to 16000 Hz is 640 / 441. Other ratios are approximated to at most 1 in 1000."""


def resample(waves: Tensor, old_rate: int, new_rate: int) -> Tensor:
    """Band-limited interpolation with a Kaiser-windowed sinc, zeros beyond the ends.

    A ratio of large integers, as of 44101 Hz, is replaced by the nearest one with a denominator of up to 640.

    Shape:
        - waves: [B, S] at `old_rate`, Hz
        - returns: [B, resampled_size(S, old_rate, new_rate)]

    >>> resample(torch.ones(1, 2400), 24_000, 16_000).shape
    torch.Size([1, 1600])
    """
    if old_rate == new_rate:
        return waves
    new, old = _ratio(old_rate, new_rate)
    scale = (PASS + STOP) / 2 * min(1.0, new / old)  # of the filter, in zero crossings per input sample
    reach = math.ceil(ZEROS / scale)
    taps = torch.arange(-reach, reach + old, dtype=torch.float64)
    # Every `old` inputs give `new` outputs, each at a different position between inputs.
    distance = (taps - torch.arange(new, dtype=torch.float64).unsqueeze(1) * old / new) * scale
    beta = torch.tensor(BETA, dtype=torch.float64)
    window = torch.i0(beta * (1 - (distance / ZEROS).square()).clamp(min=0).sqrt()) / torch.i0(beta)
    window = torch.where(distance.abs() <= ZEROS, window, 0)
    kernels = (torch.sinc(distance) * window * scale).to(waves)
    padded = F.pad(waves, (reach, reach + old))
    out = F.conv1d(padded.unsqueeze(1), kernels.unsqueeze(1), stride=old)
    return out.transpose(1, 2).flatten(1)[:, : resampled_size(waves.shape[1], old_rate, new_rate)]


def resampled_size(samples: int, old_rate: int, new_rate: int) -> int:
    """Number of samples at `new_rate` for `samples` at `old_rate`, both Hz, rounded up.

    >>> resampled_size(2401, 24_000, 16_000), resampled_size(441_010, 44_101, 24_000)
    (1601, 240001)
    """
    new, old = _ratio(old_rate, new_rate)
    return -(-samples * new // old)


def _ratio(old_rate: int, new_rate: int) -> tuple[int, int]:
    return Fraction(old_rate, new_rate).limit_denominator(MAX_DENOMINATOR).as_integer_ratio()[::-1]
