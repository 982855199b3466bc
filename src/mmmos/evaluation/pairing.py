"""The rows of the same clips in two systems, and the clips that rows belong to."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from mmmos.scores import Scores

Pairs = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Row numbers in the first and in the second system, of equal length."""


def pair_clips(first: Sequence[Scores], second: Sequence[Scores]) -> Pairs | None:
    """The rows of the same clips in two systems; None if there are too few to compare pairs.

    A clip has the same id in both systems, or else the same path below the folder that all clips of its system are in,
    or else the same file name without suffix; and the same segment. The first of these rules that pairs at least half
    of the smaller system is used. Ids that occur twice are not paired.
    """
    for key in (_by_id, _by_path, _by_name):
        ours, theirs = (_unique(key(rows)) for rows in (first, second))
        common = [name for name in ours if name in theirs]
        if common and 2 * len(common) >= min(len(first), len(second)):
            return np.array([ours[name] for name in common]), np.array([theirs[name] for name in common])
    return None


def _unique(keys: Sequence[Hashable]) -> dict[Hashable, int]:
    counts = Counter(keys)
    return {key: row for row, key in enumerate(keys) if counts[key] == 1}


def _segment(scores: Scores) -> float:
    return round(scores.start_time, 3) if math.isfinite(scores.start_time) else 0.0


def _by_id(rows: Sequence[Scores]) -> list[Hashable]:
    return [(scores.id, _segment(scores)) for scores in rows]


def _by_path(rows: Sequence[Scores]) -> list[Hashable]:
    paths = [PurePath(scores.path or scores.id).parts for scores in rows]
    shared = 0
    while len({path[: shared + 1] for path in paths}) == 1 and all(len(path) > shared + 1 for path in paths):
        shared += 1
    return [(path[shared:], _segment(scores)) for path, scores in zip(paths, rows, strict=True)]


def _by_name(rows: Sequence[Scores]) -> list[Hashable]:
    return [(PurePath(scores.path or scores.id).stem, _segment(scores)) for scores in rows]


def files_of(rows: Sequence[Scores]) -> list[str]:
    """The file of each row, by its path, its id and its audio stream: segments of one file are one clip."""
    return [f"{scores.path or ''}\n{scores.id}\n{scores.stream}" for scores in rows]


def repeated(rows: Sequence[Scores]) -> int:
    """The number of rows whose file and segment stand in an earlier row."""
    keys = [(name, _segment(scores)) for name, scores in zip(files_of(rows), rows, strict=True)]
    return len(keys) - len(set(keys))
