"""A clip as a stream of 10-second windows at every sample rate that the encoders want.

    file ──► blocks ─┬─► mono ──┬─► soxr 16 kHz ─► ┐
                     │          └─► soxr 24 kHz ─► ┴─► windows, weighted by their valid fraction
                     └─► checks, a set for each window ─► its silence and its warnings

Whether a window is silent is asked of the file's own samples: a resampler rings on where the sound before has ended.
Windows do not overlap. The last one is as long as the clip has audio left, and weighs as much of a
window as it fills; this is the rule of the Audiobox Aesthetics baseline.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import soxr
from numpy.typing import NDArray

from mmmos.audio.clip import Clip
from mmmos.audio.decode import AudioInfo, Source, from_array, open_audio
from mmmos.audio.limits import check_rate, within_scale
from mmmos.audio.warnings import SILENCE_PEAK, SignalChecks
from mmmos.errors import AudioError

WINDOW_SECONDS = 10
"""Length of a window; what the raters of the AES corpora heard was cut to it in training."""


MIN_SECONDS = 0.1
"""Shortest clip that is scored or trained on, whatever the encoders could do with less."""


END_TOLERANCE = 0.0005
"""s that an end may lie beyond the clip's without a warning: lists round durations."""


@dataclass(frozen=True)
class Window:
    """Up to 10 s of a clip, once for each sample rate asked for."""

    start_time: float  # s, in the file
    end_time: float  # s
    silent: bool
    waves: dict[int, NDArray[np.float32]] = field(repr=False)  # Hz -> [S] mono
    warnings: tuple[str, ...] = ()  # of its own signal, sorted

    @property
    def weight(self) -> float:
        """Share of a full window that holds audio."""
        return (self.end_time - self.start_time) / WINDOW_SECONDS


@dataclass(frozen=True)
class ClipReport:
    """What is known of a clip once all its windows have been cut."""

    info: AudioInfo
    start_time: float  # s
    end_time: float  # s
    duration: float  # s, of the whole file as far as it was read, else as its header says
    file_warnings: tuple[str, ...]  # of the file and how it is read: every window has them; sorted
    signal_warnings: tuple[str, ...]  # of the signal of all windows together, sorted

    @property
    def warnings(self) -> tuple[str, ...]:
        """All of the clip's, sorted."""
        return tuple(sorted({*self.file_warnings, *self.signal_warnings}))


def cut(clip: Clip, rates: Sequence[int], min_seconds: float) -> Iterator[Window | ClipReport]:
    """The windows of a clip, then its report as the last item.

    A last stretch under `min_seconds` (what the encoders can hear at the least) is left out, unless
    it is all there is. Raises `AudioError`.
    """
    _check_segment(clip)
    if clip.samples is not None and clip.sample_rate is not None:
        yield from _cut_source(from_array(clip.samples, clip.sample_rate), clip, rates, min_seconds)
    else:
        with open_audio(clip.path or clip.id, clip.stream) as source:
            yield from _cut_source(source, clip, rates, min_seconds)


def probe(clip: Clip) -> AudioInfo:
    """What the header of a clip's file says. Raises `AudioError`."""
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
    cutter = _Cutter(clip.start_time, source.info, rates, min_seconds)
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
    asked = math.inf if end is None else round(end * rate) - round(clip.start_time * rate)
    if seconds == 0 and asked > 0:
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
    """Blocks of samples in; windows out, at each of the rates."""

    def __init__(self, start_time: float, info: AudioInfo, rates: Sequence[int], min_seconds: float) -> None:
        self.samples = 0  # put so far
        self._start_time = start_time
        self._info = info
        self._min_seconds = min_seconds
        self._size = WINDOW_SECONDS * info.sample_rate
        self._streams = [_Resampler(info.sample_rate, rate) for rate in rates]
        self._checks: deque[SignalChecks] = deque()  # of the windows to come; the last is not full
        self._clip_checks = self._new_checks()
        self._count = 0
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
        """The windows left when the clip has ended after `seconds`."""
        for stream in self._streams:
            stream.finish()
        while (left := seconds - self._count * WINDOW_SECONDS) > 0:
            if self._count and left < self._min_seconds - 1e-6:  # 10.1 - 10 is a little under 0.1
                return
            yield self._window(min(WINDOW_SECONDS, left))

    def warnings(self) -> set[str]:
        """The warnings of the whole clip, with a last part that no window includes."""
        for checks in self._checks:
            self._clip_checks.merge(checks)
        self._checks.clear()
        found = self._clip_checks.warnings()
        if self._silent:
            found.add("silent" if self._silent == self._count else "partly_silent")
        return found

    def _check(self, block: NDArray[np.float32], mono: NDArray[np.float32]) -> None:
        """Give each window's checks the samples that are its own."""
        self.samples += len(mono)
        start = 0
        while start < len(mono):
            if not self._checks or self._checks[-1].samples == self._size:
                self._checks.append(self._new_checks())
            stop = start + self._size - self._checks[-1].samples
            self._checks[-1].update(block[start:stop], mono[start:stop])
            start = stop

    def _is_checked(self) -> bool:
        return bool(self._checks) and self._checks[0].samples == self._size

    def _new_checks(self) -> SignalChecks:
        return SignalChecks(self._info.sample_rate, self._info.channels)

    def _window(self, seconds: float) -> Window:
        checks = self._checks.popleft()
        self._clip_checks.merge(checks)
        waves = {stream.rate: stream.take(seconds) for stream in self._streams}
        # A sound beyond what every encoder takes is silence, too.
        silent = checks.silent or all(float(np.abs(wave).max(initial=0)) < SILENCE_PEAK for wave in waves.values())
        start = self._start_time + self._count * WINDOW_SECONDS
        self._count += 1
        self._silent += silent
        warnings = checks.warnings() | ({"silent"} if silent else set())
        return Window(start, start + seconds, silent, waves, tuple(sorted(warnings)))


class _Resampler:
    """Mono samples in at one rate, stretches out at another; holds at most a window and a block."""

    def __init__(self, source_rate: int, rate: int) -> None:
        self.rate = rate
        self._pieces: list[NDArray[np.float32]] = []
        self._held = 0
        same = source_rate == rate
        self._soxr = None if same else soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")

    @property
    def seconds(self) -> float:
        """How much audio is ready to be taken."""
        return self._held / self.rate

    def put(self, mono: NDArray[np.float32], last: bool = False) -> None:
        out = mono if self._soxr is None else self._soxr.resample_chunk(mono, last=last)
        self._pieces.append(out)
        self._held += len(out)

    def finish(self) -> None:
        self.put(np.zeros(0, dtype=np.float32), last=True)

    def take(self, seconds: float) -> NDArray[np.float32]:
        """The next `seconds` of audio; where resampling ended a sample early, a zero stands in for it."""
        size = round(seconds * self.rate)
        held = np.concatenate(self._pieces)
        self._pieces, self._held = [held[size:]], max(0, len(held) - size)
        return np.pad(held[:size], (0, max(0, size - len(held))))
