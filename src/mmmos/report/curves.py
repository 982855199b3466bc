"""The scores of a clip's windows as curves over time, with the segments that have warnings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmmos.report.sound import SoundPicture
from mmmos.scores import SHOWN, Scores


@dataclass(frozen=True)
class Timeline:
    """A clip's windows and its sound."""

    name: str
    path: str | None
    windows: Sequence[Scores]  # in time; they may overlap
    sound: SoundPicture

    @property
    def overlaps(self) -> bool:
        """Whether windows overlap, so that a score belongs to the middle of its window."""
        return any(b.start_time < a.end_time - 1e-6 for a, b in zip(self.windows, self.windows[1:], strict=False))

    def curve(self, axis: str) -> list[tuple[float, float, float]]:
        """Time in s, score and spread; NaN in silence.

        A window without overlap is a step of two points. Windows that overlap are points at their middles; the first
        and the last one also reach to the ends of the clip.
        """
        points = []
        for i, item in enumerate(self.windows):
            value, spread = item[axis], getattr(item, f"{axis}_std")
            at_start, at_end = not self.overlaps or i == 0, not self.overlaps or i == len(self.windows) - 1
            middle = [(item.start_time + item.end_time) / 2] if self.overlaps else []
            times = [item.start_time] * at_start + middle + [item.end_time] * at_end
            points += [(time, value, 0.0 if math.isnan(spread) else spread) for time in times]
        return points

    def warnings(self) -> dict[str, list[tuple[float, float]]]:
        """For each warning, the segments in s of the windows that have it; segments that touch are one."""
        names = dict.fromkeys(name for item in self.windows for name in item.warnings)
        return {
            name: _joined((item.start_time, item.end_time) for item in self.windows if name in item.warnings)
            for name in names
        }

    def silence(self) -> list[tuple[float, float]]:
        """The segments in s without a score on any axis."""
        return _joined((item.start_time, item.end_time) for item in self.windows if not _is_scored(item))


def _is_scored(item: Scores) -> bool:
    return any(math.isfinite(item[axis]) for axis in SHOWN)


def _joined(segments: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Segments in order; those that touch or overlap are one.

    >>> _joined([(0.0, 10.0), (2.0, 12.0), (20.0, 30.0)])
    [(0.0, 12.0), (20.0, 30.0)]
    """
    found: list[tuple[float, float]] = []
    for start, end in segments:
        if found and start <= found[-1][1] + 1e-6:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found
