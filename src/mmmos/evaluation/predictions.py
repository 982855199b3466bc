"""Read existing scores from JSONL, CSV or Parquet files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmmos.data.columns import AXIS_COLUMNS, ID_COLUMNS, LABEL_NAMES, PATH_COLUMNS
from mmmos.errors import ManifestError
from mmmos.evaluation.row_details import details
from mmmos.io.delimited import described, finite_number, not_found
from mmmos.io.lists import OnBadRow, read_rows, refuse
from mmmos.scores import AXES, Scores, parse_scale
from mmmos.wording import counted

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""The suffixes of tables of scores."""

_NAMES = f"any of {', '.join(LABEL_NAMES)}"

ANY_STREAM = -1
"""The stream of scores that do not name their audio stream."""


def is_table(name: str) -> bool:
    """Whether a name is that of a table of scores, as opposed to a model."""
    return Path(name).suffix.lower() in SUFFIXES and not Path(name).is_dir()


def read_predictions(path: str | Path, on_bad_row: OnBadRow = refuse) -> list[Scores]:
    """The scores of a table: rows of `mmmos score`, or any rows with an id or a path and at least one axis.

    Columns are found by name; NaN for missing values. A score may be missing (null, empty, NaN). `on_bad_row` gets the
    `ManifestError`, which names the line (in Parquet the row), of a row with another value in place of a score, or with
    NaN only. Raises `ManifestError` for a file without scores.
    """
    path = Path(path)
    found = [scores for scores, _ in parse_rows(partial(read_fields, path), path, on_bad_row)]
    if all(math.isnan(scores[axis]) for scores in found for axis in AXES):
        raise ManifestError(f"{path} has no score; the axes are {', '.join(AXES)}")
    return found


Fields = Mapping[str, Any]
"""A row as it was written, by column."""


def parse_rows(
    read: Callable[[OnBadRow], Iterable[tuple[int, Fields]]], path: str | Path, on_bad_row: OnBadRow = refuse
) -> list[tuple[Scores, Fields]]:
    """The scores of each row that `read` gives with its number, and the row itself.

    Bad rows are as in `read_predictions`, also those that `read` reports; `path` is for messages. Raises
    `ManifestError` if there is no usable row.
    """
    found: list[tuple[Scores, Fields]] = []
    bad: list[ManifestError] = []

    def leave_out(error: ManifestError) -> None:
        on_bad_row(error)
        bad.append(error)

    for line, row in read(leave_out):
        try:
            found.append((_scores(row, path, line), row))
        except ManifestError as error:
            leave_out(error)
    if bad and not found:
        raise ManifestError(f"{path}: no row can be used ({counted(len(bad), 'row')} left out); the first: {bad[0]}")
    if not found:
        raise ManifestError(f"{path}, line 1: there is no row; expected are {ID_COLUMNS[0]} or path, and {_NAMES}")
    return found


def read_fields(path: Path, on_bad_row: OnBadRow = refuse) -> Iterator[tuple[int, Fields]]:
    """Line number and fields of each row of a table. Raises `ManifestError`."""
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise ManifestError(f"{path}: scores are read from {', '.join(SUFFIXES)}")
    if not path.exists():
        raise ManifestError(not_found(path))
    if kind == ".parquet":
        yield from _parquet_rows(path)
        return
    for line, row in read_rows(path, (*ID_COLUMNS, *PATH_COLUMNS), on_bad_row, LABEL_NAMES):
        if kind in (".csv", ".tsv") and not row.keys() & {*LABEL_NAMES}:
            raise ManifestError(f"{path}, line 1: no column holds scores, as {described(list(row), LABEL_NAMES)}")
        yield line, row


def _parquet_rows(path: Path) -> Iterator[tuple[int, Fields]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror or error}") from error
    except pyarrow.ArrowInvalid as error:
        raise ManifestError(f"{path} is not Parquet: {error}") from error
    yield from enumerate(table.to_pylist(), start=1)


def _scores(row: Fields, path: str | Path, line: int) -> Scores:
    """The scores of a row; NaN for a missing score. Raises `ManifestError` for a row with NaN only."""
    file = next((str(row[name]) for name in PATH_COLUMNS if row.get(name)), None)
    name = next((str(row[key]) for key in ID_COLUMNS if row.get(key) not in (None, "")), file)
    if name is None:
        raise ManifestError(f"{path}, line {line} has none of {', '.join(ID_COLUMNS + PATH_COLUMNS)}")
    if not any(column in row for columns in AXIS_COLUMNS.values() for column in columns):
        raise ManifestError(f"{path}, line {line} has none of the axes {', '.join(AXES)}")
    start, end, duration = (_number(row, (key,), path, line) for key in ("start_time", "end_time", "duration"))
    stream = _number(row, ("stream",), path, line)
    given = {axis: _given(row, columns) for axis, columns in AXIS_COLUMNS.items()}
    missing = [axis for axis, value in given.items() if _is_nan(value)]
    if missing and all(value is None or axis in missing for axis, value in given.items()):
        raise ManifestError(f"{path}, line {line}: {missing[0]} is not a number: {given[missing[0]]!r} ({name})")
    values = [math.nan if axis in missing else _number(row, AXIS_COLUMNS[axis], path, line) for axis in AXES]
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
        **details(row),
    ).with_axes(np.array(values))


def _given(row: Fields, names: Sequence[str]) -> Any:
    """The value of the first of these columns that is not empty, or None."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _is_nan(value: Any) -> bool:
    return value != value or (isinstance(value, str) and value.strip().lower() == "nan")


def _number(row: Fields, names: Sequence[str], path: str | Path, line: int) -> float:
    value = _given(row, names)
    if value is None:
        return math.nan
    number = finite_number(value)
    if math.isnan(number):
        raise ManifestError(f"{path}, line {line}: {names[0]} is not a number: {value!r}")
    return number
