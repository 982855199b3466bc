"""Begin and end of the samples in uncompressed files: WAV, RF64, BW64, W64, AIFF, AIFC, CAF and AU.

    RIFF│fmt │LIST│data  claimed size  │LIST│id3 │            correct header: chunks follow up to the end of the file
    RIFF│fmt │data 0│ samples ... samples ... samples          a recorder that crashed never wrote the size
    RIFF│fmt │data 4 MB│ samples ... samples ... samples       4 GiB and 4 MB of them: 32 bits hold no more

The size in a header is correct if chunks, tags or zeros follow; otherwise the samples extend to the end of the file.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from mmmos.audio.containers import CHUNK_BYTES, ID3V1_BYTES, read_at, size_of

PIPE_SIZE = 2**31 - 2**16
"""Writers to a pipe claim a size from here on, as they do not know the real one."""

MAX_CHUNKS = 10_000
STRAY_BYTES = 4096
"""Fewer trailing bytes than this, and than about 1 % of the samples, are not treated as samples."""


@dataclass(frozen=True)
class Layout:
    """The chunk layout of a format."""

    first: int  # byte of the first chunk
    name: int  # bytes of a chunk's name
    size: str  # `struct` format of its size
    counted: int  # bytes of name and size that the size includes
    step: int  # alignment of chunks, bytes

    @property
    def endian(self) -> str:
        """Byte order, as in `struct`."""
        return self.size[0]


RIFF, RIFX = Layout(12, 4, "<I", 0, 2), Layout(12, 4, ">I", 0, 2)
W64, CAF = Layout(40, 16, "<Q", 24, 8), Layout(8, 4, ">Q", 0, 1)
LAYOUTS = {b"RIFF": RIFF, b"RF64": RIFF, b"BW64": RIFF, b"RIFX": RIFX, b"FORM": RIFX, b"riff": W64, b"caff": CAF}
W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"

INTEGERS = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24", 32: "PCM_32"}
FLOATS = {32: "FLOAT", 64: "DOUBLE"}
AIFC = {
    **{
        b"NONE": (None, ">"),
        b"twos": (None, ">"),
        b"sowt": (None, "<"),
        b"alaw": ("ALAW", ">"),
        b"ulaw": ("ULAW", ">"),
    },
    **{b"ALAW": ("ALAW", ">"), b"ULAW": ("ULAW", ">"), b"fl32": ("FLOAT", ">"), b"FL32": ("FLOAT", ">")},
    **{b"fl64": ("DOUBLE", ">"), b"FL64": ("DOUBLE", ">"), b"raw ": ("PCM_U8", ">")},
}
"""Compression of AIFC -> libsndfile's name, None for integers, and byte order."""
AU = {1: "ULAW", 2: "PCM_S8", 3: "PCM_16", 4: "PCM_24", 5: "PCM_32", 6: "FLOAT", 7: "DOUBLE", 27: "ALAW"}
BYTES = {"PCM_S8": 1, "PCM_U8": 1, "ALAW": 1, "ULAW": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}


@dataclass(frozen=True)
class PcmFormat:
    """The storage format of samples, with the names of libsndfile."""

    sample_rate: int  # Hz
    channels: int
    subtype: str | None  # None for a codec other than PCM, A-law and mu-law
    endian: str = "<"  # as in `struct`

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels; 0 if frames do not have a fixed size."""
        return self.channels * BYTES[self.subtype] if self.subtype else 0


@dataclass(frozen=True)
class PcmSpan:
    """The position of the samples, and the size in the header."""

    start: int  # byte
    end: int  # byte after the last
    claimed: int  # bytes
    format: PcmFormat

    @property
    def cut(self) -> bool:
        """Whether the header claims more bytes than there are, by a size that is not a placeholder."""
        plain = self.claimed < PIPE_SIZE or 2**32 <= self.claimed < 2**62
        return plain and self.end - self.start < self.claimed


def pcm_span(file: IO[bytes]) -> PcmSpan | None:
    """The position of the samples in a file; None for other file types, and for a header without a sample format."""
    head = read_at(file, 0, 40)
    if head[:4] in (b".snd", b"dns."):
        return _au(file, head)
    layout = LAYOUTS.get(head[:4])
    if layout is None or (layout is W64 and head[:16] != W64_RIFF):
        return None
    form, large = PcmFormat(0, 0, None), None
    for name, at, claimed in _chunks(file, layout):
        if name == b"ds64":
            large = struct.unpack("<Q", read_at(file, at + 8, 8).ljust(8, b"\0"))[0]
        elif name in (b"fmt ", b"COMM", b"desc"):
            body = read_at(file, at, min(claimed, 64)).ljust(64, b"\0")
            form = {b"fmt ": _wav, b"COMM": _aiff, b"desc": _caf}[name](body, layout.endian, head[8:12])
        elif name == b"SSND":
            offset = int.from_bytes(read_at(file, at, 4), "big")
            return _span(file, at + 8 + offset, claimed - 8 - offset, form, layout)
        elif name == b"data":
            edits = 4 if layout is CAF else 0
            size = large if large is not None and claimed == 2**32 - 1 else claimed
            return _span(file, at + edits, size - edits, form, layout)
    return None


def _chunks(file: IO[bytes], layout: Layout, at: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and claimed size of each chunk from byte `at` on (None: from the first chunk)."""
    at = layout.first if at is None else at
    head_bytes = layout.name + struct.calcsize(layout.size)
    for _ in range(MAX_CHUNKS):
        head = read_at(file, at, head_bytes)
        if len(head) < head_bytes:
            return
        size = struct.unpack(layout.size, head[layout.name :])[0] - layout.counted
        yield head[:4], at + head_bytes, max(0, size)
        at += head_bytes + max(0, size)
        at += -at % layout.step


