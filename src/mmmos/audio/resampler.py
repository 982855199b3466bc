"""Resamples a stream of mono samples, and holds what the next windows need of it."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray


class Resampler:
    """Resamples mono samples to another rate; buffers at most a window and a block."""

    def __init__(self, source_rate: int, rate: int) -> None:
        self.rate = rate
        self._pieces: list[NDArray[np.float32]] = []
        self._held = 0
        self._taken = 0.0  # s before the samples that are held
        same = source_rate == rate
        self._soxr = None if same else soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")

    @property
    def seconds(self) -> float:
        """Length of the buffered audio in s."""
        return self._held / self.rate

    def put(self, mono: NDArray[np.float32], last: bool = False) -> None:
        """Add samples [n] at the source's rate."""
        out = mono if self._soxr is None else self._soxr.resample_chunk(mono, last=last)
        self._pieces.append(out)
        self._held += len(out)

    def finish(self) -> None:
        """Add what the filter still holds after the last sample."""
        self.put(np.zeros(0, dtype=np.float32), last=True)

    def take(self, seconds: float, hop: float) -> NDArray[np.float32]:
        """The next `seconds` of audio; if resampling ended a sample early, a zero is appended. Moves on by `hop` s."""
        size = round(seconds * self.rate)
        step = round((self._taken + hop) * self.rate) - round(self._taken * self.rate)
        held = np.concatenate(self._pieces)
        self._pieces, self._held = [held[step:]], max(0, len(held) - step)
        self._taken += hop
        return np.pad(held[:size], (0, max(0, size - len(held))))
