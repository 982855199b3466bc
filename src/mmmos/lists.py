"""Text files of one row a line (CSV's may have more), read line by line: memory does not grow with the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

from mmmos.errors import ManifestError
from mmmos.remote import is_url, open_text

OnBadRow = Callable[[ManifestError], None]
"""What is done with a row that cannot be read, before the next row is read."""


def refuse(error: ManifestError) -> None:
    """Raise it: one bad row ends the reading of its list."""
    raise error


def read_rows(
    path: str | Path, needed: Collection[str] = (), on_bad_row: OnBadRow = refuse
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and fields of each row of a list, which may lie at an address; its kind is told by its name.

    CSV and TSV must have one of the `needed` columns. Raises `ManifestError` that names the line; that of a row which
    is not JSON or not `id path`, or has other fields than the header, is given to `on_bad_row`.
    """
    kind = PurePath(path).suffix.lower()
    with _open_list(path) as lines:
        if kind == ".scp":
            yield from _scp_rows(lines, path, on_bad_row)
        elif kind in (".csv", ".tsv"):
            yield from _csv_rows(lines, path, needed, on_bad_row)
        else:
            yield from _json_rows(lines, path, on_bad_row)


def to_float(value: Any) -> float:
    """A number, which may be text with a decimal comma. Raises TypeError, ValueError or OverflowError.

    >>> to_float("3,5"), to_float(" 3.5 "), to_float(4)
    (3.5, 3.5, 4.0)
    """
    if isinstance(value, str) and "." not in value:
        value = value.replace(",", ".")  # two of them are not a number either way
    return float(value)


@contextmanager
def _open_list(path: str | Path) -> Iterator[Iterable[str]]:
    """The lines of a text file, at a path or an address. Raises `ManifestError` where it cannot be read."""
    try:
        with open_text(str(path)) if is_url(str(path)) else open(path, encoding="utf-8-sig") as lines:
            yield lines
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _json_rows(lines: Iterable[str], path: str | Path, on_bad_row: OnBadRow) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and fields of each row of JSONL."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                on_bad_row(ManifestError(f"{path}, line {number} is not JSON: {error}"))
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                on_bad_row(ManifestError(f"{path}, line {number} is not a JSON object"))


def _csv_rows(
    lines: Iterable[str], path: str | Path, needed: Collection[str] = (), on_bad_row: OnBadRow = refuse
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and fields of each row of CSV or TSV with one of the `needed` columns. Raises `ManifestError`."""
    lines = iter(lines)
    reader = csv.DictReader(lines, delimiter="\t" if PurePath(path).suffix.lower() == ".tsv" else ",")
    try:
        columns = set(reader.fieldnames or ())
        if needed and not columns & set(needed) and (columns or any(line.strip() for line in lines)):
            raise ManifestError(f"{path}, line 1: no column is called {', '.join(needed)}")
        for row in reader:
            if None in row or None in row.values():
                what = f"{'more' if None in row else 'fewer'} fields than line 1"
                on_bad_row(ManifestError(f"{path}, line {reader.line_num} has {what}"))
            else:
                yield reader.line_num, row
    except csv.Error as error:
        raise ManifestError(f"{path}, line {reader.line_num + 1}: {error}") from error


def _scp_rows(lines: Iterable[str], path: str | Path, on_bad_row: OnBadRow) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name, *file = line.strip().split(maxsplit=1)
            if not file or (file[0].endswith("|") and on_bad_row is refuse):
                on_bad_row(ManifestError(f"{path}, line {number} is not `id path` (commands are not run)"))
            else:
                yield number, {"id": name, "path": file[0]}
