"""MPEG audio frame by frame, without decoding: number of frames, claims of the headers, and joined files.

    ID3v2 │ Xing frame │ frame │ frame │ ... │ ID3v1 ║ ID3v2 │ Xing frame │ frame │ ... │ APE
          └────────── one part ────────┘               └────────── another ───┘

The length of a file is only in the optional frame of Xing, LAME (Info) or Fraunhofer (VBRI); without it, decoders
assume that all frames have the size of the first. Frame sizes follow ISO 11172-3 and 13818-3, section 2.4.2.3, with
MPEG 2.5; the fields of LAME's frame follow revision 1 of the LAME tag specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import IO, NamedTuple

from mmmos.audio.containers import ID3V1_BYTES, read_at, size_of

CHUNK_BYTES = 1 << 22
RUN_BYTES = 1 << 18
BEGIN_BYTES = 256
"""Covers the header of a frame and all fields of a Xing frame."""

FRAME_BYTES = 2048
"""More than a frame has: 1441 at most."""

MARKS = (b"Xing", b"Info", b"VBRI")
MARK_BYTES = 40
"""More than the bytes from the beginning of a frame to its mark."""

APE_BYTES, LAME_BYTES = 32, 36
KEPT_BITS = 0xFFFE_FEC0
"""Mask without protection, private, mode extension, copyright, original and emphasis bits, which `Header` ignores."""

RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Hz, by version bits: MPEG 1, 2, 2.5."""
KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Whether it is MPEG 1 -> kbit/s by index. Index 0 is the free format, whose frames do not give their size."""

Key = tuple[int, int, bool]
"""Version bits, Hz, whether mono: constant within a part."""


@dataclass(frozen=True)
class Header:
    """Fields of a frame from its first four bytes."""

    size: int  # bytes
    samples: int  # per channel
    mark: int  # bytes from the frame's beginning to a Xing mark
    key: Key


@dataclass
class Mp3Part:
    """Consecutive frames of one recording: a whole file, or one of several joined files."""

    key: Key
    frame_samples: int  # per channel
    start: int  # byte, of its first frame or its Xing frame
    audio_start: int  # byte, of its first audio frame
    end: int = 0  # byte after its last frame
    frames: int = 0  # audio frames
    claimed: int | None = None  # frames, from its Xing or VBRI frame
    xing: bool = False  # whether the claim is from a Xing frame; libsndfile does not read VBRI
    lame: bytes = field(default=b"", repr=False)  # LAME's extension of the Xing frame: the encoder's delay and padding

    @property
    def samples(self) -> int:
        """Samples per channel, including the encoder's delay and padding."""
        return self.frames * self.frame_samples

    @property
    def wrong(self) -> bool:
        """Whether its header claims another number of frames; some writers also count the header's own frame."""
        return self.claimed is not None and abs(self.claimed - self.frames) > 1

    @property
    def cut(self) -> bool:
        """Whether its header claims more frames than there are."""
        return self.claimed is not None and self.claimed > self.frames + 1

    def info_frame(self) -> bytes:
        """A Xing frame with the true number of frames, to put before the bytes from `audio_start`."""
        version, rate, mono = self.key
        bits = 0xFFE3_0000 | version << 19 | 14 << 12 | RATES[version].index(rate) << 10 | (3 if mono else 0) << 6
        header = parse(bits & KEPT_BITS)
        assert header is not None
        begin = bits.to_bytes(4, "big").ljust(header.mark, b"\0")
        return (begin + b"Info" + struct.pack(">II", 1, self.frames) + self.lame).ljust(header.size, b"\0")


@cache
def parse(bits: int) -> Header | None:
    """The header of a layer III frame from `KEPT_BITS` of its first four bytes; None for anything else.

    >>> parse(0xFFFA9000)
    Header(size=417, samples=1152, mark=36, key=(3, 44100, False))
    """
    version, kbps, rate_index = bits >> 19 & 3, bits >> 12 & 15, bits >> 10 & 3
    if bits >> 21 != 0x7FF or version == 1 or bits >> 17 & 3 != 1 or kbps in (0, 15) or rate_index == 3:
        return None
    first, rate, mono = version == 3, RATES[version][rate_index], bits >> 6 & 3 == 3
    samples = 1152 if first else 576
    size = samples // 8 * 1000 * KBPS[first][kbps] // rate + (bits >> 9 & 1)
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return Header(size, samples, 4 + side, (version, rate, mono))


def mp3_frames(file: IO[bytes]) -> list[Mp3Part]:
    """The parts of an MP3 file; empty if it does not begin with a frame of known size, after tags."""
    size = size_of(file)
    start = _after_tags(file, 0)
    if _header_at(file, start) is None:
        return []
    parts: list[Mp3Part] = []
    for run in _runs(file, start, size):
        claim = _claim(run.begin, run.header.mark)
        if not parts or run.header.key != parts[-1].key or (claim is not None and parts[-1].frames):
            parts.append(Mp3Part(run.header.key, run.header.samples, run.start, run.start))
        part = parts[-1]
        part.end = run.end
        if claim is None:
            part.frames += run.frames
        else:
            (part.claimed, part.lame, part.xing), part.audio_start = claim, part.end
    return [part for part in parts if part.frames]


