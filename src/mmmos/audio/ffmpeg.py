"""Audio streams through FFmpeg: choosing a stream, its length, and its samples frame by frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.errors import AudioError

EXACT = frozenset(
    ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf", "avi", "flac", "wav", "w64", "aiff", "caf", "ape", "tta", "tak")
)
"""Containers that store the length of a stream; for others FFmpeg estimates it from the bit rate."""

ESTIMATED_CODECS = frozenset(("mp2", "mp3", "mp3float", "aac", "ac3"))
"""Codecs whose length in a WAV-like container is an estimate from the bit rate."""


@dataclass(frozen=True)
class Track:
    """An open audio stream."""

    container: Any
    stream: Any
    sample_rate: int  # Hz
    channels: int
    duration: float  # s; NaN if unknown
    exact: bool  # whether the duration is from the container
    kind: str  # "mov,mp4,m4a,3gp,3g2,mj2 aac"

    def frames(self, warnings: set[str]) -> Iterator[NDArray[np.float32]]:
        """Decoded frames [n, C] at the rate and number of channels of the track, even if they change within the file.

        Adds "format_change" to `warnings` if they change, and "decode_warnings" for packets that cannot be decoded,
        which are skipped.
        """
        import av

        layout, rate = self.stream.layout, self.sample_rate
        resampler, current = None, None
        for frame in _decoded(self.container, self.stream, warnings):
            form = frame.sample_rate, frame.layout.name, frame.format.name
            if form != current:
                if resampler is not None and current is not None:
                    yield from _arrays(resampler, None)
                    if form[:2] != current[:2]:
                        warnings.add("format_change")
                resampler, current = av.AudioResampler(format="fltp", layout=layout, rate=rate), form
            yield from _arrays(resampler, frame)


def _arrays(resampler: Any, frame: Any) -> Iterator[NDArray[np.float32]]:
    """The output of a resampler for a frame, or the rest of it at the end (None), as arrays [n, C]."""
    for even in resampler.resample(frame):
        if even is not None:
            yield even.to_ndarray().T.astype(np.float32, copy=False)


def _decoded(container: Any, stream: Any, warnings: set[str]) -> Iterator[Any]:
    import av

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.error.InvalidDataError:
            warnings.add("decode_warnings")
            continue
        yield from frames


@contextmanager
def open_track(path: Path, number: int = 0) -> Iterator[Track]:
    """Open an audio stream of a file: 0 is the default stream, if one is flagged, and the others follow in order.

    Raises `AudioError` ("decode_failed", "unsupported_format"), MemoryError.
    """
    with _container(path) as container:
        streams = _in_order(container.streams.audio)
        if not streams:
            raise AudioError("unsupported_format", "the file has no audio stream")
        if not 0 <= number < len(streams):
            raise AudioError(
                "unsupported_format", f"the file has audio streams 0 to {len(streams) - 1} and none of {number}"
            )
        stream = streams[number]
        if stream.codec_context is None:
            raise AudioError("unsupported_format", "no decoder supports the codec of the audio stream")
        if not stream.sample_rate or not stream.channels:
            raise AudioError("unsupported_format", "the audio stream does not give its sample rate and channels")
        duration, exact = _claimed_seconds(container, stream), True
        if duration is None:
            duration, exact = _counted_seconds(path, stream.index), False
        kind = f"{container.format.name} {stream.codec_context.name}"
        yield Track(container, stream, stream.sample_rate, stream.channels, duration, exact, kind)


@contextmanager
def _container(path: Path) -> Iterator[Any]:
    import av

    # A playlist names other files and URLs; without an allowed protocol, FFmpeg does not open them.
    options = {"protocol_whitelist": "none"}
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise AudioError("decode_failed", f"the file cannot be opened: {error.strerror}") from error
        try:
            container = stack.enter_context(av.open(file, "r", metadata_errors="replace", options=options))
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise AudioError("unsupported_format", f"no decoder recognises the file: {reason}") from error
        yield container


def _in_order(streams: Any) -> list[Any]:
    """Audio streams in order, but the first one flagged as default comes first, as in players."""
    from av.stream import Disposition

    default = next((stream.index for stream in streams if stream.disposition & Disposition.default), None)
    return sorted(streams, key=lambda stream: stream.index != default)


def _claimed_seconds(container: Any, stream: Any) -> float | None:
    """Length of an audio stream from its container; None if that is an estimate or not of this stream."""
    import av

    name, codec = container.format.name, stream.codec_context.name
    if name not in EXACT or (name in ("wav", "w64", "avi", "aiff", "caf") and codec in ESTIMATED_CODECS):
        return None
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if "DURATION" in stream.metadata:  # Matroska's tag: when the stream ends
        start = (stream.start_time or 0) * (stream.time_base or Fraction(0))
        end = _tag_seconds(stream.metadata["DURATION"])
        return None if math.isnan(end) else end - float(start)
    alone = len(container.streams) == 1
    return float(container.duration / av.time_base) if container.duration and alone else None


def _tag_seconds(text: str) -> float:
    """Seconds of a time such as "00:00:02.500000000"; NaN for any other text."""
    try:
        hours, minutes, seconds = map(float, text.strip().split(":"))
    except ValueError:
        return math.nan
    return 3600 * hours + 60 * minutes + seconds


def _counted_seconds(path: Path, index: int) -> float:
    """Length of a stream from its packets, without decoding; NaN if they do not give it."""
    import av

    if not path.is_file():  # a pipe can be read once
        return math.nan
    seconds = Fraction(0)
    with _container(path) as container, suppress(av.error.FFmpegError):  # the rest cannot be decoded either
        for packet in container.demux(container.streams[index]):
            seconds += (packet.duration or 0) * (packet.time_base or Fraction(0))
    return float(seconds) or math.nan
