"""Which stretches of a clip a model hears: at most 10 seconds at a time, planned ahead.

A clip of up to 10 s is heard whole. Of a longer one training hears one crop an epoch and evaluation hears
one or more and takes their mean. All of them are known before the first is encoded, so that
every model of an experiment is trained on the same crops, each encoded once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from mmmos.clips import Clip
from mmmos.windows import MIN_SECONDS, WINDOW_SECONDS

How = Literal["random", "windows", "first"]
"""Random crops, all windows one after another as in scoring, or the first 10 s alone."""

SLACK_SECONDS = 0.5
"""A clip longer than 10 s by less than this is heard from its start only: encoders pad a file by as much."""


@dataclass(frozen=True)
class Crop:
    """A stretch of a clip, and how much it weighs in the clip's mean."""

    clip: Clip
    weight: float = 1.0


def plan_crops(clip: Clip, duration: float, how: How, count: int, seed: int) -> tuple[Crop, ...]:
    """The crops of a clip whose file holds `duration` s of audio.

    `count` is how many random crops there are: one an epoch in training, one in evaluation. The same file name,
    stretch, count and seed give the same crops; a larger count begins with those of a smaller.
    """
    start = clip.start_time
    end = duration if clip.end_time is None else min(clip.end_time, duration)
    length = end - start
    if not length > WINDOW_SECONDS:  # also when it is not known
        return (Crop(clip, length / WINDOW_SECONDS if length > 0 else 1.0),)
    if how == "first" or length < WINDOW_SECONDS + SLACK_SECONDS:
        return (Crop(_stretch(clip, start)),)
    if how == "windows":
        windows = math.ceil(length / WINDOW_SECONDS)
        starts: Sequence[float] = [start + i * WINDOW_SECONDS for i in range(windows)]
        lengths = [min(WINDOW_SECONDS, end - at) for at in starts]
        return tuple(
            Crop(replace(clip, start_time=at, end_time=at + seconds), seconds / WINDOW_SECONDS)
            for at, seconds in zip(starts, lengths, strict=True)
            if seconds >= MIN_SECONDS
        )
    name = hashlib.sha256(f"{seed} {Path(clip.path or clip.id).name} {clip.start_time}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(name[:8], "big"))
    starts = [start + float(rng.uniform(0, length - WINDOW_SECONDS)) for _ in range(count)]
    return tuple(Crop(_stretch(clip, round(at, 3))) for at in starts)


def _stretch(clip: Clip, start: float) -> Clip:
    return replace(clip, start_time=start, end_time=start + WINDOW_SECONDS)
