"""A progress that tests read afterwards."""

from __future__ import annotations


class RecordedProgress:
    """Keeps what it receives: stages, the order of windows (w) and finished clips (.), and updates."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float, str, float]] = []
        self.order = ""
        self.total_clips, self.total_windows = 0.0, 0
        self.updates: list[tuple[float, int, str]] = []

    def start(self, stage: str, total: float, unit: str = "clips", done: float = 0) -> None:
        self.stages.append((stage, total, unit, done))

    def advance(self, count: float = 1) -> None:
        self.total_clips += count
        self.order += "."

    def windows(self, count: int = 1) -> None:
        self.total_windows += count
        self.order += "w" * count

    def update(self, done: float, windows: int = 0, detail: str = "") -> None:
        self.updates.append((done, windows, detail))
