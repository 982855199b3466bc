"""Cutting many clips into windows: the decoder interface, and the sequential decoder."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from mmmos.audio.clip import Clip
from mmmos.audio.isolated import DEADLINE_SECONDS, MEMORY_BYTES, IsolatedDecoder
from mmmos.audio.windows import ClipReport, Window, cut


class Decoder(Protocol):
    """Cuts clips into windows in processes that start on first use. Each pickled copy starts its own processes."""

    def cut(
        self, clips: Iterable[Clip], rates: Sequence[int], min_seconds: float
    ) -> Generator[tuple[Clip, Iterator[Window | ClipReport]], None, None]:
        """Each clip, in order, with an iterator over the items of `windows.cut`, which also raises its errors.

        Consume the items of a clip before the next clip; the rest of them is lost.
        """
        ...

    def peak_bytes(self) -> int:
        """Peak memory of any one of its processes so far; 0 if the system does not report it."""
        ...

    def close(self) -> None:
        """End its processes. The next use starts them again."""
        ...


class SequentialDecoder:
    """Cuts one clip at a time: samples in this process, files in a child process that may hang or crash."""

    def __init__(self, deadline: float = DEADLINE_SECONDS, memory: int = MEMORY_BYTES) -> None:
        """`deadline` is the longest wait for a file's next window, s; `memory` is the child's limit, bytes."""
        self.isolated = IsolatedDecoder(deadline, memory)

    def __reduce__(self) -> tuple[Any, ...]:
        return SequentialDecoder, (self.isolated.deadline, self.isolated.memory)

    def cut(
        self, clips: Iterable[Clip], rates: Sequence[int], min_seconds: float
    ) -> Generator[tuple[Clip, Iterator[Window | ClipReport]], None, None]:
        """As `Decoder.cut`; a clip is decoded while its windows are consumed."""
        for clip in clips:
            function = self.isolated.cut if clip.samples is None else _cut_samples
            yield clip, function(clip, rates, min_seconds)

    def start(self) -> None:
        """Start the child before its first clip, so that it loads while this process does other things."""
        self.isolated.start()

    def peak_bytes(self) -> int:
        """As `Decoder.peak_bytes`."""
        return self.isolated.peak_bytes()

    def close(self) -> None:
        """As `Decoder.close`."""
        self.isolated.close()


def _cut_samples(clip: Clip, rates: Sequence[int], min_seconds: float) -> Iterator[Window | ClipReport]:
    """`windows.cut` in this process, independent of numpy's error settings."""
    items = cut(clip, rates, min_seconds)
    while True:
        with np.errstate(all="ignore"):
            item = next(items, None)
        if item is None:
            return
        yield item
