"""One thing to score: a file or samples in memory, whole or a stretch of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmmos.errors import SampleRateError

if TYPE_CHECKING:
    from torch import Tensor

    Audio = str | os.PathLike[str] | NDArray[Any] | Tensor
    """What can be scored: a path, or samples [S] or [C, S] with their sample rate."""

Layout = Literal["channels_first", "channels_last"]

MAX_CHANNELS = 32
"""More channels than this are taken for samples in the wrong layout."""


@dataclass(frozen=True)
class Clip:
    """A file, or samples [S, C] in [-1, 1] with their rate, and which stretch of it is meant."""

    id: str
    path: str | None = None
    start_time: float = 0.0  # s
    end_time: float | None = None  # s; None is the end of the clip
    samples: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    sample_rate: int | None = None  # Hz, of `samples`
    stream: int = 0  # which of a file's audio streams: a .stem.mp4 has the mixture and four stems


def to_clip(
    audio: Audio,
    sample_rate: int | None = None,
    start_time: float = 0.0,
    end_time: float | None = None,
    layout: Layout = "channels_first",
) -> Clip:
    """A path, an array or a tensor as a `Clip`.

    Raises TypeError for any other thing or layout, `SampleRateError` for samples without their rate
    and for a file with one.
    """
    if isinstance(audio, str | os.PathLike):
        if sample_rate is not None:
            raise SampleRateError("a file says its own sample rate; leave sample_rate out")
        path = os.fspath(audio)
        return Clip(path, path, start_time, end_time)
    if hasattr(audio, "detach"):  # a tensor, told without importing torch
        audio = audio.detach().cpu().numpy()
    if not isinstance(audio, np.ndarray):
        raise TypeError(f"audio is a path, an array or a tensor, not {type(audio).__name__}")
    if sample_rate is None or sample_rate <= 0:
        raise SampleRateError("samples need sample_rate=, in Hz")
    return Clip("array", None, start_time, end_time, _samples(audio, layout), int(sample_rate))


def _samples(array: NDArray[Any], layout: Layout) -> NDArray[np.float32]:
    """Samples [S, C] in [-1, 1] from [S], or from 2-D in the layout said."""
    if layout not in ("channels_first", "channels_last"):
        raise TypeError(f"layout is 'channels_first' [C, S] or 'channels_last' [S, C], not {layout!r}")
    if array.ndim not in (1, 2):
        raise TypeError(f"samples are [S] or [C, S], not {array.ndim}-dimensional {array.shape}")
    if array.ndim == 1:
        array = array[:, None]
    elif layout == "channels_first":
        array = array.T
    if array.shape[1] == 0:
        raise TypeError("samples are [S] or [C, S] with at least one channel")
    if array.shape[1] > MAX_CHANNELS:
        raise TypeError(
            f"samples are [C, S], channels first; {array.shape[1]} channels of {array.shape[0]} samples look like the"
            " other way round, which layout='channels_last' says"
        )
    if array.dtype == np.uint8:
        return ((array.astype(np.float32) - 128) / 128).astype(np.float32)
    if array.dtype in (np.int8, np.int16, np.int32):
        return (array / -float(np.iinfo(array.dtype).min)).astype(np.float32)
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"samples are floating point in [-1, 1] or integers of 8, 16 or 32 bits, not {array.dtype}")
    return array.astype(np.float32)
