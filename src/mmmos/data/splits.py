"""Stratified splits: every system is in both parts in proportion; every group of clips is in one part only.

The paper splits AES-PAM in this way: the clips of each generation model 80/20 (section III.A).
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.errors import ManifestError
from mmmos.wording import agree, counted

logger = logging.getLogger(__name__)

FIELDS = ("system", "domain", "set", "source", "stratum")
"""Fields of a row that a split can be stratified by; any other column of a list is read as its `stratum`."""

MOST_NAMED = 5
"""The most strata of too few clips that a message names."""

Cell = tuple[str, str]
"""A set and a stratum. The clips of each set are also divided in proportion, as each set has its own scale."""


def stratum_columns(column: str) -> dict[str, str]:
    """The `columns` argument of `read_labels` for a split that is stratified by this column of the list."""
    return {} if column in FIELDS else {"stratum": column}


def split_stratified(
    rows: Sequence[LabelledClip],
    fraction: float,
    seed: int,
    column: str,
) -> tuple[list[LabelledClip], list[LabelledClip]]:
    """Split rows in two: about `fraction` of each value of `column` in the second part, no group in both.

    If groups are single clips, a stratum of n clips has `fraction * n` of them in the second part, rounded. If each
    group belongs to one stratum, the number differs from that by at most half of the stratum's largest group. The order
    in which groups are visited depends only on their names and the seed. A warning is logged for strata that are too
    small to be in both parts. Raises `ManifestError` if no row has a value, and if no stratum can be divided.
    """
    field = column if column in FIELDS else "stratum"
    cells = [(row.set, str(getattr(row, field))) for row in rows]
    origin = rows[0].origin if rows else ""
    if not any(value for _, value in cells):
        raise ManifestError(f"{origin or 'the list'}: no row has a value of {column}, which the split is stratified by")
    groups: dict[str, Counter[Cell]] = defaultdict(Counter)
    for row, cell in zip(rows, cells, strict=True):
        groups[row.group or row.clip.id][cell] += 1
    held = _choose(groups, fraction, seed)
    in_second = [(row.group or row.clip.id) in held for row in rows]
    if too_small := _one_sided(cells, in_second, groups):
        total = len(set(cells))
        if len(too_small) == total:
            raise ManifestError(
                f"no value of {column} can be divided without cutting a group: {_named(too_small)};"
                " add clips of other groups, or hold out a larger fraction"
            )
        values, are = counted(len(too_small), "value", of=total), agree(len(too_small), "is")
        logger.warning("%s of %s %s too small to be divided: %s", values, column, are, _named(too_small))
    return (
        [row for row, second in zip(rows, in_second, strict=True) if not second],
        [row for row, second in zip(rows, in_second, strict=True) if second],
    )


def _choose(groups: dict[str, Counter[Cell]], fraction: float, seed: int) -> set[str]:
    """The groups of the second part: each one reduces the total distance of its strata from their target sizes."""
    totals: Counter[Cell] = Counter()
    for sizes in groups.values():
        totals.update(sizes)
    left = {cell: fraction * size for cell, size in totals.items()}
    held = set()
    for group in sorted(groups, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()):
        sizes = groups[group]
        gain = sum(abs(left[cell]) - abs(left[cell] - size) for cell, size in sizes.items())
        if gain > 1e-9:
            held.add(group)
            for cell, size in sizes.items():
                left[cell] -= size
    return held


def _one_sided(
    cells: Sequence[Cell], in_second: Sequence[bool], groups: dict[str, Counter[Cell]]
) -> list[tuple[str, int, int, bool]]:
    """Strata that are in one part only: name, clips, groups, and whether it is the second part."""
    sides: dict[Cell, set[bool]] = defaultdict(set)
    for cell, second in zip(cells, in_second, strict=True):
        sides[cell].add(second)
    clips = Counter(cells)
    counts = Counter(cell for sizes in groups.values() for cell in sizes)
    return [
        (_name(cell), clips[cell], counts[cell], True in found)
        for cell, found in sorted(sides.items())
        if len(found) == 1
    ]


def _name(cell: Cell) -> str:
    """A stratum for a message, with its set if it has one.

    >>> _name(("", "musicldm")), _name(("pam", ""))
    ('musicldm', '(empty) of set pam')
    """
    return (cell[1] or "(empty)") + (f" of set {cell[0]}" if cell[0] else "")


def _named(strata: Sequence[tuple[str, int, int, bool]]) -> str:
    """The first few strata for a message.

    >>> _named([("a", 1, 1, False), ("b", 40, 2, True)])
    'a (1 clip, 1 group; not held out), b (40 clips, 2 groups; held out)'
    """
    words = [
        f"{name} ({counted(clips, 'clip')}, {counted(groups, 'group')}; {'' if second else 'not '}held out)"
        for name, clips, groups, second in strata[:MOST_NAMED]
    ]
    return ", ".join(words) + (" ..." if len(strata) > MOST_NAMED else "")


def check_disjoint(train: Sequence[LabelledClip], dev: Sequence[LabelledClip]) -> None:
    """Raise `ManifestError` for audio in both parts; it names both lines and counts the others."""
    by_file: dict[tuple[str, int], list[LabelledClip]] = defaultdict(list)
    for row in train:
        by_file[_file(row.clip)].append(row)
    both = [(row, other) for row in dev for other in by_file.get(_file(row.clip), ()) if _overlap(row.clip, other.clip)]
    if both:
        held, trained = both[0]
        more = f", and {len(both) - 1} more" if len(both) > 1 else ""
        raise ManifestError(
            f"{held.clip.path or held.clip.id} appears in both training and held-out data:"
            f" {trained.origin or 'training rows'} and {held.origin or 'development rows'}{more}"
        )


def _file(clip: Clip) -> tuple[str, int]:
    return os.path.abspath(clip.path or clip.id), clip.stream


def _overlap(one: Clip, other: Clip) -> bool:
    ends = (math.inf if clip.end_time is None else clip.end_time for clip in (one, other))
    return max(one.start_time, other.start_time) < min(ends)


def split_present(rows: Sequence[LabelledClip]) -> tuple[list[LabelledClip], list[str]]:
    """The rows whose audio file exists, and the paths of the missing files, to report them."""
    clips, missing = present_clips([row.clip for row in rows])
    there = set(clips)
    return [row for row in rows if row.clip in there], missing


def present_clips(clips: Sequence[Clip]) -> tuple[list[Clip], list[str]]:
    """The clips whose audio file exists, and the paths of the missing files."""
    present: list[Clip] = []
    missing: list[str] = []
    for clip in clips:
        if clip.path and Path(clip.path).is_file():
            present.append(clip)
        else:
            missing.append(str(clip.path))
    return present, missing


def split_groups(
    rows: Sequence[LabelledClip], fraction: float, seed: int
) -> tuple[list[LabelledClip], list[LabelledClip]]:
    """Split rows in two: about `fraction` of every set in the second part, no group in both.

    The order in which groups are held out depends only on their names and the seed, so a row added later moves at most
    the groups at the border.
    """
    groups: dict[tuple[str, str], list[LabelledClip]] = defaultdict(list)
    for row in rows:
        groups[row.set, row.group or row.clip.id].append(row)
    order = sorted(groups, key=lambda key: hashlib.sha256(f"{seed} {key[1]}".encode()).digest())
    remaining = {name: fraction * sum(row.set == name for row in rows) for name in {row.set for row in rows}}
    held: set[str] = set()
    for name, group in order:
        if remaining[name] > 0 and group not in held:
            held.add(group)
            for other in remaining:  # a group may have rows in several sets
                remaining[other] -= len(groups.get((other, group), ()))
    in_second = [(row.group or row.clip.id) in held for row in rows]
    return (
        [row for row, second in zip(rows, in_second, strict=True) if not second],
        [row for row, second in zip(rows, in_second, strict=True) if second],
    )
