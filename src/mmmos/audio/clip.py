"""A clip to score: a file, the bytes of a file, or samples in memory, whole or one segment of it."""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmmos.errors import SampleRateError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    Audio = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | NDArray[Any] | Tensor
    """What can be scored: a path, a file's bytes, an open binary file, or samples [S] or [C, S] with their rate."""

Layout = Literal["channels_first", "channels_last"]

WINDOW_SECONDS = 10
"""Length of a window; clips of the AES corpora are cut to it in training."""

MIN_HOP = 0.25
"""Least time between the starts of windows, s: of a 10 s window, 2.5 % changes."""

MAX_CHANNELS = 32
"""An array with more channels than this is refused: it probably has the wrong layout."""


@dataclass(frozen=True)
class Clip:
    """A file, the bytes of a file, or samples with their rate, and the segment of it to score.

    `samples` are [S, C] or [S], of any type that `to_clip` accepts; they are stored as float32 [S, C] in [-1, 1].
    Raises TypeError for other samples, `SampleRateError` for samples without their rate, `UsageError` for another hop
    than 0.25 to 10 s.
    """

    id: str
    path: str | None = None
    start_time: float = 0.0  # s
    end_time: float | None = None  # s; None is the end of the clip
    samples: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    sample_rate: int | None = None  # Hz, of `samples`
    stream: int = 0  # number of the audio stream: a .stem.mp4 has the mixture and four stems
    data: bytes | None = field(default=None, repr=False, compare=False)  # of a whole file
    hop: float | None = None  # s from the start of a window to the next, under 10 for overlap; None: no overlap

    def __post_init__(self) -> None:
        if self.hop is not None and not MIN_HOP <= self.hop <= WINDOW_SECONDS:
            raise UsageError(f"windows start every {MIN_HOP:g} to {WINDOW_SECONDS} s, not every {self.hop:g} s")
        if self.samples is not None:
            object.__setattr__(self, "sample_rate", whole_rate(self.sample_rate))
            object.__setattr__(self, "samples", _samples(_array(self.samples), "channels_last"))


def to_clip(
    audio: Audio,
    sample_rate: float | None = None,
    start_time: float = 0.0,
    end_time: float | None = None,
    layout: Layout = "channels_first",
) -> Clip:
    """A `Clip` from a path, the bytes of a file, an open binary file, an array or a tensor.

    An open file is read completely, from its beginning if it can seek; it stays open, at its position. The samples of
    a clip are a copy. Raises TypeError for any other object or layout, `SampleRateError` for samples without
    `sample_rate` and for a file with it.
    """
    for which, time in (("start_time", start_time), ("end_time", end_time)):
        if time is not None and (isinstance(time, str | bool) or not hasattr(time, "__float__")):
            raise TypeError(f"{which} is a number of seconds, not {time!r}")
    if isinstance(audio, str | os.PathLike):
        _check_no_rate(sample_rate)
        path = os.fspath(audio)
        return Clip(path, path, start_time, end_time)
    if isinstance(audio, bytes | bytearray | memoryview):
        _check_no_rate(sample_rate)
        return Clip("bytes", None, start_time, end_time, data=bytes(audio))
    if hasattr(audio, "read"):
        _check_no_rate(sample_rate)
        name = getattr(audio, "name", None)
        return Clip(name if isinstance(name, str) else "file", None, start_time, end_time, data=_content(audio))
    array = _array(audio)
    rate = whole_rate(sample_rate)
    # Without the copy, the clip and the caller would use the same float32 array.
    return Clip("array", None, start_time, end_time, _samples(array, layout).copy(order="K"), rate)


def _check_no_rate(sample_rate: float | None) -> None:
    if sample_rate is not None:
        raise SampleRateError("a file has its own sample rate: omit sample_rate")


def whole_rate(sample_rate: float | None) -> int:
    """A sample rate as a whole number of Hz. Raises `SampleRateError`."""
    if sample_rate is None:
        raise SampleRateError("samples need sample_rate=, in Hz")
    try:
        rate = float(sample_rate)
    except (TypeError, ValueError):
        rate = math.nan
    if isinstance(sample_rate, str | bool) or not (rate > 0 and rate.is_integer()):
        raise SampleRateError(f"samples need sample_rate=, a whole number of Hz above 0, not {sample_rate!r}")
    return int(rate)


