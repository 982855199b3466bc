"""An open file or array: the facts in its header, and its samples as a stream of blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
from numpy.typing import NDArray

from mmmos.audio.libsndfile import check_memory
from mmmos.errors import AudioError

PREROLL_SECONDS = 0.5
"""How long before a segment decoding begins: MP3 frames use bits of earlier frames, which a seek skips."""


@dataclass(frozen=True)
class AudioInfo:
    """Facts from the header of a file."""

    sample_rate: int  # Hz
    channels: int
    duration: float  # s; NaN if the header does not give it
    format: str  # "WAV PCM_16", "mov,mp4,m4a aac"
    decoder: str  # "libsndfile" or "ffmpeg"


class Source:
    """An open file or array: its header, and one pass over its samples."""

    def __init__(
        self,
        info: AudioInfo,
        blocks: Iterator[NDArray[np.float32]],
        seek: Callable[[int], int] | None = None,
        tolerance: float = 0.0,
        warnings: set[str] | None = None,
    ) -> None:
        self.info = info
        self.warnings = set() if warnings is None else warnings  # the producer of the blocks may add to them
        self.seconds = 0.0  # decoded so far, from the beginning of the file
        self._blocks = blocks
        self._seek = seek  # to a sample, clamped to the file; returns the new position
        self._tolerance = tolerance

    def blocks(self, start: float = 0.0, end: float | None = None) -> Iterator[NDArray[np.float32]]:
        """Samples from `start` to `end` (s; None: the end of the file), as blocks [n, C] in [-1, 1].

        If the decoder fails after some audio, the stream ends with the warning "truncated". Raises
        `AudioError` ("decode_failed", "non_finite_audio").
        """
        rate = self.info.sample_rate
        first = round(start * rate)
        last = math.inf if end is None else round(end * rate)
        position = self._seek(max(0, first - round(PREROLL_SECONDS * rate))) if self._seek and first else 0
        self.seconds = position / rate
        for block in self._unbroken():
            wanted = block[max(0, first - position) : int(min(len(block), last - position))]
            position += len(block)
            self.seconds = position / rate
            if len(wanted):
                if not np.isfinite(wanted).all():
                    raise AudioError("non_finite_audio", "the audio contains NaN or infinity")
                yield wanted
            if position >= last:
                return
        if self.seconds < self.info.duration - self._tolerance:
            self.warnings.add("truncated")

    def _unbroken(self) -> Iterator[NDArray[np.float32]]:
        started = False
        try:
            for block in self._blocks:
                started = True
                yield block
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            check_memory(error)
            if not started:
                raise AudioError("decode_failed", f"the decoder failed before any audio: {error}") from error
            self.warnings.add("truncated")
