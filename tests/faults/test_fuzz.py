"""Thousands of damaged files through the decoder: each gives windows and a report, or an error that has a code.

MMMOS_FUZZ=100000 MMMOS_FUZZ_SEED=7 pytest -n 0 -s tests/faults/test_fuzz.py      a longer campaign, from another seed
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.random import Generator

from mmmos.audio.clip import Clip
from mmmos.audio.prefetch import PrefetchingDecoder
from mmmos.audio.windows import ClipReport, Window
from mmmos.errors import AUDIO_ERROR_CODES, AudioError
from tests.broken_files import write_sounds

COUNT = int(os.environ.get("MMMOS_FUZZ", "1000"))
SEED = int(os.environ.get("MMMOS_FUZZ_SEED", "0"))
SUFFIXES = ("wav", "flac", "mp3", "ogg", "opus", "m4a", "aiff")
HEAD = 2048  # bytes that most changes fall into
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
OURS = r"(Attribute|Type|Key|Index|Name|UnboundLocal|ZeroDivision|Overflow|Assertion|Unicode\w*|Runtime)Error"
"""What an error's message begins with when no decoder failed, but the code around it."""


def mutate(content: bytes, rng: Generator) -> bytes:
    """A file with one to four changes, most of them in its first kilobytes."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if len(changed) < 16:
            break
        reach = min(len(changed), HEAD) if rng.random() < 0.8 else len(changed)
        # Half of the changes are in the first hundred bytes, where a byte says most.
        at = int(rng.integers(min(reach, 100) if rng.random() < 0.5 else reach))
        size = int(rng.integers(1, 64))
        MUTATIONS[int(rng.integers(len(MUTATIONS)))](changed, at, size, rng)
    return bytes(changed)


def _flip(content: bytearray, at: int, size: int, rng: Generator) -> None:
    content[at] ^= 1 << int(rng.integers(8))


def _replace(content: bytearray, at: int, size: int, rng: Generator) -> None:
    content[at] = int(rng.integers(256))


def _zero(content: bytearray, at: int, size: int, rng: Generator) -> None:
    content[at : at + size] = bytes(len(content[at : at + size]))


def _double(content: bytearray, at: int, size: int, rng: Generator) -> None:
    content[at:at] = content[at : at + size] * int(rng.integers(1, 4))


def _remove(content: bytearray, at: int, size: int, rng: Generator) -> None:
    del content[at : at + size]


def _truncate(content: bytearray, at: int, size: int, rng: Generator) -> None:
    del content[max(at, 8) :]


def _extreme(content: bytearray, at: int, size: int, rng: Generator) -> None:
    width = int(rng.choice([2, 3, 4, 8]))
    value = int(rng.choice(EXTREMES)) % (1 << 8 * width)
    content[at : at + width] = value.to_bytes(width, "big" if rng.random() < 0.5 else "little")


def seal(ogg: bytes) -> bytes:
    """The same pages with sums that are right, so that what was changed in them is looked at."""
    content, at = bytearray(ogg), 0
    while content[at : at + 4] == b"OggS" and len(content) >= at + 27:
        segments = content[at + 27 : at + 27 + content[at + 26]]
        page = memoryview(content)[at : at + 27 + len(segments) + sum(segments)]
        at += len(page)
        page[22:26] = bytes(4)
        page[22:26] = _ogg_sum(page).to_bytes(4, "little")
        page.release()
    return bytes(content)


def _ogg_table() -> list[int]:
    table = []
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value >> 31 else 0)) & 0xFFFFFFFF
        table.append(value)
    return table


OGG_TABLE = _ogg_table()


def _ogg_sum(page: memoryview) -> int:
    value = 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ OGG_TABLE[value >> 24 ^ byte]
    return value


MUTATIONS = (_flip, _replace, _zero, _double, _remove, _truncate, _extreme, _extreme)


def mutated(folder: Path) -> Iterator[Clip]:
    sounds = write_sounds(0.3)
    for number in range(COUNT):
        rng = np.random.default_rng([SEED, number])  # so that one file can be made again
        suffix = SUFFIXES[number % len(SUFFIXES)]
        content = mutate(sounds[suffix], rng)
        path = folder / f"{number}.{suffix}"
        path.write_bytes(seal(content) if suffix in ("ogg", "opus") and rng.random() < 0.75 else content)
        yield Clip(path.name, str(path))


@pytest.mark.slow
def test_damaged_headers_give_windows_or_an_error_with_a_code(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    faults: list[str] = []  # of ours
    lost: list[str] = []  # children that died or hung
    began = time.monotonic()
    with PrefetchingDecoder(3, deadline=20.0) as decoders:
        for clip, items in decoders.cut(mutated(tmp_path), (16_000, 24_000), 0.1):
            outcome, message = outcome_of(items)
            outcomes[f"{clip.id.partition('.')[2]:5} {outcome}"] += 1
            if re.match(OURS, message) or outcome not in {"scored", *AUDIO_ERROR_CODES}:
                faults.append(f"{clip.id} {outcome}: {message}")
            elif outcome in ("decode_crashed", "decode_timeout"):
                lost.append(f"{clip.id} {outcome}: {message}")
            else:
                Path(str(clip.path)).unlink()
        peak = decoders.peak_bytes()
    print(
        f"\n{COUNT} files from seed {SEED} in {time.monotonic() - began:.0f} s; a child took {peak >> 20} MiB at most"
    )
    print(*(f"{name:26} {count}" for name, count in sorted(outcomes.items())), *faults, *lost, sep="\n")
    assert outcomes.total() == COUNT
    assert not faults
    assert len(lost) <= COUNT // 1000


def outcome_of(items: Iterator[Window | ClipReport]) -> tuple[str, str]:
    """An error's code and message, or "scored". No exception of another kind is taken for an outcome."""
    try:
        *windows, report = items
    except AudioError as error:
        return error.code, str(error)
    assert all(isinstance(window, Window) for window in windows)
    assert isinstance(report, ClipReport)
    return "scored", ""
