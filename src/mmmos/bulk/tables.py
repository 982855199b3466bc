"""Rows as one table, for analysis: of a file in any format, or of the folder of a run."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow
from pyarrow import parquet

from mmmos.bulk.commits import committed, part_name
from mmmos.bulk.plan import read_plan
from mmmos.bulk.stores import Store, open_store
from mmmos.errors import ManifestError, MissingExtraError, UsageError
from mmmos.inference.rows import table_schema
from mmmos.io import lists
from mmmos.io.bad_rows import BadRows
from mmmos.io.delimited import finite_number, not_found
from mmmos.io.remote import is_url

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""Suffixes of files of rows; those of text may be compressed, `.jsonl.gz`."""

MARK = "model_sha256"
"""The column that rows of `mmmos score` have, and of which rows of several models have several."""


def read_rows(path: str | Path, kind: Literal["arrow", "pandas"] = "arrow", *, strict: bool = False) -> Any:
    """The rows of a file or of a run's folder as a `pyarrow.Table` or a `pandas.DataFrame`.

    Whatever the format, columns have the names, order and types of Parquet: null for what is missing, a list of
    `warnings`, an error in `error_code` and `error_message`. Columns that an earlier version did not write are null;
    other columns come last. Of a run that continues, these are the finished parts, in the order of the list.

    - path: `.jsonl`, `.csv` or `.parquet`, or the folder or address of a run
    - kind: "pandas" needs pandas
    - strict: raise an error at a row that cannot be read, in place of leaving it out with a warning

    Raises `ManifestError` for a file that cannot be read, `UsageError` for a folder without a run.
    """
    if kind not in ("arrow", "pandas"):
        raise UsageError(f"rows are read as 'arrow' or 'pandas', not {kind!r}")
    path = os.fspath(path)
    if is_url(path) or os.path.isdir(path):
        table = _of_run(open_store(path))
    elif path.lower().endswith(".parquet"):
        table = _of_parquet(path)
    else:
        table = _of_text(path, strict)
    return table if kind == "arrow" else _as_pandas(table)


def _of_run(store: Store) -> pyarrow.Table:
    read_plan(store)
    parts = (parquet.read_table(io.BytesIO(store.read(part_name(shard)))) for shard in sorted(committed(store)))
    tables = [_completed(part.replace_schema_metadata()) for part in parts]
    return pyarrow.concat_tables(tables, promote_options="default") if tables else table_schema().empty_table()


def _of_parquet(path: str) -> pyarrow.Table:
    if not os.path.exists(path):
        raise ManifestError(not_found(Path(path)))
    try:
        return _completed(parquet.ParquetFile(path).read().replace_schema_metadata())
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror or error}") from error
    except pyarrow.ArrowInvalid as error:
        raise ManifestError(f"{path} is not Parquet: {error}") from error


def _of_text(path: str, strict: bool) -> pyarrow.Table:
    if lists.list_kind(path) not in SUFFIXES:
        raise ManifestError(f"{path}: rows are read from {', '.join(SUFFIXES)}, or from the folder of a run")
    if not os.path.exists(path):
        raise ManifestError(not_found(Path(path)))
    bad, known = BadRows(path, strict), table_schema().names
    rows = [_flat(row) for _, row in lists.read_rows(path, (), bad, known)]
    bad.report(len(rows))
    names = dict.fromkeys(name for row in rows for name in row)
    kinds = {field.name: field.type for field in _schema_of(names)}
    columns = {name: _column([row.get(name) for row in rows], kinds.get(name)) for name in names}
    return _completed(pyarrow.table(columns)) if columns else table_schema().empty_table()


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with the two parts of each error as columns, as CSV and Parquet have them."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "error" or name.endswith("_error"):
            parts = value if isinstance(value, Mapping) else {}
            flat |= {f"{name}_{part}": parts.get(part) for part in ("code", "message")}
        else:
            flat[name] = value
    return flat


def _schema_of(names: Iterable[str]) -> pyarrow.Schema:
    """The schema of rows with these columns, of which there may be more than in an earlier version."""
    return table_schema([name.removesuffix(f"_{MARK}") for name in names if name.endswith(f"_{MARK}")])


def _completed(table: pyarrow.Table) -> pyarrow.Table:
    """A table with the columns of today's rows, if it has rows of `mmmos score`, and then its other columns."""
    if MARK not in table.column_names:
        return table
    schema = _schema_of(table.column_names)
    columns = {
        field.name: table[field.name].cast(field.type)
        if field.name in table.column_names
        else pyarrow.nulls(len(table), field.type)
        for field in schema
    }
    others = {name: table[name] for name in table.column_names if name not in columns}
    return pyarrow.table(columns | others)


def _column(values: Sequence[Any], kind: pyarrow.DataType | None) -> pyarrow.Array:
    """Values of JSON or text as a column; a known column has its type, and null where a value does not fit."""
    if kind is not None:
        convert = _CONVERT[str(kind)]
        empty: list[str] | None = [] if pyarrow.types.is_list(kind) else None
        return pyarrow.array([convert(value) if value not in (None, "") else empty for value in values], kind)
    try:
        return pyarrow.array([None if value == "" else value for value in values])
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):  # of several types
        return pyarrow.array([None if value is None else str(value) for value in values])


def _real(value: Any) -> float | None:
    number = finite_number(value)
    return None if math.isnan(number) else number


def _whole(value: Any) -> int | None:
    number = _real(value)
    return None if number is None else int(number)


def _words(value: Any) -> list[str]:
    return value.split(";") if isinstance(value, str) else [*map(str, value)]


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "string": str,
    "double": _real,
    "int64": _whole,
    "bool": lambda value: str(value).lower() == "true",
    str(pyarrow.list_(pyarrow.string())): _words,
}
"""Type of a column -> function from a value of JSON or text."""


def _as_pandas(table: pyarrow.Table) -> Any:
    try:
        return table.to_pandas()
    except ModuleNotFoundError as error:
        raise MissingExtraError("rows as pandas need it: pip install pandas") from error
