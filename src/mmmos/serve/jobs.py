"""A clip that the service accepted, from its bytes to its row."""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from mmmos.audio.clip import Clip
from mmmos.inference.clip_scores import PendingClip
from mmmos.serve.outline import Outline


@dataclass
class Job:
    """A clip that was accepted, and its row once it has one."""

    name: str  # as the client gave it; never used as a path
    path: str  # of the temporary file with its bytes
    size: int  # bytes
    segments: bool = False  # whether the row gets a list of the rows of its windows
    hop: float | None = None  # s from the start of a window to the next; None: windows do not overlap
    outline: Outline | None = None  # to fill, if the client wants it
    row: Future[dict[str, Any]] = field(default_factory=Future)
    cancelled: bool = False  # the client no longer waits
    duration: float = math.nan  # s, as its header says; NaN if it does not, or before it is read
    pending: PendingClip = field(init=False)

    def __post_init__(self) -> None:
        self.pending = PendingClip(Clip(self.name, self.path, hop=self.hop))

    @property
    def scored_seconds(self) -> float:
        """The time in the clip up to which its windows have scores."""
        windows = self.pending.windows
        return windows[-1][0].end_time if windows else 0.0
