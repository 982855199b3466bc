"""Match scores to labelled clips.

A clip is a segment (start, end) of an audio stream of a file. The scores of a file are matched by

1. its whole path,
2. the whole of a shorter path: `A/1.wav` is `/data/A/1.wav`,
3. the longest common suffix of two paths, if it has at least two names and no other file or scores have it,
4. its id, if no other file or scores have it,
5. its file name, with or without an audio suffix such as .wav, on the same condition,

in this order. So two systems with the same ids get their own scores.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from mmmos.data.manifest import LabelledClip
from mmmos.errors import ManifestError
from mmmos.evaluation.predictions import ANY_STREAM
from mmmos.io.lists import AUDIO_SUFFIXES
from mmmos.io.remote import is_url
from mmmos.scores import Scores

_TOLERANCE = 1e-3  # seconds, for starts and ends

_Tail = tuple[str, ...]


def matched(rows: Sequence[LabelledClip], predictions: Sequence[Scores]) -> list[Scores | None]:
    """The scores of each labelled clip, or None.

    A start, end or stream (`ANY_STREAM`) that scores do not give matches any value. Raises `ManifestError`, which names
    both rows, if two scores match one clip, as rows of `mmmos score --segments` do, or if scores match two clips.
    """
    listed = _files(rows, [(row.clip.path, row.clip.id) for row in rows])
    scored = _files(predictions, [(scores.path, scores.id) for scores in predictions])
    linked = _linked(listed, scored)
    by_row = {id(row): scores.items for file, scores in linked.items() for row in file.items}
    return [_of_segment(row, by_row.get(id(row), ())) for row in rows]


def _of_segment(row: LabelledClip, candidates: Sequence[Scores]) -> Scores | None:
    """The scores of a row among those of its file."""
    clip = row.clip
    same = [scores for scores in candidates if scores.stream in (clip.stream, ANY_STREAM)]
    if clip.end_time is None and clip.start_time == 0 and len(same) > 1:
        raise ManifestError(
            f"{len(same)} rows have scores of {_named(row)}: one row per clip is needed{_origins(same)}"
        )
    same = [scores for scores in same if _is_segment(row, scores)]
    if len(same) > 1:
        start = f"from {clip.start_time:g} s"
        raise ManifestError(f"{len(same)} rows have scores of {_named(row)} {start}: one row is needed{_origins(same)}")
    return same[0] if same else None


def _is_segment(row: LabelledClip, scores: Scores) -> bool:
    """Whether scores have the start and end of a row. A listed end may be after the end of the file."""
    end = row.clip.end_time
    if abs(scores.start_time - row.clip.start_time) > _TOLERANCE:
        return False
    if end is None or math.isnan(scores.end_time):
        return True
    is_whole = abs(scores.end_time - scores.duration) <= _TOLERANCE
    return abs(scores.end_time - end) <= _TOLERANCE or (is_whole and scores.end_time < end)


@dataclass(eq=False)
class _File:
    """A file and its rows."""

    path: str  # absolute; the id if there is no path
    parts: _Tail  # of the path as given
    has_path: bool
    ids: set[str] = field(default_factory=set)
    items: list[Any] = field(default_factory=list)


def _files(items: Iterable[Any], names: Iterable[tuple[str | None, str]]) -> list[_File]:
    """The files of the rows, by paths and ids."""
    found: dict[tuple[bool, str], _File] = {}
    for item, (path, name) in zip(items, names, strict=True):
        key = path is not None, _absolute(path) if path else name
        file = found.setdefault(key, _File(key[1], _parts(path or name), key[0]))
        file.ids.add(name)
        file.items.append(item)
    return list(found.values())


def _absolute(path: str) -> str:
    return path if is_url(path) else os.path.abspath(path)


def _parts(path: str) -> _Tail:
    """The names in a path. Those of a relative path do not include the folder that it starts in."""
    return tuple(part for part in (path if is_url(path) else os.path.normpath(path)).split("/") if part)


def _stripped(parts: _Tail) -> _Tail:
    """The same, without the suffix of the file if it is an audio suffix."""
    file = PurePath(parts[-1]) if parts else PurePath()
    return (*parts[:-1], file.stem) if file.suffix.lower() in AUDIO_SUFFIXES else parts


class _Links(dict[_File, _File]):
    """Listed files and their scores."""

    def __init__(self, listed: Sequence[_File], scored: Sequence[_File]) -> None:
        super().__init__()
        self.listed, self.scored = listed, scored
        self.used: set[_File] = set()

    def link(self, listed: _File, scored: _File) -> None:
        self[listed] = scored
        self.used.add(scored)

    def open(self) -> tuple[list[_File], list[_File]]:
        """The listed files and the scores that are not linked yet."""
        return [file for file in self.listed if file not in self], [
            file for file in self.scored if file not in self.used
        ]

    def link_unique(self, keys: Callable[[_File], Iterable[Any]]) -> None:
        """Link files with a common key that no other file has, linked or not."""
        listed, scored = _table(self.listed, keys), _table(self.scored, keys)
        for file in self.open()[0]:
            for key in keys(file):
                if (found := scored.get(key)) is not None:  # the first match is the longest common suffix
                    if len(found) == len(listed[key]) == 1 and found[0] not in self.used:
                        self.link(file, found[0])
                    break


def _linked(listed: Sequence[_File], scored: Sequence[_File]) -> Mapping[_File, _File]:
    """The scores of each listed file that has scores."""
    links = _Links(listed, scored)
    with_path = {file.path: file for file in scored if file.has_path}
    for file in listed:
        if file.path in with_path:
            links.link(file, with_path[file.path])
    _link_whole(links)
    links.link_unique(lambda file: _ends(file.parts, 2))
    links.link_unique(lambda file: _ends(_stripped(file.parts), 2))
    links.link_unique(lambda file: file.ids)
    _check_ids(links)
    links.link_unique(lambda file: [_stripped(file.parts)[-1:]])
    return links


def _link_whole(links: _Links) -> None:
    """Link scores with a relative path to the listed file whose path ends with it. Raises `ManifestError` for two."""
    listed, scored = links.open()
    ends = _table(listed, lambda file: _ends(_parts(file.path), 1))
    found: dict[_File, list[_File]] = defaultdict(list)
    for scores in scored:
        same = ends.get(scores.parts, []) if scores.has_path and not os.path.isabs(scores.items[0].path) else []
        if len(same) > 1:
            rows = " and ".join(_named(file.items[0]) for file in same[:2])
            raise ManifestError(
                f"scores of {scores.items[0].path} may belong to {rows}: give longer paths{_origins(scores.items)}"
            )
        for file in same:
            found[file].append(scores)
    for file, several in found.items():
        if len(several) > 1:
            items = [scores.items[0] for scores in several]
            raise ManifestError(f"{len(items)} paths with scores match {_named(file.items[0])}{_origins(items)}")
        links.link(file, several[0])


def _check_ids(links: _Links) -> None:
    """Raise `ManifestError` for scores without a path whose id belongs to several listed files."""
    listed, scored = links.open()
    by_id = _table(listed, lambda file: file.ids)
    for scores in scored:
        same = by_id.get(scores.path, []) if not scores.has_path else []
        if len(same) > 1:
            rows = " and ".join(item.origin or item.clip.path or "" for item in (same[0].items[0], same[1].items[0]))
            raise ManifestError(
                f"the id {scores.path} belongs to several clips ({rows}): scores need paths{_origins(scores.items)}"
            )


def _ends(parts: _Tail, least: int) -> Iterable[_Tail]:
    """The suffixes of a path with at least `least` names, the longest first."""
    return (parts[start:] for start in range(len(parts) - least + 1))


def _table(files: Iterable[_File], keys: Callable[[_File], Iterable[Any]]) -> dict[Any, list[_File]]:
    table: dict[Any, list[_File]] = defaultdict(list)
    for file in files:
        for key in keys(file):
            table[key].append(file)
    return dict(table)


def _named(row: LabelledClip) -> str:
    """A listed clip, for a message."""
    return f"{row.clip.id}{f' ({row.origin})' if row.origin else ''}"


def _origins(scores: Sequence[Scores]) -> str:
    """The origins of the first two scores, for the end of a message."""
    origins = [item.origin for item in scores[:2] if item.origin]
    return f"; see {' and '.join(origins)}" if origins else ""
