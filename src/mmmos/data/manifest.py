"""Lists of clips, with human labels for training and evaluation or without them for scoring.

| kind | told by | a clip is |
|---|---|---|
| Audiobox JSONL | `.jsonl` | `{"path", "start_time", "end_time"}` |
| NeMo JSONL | `.jsonl`, `.json` | `{"audio_filepath", "offset", "duration"}` |
| AES JSONL | `.jsonl` | `{"data_path", "Production_Quality": [ten ratings], ...}` |
| JSON array | `.json`, `.jsonl` | an item: such an object, or a path as a string |
| Kaldi | `.scp` | `id path` |
| text | `.txt` | a line: its path |
| CSV, TSV | `.csv`, `.tsv` | a header with `path`, `data_path`, `audio_filepath` or `file`, any of CE, CU, PC, PQ |

What columns of labels may be called, `mmmos.data.ratings` says; how a delimiter is found, `mmmos.io.delimited`.

Each may be compressed: `.jsonl.gz`. Columns are read by name. Optional ones: `id` or `sample_id`; `start_time` and
`end_time`, or `offset` and `duration`, in s; `stream`, which of a file's audio streams, counted from 0; `system`;
`domain`; `group` (what a split may not cut: song, speaker, prompt); `set` (clips whose labels are on one scale);
`source` (the corpus that the clip is from); `stratum` (what a split divides in proportion, `mmmos.data.splits`).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.audio.clip import Clip
from mmmos.data.ratings import (
    AXIS_COLUMNS,
    Ratings,
)
from mmmos.errors import ManifestError
from mmmos.io.delimited import described, to_float
from mmmos.io.lists import OnBadRow, json_rows, read_rows, refuse
from mmmos.io.remote import is_url
from mmmos.scores import AXES, LABEL_RANGE

MOST_STREAMS = 2**31
"""No file has as many; the number of a stream is kept as a 64-bit integer."""

PLACEHOLDER = "/your_path/"
"""What the published label files have in place of the folder that the corpora lie in."""

# What columns may be called, here and where scores are read from a file.
PATH_COLUMNS = ("path", "data_path", "audio_filepath", "file")
ID_COLUMNS = ("id", "sample_id")
TEXT_COLUMNS = ("system", "domain", "group", "set", "source", "stratum")


@dataclass(frozen=True)
class LabelledClip:
    """A clip and what people said of it."""

    clip: Clip
    labels: tuple[float, ...]  # [A] in the order of AXES, NaN where nobody was asked
    system: str = ""  # what made the clip, for system-level metrics
    domain: str = ""  # speech, music, sound, ...
    group: str = ""  # no split cuts it; the clip itself when empty
    set: str = ""  # clips of one set were rated on one scale
    source: str = ""  # the corpus it is from
    stratum: str = ""  # what a stratified split divides in proportion
    origin: str = field(default="", compare=False)  # "ratings.csv, line 12", for messages
    ratings: Ratings = field(default=(), compare=False)  # what the labels are means of, where a list says
    list_rows: int = field(default=1, compare=False)  # rows of the list that are of this clip


def stream_clips(
    path: str | Path,
    data_root: str | Path | None = None,
    on_bad_row: OnBadRow = refuse,
    lines: Iterable[str] | None = None,
) -> Iterator[Clip]:
    """Clip after clip of a list of any kind above, which may lie at an address; memory does not grow with the list.

    All relative paths start at one place: here, or at the list's folder if the first file that is in either of them is
    there. A list at an address has its folder. So a file that goes moves no other row, and is missing where it was.
    `lines` are those of JSON that is open already, such as a pipe; `path` then only names them in messages.
    Raises `ManifestError` that names the line; that of a single row is given to `on_bad_row`.
    """
    start = None
    rows = read_rows(path, PATH_COLUMNS, on_bad_row) if lines is None else json_rows(lines, path, on_bad_row)
    for line, row in rows:
        try:
            clip = read_clip(row, path, line, data_root)
        except ManifestError as error:
            on_bad_row(error)
            continue
        if clip.path and _is_relative(clip.path):
            start = _start(path, data_root) if start is None else start
            clip = replace(clip, path=os.path.join(start, clip.path))
        yield clip


def _start(manifest: str | Path, data_root: str | Path | None) -> str:
    """The folder that the relative paths of a list begin at; "" is the one that this process is in."""
    folder = os.path.dirname(manifest)
    if is_url(folder):
        return folder  # to ask what is there would be slow
    if folder and os.path.isfile(manifest):  # what comes through a pipe cannot be read twice
        with suppress(ManifestError):  # it will be told where the row is read
            for line, row in read_rows(manifest, PATH_COLUMNS, lambda error: None):
                with suppress(ManifestError):
                    clip = read_clip(row, manifest, line, data_root)
                    if not (clip.path and _is_relative(clip.path)):
                        continue
                    for start in ("", folder):
                        if os.path.exists(os.path.join(start, clip.path)):
                            return start
    return ""


def _is_relative(path: str) -> bool:
    return not (is_url(path) or os.path.isabs(path))


def unlabelled(clip: Clip) -> LabelledClip:
    """A clip that nobody was asked about."""
    return LabelledClip(clip, (math.nan,) * len(AXES))


def check_disjoint(train: Sequence[LabelledClip], dev: Sequence[LabelledClip]) -> None:
    """Refuse audio that is in both parts: a `ManifestError` that names both lines and counts the others."""
    by_file: dict[tuple[str, int], list[LabelledClip]] = defaultdict(list)
    for row in train:
        by_file[_file(row.clip)].append(row)
    both = [(row, other) for row in dev for other in by_file.get(_file(row.clip), ()) if _overlap(row.clip, other.clip)]
    if both:
        held, trained = both[0]
        more = f", and {len(both) - 1} more" if len(both) > 1 else ""
        raise ManifestError(
            f"{held.clip.path or held.clip.id} is to be trained on and held out:"
            f" {trained.origin or 'training rows'} and {held.origin or 'development rows'}{more}"
        )


def _file(clip: Clip) -> tuple[str, int]:
    return os.path.abspath(clip.path or clip.id), clip.stream


def _overlap(one: Clip, other: Clip) -> bool:
    ends = (math.inf if clip.end_time is None else clip.end_time for clip in (one, other))
    return max(one.start_time, other.start_time) < min(ends)


def split_present(rows: Sequence[LabelledClip]) -> tuple[list[LabelledClip], list[str]]:
    """The rows whose audio is there, and the paths of the others, so that they can be told."""
    present = [row for row in rows if row.clip.path and Path(row.clip.path).is_file()]
    return present, [str(row.clip.path) for row in rows if not (row.clip.path and Path(row.clip.path).is_file())]


def shortened(paths: Sequence[str], most: int = 3) -> str:
    """The first few of many paths, for a message."""
    return ", ".join(paths[:most]) + (" ..." if len(paths) > most else "")


def split_groups(
    rows: Sequence[LabelledClip], share: float, seed: int
) -> tuple[list[LabelledClip], list[LabelledClip]]:
    """Rows in two parts, about `share` of every set in the second, no group in both.

    Groups go one after another in an order that depends on their names and the seed alone, so a row
    added later moves at most the groups at the border.
    """
    groups: dict[tuple[str, str], list[LabelledClip]] = defaultdict(list)
    for row in rows:
        groups[row.set, row.group or row.clip.id].append(row)
    order = sorted(groups, key=lambda key: hashlib.sha256(f"{seed} {key[1]}".encode()).digest())
    wanted = {name: share * sum(row.set == name for row in rows) for name in {row.set for row in rows}}
    held: set[str] = set()
    for name, group in order:
        if wanted[name] > 0 and group not in held:
            held.add(group)
            for other in wanted:  # a group of that name may have rows in several sets
                wanted[other] -= len(groups.get((other, group), ()))
    in_second = [(row.group or row.clip.id) in held for row in rows]
    return (
        [row for row, second in zip(rows, in_second, strict=True) if not second],
        [row for row, second in zip(rows, in_second, strict=True) if second],
    )


def label_array(rows: Sequence[LabelledClip]) -> NDArray[np.float64]:
    """Labels of the rows, [N, A], NaN where there is none."""
    return np.array([row.labels for row in rows], dtype=np.float64).reshape(len(rows), len(AXES))


def read_ratings(path: str | Path, on_bad_row: OnBadRow = refuse) -> tuple[list[str], NDArray[np.float64]]:
    """What every rater said: ids, and ratings [N, A, R] of R raters a clip, from an AES JSONL file.

    A clip's id is its `data_path`. `on_bad_row` gets the `ManifestError`, which names the line, where an axis is
    missing, has another number of ratings than the first line, or has a rating outside 0-10, and for a clip listed
    twice; by default it is raised.
    """
    ratings: dict[str, NDArray[np.float64]] = {}
    raters = 0
    for line, row in read_rows(path, PATH_COLUMNS, on_bad_row):
        try:
            name, lists = _ratings(row, f"{path}, line {line}", raters)
            if name in ratings:
                raise ManifestError(f"{path}, line {line} has {name} again")
        except ManifestError as error:
            on_bad_row(error)
            continue
        ratings[name] = np.array(lists, dtype=np.float64)
        raters = raters or len(lists[0])
    return list(ratings), np.array(list(ratings.values())).reshape(len(ratings), len(AXES), raters)


def _ratings(row: Mapping[str, Any], where: str, raters: int) -> tuple[str, list[list[float]]]:
    """The name of a clip, and a list of ratings an axis: of so many raters, or of any number if 0."""
    name = next((str(row[key]) for key in PATH_COLUMNS if row.get(key)), None)
    if name is None:
        raise ManifestError(f"{where} has no data_path")
    lists = []
    for axis, names in AXIS_COLUMNS.items():
        given = next((row[key] for key in names if key in row), None)
        if not isinstance(given, list) or not all(type(x) in (int, float) for x in given):
            raise ManifestError(f"{where}: {axis} is not a list of ratings")
        raters = raters or len(given)
        if len(given) != raters or not given:
            raise ManifestError(f"{where}: {axis} has {len(given)} ratings, not {raters or 'some'}")
        if not all(LABEL_RANGE[0] <= x <= LABEL_RANGE[1] for x in given):
            raise ManifestError(f"{where}: {axis} has a rating outside 0-10")
        lists.append(given)
    return name, lists


def read_clip(
    row: Mapping[str, Any], manifest: str | Path, line: int, data_root: str | Path | None, folder: str | Path = ""
) -> Clip:
    """The clip of a row, its path resolved. Raises `ManifestError`."""
    given = next((row[name] for name in PATH_COLUMNS if row.get(name)), None)
    if not isinstance(given, str):
        raise ManifestError(f"{manifest}, line {line} has no path, as {described(list(row), PATH_COLUMNS)}")
    start = _number(row, ("start_time", "offset"), manifest, line)
    end = _number(row, ("end_time",), manifest, line)
    duration = _number(row, ("duration",), manifest, line)
    if end is None and duration is not None and ("audio_filepath" in row or "offset" in row):
        end = (start or 0.0) + duration
    name = next((str(row[key]) for key in ID_COLUMNS if row.get(key) not in (None, "")), given)
    stream = _number(row, ("stream",), manifest, line) or 0.0
    if not 0 <= stream < MOST_STREAMS or not stream.is_integer():
        raise ManifestError(f"{manifest}, line {line}: stream is {stream:g}, not 0, 1, 2 ...")
    return Clip(name, resolve(given, data_root, folder), start or 0.0, end, stream=int(stream))


Stretch = tuple[str, float, float | None, int]


def stretch_of(clip: Clip) -> Stretch:
    """What makes a clip the same clip: the file, the stretch and the audio stream."""
    return os.path.abspath(clip.path or clip.id), clip.start_time, clip.end_time, clip.stream


def resolve(path: str, data_root: str | Path | None, folder: str | Path = "") -> str:
    """Where a listed path lies.

    `data_root`, else the environment's MMMOS_DATA, takes the place of `/your_path/`; a relative path
    begins at `data_root`, else at `folder`. An address is one already.
    """
    if is_url(path):
        return path
    if path.startswith(PLACEHOLDER):
        return os.path.join(data_root or os.environ.get("MMMOS_DATA") or PLACEHOLDER, path[len(PLACEHOLDER) :])
    return os.path.join(data_root or folder, path)


def _number(row: Mapping[str, Any], names: Sequence[str], manifest: str | Path, line: int) -> float | None:
    for name in names:
        if row.get(name) not in (None, ""):
            try:
                return to_float(row[name])
            except (TypeError, ValueError, OverflowError) as error:  # OverflowError: an integer of 400 digits
                raise ManifestError(f"{manifest}, line {line}: {name} is not a number: {row[name]!r}") from error
    return None
