"""Scores that are in a file already: read from JSONL, CSV or Parquet."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmmos.errors import ManifestError
from mmmos.lists import OnBadRow, read_rows, refuse, to_float
from mmmos.manifest import AXIS_COLUMNS, ID_COLUMNS, PATH_COLUMNS
from mmmos.scores import AXES, Scores, parse_scale

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""File names that are tables of scores."""

ANY_STREAM = -1
"""The audio stream of scores that do not say theirs."""


def read_predictions(path: str | Path, on_bad_row: OnBadRow = refuse) -> list[Scores]:
    """The scores of a table: rows of `mmmos score`, or any with an id or a path and an axis or more, by name.

    Of each clip its id, path, stretch and scores; NaN for what the table does not say. A score may be missing
    (null, empty); one that is not a number is left out. `on_bad_row` gets the `ManifestError` of each bad row, which
    names the line (in Parquet the row). Raises `ManifestError` for a file that has no scores at all.
    """
    path = Path(path)
    found = []
    for line, row in _rows(path, on_bad_row):
        try:
            found.append(_scores(row, path, line, on_bad_row))
        except ManifestError as error:
            on_bad_row(error)
    if found and all(math.isnan(scores[axis]) for scores in found for axis in AXES):
        raise ManifestError(f"{path} has no score; the axes are {', '.join(AXES)}")
    return found


def _rows(path: Path, on_bad_row: OnBadRow) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and fields of each row."""
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise ManifestError(f"{path}: scores are read from {', '.join(SUFFIXES)}")
    if kind == ".parquet":
        yield from _parquet_rows(path)
        return
    yield from read_rows(path, on_bad_row=on_bad_row)


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


def _scores(row: Mapping[str, Any], path: Path, line: int, on_bad_row: OnBadRow) -> Scores:
    """The scores of a row; one that is not a number is reported and left out."""
    file = next((str(row[name]) for name in PATH_COLUMNS if row.get(name)), None)
    name = next((str(row[key]) for key in ID_COLUMNS if row.get(key) not in (None, "")), file)
    if name is None:
        raise ManifestError(f"{path}, line {line} has none of {', '.join(ID_COLUMNS + PATH_COLUMNS)}")
    if not any(column in row for columns in AXIS_COLUMNS.values() for column in columns):
        raise ManifestError(f"{path}, line {line} has none of the axes {', '.join(AXES)}")
    start, end, duration = (_number(row, (key,), path, line) for key in ("start_time", "end_time", "duration"))
    stream = _number(row, ("stream",), path, line)
    values, bad = [], []
    for columns in AXIS_COLUMNS.values():
        try:
            values.append(_number(row, columns, path, line))
        except ManifestError as error:
            values.append(math.nan)
            bad.append(error)
    if bad:
        on_bad_row(ManifestError(f"{bad[0]} ({name})"))
    scale = str(row.get("scale"))
    return Scores(
        id=name,
        path=file,
        start_time=start,
        end_time=end,
        duration=duration,
        stream=ANY_STREAM if math.isnan(stream) else int(stream),
        scale=scale if parse_scale(scale) else None,
        origin=f"{path}, line {line}",
    ).with_axes(np.array(values))


def _number(row: Mapping[str, Any], names: Sequence[str], path: Path, line: int) -> float:
    value = next((row[name] for name in names if row.get(name) not in (None, "")), None)
    if value is None:
        return math.nan
    try:
        number = to_float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ManifestError(f"{path}, line {line}: {names[0]} is not a number: {value!r}")
    return number
