"""File types by content: parts of a file as file objects, the links of an Ogg file, and archives.

This module does not decode. `mpeg` and `pcm` parse the formats whose headers are wrong most often.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO

CHUNK_BYTES = 1 << 20
"""Bytes of a file that are scanned at a time."""

ID3V1_BYTES = 128
"""Of a tag at a file's end, which begins with `TAG`."""

OGG_HEADER_BYTES = 27
OGG_FIRST_PAGE = 0x02  # flag of the first page of a stream

ARCHIVES = {
    0: {
        b"PK\x03\x04": "zip",
        b"\x1f\x8b\x08": "gzip",
        b"7z\xbc\xaf\x27\x1c": "7z",
        b"Rar!\x1a\x07": "rar",
        b"\xfd7zXZ\x00": "xz",
        b"BZh": "bzip2",
        b"\x28\xb5\x2f\xfd": "zstd",
    },
    257: {b"ustar": "tar"},
}
"""Byte offset of a signature -> signature -> the name of the archive format."""


class FilePart(io.RawIOBase):
    """Bytes `start` to `end` of an open file as a seekable file object, with the bytes of `prefix` before them.

    Views of one file do not disturb each other; the file stays open when they are closed.
    """

    def __init__(self, file: IO[bytes], start: int, end: int, prefix: bytes = b"") -> None:
        super().__init__()
        self._file = file
        self._start, self._end, self._prefix = start, end, prefix
        self._position = 0

    def __len__(self) -> int:
        return len(self._prefix) + self._end - self._start

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Position of the next byte, from the beginning of the part."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As for any file. Raises ValueError for a position before the beginning of the part."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self)}[whence]
        if origin + offset < 0:
            raise ValueError(f"byte {origin + offset} lies before the part begins")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: object, /) -> int:
        """Fill `buffer` as far as there are bytes; returns their number, 0 at the end."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        before = self._prefix[self._position : self._position + len(view)]
        view[: len(before)] = before
        at = self._start + self._position + len(before) - len(self._prefix)
        wanted = min(len(view) - len(before), self._end - at)
        self._position += len(before)
        if wanted <= 0:
            return len(before)
        self._file.seek(at)
        data = self._file.read(wanted)
        view[len(before) : len(before) + len(data)] = data
        self._position += len(data)
        return len(before) + len(data)


def size_of(file: IO[bytes]) -> int:
    """Size of an open file in bytes."""
    return file.seek(0, io.SEEK_END)


def read_at(file: IO[bytes], at: int, size: int) -> bytes:
    """Up to `size` bytes from byte `at` of an open file."""
    file.seek(at)
    return file.read(size)


def archive_kind(file: IO[bytes]) -> str | None:
    """The archive format of a file ("tar", "zip", ...), or None."""
    head = read_at(file, 0, 264)
    for at, marks in ARCHIVES.items():
        for mark, name in marks.items():
            if head.startswith(mark, at):
                return name
    return None


def ogg_parts(file: IO[bytes]) -> list[tuple[int, int]]:
    """Byte ranges of the links of an Ogg file (RFC 3533, section 4); none if it is not an Ogg file.

    A link begins with the first pages of its streams, next to each other:

        B₀ B₁ 0 0 1 0 ... | B₂ 2 2 2 ...          B: first page of a stream
    """
    if read_at(file, 0, 4) != b"OggS":
        return []
    starts, was_first = [], False
    for at, flags in _ogg_pages(file):
        is_first = bool(flags & OGG_FIRST_PAGE)
        if is_first and not was_first:
            starts.append(at)
        was_first = is_first
    return list(zip(starts, [*starts[1:], size_of(file)], strict=True))


def _ogg_pages(file: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Offset and flags of each page of an Ogg file. Damage between two pages is skipped."""
    at = 0
    while True:
        chunk = read_at(file, at, CHUNK_BYTES)
        place = 0
        while (place := chunk.find(b"OggS", place)) >= 0 and place + OGG_HEADER_BYTES + 255 <= len(chunk):
            yield at + place, chunk[place + 5]
            place += _ogg_page_bytes(chunk, place)
        if len(chunk) < CHUNK_BYTES:
            if place >= 0 and place + OGG_HEADER_BYTES <= len(chunk):
                yield from _last_ogg_pages(chunk, place, at)
            return
        at += place if place >= 0 else CHUNK_BYTES - 3


def _last_ogg_pages(chunk: bytes, place: int, at: int) -> Iterator[tuple[int, int]]:
    """As `_ogg_pages`, for the end of a file, where the header of a page may be cut off."""
    while (place := chunk.find(b"OggS", place)) >= 0 and place + OGG_HEADER_BYTES <= len(chunk):
        yield at + place, chunk[place + 5]
        place += _ogg_page_bytes(chunk, place)


def _ogg_page_bytes(chunk: bytes, place: int) -> int:
    segments = chunk[place + 26]
    first = place + OGG_HEADER_BYTES
    return OGG_HEADER_BYTES + segments + sum(chunk[first : first + segments])
