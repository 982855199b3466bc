"""Reading plans for libsndfile if the header of a file is misleading: parts of the file, one after the other.

two MP3s in one        │ part │ part │           each by its own header
Ogg, chained           │ link │ link │           each at its own rate
MP3, a wrong count     │Xing│   part   │         with a correct Xing frame
WAV, a wrong size           │   part   │         as samples without a header
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from mmmos.audio.containers import ID3V1_BYTES, FilePart, ogg_parts, read_at, size_of
from mmmos.audio.flac import streaminfo_with_length
from mmmos.audio.libsndfile import SoundFile, blocks_of, check_memory, go_to
from mmmos.audio.mpeg import Mp3Part, mp3_frames
from mmmos.audio.pcm import pcm_span

MAX_FRAMES_OFF = 2
"""Allowed error in frames of libsndfile's length estimate for an MP3, from tags and rounding."""


Span = tuple[int, int, bytes]
"""First byte of a part of a file, the byte after its last, and the bytes to put before it: as for `FilePart`."""


@dataclass(frozen=True)
class Plan:
    """The parts of a file to read, and warnings about its header."""

    parts: tuple[Span, ...] = ()  # none: the file itself
    options: Mapping[str, Any] = field(default_factory=dict)  # of soundfile, for samples without a header
    warnings: frozenset[str] = frozenset()


def plan(file: IO[bytes]) -> Plan:
    """A plan by which libsndfile reads all of a file. Scans MP3 and Ogg files without decoding them."""
    links = ogg_parts(file)
    if links:
        return Plan(tuple((*link, b"") for link in links) if len(links) > 1 else ())
    if read_at(file, 0, 4) == b"fLaC":
        return _plan_flac(file)
    return _plan_pcm(file) or _plan_mp3(file)


def _plan_flac(file: IO[bytes]) -> Plan:
    """Add the length to the header of a FLAC that lacks it, from the last frame, before an ID3v1 tag."""
    end = size_of(file)
    if read_at(file, max(0, end - ID3V1_BYTES), 3) == b"TAG":
        end -= ID3V1_BYTES
    head = streaminfo_with_length(file, end)
    return Plan(((len(head), end, head),) if head else ())


def _plan_pcm(file: IO[bytes]) -> Plan | None:
    span = pcm_span(file)
    if span is None:
        return None
    size = span.format.frame_bytes
    if not size or span.end - span.start < span.claimed + size:
        return Plan(warnings=frozenset({"truncated"} if span.cut else ()))
    options = {
        "format": "RAW",
        "samplerate": span.format.sample_rate,
        "channels": span.format.channels,
        "subtype": span.format.subtype,
        "endian": "LITTLE" if span.format.endian == "<" else "BIG",
    }
    return Plan(((span.start, span.end, b""),), options, frozenset({"header_mismatch"}))


def _plan_mp3(file: IO[bytes]) -> Plan:
    parts = mp3_frames(file)
    warnings = frozenset({"truncated"} if any(part.cut for part in parts) else ())
    if len(parts) == 1:
        (part,) = parts
        if part.cut or _is_read_whole(file, part):
            return Plan(warnings=warnings)
        return Plan((_with_info_frame(part),), warnings=frozenset({"header_mismatch"} if part.wrong else ()))
    spans = tuple(_with_info_frame(p) if p.wrong or p.claimed is None else (p.start, p.end, b"") for p in parts)
    return Plan(spans, warnings=warnings | {"header_mismatch"} if spans else frozenset())


def _with_info_frame(part: Mp3Part) -> Span:
    return part.audio_start, part.end, part.info_frame()


def _is_read_whole(file: IO[bytes], part: Mp3Part) -> bool:
    """Whether libsndfile's length covers all frames."""
    if part.xing and part.claimed is not None:
        return not part.wrong
    try:
        with SoundFile(FilePart(file, 0, size_of(file))) as whole:
            off = abs(whole.frames - part.samples)
    except soundfile.LibsndfileError as error:
        check_memory(error)
        return True
    return bool(off <= MAX_FRAMES_OFF * part.frame_samples)


class Joined:
    """Parts of a file as one stream, with the sample rate and number of channels of the first part."""

    def __init__(self, plan: Plan, file: IO[bytes], block_seconds: float) -> None:
        """`file` stays open while blocks are read. A later part that cannot be opened is skipped.

        Raises `soundfile.LibsndfileError` if the first part cannot be opened.
        """
        self.warnings = set(plan.warnings)
        self._options = plan.options
        self._seconds = block_seconds
        self._parts: list[tuple[FilePart, int | None, int]] = []  # view, samples, Hz
        for part in plan.parts:
            self._add(FilePart(file, *part))
        self._first, self._offset = 0, 0

    def _add(self, part: FilePart) -> None:
        try:
            with SoundFile(part, **self._options) as file:
                form = file.samplerate, file.channels
                if not self._parts:
                    (self.sample_rate, self.channels), self.kind = form, f"{file.format} {file.subtype}"
                elif form != (self.sample_rate, self.channels):
                    self.warnings.add("format_change")
                self._parts.append((part, file.length(), file.samplerate))
        except soundfile.LibsndfileError as error:
            check_memory(error)
            if not self._parts:
                raise
            self.warnings.add("decode_warnings")

    @property
    def duration(self) -> float:
        """s; NaN if the length of a part is unknown."""
        return sum(math.nan if length is None else length / rate for _, length, rate in self._parts)

    def seek(self, sample: int) -> int:
        """Make `blocks` begin in the part that holds a sample; returns its actual first sample, at most `sample`."""
        begin = 0
        for number, (_, length, rate) in enumerate(self._parts):
            self._first, self._offset = number, 0
            if length is None:
                break
            size = round(length * self.sample_rate / rate)
            if sample < begin + size or number == len(self._parts) - 1:
                self._offset = min(sample - begin, size) if rate == self.sample_rate else 0
                break
            begin += size
        return begin + self._offset

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Samples [n, C] of all parts from the position of `seek`. Raises `soundfile.LibsndfileError`."""
        for part, _, rate in self._parts[self._first :]:
            part.seek(0)
            with SoundFile(part, **self._options) as first:
                offset, self._offset = self._offset, 0
                file, position = go_to(first, offset) if offset else (first, 0)
                with file:
                    blocks = blocks_of(file, max(1, round(self._seconds * rate)), self.warnings, position)
                    yield from conformed(_from(blocks, offset - position), rate, self.sample_rate, self.channels)


def _from(blocks: Iterator[NDArray[np.float32]], first: int) -> Iterator[NDArray[np.float32]]:
    """Blocks without the first `first` samples."""
    for block in blocks:
        yield block[first:]
        first = max(0, first - len(block))


def conformed(
    blocks: Iterator[NDArray[np.float32]], rate: int, to_rate: int, to_channels: int
) -> Iterator[NDArray[np.float32]]:
    """Blocks [n, C] at `rate` Hz as blocks at `to_rate` with `to_channels`.

    If the number of channels differs, they are averaged to one channel, which is repeated.
    """
    resampler = soxr.ResampleStream(rate, to_rate, to_channels, dtype="float32") if rate != to_rate else None
    for block in blocks:
        if block.shape[1] != to_channels:
            block = np.repeat(block.mean(axis=1, keepdims=True), to_channels, axis=1)
        yield block if resampler is None else resampler.resample_chunk(np.ascontiguousarray(block))
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros((0, to_channels), np.float32), last=True)
