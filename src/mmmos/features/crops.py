"""Crops: the segments of a clip, of at most 10 seconds each, that are encoded.

A clip of up to 10 s is one crop. Of a longer clip, training uses one crop per epoch; evaluation uses
one or more crops and averages their scores. All crops are planned before the first is encoded, so that
every model of an experiment is trained on the same crops, each encoded once.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from mmmos.audio.clip import Clip
from mmmos.audio.windows import MIN_SECONDS, WINDOW_SECONDS

CropMode = Literal["random", "windows", "first"]
"""Random crops, all consecutive windows as in scoring, or only the first 10 s."""

TOLERANCE_SECONDS = 1e-6
"""A clip that exceeds 10 s by no more than this is one crop: less than a sample, it comes from rounded times."""


@dataclass(frozen=True)
class Crop:
    """A segment of a clip that is encoded."""

    clip: Clip
    seconds: float = WINDOW_SECONDS  # of audio, at most a full window

    @property
    def weight(self) -> float:
        """Its weight in the clip's mean, as `Window.weight`."""
        return self.seconds / WINDOW_SECONDS


@dataclass(frozen=True)
class CropPlan:
    """A clip and those of its crops that are encoded."""

    clip: Clip
    mode: CropMode
    crops: tuple[Crop, ...]


def plan_crops(clip: Clip, duration: float, mode: CropMode, n_crops: int, seed: int) -> tuple[Crop, ...]:
    """The crops of a clip whose file holds `duration` s of audio.

    `n_crops` is the number of random crops: one per epoch in training, one in evaluation. The same file name, segment,
    number and seed give the same crops; a larger number begins with the crops of a smaller one. Random crops start
    anywhere between the clip's start and 10 s before its end, however short that range is.
    """
    start = clip.start_time
    end = duration if clip.end_time is None else min(clip.end_time, duration)
    length = end - start
    room = length - WINDOW_SECONDS
    if not room > TOLERANCE_SECONDS:  # also for an unknown duration, NaN
        return (Crop(clip, min(WINDOW_SECONDS, length) if length > 0 else WINDOW_SECONDS),)
    if mode == "random":
        return tuple(Crop(_window(clip, at)) for at in _random_starts(clip, room, n_crops, seed))
    if mode == "first":
        return (Crop(_window(clip, start)),)
    starts = [start + i * WINDOW_SECONDS for i in range(math.ceil(length / WINDOW_SECONDS))]
    lengths = [min(WINDOW_SECONDS, end - at) for at in starts]
    return tuple(
        Crop(replace(clip, start_time=at, end_time=at + seconds), seconds)
        for at, seconds in zip(starts, lengths, strict=True)
        if seconds > MIN_SECONDS - TOLERANCE_SECONDS  # as in scoring: 10.1 - 10 is a little under 0.1
    )


def _random_starts(clip: Clip, room: float, count: int, seed: int) -> list[float]:
    """Start times of crops in s: on a grid of 1 ms, or a finer one where `room` has fewer than 100 steps."""
    name = hashlib.sha256(f"{seed} {Path(clip.path or clip.id).name} {clip.start_time}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(name[:8], "big"))
    start, digits = clip.start_time, 3 + max(0, math.floor(-math.log10(room)))
    drawn = (start + float(rng.uniform(0, room)) for _ in range(count))
    return [min(max(round(at, digits), start), start + room) for at in drawn]


def _window(clip: Clip, start: float) -> Clip:
    return replace(clip, start_time=start, end_time=start + WINDOW_SECONDS)


def name_of(clip: Clip) -> str:
    """A clip's id, with its segment and stream unless it is the whole first stream of a file.

    >>> name_of(Clip("a.wav")), name_of(Clip("a.wav", start_time=4.0, end_time=8.0))
    ('a.wav', 'a.wav 4-8 s')
    """
    end = "" if clip.end_time is None else f"{clip.end_time:g}"
    segment = f" {clip.start_time:g}-{end} s" if clip.start_time or end else ""
    return f"{clip.id}{segment}" + (f" stream {clip.stream}" if clip.stream else "")
