"""Audio in: what a file says of itself, and its samples as a stream of blocks.

libsndfile reads what it can (WAV, FLAC, OGG, Opus, MP3, AIFF, ...), FFmpeg through PyAV the rest (M4A, MP4,
WebM, WMA, ...). Neither ever holds more than one block in memory.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from mmmos.errors import AudioError
from mmmos.remote import COPIES, is_url

BLOCK_SECONDS = 0.25
"""Length of the blocks that a file is read in; a decoder that fails loses the block it was in."""

PREROLL_SECONDS = 0.5
"""How far before a stretch decoding begins: MP3 frames borrow bits from earlier ones, which a seek has not read."""

TRUNCATED_TOLERANCE = 0.25, 0.02
"""s, and share, of audio that a header may promise and not hold where it rounds or estimates: MPEG, and FFmpeg's
containers, which also count encoder delay."""

LIBSNDFILE_NO_MEMORY = 17
"""Its number of the error "Internal malloc () failed."."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    sample_rate: int  # Hz
    channels: int
    duration: float  # s; NaN when the header does not say
    format: str  # "WAV PCM_16", "mov,mp4,m4a aac"
    decoder: str  # "libsndfile" or "ffmpeg"


class Source:
    """An open file or array: its header, and one pass over its samples."""

    def __init__(
        self,
        info: AudioInfo,
        blocks: Iterator[NDArray[np.float32]],
        seek: Callable[[int], int] | None = None,
        tolerance: float = 0.0,
    ) -> None:
        self.info = info
        self.warnings: set[str] = set()
        self.seconds = 0.0  # reached so far, from the file's beginning
        self._blocks = blocks
        self._seek = seek  # to a sample, clamped to the file; returns where it came to
        self._tolerance = tolerance

    def blocks(self, start: float = 0.0, end: float | None = None) -> Iterator[NDArray[np.float32]]:
        """Samples from `start` to `end` (s; the end of the file when None), as blocks [n, C] in [-1, 1].

        A decoder that fails after some audio ends the stream with the warning "truncated". Raises
        `AudioError` ("decode_failed", "non_finite_audio").
        """
        rate = self.info.sample_rate
        first = round(start * rate)
        last = math.inf if end is None else round(end * rate)
        position = self._seek(max(0, first - round(PREROLL_SECONDS * rate))) if self._seek and first else 0
        self.seconds = position / rate
        for block in self._unbroken():
            wanted = block[max(0, first - position) : int(min(len(block), last - position))]
            position += len(block)
            self.seconds = position / rate
            if len(wanted):
                if not np.isfinite(wanted).all():
                    raise AudioError("non_finite_audio", "the audio holds NaN or infinity")
                yield wanted
            if position >= last:
                return
        if self.seconds < self.info.duration - self._tolerance:
            self.warnings.add("truncated")

    def _unbroken(self) -> Iterator[NDArray[np.float32]]:
        started = False
        try:
            for block in self._blocks:
                started = True
                yield block
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            _check_memory(error)
            if not started:
                raise AudioError("decode_failed", f"the decoder failed before any audio: {error}") from error
            self.warnings.add("truncated")


def probe(path: str | Path, stream: int = 0) -> AudioInfo:
    """What the header of a file says, without decoding it. Raises `AudioError`."""
    with open_audio(path, stream) as source:
        return source.info


@contextmanager
def open_audio(path: str | Path, stream: int = 0) -> Iterator[Source]:
    """Open a file with the first decoder that recognises it; an audio stream other than the first with FFmpeg.

    A file at an address is fetched first. Raises `AudioError`: "not_found", "not_readable", "fetch_failed",
    "empty_file", "no_samples", "unsupported_format".
    """
    if is_url(str(path)):
        with COPIES.fetch(str(path)) as copy, open_audio(copy, stream) as source:
            yield source
        return
    path = Path(path)
    check_readable(path)
    if path.is_fifo():
        with _saved(path) as saved, open_audio(saved, stream) as source:
            yield source
        return
    if stream != 0:
        with _open_ffmpeg(path, stream) as source:
            yield source
        return
    try:
        file = _SoundFile(os.fsencode(path))
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a name in .raw, which has no header
        _check_memory(error)
        with _open_ffmpeg(path) as source:
            yield source
    else:
        with file:
            yield _from_libsndfile(file)


@contextmanager
def _saved(pipe: Path) -> Iterator[Path]:
    """What a named pipe gives, as a file: decoders seek."""
    with open(pipe, "rb") as reader, tempfile.NamedTemporaryFile(suffix=pipe.suffix) as copy:
        shutil.copyfileobj(reader, copy)
        copy.flush()
        yield Path(copy.name)


def check_readable(path: str | Path) -> None:
    """Raise `AudioError` ("not_found", "not_readable", "empty_file", "decode_failed") unless a file can be opened."""
    try:
        state = os.stat(path)
        if stat.S_ISREG(state.st_mode):
            open(path, "rb").close()
        elif not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))  # a pipe can be opened only once
    except PermissionError as error:
        remedy = "give this user read access to the file and its folders"
        raise AudioError("not_readable", f"{path} cannot be opened: {error.strerror}; {remedy}") from error
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null in the name
        raise AudioError("not_found", f"no such file: {path}") from error
    except OSError as error:
        code = "not_found" if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else "decode_failed"
        raise AudioError(code, f"{path} cannot be opened: {error.strerror}") from error
    if stat.S_ISDIR(state.st_mode):
        raise AudioError("not_found", f"no such file: {path}")
    if stat.S_ISREG(state.st_mode) and state.st_size == 0:
        raise AudioError("empty_file", "the file has no bytes")


