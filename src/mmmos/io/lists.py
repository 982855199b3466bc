"""Text files with one row per line, read line by line: memory does not grow with the file.

A row of CSV may span several lines. A JSON array is read as a whole.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePath
from typing import Any

from mmmos.errors import ManifestError
from mmmos.io.delimited import encoding_of, table_rows
from mmmos.io.remote import is_url, open_text

OnBadRow = Callable[[ManifestError], None]
"""Callback for a row that cannot be read; reading continues with the next row when it returns."""


SUFFIXES = (".jsonl", ".ndjson", ".json", ".scp", ".csv", ".tsv", ".txt")
"""Suffixes of lists, as opposed to audio files; each may be followed by `.gz`."""

AUDIO_SUFFIXES = {
    *(".aac", ".ac3", ".adts", ".aif", ".aifc", ".aiff", ".amr", ".au", ".bwf", ".caf", ".dsf", ".eac3", ".flac"),
    *(".m4a", ".m4b", ".m4r", ".mka", ".mp1", ".mp2", ".mp3", ".mpc", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".spx"),
    *(".tta", ".voc", ".w64", ".wav", ".wave", ".weba", ".wma", ".wv"),
    *(".3g2", ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mpga", ".mts"),
    *(".ogv", ".ts", ".webm", ".wmv"),
    *(".ape", ".nist", ".sph", ".wv1", ".wv2"),
}
"""Suffixes of the files that are taken from a folder. A file that is named explicitly may have any suffix."""


def list_kind(path: str | Path) -> str | None:
    """The one of `SUFFIXES` that a name ends with, ignoring `.gz`; None if the file is not a list.

    >>> list_kind("train.JSONL.gz"), list_kind("clip.wav")
    ('.jsonl', None)
    """
    name = PurePath(path)
    suffix = (name.with_suffix("") if name.suffix.lower() == ".gz" else name).suffix.lower()
    return suffix if suffix in SUFFIXES else None


def refuse(error: ManifestError) -> None:
    """Raise the error: reading stops at the first bad row."""
    raise error


def read_rows(
    path: str | Path, needed: Collection[str] = (), on_bad_row: OnBadRow = refuse, known: Collection[str] = ()
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and fields of each row of a list at a path or URL, whose suffix gives its format.

    CSV and TSV must have at least one of the `needed` columns; the `known` ones help to find their delimiter. The first
    line of `.txt` must be a path. Raises `ManifestError` that names the line. A row that is not JSON or not `id path`,
    or that does not have the number of fields of the header, is reported to `on_bad_row`.
    """
    kind = list_kind(path)
    with _open_list(path) as lines:
        if kind == ".scp":
            yield from _scp_rows(lines, path, on_bad_row)
        elif kind == ".txt":
            yield from _text_rows(lines, path)
        elif kind in (".csv", ".tsv"):
            yield from table_rows(lines, path, needed, known, on_bad_row)
        else:
            yield from json_rows(lines, path, on_bad_row)


@contextmanager
def _open_list(path: str | Path) -> Iterator[Iterable[str]]:
    """The lines of a text file at a path or URL. Raises `ManifestError` if it cannot be read."""
    try:
        with _opened(path) as lines:
            yield lines
    except UnicodeError as error:
        raise ManifestError(f"{path} cannot be read: {error}; save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ManifestError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _opened(path: str | Path) -> AbstractContextManager[Iterable[str]]:
    if is_url(str(path)):
        return open_text(str(path))
    errors = "surrogateescape" if list_kind(path) == ".txt" else "strict"  # file names may be any bytes
    if PurePath(path).suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors=errors)
    return open(path, encoding=encoding_of(path), errors=errors)


def json_rows(lines: Iterable[str], path: str | Path, on_bad_row: OnBadRow) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and fields of each row of JSONL, or item number and fields for an array; a string is a path."""
    lines, started = iter(lines), False
    for number, line in enumerate(lines, start=1):
        if not started and line.lstrip().startswith("["):
            for count, item in enumerate(_array(line + "".join(lines), path, number), start=1):
                yield from _json_row(item, path, count, on_bad_row)
        elif line.strip():
            started = True
            try:
                item = json.loads(line)
            except ValueError as error:
                on_bad_row(ManifestError(f"{path}, line {number} is not JSON: {error}"))
                continue
            yield from _json_row(item, path, number, on_bad_row)


def is_json(line: bytes) -> bool:
    """Whether a list that begins with this line is JSONL or a JSON array; `[1] a.wav` is a path."""
    try:
        return line.strip() == b"[" or isinstance(json.loads(line), dict | list)
    except ValueError:
        return False


def _array(text: str, path: str | Path, line: int) -> list[Any]:
    """The items of a JSON array that begins in `line`."""
    try:
        items: list[Any] = json.loads(text)
    except ValueError as error:
        raise ManifestError(f"{path}: the array that begins in line {line} is not JSON: {error}") from error
    return items


def _json_row(
    item: Any, path: str | Path, number: int, on_bad_row: OnBadRow
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if isinstance(item, str):
        item = {"path": item}
    if isinstance(item, dict):
        yield number, item
    else:
        on_bad_row(ManifestError(f"{path}, line {number} is not a JSON object"))


def _text_rows(lines: Iterable[str], path: str | Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Line number and path of each line."""
    first = True
    for number, line in enumerate(lines, start=1):
        if name := line.strip():
            if first and not (is_url(name) or PurePath(name).suffix.lower() in AUDIO_SUFFIXES or _exists(name, path)):
                raise ManifestError(f"{path}, line {number} is not the path of an audio file: {name[:60]!r}")
            first = False
            yield number, {"path": name}


def _exists(name: str, listed_in: str | Path) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for folder in ("", os.path.dirname(listed_in)))


def _scp_rows(lines: Iterable[str], path: str | Path, on_bad_row: OnBadRow) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            name, *file = line.strip().split(maxsplit=1)
            if not file or (file[0].endswith("|") and on_bad_row is refuse):
                on_bad_row(ManifestError(f"{path}, line {number} is not `id path` (commands are not run)"))
            else:
                yield number, {"id": name, "path": file[0]}
