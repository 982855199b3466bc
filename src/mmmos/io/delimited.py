"""Text tables: CSV, TSV and the variants that spreadsheets write.

The delimiter is the one of `DELIMITERS` that splits the first line into known columns. Numbers may have a decimal
comma; the text is UTF-8 or UTF-16.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher, get_close_matches
from itertools import chain
from pathlib import Path, PurePath
from typing import Any

from mmmos.errors import ManifestError

DELIMITERS = (",", ";", "\t", "|")

_ALIKE = 0.55
"""Least similarity (0 to 1) of two column names for one to be suggested as a misspelling of the other."""

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')
"""The line that Excel writes before the header to name the delimiter."""


def table_rows(
    lines: Iterable[str],
    path: str | Path,
    needed: Collection[str],
    known: Collection[str],
    on_bad_row: Callable[[ManifestError], None],
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Line number and fields of each row of a table.

    The table must have at least one of the `needed` columns, if any are given; the `known` ones help to find the
    delimiter. Raises `ManifestError` for a header without a needed column or with duplicate names. A row with another
    number of fields is reported to `on_bad_row`.
    """
    skipped, delimiter, header, lines = _begin(iter(lines), path, {*needed, *known})
    if header is None:
        return
    reader = csv.reader(chain([header], lines), delimiter=delimiter)
    try:
        columns = [name.strip() for name in next(reader)]
        check_header(path, skipped + 1, columns, needed)
        for fields in reader:
            if not fields:
                continue
            line = skipped + reader.line_num
            if len(fields) != len(columns):
                what = f"{'more' if len(fields) > len(columns) else 'fewer'} fields than line {skipped + 1}"
                on_bad_row(ManifestError(f"{path}, line {line} has {what}"))
            else:
                yield line, dict(zip(columns, fields, strict=True))
    except csv.Error as error:
        raise ManifestError(f"{path}, line {skipped + reader.line_num}: {error}") from error


def _begin(
    lines: Iterator[str], path: str | Path, known: Collection[str]
) -> tuple[int, str, str | None, Iterator[str]]:
    """Number of lines before the header, the delimiter, the header (None for an empty file) and the remaining lines."""
    skipped, named = 0, ""
    for line in lines:
        if found := _SEPARATOR_LINE.fullmatch(line):
            named = found[1]
        elif line.strip():
            return skipped, named or _delimiter(line, path, known), line, lines
        skipped += 1
    return skipped, ",", None, lines


def _delimiter(header: str, path: str | Path, known: Collection[str]) -> str:
    """The delimiter that gives most known columns, on a tie most columns, and then the usual one for the suffix."""
    usual = "\t" if ".tsv" in (suffix.lower() for suffix in PurePath(path).suffixes[-2:]) else ","

    def quality(delimiter: str) -> tuple[int, int, bool]:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        return len(set(names) & set(known)), len(names), delimiter == usual

    return max(DELIMITERS, key=quality)


def check_header(path: str | Path, line: int, columns: Collection[str], needed: Collection[str]) -> None:
    """Raise `ManifestError` for a duplicate column, or if none of the needed columns is present."""
    twice = [name for name, count in Counter(columns).items() if name and count > 1]
    if twice:
        raise ManifestError(f"{path}, line {line}: the column {twice[0]} stands twice; rename or remove one")
    if needed and not set(columns) & set(needed):
        raise ManifestError(f"{path}, line {line}: no column is called {described(columns, needed)}")


def described(found: Collection[str], expected: Collection[str]) -> str:
    """The end of a message: the expected columns, the columns of the file, and the name that may be misspelled.

    >>> described(["Path", "MOS"], ["path", "file"])
    'path or file; the columns are Path, MOS: is Path meant to be path?'
    """
    *first, last = expected
    names = f"{', '.join(first)} or {last}" if first else last
    there = ", ".join(name or "(no name)" for name in found) or "(none)"
    slip = _slip(found, expected)
    return f"{names}; the columns are {there}" + (f": is {slip[0]} meant to be {slip[1]}?" if slip else "")


def _slip(found: Collection[str], expected: Collection[str]) -> tuple[str, str] | None:
    """A found and an expected name that are most similar, if they are at least `_ALIKE`."""

    def alike(pair: tuple[str, str]) -> float:
        first, second = (re.sub(r"[\s_-]", "", name.casefold()) for name in pair)
        return SequenceMatcher(None, first, second).ratio()

    pairs = [(name, other) for name in found if name not in expected for other in expected]
    best = max(pairs, key=alike, default=None)
    return best if best and alike(best) >= _ALIKE else None


def not_found(path: Path) -> str:
    """The message for a missing file, with the name that may be meant."""
    siblings = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    close = get_close_matches(path.name, siblings, n=1)
    return f"{path} cannot be read: there is no such file" + (f"; is {path.parent / close[0]} meant?" if close else "")


def encoding_of(path: str | Path) -> str:
    """The encoding of a text file: UTF-16 if its first bytes show it, else UTF-8. A pipe is not read: it is UTF-8."""
    if not os.path.isfile(path):
        return "utf-8-sig"
    with open(path, "rb") as file:
        start = file.read(4)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if len(start) > 1 and 0 in start[:2]:  # the header is ASCII: every other byte of UTF-16 is zero
        return "utf-16-be" if start[0] == 0 else "utf-16-le"
    return "utf-8-sig"


def to_float(value: Any) -> float:
    """A number, or text with a decimal point or comma, as a float. Raises TypeError, ValueError or OverflowError.

    >>> to_float("3,5"), to_float(" 3.5 "), to_float(4)
    (3.5, 3.5, 4.0)
    """
    if isinstance(value, str) and "." not in value:
        value = value.replace(",", ".")  # text with two commas is invalid either way
    return float(value)


def finite_number(value: Any) -> float:
    """`to_float`, or NaN for what is not a finite number.

    >>> finite_number("3,5"), finite_number("1e999"), finite_number(None)
    (3.5, nan, nan)
    """
    try:
        number = to_float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    r"""A table as CSV, a line per row; None is empty.

    >>> csv_text(["path", "PQ"], [["a,b.wav", 5.5], ["c.wav", None]])
    'path,PQ\n"a,b.wav",5.5\nc.wav,\n'
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return file.getvalue()