def _content(file: Any) -> bytes:
    """All bytes of an open file, which stays open at its position."""
    if isinstance(file, io.TextIOBase):
        raise TypeError(f"{type(file).__name__} reads text, not bytes: open the file with mode 'rb'")
    if not getattr(file, "readable", lambda: True)():
        raise TypeError(f"{type(file).__name__} cannot be read: open the file with mode 'rb'")
    can_seek = getattr(file, "seekable", lambda: False)()
    before = file.tell() if can_seek else 0
    if can_seek:
        file.seek(0)
    try:
        data: object = file.read()
    finally:
        if can_seek:
            file.seek(before)
    if not isinstance(data, bytes):
        raise TypeError(f"{type(file).__name__} reads {type(data).__name__}, not bytes: open the file with mode 'rb'")
    return data


def _array(audio: Any) -> NDArray[Any]:
    """An array or a tensor on any device as a plain array."""
    if hasattr(audio, "detach"):  # a tensor, recognised without importing torch
        try:
            tensor = audio.detach().cpu().resolve_conj().resolve_neg()
            # numpy does not support bfloat16 and 8-bit floats.
            return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())
        except (TypeError, RuntimeError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise TypeError(f"samples are a dense tensor of numbers; this one cannot be read: {reason}") from error
    if isinstance(audio, np.ma.MaskedArray):
        if np.ma.is_masked(audio):
            raise TypeError("samples are a masked array: fill the masked values with array.filled(0), or remove them")
        audio = audio.data
    if isinstance(audio, np.ndarray):
        return np.asarray(audio)
    kind = f"{type(audio).__module__}.{type(audio).__qualname__}".removeprefix("builtins.")
    raise TypeError(
        f"audio is a path, an array or a tensor, or a file's bytes or an open binary file, not {kind}{_fix(audio)}"
    )


def _fix(audio: Any) -> str:
    """The end of a message: how to pass an object that is not audio."""
    if isinstance(audio, int | float | np.number):
        return "; samples in a list become an array with numpy.array(...)"
    if isinstance(audio, Clip):
        return "; stream([clip]) scores it"
    for name in ("as_py", "to_pylist", "tolist"):  # scalars and columns of pyarrow, and pandas
        if hasattr(audio, name):
            return f"; its .{name}() gives plain values"
    return "; pass several clips as one flat list" if hasattr(audio, "__iter__") and not isinstance(audio, dict) else ""


def _samples(array: NDArray[Any], layout: Layout) -> NDArray[np.float32]:
    """Samples [S, C] in [-1, 1] from [S], or from 2-D samples in the given layout."""
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
            f"samples are [C, S], channels first; {array.shape[1]} channels of {array.shape[0]} samples look"
            " transposed: pass layout='channels_last' for [S, C]"
        )
    return _scaled(array)


def _scaled(array: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers scaled as in a WAV file, as float32 in native byte order."""
    kind, bits = array.dtype.kind, 8 * array.dtype.itemsize
    if (kind, bits) == ("u", 8):
        return ((array.astype(np.float32) - 128) / 128).astype(np.float32)
    if kind == "i" and bits <= 32:
        return (array / np.float64(2 ** (bits - 1))).astype(np.float32)
    if kind in "iu":
        raise TypeError(
            f"samples are floating point in [-1, 1] or integers of 8, 16 or 32 bits, not {array.dtype}: divide by"
            " the full scale, array / 32768 for 16-bit values"
        )
    if kind in "OUST":
        raise TypeError(f"samples are numbers, not {array.dtype}; pass several clips as a list: array.tolist()")
    if kind != "f":
        raise TypeError(f"samples are floating point in [-1, 1] or integers of 8, 16 or 32 bits, not {array.dtype}")
    with np.errstate(over="ignore", under="ignore"):  # 1e300 becomes infinity, which is reported later
        return array.astype(np.float32, copy=False)
