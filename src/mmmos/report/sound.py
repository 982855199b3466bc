"""A clip's waveform and spectrum in few columns, however long it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmmos.audio.windows import ClipReport, Window
from mmmos.encoders.mel import mel_filters

RATE = 32_000
"""Sample rate of the picture, Hz: its spectrum ends at 16 kHz, so a band limit shows."""

BANDS = 64
COLUMNS = 1200
"""Most columns; a short clip has one column per frame."""

FLOOR_DB = -80.0
"""Level of the weakest part of the spectrum that is shown, relative to its strongest."""

_FFT, _STEP = 1024, 512


@dataclass(frozen=True)
class SoundPicture:
    """Columns of equal duration from the clip's start to its end."""

    start: float  # s, in the file
    end: float  # s
    low: NDArray[np.float32]  # [columns], least sample of the downmix
    high: NDArray[np.float32]  # [columns], greatest sample
    mel: NDArray[np.float32]  # [columns, BANDS], dB below the strongest part, from FLOOR_DB to 0; low bands first


def picture(items: Iterable[Window | ClipReport], start: float, end: float) -> SoundPicture:
    """The picture of the consecutive windows of a clip, cut at `RATE`, that lasts from `start` to `end` s.

    Memory does not grow with the clip's length.
    """
    columns = max(1, min(COLUMNS, int((end - start) * RATE / _STEP)))
    low, high = np.full(columns, np.inf, np.float32), np.full(columns, -np.inf, np.float32)
    power, frames = np.zeros((columns, _FFT // 2 + 1)), np.zeros(columns)
    per_second = columns / max(end - start, 1e-9)
    for window in items:
        if isinstance(window, ClipReport):
            continue
        for begin, wave in _blocks(window.waves[RATE]):
            at = (window.start_time - start) * per_second
            column = _columns(len(wave), begin, at, per_second / RATE, columns)
            first = _firsts(column)
            where = column[first]
            low[where] = np.minimum(low[where], np.minimum.reduceat(wave, first))
            high[where] = np.maximum(high[where], np.maximum.reduceat(wave, first))
            spectra = _spectra(wave)
            middle = column[np.minimum(np.arange(len(spectra)) * _STEP + _STEP, len(wave) - 1)]
            first = _firsts(middle)
            power[middle[first]] += np.add.reduceat(spectra, first, axis=0)
            frames[middle[first]] += np.diff([*first, len(middle)])
    low, high = (np.where(np.isfinite(edge), edge, 0).astype(np.float32) for edge in (low, high))
    return SoundPicture(start, end, low, high, _decibels(power @ mel_filters(RATE, _FFT, BANDS).T, frames))


def _blocks(wave: NDArray[np.float32], size: int = RATE) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Pieces of at most a second, with the number of their first sample."""
    for begin in range(0, len(wave), size):
        yield begin, wave[begin : begin + size]


def _columns(samples: int, begin: int, at: float, per_sample: float, columns: int) -> NDArray[np.intp]:
    """The column of each sample of a block."""
    place = at + (begin + np.arange(samples)) * per_sample
    return np.clip(place.astype(np.intp), 0, columns - 1)


def _firsts(column: NDArray[np.intp]) -> NDArray[np.intp]:
    """Where each run of equal columns begins; columns never decrease."""
    return np.flatnonzero(np.diff(column, prepend=-1))


def _spectra(wave: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power of overlapping frames [frames, bins]; a short block is padded to one frame."""
    padded = np.pad(wave, (0, max(0, _FFT - len(wave))))
    framed = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::_STEP]
    power: NDArray[np.float64] = np.abs(np.fft.rfft(framed * np.hanning(_FFT), axis=1)) ** 2
    return power


def _decibels(power: NDArray[np.float64], frames: NDArray[np.float64]) -> NDArray[np.float32]:
    """Mean power in dB relative to the strongest part; a column without a frame has its left neighbour's."""
    known = np.maximum.accumulate(np.where(frames > 0, np.arange(len(frames)), 0))
    mean = (power / np.maximum(frames, 1)[:, None])[known]
    strongest = max(float(mean.max(initial=0)), 1e-12)
    level = 10 * np.log10(np.maximum(mean / strongest, 1e-12))
    clipped: NDArray[np.float32] = np.clip(level, FLOOR_DB, 0).astype(np.float32)
    return clipped
