"""Cut a clip into a stream of 10-second windows at every sample rate that the encoders need.

    file ──► blocks ─┬─► mono ──┬─► soxr 16 kHz ─► ┐
                     │          └─► soxr 24 kHz ─► ┴─► windows, weighted by their valid fraction
                     └─► checks, one set per window ─► its silence and its warnings

Silence is measured on the samples of the file: the output of a resampler rings after the end of a sound.
Windows do not overlap, unless the clip has a hop under 10 s. The last one is the first that reaches the clip's end; its
weight is the fraction of a full window that it fills, as in the Audiobox Aesthetics baseline.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmmos.audio.clip import WINDOW_SECONDS as WINDOW_SECONDS
from mmmos.audio.clip import Clip
from mmmos.audio.decode import from_array, open_audio
from mmmos.audio.limits import check_rate, within_scale
from mmmos.audio.resampler import Resampler
from mmmos.audio.source import AudioInfo, Source
from mmmos.audio.warnings import SILENCE_PEAK, SignalChecks
from mmmos.errors import AudioError

MIN_SECONDS = 0.1
"""Minimum length of a clip for scoring and training, even if the encoders accept less."""


END_TOLERANCE = 0.0005
"""s that the end of a segment may exceed the clip without a warning: lists have rounded durations."""


@dataclass(frozen=True)
class Window:
    """Up to 10 s of a clip, at each requested sample rate."""

    start_time: float  # s, in the file
    end_time: float  # s
    silent: bool
    waves: dict[int, NDArray[np.float32]] = field(repr=False)  # Hz -> [S] mono
    warnings: tuple[str, ...] = ()  # about its signal, sorted

    @property
    def weight(self) -> float:
        """Fraction of a full window that has audio."""
        return (self.end_time - self.start_time) / WINDOW_SECONDS


@dataclass(frozen=True)
class ClipReport:
    """Facts about a clip that are known after its last window."""

    info: AudioInfo
    start_time: float  # s
    end_time: float  # s
    duration: float  # s, of the whole file if it was read to its end, else from its header
    file_warnings: tuple[str, ...]  # about the file and its decoding, for every window; sorted
    signal_warnings: tuple[str, ...]  # about the signal of the whole clip, sorted

    @property
    def warnings(self) -> tuple[str, ...]:
        """All warnings of the clip, sorted."""
        return tuple(sorted({*self.file_warnings, *self.signal_warnings}))


def cut(clip: Clip, rates: Sequence[int], min_seconds: float) -> Iterator[Window | ClipReport]:
    """The windows of a clip, then its report as the last item.

    A last window under `min_seconds` (the minimum input of the encoders) is left out, unless it is the only
    one: such a clip is refused. Raises `AudioError`.
    """
    _check_segment(clip)
    if clip.samples is not None and clip.sample_rate is not None:
        yield from _cut_source(from_array(clip.samples, clip.sample_rate), clip, rates, min_seconds)
    else:
        with open_audio(clip.path or clip.id, clip.stream) as source:
            yield from _cut_source(source, clip, rates, min_seconds)


def is_silent(waves: Iterable[NDArray[np.float32]]) -> bool:
    """Whether a window is silent at every rate [S]: so is a sound outside the bands of all encoders."""
    return all(float(np.abs(wave).max(initial=0)) < SILENCE_PEAK for wave in waves)


def silence_warnings(silent: int, windows: int) -> set[str]:
    """The warning of a clip with so many silent windows, if any."""
    return {"silent" if silent == windows else "partly_silent"} if silent else set()


def probe(clip: Clip) -> AudioInfo:
    """Read the header of a clip's file. Raises `AudioError`."""
    with open_audio(clip.path or clip.id, clip.stream) as source:
        check_rate(source.info.sample_rate)
        return source.info


def _check_segment(clip: Clip) -> None:
    start, end = clip.start_time, clip.end_time
    if not (math.isfinite(start) and start >= 0):
        raise AudioError("bad_segment", f"a segment cannot start at {start} s")
    if end is not None and not (math.isfinite(end) and end > start):
        raise AudioError("bad_segment", f"a segment from {start} s cannot end at {end} s")


def _cut_source(source: Source, clip: Clip, rates: Sequence[int], min_seconds: float) -> Iterator[Window | ClipReport]:
    rate = source.info.sample_rate
    check_rate(rate)
    cutter = _Cutter(clip, source.info, rates, min_seconds)
    for block in within_scale(source.blocks(clip.start_time, clip.end_time), rate):
        yield from cutter.put(block)
    seconds = cutter.samples / rate
    _check_length(clip, source, seconds, min_seconds)
    yield from cutter.finish(seconds)

    warnings = set(source.warnings)
    if source.info.channels > 2:
        warnings.add("downmixed")
    end_time = clip.start_time + seconds
    if clip.end_time is not None and end_time < clip.end_time - max(0.5 / rate, END_TOLERANCE):
        warnings.add("segment_clamped")
    reached_end = clip.end_time is None or "segment_clamped" in warnings
    duration = source.seconds if reached_end or not math.isfinite(source.info.duration) else source.info.duration
    of_file, of_signal = (tuple(sorted(names)) for names in (warnings, cutter.warnings()))
    yield ClipReport(source.info, clip.start_time, end_time, duration, of_file, of_signal)