def _span(file: IO[bytes], start: int, claimed: int, form: PcmFormat, layout: Layout | None) -> PcmSpan | None:
    """The samples from byte `start` to their actual end."""
    if not (form.sample_rate > 0 and form.channels > 0):
        return None
    total, claimed = size_of(file), max(0, claimed)
    # A 32-bit size is the true size modulo 4 GiB.
    step = 2**32 if layout in (RIFF, RIFX) else total + 1
    for end in range(start + claimed, total, step):
        if _is_rest(file, end, total, claimed, layout):
            return PcmSpan(start, end, claimed, form)
    end = total - ((total - start) % form.frame_bytes if form.frame_bytes else 0)
    return PcmSpan(start, max(start, end), claimed, form)


def _is_rest(file: IO[bytes], at: int, total: int, claimed: int, layout: Layout | None) -> bool:
    """Whether the bytes from `at` on are not samples: chunks up to the end, a tag, zeros, or too few bytes."""
    if total - at < min(STRAY_BYTES, claimed // 100 + 8) or _is_tag(file, at, total):
        return True
    if claimed and _is_zero(file, at, total):
        return True
    return layout is not None and any(_are_chunks(file, start, total, layout) for start in {at, at + at % layout.step})


def _are_chunks(file: IO[bytes], at: int, total: int, layout: Layout) -> bool:
    end = at
    for name, start, size in _chunks(file, layout, at):
        if _is_tag(file, end, total) or _is_zero(file, end, total):
            return True
        if not all(0x20 <= byte < 0x7F for byte in name) or start + size > total + layout.step:
            return False
        end = start + size
    return end > at and total - end < 8 + layout.name


def _is_tag(file: IO[bytes], at: int, total: int) -> bool:
    head = read_at(file, at, 10)
    return (
        (head[:3] == b"TAG" and total - at == ID3V1_BYTES)
        or head[:8] == b"APETAGEX"
        or head[:5] in (b"ID3\x02\x00", b"ID3\x03\x00", b"ID3\x04\x00")
    )


def _is_zero(file: IO[bytes], at: int, total: int) -> bool:
    while at < total:
        chunk = read_at(file, at, CHUNK_BYTES)
        if not chunk or chunk.strip(b"\0"):
            return not chunk
        at += len(chunk)
    return True


def _wav(body: bytes, endian: str, kind: bytes) -> PcmFormat:
    """The sample format of WAV and W64, from the `fmt ` chunk."""
    tag, channels, rate, _, block, bits = struct.unpack(f"{endian}HHIIHH", body[:16])
    if tag == 0xFFFE:
        tag = struct.unpack(f"{endian}H", body[24:26])[0]
    integers = INTEGERS | {8: "PCM_U8"}
    subtype = {1: integers.get(bits), 3: FLOATS.get(bits), 6: "ALAW", 7: "ULAW"}.get(tag)
    form = PcmFormat(rate, channels, subtype, endian)
    return form if block == form.frame_bytes else PcmFormat(rate, channels, None)


def _aiff(body: bytes, endian: str, kind: bytes) -> PcmFormat:
    """The sample format of AIFF and AIFC, from the `COMM` chunk; the rate is an 80-bit float."""
    channels, _, bits, exponent, mantissa = struct.unpack(">HIHHQ", body[:18])
    rate = mantissa * 2.0 ** min((exponent & 0x7FFF) - 16383 - 63, 0)  # one over 2^63 Hz is damaged, whatever it is
    name, order = AIFC.get(body[18:22], ("", ">")) if kind == b"AIFC" else (None, ">")
    subtype = INTEGERS.get(-(-bits // 8) * 8) if name is None else name or None
    return PcmFormat(_hertz(rate), channels, subtype, order)


def _hertz(rate: float) -> int:
    """A rate in Hz, 0 for one that no file can have."""
    return round(rate) if math.isfinite(rate) and rate < 1 << 31 else 0


def _caf(body: bytes, endian: str, kind: bytes) -> PcmFormat:
    """The sample format of CAF, from the `desc` chunk."""
    rate, codec, flags, packet, _, channels, bits = struct.unpack(">d4sIIIII", body[:32])
    names = FLOATS if flags & 1 else INTEGERS
    subtype = {b"lpcm": names.get(bits), b"alaw": "ALAW", b"ulaw": "ULAW"}.get(codec)
    form = PcmFormat(_hertz(rate), channels, subtype, "<" if flags & 2 else ">")
    return form if packet == form.frame_bytes else PcmFormat(_hertz(rate), channels, None)


def _au(file: IO[bytes], head: bytes) -> PcmSpan | None:
    endian = ">" if head[:4] == b".snd" else "<"
    if len(head) < 24:
        return None
    offset, size, codec, rate, channels = struct.unpack(f"{endian}5I", head[4:24])
    return _span(file, offset, size, PcmFormat(rate, channels, AU.get(codec), endian), None)
