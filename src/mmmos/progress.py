"""The progress of long work, as it is reported to whoever displays or counts it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of work that has several stages.

    start("encoding", 120) ─► windows ─► windows ─► advance ─► windows ─► advance ... ─► start("training", 30, "epochs")
    """

    def start(self, stage: str, total: float, unit: str = "clips", done: float = 0) -> None:
        """A stage of `total` units begins; earlier commands have finished `done` of them."""
        ...

    def advance(self, count: float = 1) -> None:
        """`count` more units of the stage are finished."""
        ...

    def windows(self, count: int = 1) -> None:
        """`count` more windows of the clip in progress are finished: the only sign of progress in a long clip."""
        ...

    def update(self, done: float, windows: int = 0, detail: str = "") -> None:
        """In place of the above, for work whose state is polled.

        `done` units of the stage are finished, fewer than before if some are repeated, and `windows` of the longest
        clip in progress; `detail` is more to show.
        """
        ...


class NoProgress:
    """Ignores progress."""

    def start(self, stage: str, total: float, unit: str = "clips", done: float = 0) -> None:
        """Nothing."""

    def advance(self, count: float = 1) -> None:
        """Nothing."""

    def windows(self, count: int = 1) -> None:
        """Nothing."""

    def update(self, done: float, windows: int = 0, detail: str = "") -> None:
        """Nothing."""


NO_PROGRESS: Progress = NoProgress()
"""The default of functions that report progress."""