class _Run(NamedTuple):
    """Consecutive whole frames; only a run of one frame may be a Xing or VBRI frame."""

    start: int  # byte
    end: int
    frames: int
    header: Header  # of the first
    begin: bytes  # for a run of one frame; else empty


def _runs(file: IO[bytes], at: int, size: int) -> Iterator[_Run]:
    """All whole frames from byte `at` to the end of the file; tags and damage are skipped."""
    chunk, base = b"", at
    key: Key | None = None  # of the previous frame; None if the next frame must be checked
    sizes: dict[bytes, int] = {}
    while at + 4 <= size:
        place = at - base
        if place + FRAME_BYTES > len(chunk) and base + len(chunk) < size:
            chunk, base, place = read_at(file, at, CHUNK_BYTES), at, 0
        header = parse(int.from_bytes(chunk[place : place + 4], "big") & KEPT_BITS)
        if header is None or not (header.key == key or _is_followed(file, at, header, size)):
            key = None
            at = _resumed(file, at, chunk, base)
            continue
        if at + header.size > size:
            return
        if header.key != key:
            key, sizes = header.key, {}
        yield _Run(at, at + header.size, 1, header, chunk[place : place + BEGIN_BYTES])
        place += header.size
        end, frames = _follow(chunk, place, key, sizes)
        if frames:
            yield _Run(base + place, base + end, frames, header, b"")
        at = base + end


def _follow(chunk: bytes, place: int, key: Key, sizes: dict[bytes, int]) -> tuple[int, int]:
    """The end of a run of frames from `place`, before the next mark, and its number of frames.

    `sizes` caches frame sizes for this key by the first four bytes of a frame.
    """
    end = min(place + RUN_BYTES, len(chunk))
    marks = (chunk.find(mark, place, end) for mark in MARKS)
    limit = min([end - FRAME_BYTES, *(mark - MARK_BYTES for mark in marks if mark >= 0)])
    frames = 0
    while place < limit:
        begin = chunk[place : place + 4]
        if begin not in sizes:
            header = parse(int.from_bytes(begin, "big") & KEPT_BITS)
            if header is None or header.key != key:
                break
            sizes[begin] = header.size
        place += sizes[begin]
        frames += 1
    return place, frames


def _resumed(file: IO[bytes], at: int, chunk: bytes, base: int) -> int:
    """Where to look for the next frame if there is none at byte `at`: after a tag, or at the next byte 255."""
    behind = _after_tags(file, at)
    if behind > at:
        return behind
    found = chunk.find(b"\xff", at - base + 1)
    return base + (found if found >= 0 else len(chunk))


def _is_followed(file: IO[bytes], at: int, header: Header, size: int) -> bool:
    """Whether a frame is followed by a frame with the same key, a tag or the end of the file."""
    end = at + header.size
    if end >= size:
        return end == size
    following = _header_at(file, end)
    return following.key == header.key if following else _after_tags(file, end) > end


def _header_at(file: IO[bytes], at: int) -> Header | None:
    return parse(int.from_bytes(read_at(file, at, 4), "big") & KEPT_BITS)


def _after_tags(file: IO[bytes], at: int) -> int:
    """The first byte from `at` on after any ID3 and APE tags."""
    while True:
        head = read_at(file, at, APE_BYTES)
        if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 0x80:
            size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
            at += 10 + size + (10 if head[5] & 0x10 else 0)
        elif head[:3] == b"TAG":
            at += ID3V1_BYTES
        elif head[:8] == b"APETAGEX" and len(head) == APE_BYTES:
            size, _, flags = struct.unpack("<III", head[12:24])
            at += APE_BYTES + (size if flags >> 29 & 1 else 0)  # without the flag, it is a footer after its items
        else:
            return at


def _claim(begin: bytes, mark: int) -> tuple[int | None, bytes, bool] | None:
    """The fields of a Xing or VBRI frame: number of frames, if any, LAME's extension, and whether it is Xing.

    None for any other frame.
    """
    if begin[36:40] == b"VBRI" and len(begin) >= 54:
        return int.from_bytes(begin[50:54], "big"), b"", False
    for place in (mark, mark + 2):  # with a checksum
        if begin[place : place + 4] in (b"Xing", b"Info"):
            break
    else:
        return None
    flags = int.from_bytes(begin[place + 4 : place + 8], "big")
    fields = begin[place + 8 :]
    claimed = int.from_bytes(fields[:4], "big") if flags & 1 and len(fields) >= 4 else None
    behind = sum(size for bit, size in enumerate((4, 4, 100, 4)) if flags >> bit & 1)
    lame = fields[behind : behind + LAME_BYTES]
    return claimed, lame if len(lame) == LAME_BYTES and lame[:1].isalpha() else b"", True
