"""Scores that are in a file already: read from JSONL, CSV or Parquet, and matched to labelled clips."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from mmmos.errors import ManifestError
from mmmos.inputs import AUDIO_SUFFIXES
from mmmos.lists import read_rows
from mmmos.manifest import AXIS_COLUMNS, ID_COLUMNS, PATH_COLUMNS, LabelledClip
from mmmos.scores import AXES, Scores, parse_scale

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""File names that are tables of scores."""

_SAME_START = 1e-3  # s


def read_predictions(path: str | Path) -> list[Scores]:
    """The scores of a table: rows of `mmmos score`, or any with an id or a path and an axis or more, by name.

    Of each clip its id, path, start and scores; NaN for what the table does not say. A score may be missing
    (null, empty). Raises `ManifestError` that names the line (in Parquet the row) for one that is no number.
    """
    path = Path(path)
    found = [_scores(row, path, line) for line, row in _rows(path)]
    if found and all(math.isnan(scores[axis]) for scores in found for axis in AXES):
        raise ManifestError(f"{path} has no score; the axes are {', '.join(AXES)}")
    return found


def matched(rows: Sequence[LabelledClip], predictions: Sequence[Scores]) -> list[Scores | None]:
    """The scores of each labelled clip, None where there are none.

    A clip is known by its id; if no row has that, by its path; if none has that, by its file name (with or
    without .wav and its like), provided that it is the only clip and the only row of that name. The row of
    another stretch of the file is no match.
    Raises `ManifestError` for a clip with two rows, as `mmmos score --segments` writes them.
    """
    by_id = _table(predictions, lambda scores: scores.id)
    by_path = _table(predictions, lambda scores: scores.path or "")
    by_name = _table(predictions, lambda scores: _name(scores.path or scores.id))
    names = _table(rows, lambda row: _name(row.clip.path or row.clip.id))
    found = []
    for row in rows:
        name = _name(row.clip.path or row.clip.id)
        candidates = by_id.get(row.clip.id) or by_path.get(row.clip.path or "") or []
        if not candidates and len(names[name]) == len(by_name.get(name, ())) == 1:
            candidates = by_name[name]
        if len(candidates) > 1 and row.clip.end_time is None and row.clip.start_time == 0:
            raise ManifestError(f"{len(candidates)} rows have scores of {row.clip.id}: one a clip is needed")
        candidates = [scores for scores in candidates if not abs(scores.start_time - row.clip.start_time) > _SAME_START]
        if len(candidates) > 1:
            raise ManifestError(f"{len(candidates)} rows have scores of {row.clip.id} from {row.clip.start_time:g} s")
        found.append(candidates[0] if candidates else None)
    return found


def _name(path: str) -> str:
    """The file name, without the suffix if that is one of audio."""
    file = PurePath(path)
    return file.stem if file.suffix.lower() in AUDIO_SUFFIXES else file.name


def _table(items: Sequence[Any], key: Callable[[Any], str]) -> dict[str, list[Any]]:
    table: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        if name := key(item):
            table[name].append(item)
    return dict(table)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and fields of each row."""
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise ManifestError(f"{path}: scores are read from {', '.join(SUFFIXES)}")
    if kind == ".parquet":
        yield from _parquet_rows(path)
        return
    yield from read_rows(path)


def _parquet_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror or error}") from error
    except pyarrow.ArrowInvalid as error:
        raise ManifestError(f"{path} is not Parquet: {error}") from error
    yield from enumerate(table.to_pylist(), start=1)


def _scores(row: Mapping[str, Any], path: Path, line: int) -> Scores:
    file = next((str(row[name]) for name in PATH_COLUMNS if row.get(name)), None)
    name = next((str(row[key]) for key in ID_COLUMNS if row.get(key) not in (None, "")), file)
    if name is None:
        raise ManifestError(f"{path}, line {line} has none of {', '.join(ID_COLUMNS + PATH_COLUMNS)}")
    if not any(column in row for columns in AXIS_COLUMNS.values() for column in columns):
        raise ManifestError(f"{path}, line {line} has none of the axes {', '.join(AXES)}")
    values = np.array([_number(row, columns, path, line) for columns in AXIS_COLUMNS.values()])
    start = _number(row, ("start_time",), path, line)
    scale = str(row.get("scale"))
    return Scores(id=name, path=file, start_time=start, scale=scale if parse_scale(scale) else None).with_axes(values)


def _number(row: Mapping[str, Any], names: Sequence[str], path: Path, line: int) -> float:
    value = next((row[name] for name in names if row.get(name) not in (None, "")), None)
    if value is None:
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ManifestError(f"{path}, line {line}: {names[0]} is not a number: {value!r}")
    return number