def from_array(samples: NDArray[np.float32], sample_rate: int) -> Source:
    """A source over samples [S, C] that are in memory already."""
    info = AudioInfo(sample_rate, samples.shape[1], len(samples) / sample_rate, "array", "none")
    step = max(1, round(BLOCK_SECONDS * sample_rate))
    return Source(info, (samples[i : i + step] for i in range(0, len(samples), step)))


def _check_memory(error: Exception) -> None:
    """Raise MemoryError if it was for want of memory that a decoder failed: this says nothing of the file's format."""
    if isinstance(error, MemoryError) or getattr(error, "code", None) == LIBSNDFILE_NO_MEMORY:
        raise MemoryError(str(error)) from error


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read straight through.

    soundfile seeks after every read of a file that says it can be sought, to where it is anyway. After
    a seek the next frames of an MP3 are noise, and so every block would begin with noise.
    """

    def seekable(self) -> bool:
        return False


def _from_libsndfile(file: _SoundFile) -> Source:
    if file.frames == 0:
        raise AudioError("no_samples", "the file has a header and no audio")
    step = max(1, round(BLOCK_SECONDS * file.samplerate))

    def blocks() -> Iterator[NDArray[np.float32]]:
        while len(block := file.read(step, dtype="float32", always_2d=True)):
            yield block

    def seek(sample: int) -> int:
        try:
            return int(file.seek(min(sample, file.frames)))
        except soundfile.LibsndfileError as error:
            raise AudioError("decode_failed", f"the decoder cannot go to sample {sample}") from error

    kind = f"{file.format} {file.subtype}"
    info = AudioInfo(file.samplerate, file.channels, file.frames / file.samplerate, kind, "libsndfile")
    can_seek = super(_SoundFile, file).seekable()  # GSM and some ADPCM can only be read from their beginning
    tolerance = _tolerance(info.duration) if file.format == "MP3" else 0.0
    source = Source(info, blocks(), seek if can_seek else None, tolerance)
    if _promised_more(file.extra_info):
        source.warnings.add("truncated")
    return source


def _tolerance(duration: float) -> float:
    seconds, share = TRUNCATED_TOLERANCE
    return seconds + share * duration


def _promised_more(log: str) -> bool:
    """Whether libsndfile's log says that the chunk of samples claims more bytes than the file has.

    A WAV's line reads `data : 441000 (should be 220478)`; AIFF says SSND, AU says Data Size. Writers to a
    pipe claim 2**32 - 1 or so, for want of anything better; that is no sign of a cut.
    """
    for line in log.splitlines():
        name, _, rest = line.partition(":")
        if name.strip() in ("data", "SSND", "Data Size") and "(should be" in rest:
            claimed, _, actual = rest.partition("(should be")
            return int(actual.strip(" )")) < int(claimed) < 2**31 - 2**16
    return False


@contextmanager
def _open_ffmpeg(path: Path, number: int = 0) -> Iterator[Source]:
    import av

    # A playlist names other files and addresses; with no protocol allowed, FFmpeg opens none of them.
    options = {"protocol_whitelist": "none"}
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise AudioError("decode_failed", f"the file cannot be opened: {error.strerror}") from error
        try:
            container = stack.enter_context(av.open(file, "r", metadata_errors="replace", options=options))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            _check_memory(error)
            reason = getattr(error, "strerror", None) or error
            raise AudioError("unsupported_format", f"no decoder recognises the file: {reason}") from error
        if not container.streams.audio:
            raise AudioError("unsupported_format", "the file has no audio stream")
        count = len(container.streams.audio)
        if not 0 <= number < count:
            raise AudioError("unsupported_format", f"the file has audio streams 0 to {count - 1} and none of {number}")
        stream = container.streams.audio[number]
        if stream.codec_context is None:
            raise AudioError("unsupported_format", "no decoder knows the codec of the audio stream")
        if not stream.sample_rate or not stream.channels:
            raise AudioError("unsupported_format", "the audio stream does not say its sample rate")
        base = container.duration / av.time_base if container.duration else math.nan
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else base
        kind = f"{container.format.name} {stream.codec_context.name}"
        info = AudioInfo(stream.sample_rate, stream.channels, duration, kind, "ffmpeg")
        source = Source(info, iter(()), tolerance=_tolerance(duration))
        source._blocks = _joined(_ffmpeg_frames(container, stream, source), BLOCK_SECONDS * stream.sample_rate)
        yield source


def _joined(frames: Iterator[NDArray[np.float32]], size: float) -> Iterator[NDArray[np.float32]]:
    """Frames of a codec (AAC: 1024 samples) as blocks of at least `size` samples, the last one shorter."""
    held: list[NDArray[np.float32]] = []
    for frame in frames:
        held.append(frame)
        if sum(map(len, held)) >= size:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _ffmpeg_frames(container: Any, stream: Any, source: Source) -> Iterator[NDArray[np.float32]]:
    """Decoded frames [n, C]; a packet that cannot be decoded is left out and noted."""
    import av

    resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.sample_rate)
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
            source.warnings.add("decode_warnings")
            continue
        for frame in frames:
            for even in resampler.resample(frame):
                yield even.to_ndarray().T.astype(np.float32, copy=False)