def _check_length(clip: Clip, source: Source, seconds: float, min_seconds: float) -> None:
    rate, end = source.info.sample_rate, clip.end_time
    expected = math.inf if end is None else round(end * rate) - round(clip.start_time * rate)
    if seconds == 0 and expected > 0:
        if clip.start_time > 0 and source.seconds > 0:
            raise AudioError("segment_out_of_range", f"the clip ends at {source.seconds:.3f} s, before the segment")
        if "truncated" in source.warnings:
            raise AudioError("decode_failed", "the decoder stopped before any audio")
        raise AudioError("no_samples", "the file has a header and no audio")
    if seconds < min_seconds:
        raise AudioError(
            "too_short", f"{seconds * 1000:.1f} ms of audio; at least {min_seconds * 1000:.0f} ms are needed"
        )


class _Cutter:
    """Cuts blocks of samples into windows at each of the rates."""

    def __init__(self, clip: Clip, info: AudioInfo, rates: Sequence[int], min_seconds: float) -> None:
        self.samples = 0  # received so far
        self._start_time = clip.start_time
        self._hop = WINDOW_SECONDS if clip.hop is None else clip.hop  # s
        self._info = info
        self._min_seconds = min_seconds
        self._size = WINDOW_SECONDS * info.sample_rate
        self._streams = [Resampler(info.sample_rate, rate) for rate in rates]
        self._checks: deque[SignalChecks] = deque()  # of the next windows, as far as they have begun
        self._clip_checks = self._new_checks()
        self._count = 0  # windows that were cut
        self._silent = 0

    def put(self, block: NDArray[np.float32]) -> Iterator[Window]:
        """The windows that these samples [n, C] complete."""
        mono = block.mean(axis=1)
        self._check(block, mono)
        for stream in self._streams:
            stream.put(mono)
        while self._is_checked() and all(stream.seconds >= WINDOW_SECONDS for stream in self._streams):
            yield self._window(WINDOW_SECONDS)

    def finish(self, seconds: float) -> Iterator[Window]:
        """The remaining windows of a clip that ended after `seconds`."""
        for stream in self._streams:
            stream.finish()
        while (left := seconds - self._covered()) > 0:
            if self._count and left < self._min_seconds - 1e-6:  # 10.1 - 10 is slightly below 0.1
                return
            yield self._window(min(WINDOW_SECONDS, seconds - self._count * self._hop))

    def _covered(self) -> float:
        """End of the last window, s from the clip's start."""
        return (self._count - 1) * self._hop + WINDOW_SECONDS if self._count else 0.0

    def warnings(self) -> set[str]:
        """Warnings about the signal of the whole clip, including a last segment that is not in a window."""
        if not self._overlaps:
            for checks in self._checks:
                self._clip_checks.merge(checks)
        self._checks.clear()
        return self._clip_checks.warnings() | silence_warnings(self._silent, self._count)

    @property
    def _overlaps(self) -> bool:
        return self._hop < WINDOW_SECONDS

    def _first_sample(self, window: int) -> int:
        return round(window * self._hop * self._info.sample_rate)

    def _check(self, block: NDArray[np.float32], mono: NDArray[np.float32]) -> None:
        """Add the samples to the checks of their windows, and to the clip's if windows have some of them twice."""
        begin, self.samples = self.samples, self.samples + len(mono)
        if self._overlaps and len(mono):
            self._clip_checks.update(block, mono)
        while self._first_sample(self._count + len(self._checks)) < self.samples:
            self._checks.append(self._new_checks())
        for window, checks in enumerate(self._checks, self._count):
            first = self._first_sample(window) - begin
            inside = slice(max(first, 0), max(first + self._size, 0))
            if len(mono[inside]):
                checks.update(block[inside], mono[inside])

    def _is_checked(self) -> bool:
        return bool(self._checks) and self._checks[0].samples == self._size

    def _new_checks(self) -> SignalChecks:
        return SignalChecks(self._info.sample_rate, self._info.channels)

    def _window(self, seconds: float) -> Window:
        checks = self._checks.popleft()
        if not self._overlaps:
            self._clip_checks.merge(checks)
        waves = {stream.rate: stream.take(seconds, self._hop) for stream in self._streams}
        silent = checks.silent or is_silent(waves.values())
        start = self._start_time + self._count * self._hop
        self._count += 1
        self._silent += silent
        warnings = checks.warnings() | ({"silent"} if silent else set())
        return Window(start, start + seconds, silent, waves, tuple(sorted(warnings)))
