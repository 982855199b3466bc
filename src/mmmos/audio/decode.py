"""Decoding: the header of an audio file, and its samples as a stream of blocks.

libsndfile decodes the formats it supports (WAV, FLAC, OGG, Opus, MP3, AIFF, ...), FFmpeg through PyAV the others
(M4A, MP4, WebM, WMA, ...). Neither holds more than one block in memory. The length in a header is first checked
against the bytes of the file, so that all of the audio is decoded.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from mmmos.audio.containers import archive_kind
from mmmos.audio.ffmpeg import open_track
from mmmos.audio.joined import Joined, Plan, plan
from mmmos.audio.libsndfile import SoundFile, blocks_of, check_memory, go_to
from mmmos.audio.source import AudioInfo, Source
from mmmos.errors import AudioError
from mmmos.io.remote import COPIES, is_url
from mmmos.io.shards import MEMBERS, split_member

BLOCK_SECONDS = 0.25
"""Length of a block; if a decoder fails, the block that it was decoding is lost."""

TRUNCATED_TOLERANCE = 0.25, 0.02
"""Audio that may be missing from the length in a header that rounds or estimates it, in s and as a fraction: MPEG,
and the containers of FFmpeg, whose lengths include the encoder delay."""


def probe(path: str | Path, stream: int = 0) -> AudioInfo:
    """Read the header of a file without decoding it. Raises `AudioError`."""
    with open_audio(path, stream) as source:
        return source.info


@contextmanager
def open_audio(path: str | Path, stream: int = 0) -> Iterator[Source]:
    """Open a file with the first decoder that recognises it; FFmpeg opens streams other than the first.

    A file at a URL is fetched first, a member of a tar archive is copied. Raises `AudioError`: "not_found",
    "not_readable", "fetch_failed", "empty_file", "no_samples", "unsupported_format", "decode_failed".
    """
    if member := split_member(str(path)):
        with MEMBERS.copy(*member) as copy, open_audio(copy, stream) as source:
            yield source
        return
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
    reading = _planned(path)
    with ExitStack() as stack:
        if stream == 0:
            try:
                yield stack.enter_context(_open_libsndfile(path, reading))
                return
            except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a .raw file, which has no header
                check_memory(error)
        yield stack.enter_context(_open_ffmpeg(path, stream, reading))


def _planned(path: Path) -> Plan:
    """How to read a file, from its bytes. Raises `AudioError` for an archive."""
    if not path.is_file():  # a device cannot be scanned
        return Plan()
    state = path.stat()
    return _plan_of(path, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _plan_of(path: Path, inode: int, size: int, mtime: int) -> Plan:
    """Made once for all segments that a list has of a file: it scans the whole of an MP3 or an Ogg."""
    with path.open("rb") as file:
        archive = archive_kind(file)
        if archive is not None:
            raise AudioError(
                "unsupported_format", f"the file is a {archive} archive: unpack it and score the files in it"
            )
        return plan(file)


@contextmanager
def _saved(pipe: Path) -> Iterator[Path]:
    """The content of a named pipe as a temporary file, as decoders need to seek."""
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
        fix = "give this user read access to the file and its folders"
        raise AudioError("not_readable", f"{path} cannot be opened: {error.strerror}; {fix}") from error
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null byte in the name
        raise AudioError("not_found", f"no such file: {path}") from error
    except OSError as error:
        code = "not_found" if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) else "decode_failed"
        raise AudioError(code, f"{path} cannot be opened: {error.strerror}") from error
    if stat.S_ISDIR(state.st_mode):
        raise AudioError("not_found", f"no such file: {path}")
    if stat.S_ISREG(state.st_mode) and state.st_size == 0:
        raise AudioError("empty_file", "the file has no bytes")


def from_array(samples: NDArray[np.float32], sample_rate: int) -> Source:
    """A source over samples [S, C] in memory."""
    info = AudioInfo(sample_rate, samples.shape[1], len(samples) / sample_rate, "array", "none")
    step = max(1, round(BLOCK_SECONDS * sample_rate))
    return Source(info, (samples[i : i + step] for i in range(0, len(samples), step)))


@contextmanager
def _open_libsndfile(path: Path, reading: Plan) -> Iterator[Source]:
    if reading.parts:
        with path.open("rb") as file:
            joined = Joined(reading, file, BLOCK_SECONDS)
            info = AudioInfo(joined.sample_rate, joined.channels, joined.duration, joined.kind, "libsndfile")
            yield Source(info, joined.blocks(), joined.seek, _tolerance(info.duration), joined.warnings)
        return
    with ExitStack() as stack:
        yield _from_libsndfile(stack.enter_context(SoundFile(os.fsencode(path))), set(reading.warnings), stack)


def _from_libsndfile(file: SoundFile, warnings: set[str], stack: ExitStack) -> Source:
    length = file.length()
    if length == 0:
        raise AudioError("no_samples", "the file has a header and no audio")
    begin = 0

    def seek(sample: int) -> int:
        nonlocal file, begin
        file, begin = go_to(file, sample)
        stack.enter_context(file)
        return begin

    def blocks() -> Iterator[NDArray[np.float32]]:
        yield from blocks_of(file, max(1, round(BLOCK_SECONDS * file.samplerate)), warnings, begin)

    duration = math.nan if length is None else length / file.samplerate
    info = AudioInfo(file.samplerate, file.channels, duration, f"{file.format} {file.subtype}", "libsndfile")
    tolerance = _tolerance(duration) if file.format == "MP3" else 0.0
    if file.format != "MP3" and file.subtype.startswith("MPEG"):  # in a WAV: an estimate from the bit rate
        tolerance = math.inf
    return Source(info, blocks(), seek if file.can_seek() else None, tolerance, warnings)


def _tolerance(duration: float) -> float:
    seconds, fraction = TRUNCATED_TOLERANCE
    return seconds + fraction * duration


@contextmanager
def _open_ffmpeg(path: Path, stream: int, reading: Plan) -> Iterator[Source]:
    with open_track(path, stream) as track:
        info = AudioInfo(track.sample_rate, track.channels, track.duration, track.kind, "ffmpeg")
        tolerance = _tolerance(track.duration) if track.exact else math.inf
        warnings = set(reading.warnings)
        blocks = _joined(track.frames(warnings), BLOCK_SECONDS * track.sample_rate)
        yield Source(info, blocks, None, tolerance, warnings)


def _joined(frames: Iterator[NDArray[np.float32]], size: float) -> Iterator[NDArray[np.float32]]:
    """Join frames of a codec (AAC: 1024 samples) into blocks of at least `size` samples; the last may be shorter."""
    held: list[NDArray[np.float32]] = []
    for frame in frames:
        held.append(frame)
        if sum(map(len, held)) >= size:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)
