"""Writes rows as JSONL, CSV or Parquet, each row as soon as it is available."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

from mmmos.errors import UsageError
from mmmos.io.atomic import check_parent, replacing
from mmmos.scores import AXES, Provenance, Scores

Format = Literal["mmmos", "audiobox"]
WriteRow = Callable[[Scores], None]

JSON_SUFFIXES = (".jsonl", ".json")
"""Suffixes of files that rows are written to as JSONL."""

PARQUET_ROWS = 1000
"""Rows per Parquet row group."""


def to_json(scores: Scores, form: Format = "mmmos") -> str:
    """One line: the whole row, or only the baseline's four keys. Never NaN, which is not valid JSON."""
    row = _encodable_row(scores.row())
    return json.dumps({axis: row[axis] for axis in AXES} if form == "audiobox" else row, allow_nan=False)


def _encodable_row(row: dict[str, Any]) -> dict[str, Any]:
    """The row in valid Unicode: JSON parsers other than Python's refuse unpaired surrogates."""
    return {name: _encodable_row(value) if isinstance(value, dict) else encodable(value) for name, value in row.items()}


@contextmanager
def open_rows(
    target: str | Path | IO[str], form: Format = "mmmos", append: bool = False, others: Collection[str] = ()
) -> Iterator[WriteRow]:
    """A function that writes one row to a file (format by its suffix) or, as JSONL, to a stream.

    `others` are the starts of the columns of other models, as in `Scores.others`.

    JSONL is flushed after each row, so that a process that is killed loses only the row that it was writing. CSV and
    Parquet files are useless in part, so they appear when they are complete. Raises `UsageError` as `check_target`.
    """
    if not isinstance(target, str | os.PathLike):
        yield _json_writer(target, form)
        return
    path = Path(target)
    check_target(path, form)
    if path.suffix.lower() in JSON_SUFFIXES:
        with open(path, "a" if append else "w", encoding="utf-8") as file:
            yield _json_writer(file, form)
    else:
        with open_table(path, table_schema(others)) as write:
            yield lambda scores: write(table_row(scores))


@contextmanager
def open_table(path: Path, schema: Any) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes rows of a `pyarrow.Schema` to a file, in the formats of `open_rows`.

    The file appears when it is complete. Raises `UsageError` as `open_rows`.
    """
    check_target(path)
    if path.suffix.lower() == ".parquet":
        with _whole(path) as partial, _parquet_writer(partial, schema) as write:
            yield write
        return
    with _whole(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        if path.suffix.lower() == ".csv":
            yield _csv_writer(file, schema.names)
        else:
            yield lambda row: _write_line(file, json.dumps(_unflat(row), allow_nan=False))


def check_target(path: Path, form: Format = "mmmos") -> None:
    """Raise `UsageError` if a file's suffix is not one of those of rows, or if its folder is missing."""
    if path.suffix.lower() not in (*JSON_SUFFIXES, ".csv", ".parquet"):
        raise UsageError(f"{path}: rows are written as .jsonl, .csv or .parquet")
    if form == "audiobox" and path.suffix.lower() not in JSON_SUFFIXES:
        raise UsageError(f"{path}: the audiobox format is JSONL")
    check_parent(path)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """The path to write to, for a file that appears when it is complete; a pipe or a device is written to directly."""
    if path.exists() and not path.is_file():
        yield path
        return
    with replacing(path.resolve()) as partial:
        yield partial


def _json_writer(file: IO[str], form: Format) -> WriteRow:
    return lambda scores: _write_line(file, to_json(scores, form))


def _write_line(file: IO[str], line: str) -> None:
    file.write(line + "\n")
    file.flush()


def _csv_writer(file: IO[str], columns: Sequence[str]) -> Callable[[dict[str, Any]], None]:
    writer = csv.DictWriter(file, columns)
    writer.writeheader()

    def write(flat: dict[str, Any]) -> None:
        writer.writerow({name: ";".join(value) if isinstance(value, list) else value for name, value in flat.items()})
        file.flush()

    return write


@contextmanager
def _parquet_writer(path: Path, schema: Any) -> Iterator[Callable[[dict[str, Any]], None]]:
    import pyarrow
    from pyarrow import parquet

    held: list[dict[str, Any]] = []

    def flush() -> None:
        file.write_table(pyarrow.Table.from_pylist(held, schema))
        held.clear()

    def write(row: dict[str, Any]) -> None:
        held.append(row)
        if len(held) == PARQUET_ROWS:
            flush()

    with parquet.ParquetWriter(path, schema) as file:
        yield write
        flush()


def table_schema(others: Collection[str] = ()) -> Any:
    """The `pyarrow.Schema` of rows in Parquet; `others` are the starts of the columns of other models."""
    import pyarrow

    text, real, whole, yes = pyarrow.string(), pyarrow.float64(), pyarrow.int64(), pyarrow.bool_()
    kinds = dict.fromkeys(
        ("start_time", "end_time", "duration", "file_mtime", *AXES, *(f"{axis}_std" for axis in AXES)), real
    )
    kinds |= dict.fromkeys(("sample_rate", "channels", "n_windows", "stream", "file_bytes"), whole)
    kinds |= {"warnings": pyarrow.list_(text), "calibrated": yes, "commercial_use": yes}
    kinds |= {f"{start}_{name}": kind for start in others for name, kind in kinds.items()}
    empty = Scores(provenance=_NOBODY)
    names = _flat(replace(empty, others=tuple((start, empty) for start in others)))
    return pyarrow.schema([(name, kinds.get(name, text)) for name in names])


def table_row(scores: Scores) -> dict[str, Any]:
    """A row of `table_schema`, with each error's two parts as separate columns."""
    return {name: encodable(value) for name, value in _flat(scores).items()}


def _flat(scores: Scores) -> dict[str, Any]:
    """The row with each error's two parts as separate columns; those of `error` come last."""
    flat: dict[str, Any] = {}
    row = scores.row()
    for name, value in row.items():
        if name.endswith("_error"):
            flat |= _error_columns(name, value)
        elif name != "error":
            flat[name] = value
    return flat | _error_columns("error", row["error"])


def _error_columns(name: str, error: dict[str, Any] | None) -> dict[str, Any]:
    return {f"{name}_{part}": (error or {}).get(part) for part in ("code", "message")}


def _unflat(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the two columns of each error as one again."""
    if not {"status", "error_code"} <= row.keys():
        return row  # of another task
    ends = ("error_code", "error_message")
    whole: dict[str, Any] = {}
    for name, value in row.items():
        if not name.endswith(ends):
            whole[name] = value
        elif name.endswith(ends[0]) and name != ends[0]:
            whole[name.removesuffix("_code")] = _error(row, name.removesuffix("_code"))
        if name == "status":
            whole["error"] = _error(row, "error")  # its position in `Scores.row`
    return whole


def _error(row: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The error of a row from its two columns."""
    code = row[f"{name}_code"]
    return None if code is None else {"code": code, "message": row[f"{name}_message"]}


def encodable(value: Any) -> Any:
    """A value that UTF-8 can encode: file names are bytes, and those that are not UTF-8 get backslash escapes."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


_NOBODY = Provenance("", "", "", "", "", False, False)
