"""Lists of clips, with human labels for training and evaluation or without them for scoring.

| kind | suffix | a clip is |
|---|---|---|
| Audiobox JSONL | `.jsonl` | `{"path", "start_time", "end_time"}` |
| NeMo JSONL | `.jsonl`, `.json` | `{"audio_filepath", "offset", "duration"}` |
| Lhotse cuts and recordings | `.jsonl` | `{"id", "start", "duration", "recording": {"sources": ...}}`, or a recording |
| AES JSONL | `.jsonl` | `{"data_path", "Production_Quality": [ten ratings], ...}` |
| JSON array | `.json`, `.jsonl` | an item: such an object, or a path as a string |
| Kaldi | `.scp` | `id path` |
| text | `.txt` | a line: its path |
| CSV, TSV | `.csv`, `.tsv` | a header with `path`, `data_path`, `audio_filepath` or `file`, any of CE, CU, PC, PQ |

`mmmos.data.ratings` has the names of label columns; `mmmos.io.delimited` finds the delimiter.

Each may be compressed: `.jsonl.gz`. Columns are read by name. Optional ones: `id` or `sample_id`; `start_time` and
`end_time`, or `offset` and `duration`, in s; `stream`, which of a file's audio streams, counted from 0; `system`;
`domain`; `group` (what a split may not cut: song, speaker, prompt); `set` (clips whose labels are on one scale);
`source` (the corpus that the clip is from); `stratum` (what a split divides in proportion, `mmmos.data.splits`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.audio.clip import Clip
from mmmos.data.columns import ID_COLUMNS, PATH_COLUMNS
from mmmos.data.lhotse import plain_row
from mmmos.data.ratings import Ratings
from mmmos.errors import ManifestError
from mmmos.io.delimited import described, to_float
from mmmos.io.lists import OnBadRow, json_rows, read_rows, refuse
from mmmos.io.remote import is_url
from mmmos.scores import AXES

MOST_STREAMS = 2**31
"""More than any file has; a stream number is stored as a 64-bit integer."""

PLACEHOLDER = "/your_path/"
"""Stands for the folder of the corpora in the published label files."""


@dataclass(frozen=True)
class LabelledClip:
    """A clip and its human labels."""

    clip: Clip
    labels: tuple[float, ...]  # [A] in the order of AXES, NaN if nobody rated the axis
    system: str = ""  # the system that generated the clip, for system-level metrics
    domain: str = ""  # speech, music, sound, ...
    group: str = ""  # never divided by a split; the clip itself if empty
    set: str = ""  # clips of one set share a rating scale
    source: str = ""  # the corpus it is from
    stratum: str = ""  # what a stratified split divides in proportion
    origin: str = field(default="", compare=False)  # "ratings.csv, line 12", for messages
    ratings: Ratings = field(
        default=(), compare=False
    )  # the ratings that the labels are means of, if the list has them
    list_rows: int = field(default=1, compare=False)  # number of rows of this clip in the list


def stream_clips(
    path: str | Path,
    data_root: str | Path | None = None,
    on_bad_row: OnBadRow = refuse,
    lines: Iterable[str] | None = None,
) -> Iterator[Clip]:
    """Yield the clips of a list of any kind above, which may be at a URL; memory does not grow with the list.

    All relative paths start in one folder: the current one, or the list's folder if that is where the first file found
    in either of them is. For a list at a URL it is the list's folder. So a deleted file is reported as missing and does
    not change the paths of other rows. `lines` are the lines of a JSON input that is already open, such as a pipe;
    `path` then only names it in messages. Raises `ManifestError` that names the line; the error of a single row goes
    to `on_bad_row`.
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
    """The folder that the relative paths of a list start in; "" is the current folder."""
    folder = os.path.dirname(manifest)
    if is_url(folder):
        return folder  # checking each file remotely would be slow
    if folder and os.path.isfile(manifest):  # a pipe cannot be read twice
        with suppress(ManifestError):  # reported when the row is read
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


def preview(paths: Sequence[str], most: int = 3) -> str:
    """The first few of many paths, for a message."""
    return ", ".join(paths[:most]) + (" ..." if len(paths) > most else "")


def label_array(rows: Sequence[LabelledClip]) -> NDArray[np.float64]:
    """Labels of the rows, [N, A]; NaN for a missing label."""
    return np.array([row.labels for row in rows], dtype=np.float64).reshape(len(rows), len(AXES))


def read_clip(
    row: Mapping[str, Any], manifest: str | Path, line: int, data_root: str | Path | None, folder: str | Path = ""
) -> Clip:
    """The clip of a row, its path resolved. Raises `ManifestError`."""
    try:
        row = plain_row(row)
    except (ValueError, LookupError, TypeError) as error:
        reason = str(error) if type(error) is ValueError else "not a cut or recording as Lhotse writes them"
        raise ManifestError(f"{manifest}, line {line}: {reason}") from error
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


Segment = tuple[str, float, float | None, int]


def segment_of(clip: Clip) -> Segment:
    """The identity of a clip: its file, segment and audio stream."""
    return os.path.abspath(clip.path or clip.id), clip.start_time, clip.end_time, clip.stream


def resolve(path: str, data_root: str | Path | None, folder: str | Path = "") -> str:
    """The full path of a listed path.

    `data_root`, else the environment variable MMMOS_DATA, replaces `/your_path/`; a relative path starts at
    `data_root`, else at `folder`. A URL is returned unchanged.
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
