"""Length of a FLAC whose header lacks it, from its last frame, which has the number of samples before it (RFC 9639)."""

from __future__ import annotations

from typing import IO

from mmmos.audio.containers import read_at, size_of

STREAMINFO_BYTES = 42  # including the "fLaC" mark
LENGTH_AT = 21  # byte with the highest four of the 36 bits of the length
TAIL_BYTES = 1 << 20
"""More than a usual frame has. Larger ones (65535 barely compressed samples of 8 channels) are not found."""

MAX_HEADER_BYTES = 16
MAX_TRIES = 3
"""Frame headers that are tried from the end; samples may look like a header."""

BLOCK_SIZES = {1: 192, **{code: 576 << code - 2 for code in range(2, 6)}, **{code: 1 << code for code in range(8, 16)}}


def streaminfo_with_length(file: IO[bytes], end: int | None = None) -> bytes | None:
    """The header of a FLAC that ends at byte `end` (None: the end of the file), completed with the length.

    None if the header already has the length, or if the last frame is not found.
    """
    head = read_at(file, 0, STREAMINFO_BYTES)
    if len(head) < STREAMINFO_BYTES or head[:4] != b"fLaC" or head[4] & 0x7F:
        return None
    if int.from_bytes(head[18:26], "big") & (1 << 36) - 1:
        return None
    end = size_of(file) if end is None else end
    smallest, largest = int.from_bytes(head[8:10], "big"), int.from_bytes(head[10:12], "big")
    start = max(STREAMINFO_BYTES, end - TAIL_BYTES)
    tail = read_at(file, start, end - start)
    samples = _last_sample(tail, largest if smallest == largest else None)
    if samples is None or samples >= 1 << 36:
        return None
    return (
        head[:LENGTH_AT] + bytes([head[LENGTH_AT] & 0xF0 | samples >> 32]) + samples.to_bytes(5, "big")[1:] + head[26:]
    )


def _last_sample(tail: bytes, block: int | None) -> int | None:
    """Number of samples up to the end of the last frame in `tail`; `block` is the block size if fixed, else None."""
    place, tries = len(tail), MAX_TRIES
    while tries and (place := tail.rfind(b"\xff", 0, place)) >= 0:
        samples = _frame_end(tail[place : place + MAX_HEADER_BYTES], block)
        if samples is None:
            continue
        if _crc(tail[place:], 16) == 0:  # the last frame ends where the file does
            return samples
        tries -= 1
    return None


def _frame_end(header: bytes, block: int | None) -> int | None:
    """Number of the sample after a frame, from its header; None if this is not a frame header."""
    if len(header) < 6 or header[1] & 0xFE != 0xF8 or header[2] & 0x0F == 0x0F or header[3] & 1:
        return None
    number, place = _coded_number(header, 4)
    code, rate_code = header[2] >> 4, header[2] & 0x0F
    extra = {6: 1, 7: 2}.get(code, 0)
    rate_bytes = {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if number is None or len(header) <= place + extra + rate_bytes:
        return None
    size = int.from_bytes(header[place : place + extra], "big") + 1 if extra else BLOCK_SIZES.get(code)
    place += extra + rate_bytes
    if size is None or _crc(header[: place + 1], 8):
        return None
    by_sample = header[1] & 1
    if by_sample:
        return number + size
    return None if block is None else number * block + size


def _coded_number(header: bytes, place: int) -> tuple[int | None, int]:
    """A number coded like UTF-8 in up to seven bytes (None if invalid), and the position after it."""
    first = header[place]
    if first < 0x80:
        return first, place + 1
    count = 8 - (first ^ 0xFF).bit_length()
    rest = header[place + 1 : place + count]
    if not 2 <= count <= 7 or len(rest) < count - 1 or any(byte & 0xC0 != 0x80 for byte in rest):
        return None, place
    number = first & (0x7F >> count)
    for byte in rest:
        number = number << 6 | byte & 0x3F
    return number, place + count


def _crc(data: bytes, width: int) -> int:
    """Cyclic redundancy check without reflection; 0 for data that ends with its own checksum."""
    table = _TABLES[width]
    value, mask, shift = 0, (1 << width) - 1, width - 8
    for byte in data:
        value = (value << 8) & mask ^ table[value >> shift ^ byte]
    return value


def _crc_table(width: int, polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << width - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> width - 1 & 1 else 0)
            value &= (1 << width) - 1
        table.append(value)
    return table


_TABLES = {8: _crc_table(8, 0x07), 16: _crc_table(16, 0x8005)}
