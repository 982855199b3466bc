"""Levels beyond the scale: what is refused, and what the message says to divide by."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator

import numpy as np
import pytest

from mmmos.audio.limits import MAX_PEAK, SCAN_SECONDS, off_scale, within_scale
from mmmos.errors import AudioError, LevelError
from tests.sounds import music

RATE = 4_000


def blocks_of(*peaks: float, seconds: float = 0.25) -> Iterator[np.ndarray]:
    """A block [n, 2] for each peak, which is its lowest sample."""
    for peak in peaks:
        block = np.zeros((round(seconds * RATE), 2), np.float32)
        block[3, 1] = -peak
        yield block


@pytest.mark.parametrize(
    ("peak", "divisor"),
    [
        *((4.5, 4.5), (63.0, 63), (65.0, 32_768), (32_768.0, 32_768), (33_500.0, 32_768)),
        *((8e6, 2**23), (2.0**23, 2**23), (2e9, 2**31), (2.0**31, 2**31), (1e20, 1e20)),
    ],
)
def test_off_scale_gives_peak_and_divisor(peak: float, divisor: float) -> None:
    found = re.match(r"samples reach (\S+), not 1: divide them by (\S+),", off_scale(peak))
    assert found
    assert [float(part) for part in found.groups()] == pytest.approx([peak, divisor], rel=1e-5)


@pytest.mark.parametrize("scale", [2**15, 2**23, 2**31])
def test_off_scale_divisor_undoes_the_scaling(scale: int) -> None:
    wave = music(0.5)
    with pytest.raises(LevelError) as caught:
        list(within_scale(iter([wave[:, None] * np.float32(scale)]), 16_000))
    assert f"divide them by {scale}, " in str(caught.value)


def test_within_scale_passes_blocks_on_as_they_are() -> None:
    blocks = list(blocks_of(0.0, 1.0, -MAX_PEAK, MAX_PEAK))
    assert [id(block) for block in within_scale(iter(blocks), RATE)] == [id(block) for block in blocks]
    empty = np.zeros((0, 2), np.float32)
    assert len(list(within_scale(iter([empty]), RATE))) == 1


def test_within_scale_finds_a_peak_after_a_quiet_beginning() -> None:
    source = blocks_of(0.5, 4.1, 300.0, 20_000.0, 5.0)
    given = within_scale(source, RATE)
    assert len(next(given)) == 1_000
    with pytest.raises(LevelError, match="samples reach 20000, not 1: divide them by 32768"):
        next(given)
    assert next(source, None) is None


def test_within_scale_does_not_read_on_to_the_end_of_a_long_clip() -> None:
    count = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal count
        for block in blocks_of(*[100.0] * 1_000, seconds=1.0):
            count += 1
            yield block

    with pytest.raises(LevelError, match="32768"):
        next(within_scale(endless(), RATE))
    assert count == SCAN_SECONDS


def test_level_errors_keep_their_types_after_pickling() -> None:
    error = pickle.loads(pickle.dumps(LevelError("too loud")))
    assert (type(error), str(error), error.code) == (LevelError, "too loud", "not_normalized")
    assert isinstance(error, AudioError)
    assert isinstance(error, ValueError)
