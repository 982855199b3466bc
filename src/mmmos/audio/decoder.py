"""Cutting many clips into windows: what a decoder does, and the one that cuts clip after clip."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from mmmos.audio.clip import Clip
from mmmos.audio.isolated import DEADLINE_SECONDS, MEMORY_BYTES, IsolatedDecoder
from mmmos.audio.windows import ClipReport, Window, cut


class Decoder(Protocol):
    """Cuts clips into windows; its processes start when they are needed. Copies start processes of their own."""

    def cut(
        self, clips: Iterable[Clip], rates: Sequence[int], min_seconds: float
    ) -> Generator[tuple[Clip, Iterator[Window | ClipReport]], None, None]:
        """Each clip, in order, with the items of `windows.cut`, whose errors are raised where the items are taken.

        Take a clip's items before the next clip; those left then are lost.
        """
        ...

    def peak_bytes(self) -> int:
        """Most memory that one of its processes has used so far; 0 where the system does not report it."""
        ...

    def close(self) -> None:
        """End its processes. They start again when the decoder is used again."""
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
        """As `Decoder.cut`; each clip is decoded while its windows are taken."""
        for clip in clips:
            function = self.isolated.cut if clip.samples is None else _cut_samples
            yield clip, function(clip, rates, min_seconds)

    def peak_bytes(self) -> int:
        """As `Decoder.peak_bytes`."""
        return self.isolated.peak_bytes()

    def close(self) -> None:
        """As `Decoder.close`."""
        self.isolated.close()


def _cut_samples(clip: Clip, rates: Sequence[int], min_seconds: float) -> Iterator[Window | ClipReport]:
    """`windows.cut` in this process, whatever numpy's error settings are here."""
    items = cut(clip, rates, min_seconds)
    while True:
        with np.errstate(all="ignore"):
            item = next(items, None)
        if item is None:
            return
        yield item
