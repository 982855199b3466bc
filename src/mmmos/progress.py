"""Progress of long work: what it reports while it runs, whoever displays or counts it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of work that has one stage after another.

    start("encoding", 120) ─► windows ─► windows ─► advance ─► windows ─► advance ... ─► start("training", 30, "epochs")
    """

    def start(self, stage: str, total: float, unit: str = "clips", done: float = 0) -> None:
        """A stage of `total` units begins, of which earlier calls have finished `done`."""
        ...

    def advance(self, count: float = 1) -> None:
        """`count` more units of the stage are finished."""
        ...

    def windows(self, count: int = 1) -> None:
        """`count` more windows of the clip in progress are finished: in a long clip, the only sign of life."""
        ...


class NoProgress:
    """Ignores all of it."""

    def start(self, stage: str, total: float, unit: str = "clips", done: float = 0) -> None:
        """Nothing."""

    def advance(self, count: float = 1) -> None:
        """Nothing."""

    def windows(self, count: int = 1) -> None:
        """Nothing."""


NO_PROGRESS: Progress = NoProgress()
"""The default where nobody follows the work."""
