"""The windows of a batch of waveforms, cut as those of files (`mmmos.audio.windows`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mmmos.audio.clip import WINDOW_SECONDS
from mmmos.audio.warnings import SILENCE_PEAK
from mmmos.encoders.resample import resample, resampled_size


@dataclass(frozen=True)
class WaveWindow:
    """Up to 10 s of one clip of a batch."""

    row: int  # of the clip
    index: int  # of the window in the clip
    samples: int  # its length
    weight: float  # of its score in the mean of its clip; the weights of a clip sum to 1


def window_peaks(waves: Tensor, rate: int) -> list[list[float]]:
    """The largest absolute value of each 10 s of each clip.

    Shape:
        - waves: [B, S] at `rate`, Hz
        - returns: B lists of S / (10 rate) numbers, rounded up
    """
    window = WINDOW_SECONDS * rate
    count = -(-waves.shape[1] // window)
    padded = F.pad(waves.detach(), (0, count * window - waves.shape[1]))
    peaks: list[list[float]] = padded.abs().view(len(waves), count, window).amax(dim=2).tolist() if count else []
    return peaks or [[] for _ in waves]


def cut_waves(
    sizes: Sequence[int], peaks: Sequence[Sequence[float]], rate: int, min_seconds: float
) -> list[WaveWindow]:
    """The windows that are not silent, clip after clip.

    A last window under `min_seconds` is left out, unless it is the only one. Without any, a clip is silent.
    """
    found = []
    window = WINDOW_SECONDS * rate
    for row, size in enumerate(sizes):
        lengths = [min(window, size - start) for start in range(0, size, window)]
        if len(lengths) > 1 and lengths[-1] / rate < min_seconds - 1e-6:
            lengths.pop()
        loud = [index for index, _ in enumerate(lengths) if peaks[row][index] >= SILENCE_PEAK]
        total = sum(lengths[index] for index in loud)
        found += [WaveWindow(row, index, lengths[index], lengths[index] / total) for index in loud]
    return found


def waves_of(windows: Sequence[WaveWindow], waves: Tensor, rate: int, own: int) -> tuple[Tensor, list[int]]:
    """The windows at another sample rate, and the numbers of their valid samples.

    Clips are resampled before they are cut, as in files: a filter then has the samples on either side of a cut.

    Shape:
        - waves: [B, S] at `rate`, Hz
        - returns: [W, S'] at `own`, Hz, for W windows
    """
    rows = sorted({item.row for item in windows})
    place = {row: i for i, row in enumerate(rows)}
    at_rate = resample(waves[rows], rate, own)
    full = resampled_size(WINDOW_SECONDS * rate, rate, own)
    sizes = [resampled_size(item.samples, rate, own) for item in windows]
    longest = max(sizes)
    last = max(item.index for item in windows)
    padded = F.pad(at_rate, (0, max(0, last * full + longest - at_rate.shape[1])))
    cut = [padded[place[item.row], item.index * full : item.index * full + longest] for item in windows]
    return torch.stack(cut), sizes
