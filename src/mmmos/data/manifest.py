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
from mmmos.data.ratings import Ratings
from mmmos.errors import ManifestError
from mmmos.io.delimited import described, to_float
from mmmos.io.lists import OnBadRow, json_rows, read_rows, refuse
from mmmos.io.remote import is_url
from mmmos.scores import AXES

MOST_STREAMS = 2**31
"""No file has as many; the number of a stream is kept as a 64-bit integer."""

PLACEHOLDER = "/your_path/"
"""What the published label files have in place of the folder that the corpora lie in."""


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


def preview(paths: Sequence[str], most: int = 3) -> str:
    """The first few of many paths, for a message."""
    return ", ".join(paths[:most]) + (" ..." if len(paths) > most else "")


def label_array(rows: Sequence[LabelledClip]) -> NDArray[np.float64]:
    """Labels of the rows, [N, A], NaN where there is none."""
    return np.array([row.labels for row in rows], dtype=np.float64).reshape(len(rows), len(AXES))


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


Segment = tuple[str, float, float | None, int]


def segment_of(clip: Clip) -> Segment:
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
