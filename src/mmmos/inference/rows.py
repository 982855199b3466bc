"""Rows out: JSONL, CSV or Parquet, each row on its way as soon as it is known."""

from __future__ import annotations

import csv
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from mmmos.audio.clip import Clip
from mmmos.errors import UsageError
from mmmos.io.atomic import replacing
from mmmos.scores import AXES, Provenance, Scores, file_state

Format = Literal["mmmos", "audiobox"]
WriteRow = Callable[[Scores], None]

JSON_SUFFIXES = (".jsonl", ".json")
"""File names that rows are written to as JSONL."""

PARQUET_ROWS = 1000
"""Rows of a Parquet row group."""


def to_json(scores: Scores, form: Format = "mmmos") -> str:
    """One line: the whole row, or just the baseline's four keys. Never NaN, which is not JSON."""
    row = _encodable_row(scores.row())
    return json.dumps({axis: row[axis] for axis in AXES} if form == "audiobox" else row, allow_nan=False)


def _encodable_row(row: dict[str, Any]) -> dict[str, Any]:
    """The row in Unicode alone: other parsers of JSON than Python's refuse half of a surrogate pair."""
    return {name: _encodable_row(value) if isinstance(value, dict) else encodable(value) for name, value in row.items()}


@contextmanager
def open_rows(target: str | Path | IO[str], form: Format = "mmmos", append: bool = False) -> Iterator[WriteRow]:
    """A function that writes one row to a file (kind by its suffix) or, as JSONL, to a stream.

    JSONL is flushed a row at a time, so that a process that is killed leaves all rows but the one that it was writing.
    CSV and Parquet are of no use in part: a file of theirs appears when it is whole. Raises `UsageError` as
    `check_target`.
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
        with open_table(path, table_schema()) as write:
            yield lambda scores: write(table_row(scores))


@contextmanager
def open_table(path: Path, schema: Any) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes rows of such a `pyarrow.Schema` to a file, which looks as `open_rows` makes it.

    The file gets its name when it is whole. Raises `UsageError` as `open_rows`.
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
    """Raise `UsageError` where a file's name ends with no suffix that rows are written as, or its folder is missing."""
    if path.suffix.lower() not in (*JSON_SUFFIXES, ".csv", ".parquet"):
        raise UsageError(f"{path}: rows are written as .jsonl, .csv or .parquet")
    if form == "audiobox" and path.suffix.lower() not in JSON_SUFFIXES:
        raise UsageError(f"{path}: the audiobox format is JSONL")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Where to write a file that appears when it is whole; a pipe or a device is written to as it is."""
    if path.exists() and not path.is_file():
        yield path
        return
    with replacing(path.resolve()) as partial:
        yield partial


def not_done(clips: Iterable[Clip], output: Path, provenance: Provenance) -> list[Clip]:
    """The clips that a JSONL file has no score of yet; its error rows, and a row cut short, are removed from it.

    A row is of a clip if id, path, start, end and audio stream are the same and the file still has the size and the
    time of its last change; rows of versions without these columns are compared by the others. A clip that is listed
    twice needs two rows. Rows of clips that are not listed stay. Raises `UsageError` for a file of other things, or
    of rows of another model, version or precision; such a file is left as it is.
    """
    clips = list(clips)
    if not output.is_file():
        return clips
    waiting: dict[_Key, list[int]] = defaultdict(list)  # clips without a row
    for index, clip in enumerate(clips):
        waiting[_key(clip.id, clip.path, clip.start_time, clip.stream)].append(index)
    with replacing(output.resolve()) as partial, open(output, "rb") as old, open(partial, "wb") as new:
        for line, row in _scored(old, output, provenance):
            same = waiting[_key(row["id"], row.get("path"), row["start_time"], row.get("stream") or 0)]
            found = next((index for index in same if _is_of(row, clips[index])), None)
            if found is not None:
                same.remove(found)
            if found is not None or not same:  # else its file, or its end, is another by now
                new.write(line)
    return [clips[index] for index in sorted(index for same in waiting.values() for index in same)]


_Key = tuple[str, str | None, float, int]


def _key(clip_id: str, path: str | None, start_time: float, stream: int) -> _Key:
    """Id, path, start and stream as rows give them."""
    return encodable(clip_id), encodable(path), round(start_time, 6), stream


def _scored(lines: Iterable[bytes], path: Path, provenance: Provenance) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The lines with a score, and their rows. Raises `UsageError` for a line of anything else than such a run."""
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            _key(row["id"], row.get("path"), row["start_time"], 0)
            made = {name: row[name] for name in ("model_sha256", "version", "dtype")}
            scored = row["status"] == "ok"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if line.startswith(b'{"id": ') and not line.endswith(b"\n"):
                return  # the run was killed as it wrote this
            raise UsageError(f"{path}, line {number} is no row of mmmos, so it cannot be resumed") from error
        for name, value in made.items():
            if value != getattr(provenance, name):
                raise UsageError(
                    f"{path}, line {number} is a row of another {_MADE_BY[name]} ({name} {value}, now"
                    f" {getattr(provenance, name)}); give another output"
                )
        if scored and line.endswith(b"\n"):
            yield line, row


_MADE_BY = {"model_sha256": "model", "version": "version of mmmos", "dtype": "precision"}

END_TOLERANCE = 0.001
"""s by which the end of a row may differ from that of its clip, as samples lie between."""


def _is_of(row: dict[str, Any], clip: Clip) -> bool:
    """Whether a row of the same id, path, start and stream has the clip's end, and its file as it is now."""
    size, changed = file_state(clip.path)
    if row.get("file_bytes", size) != size or row.get("file_mtime", changed) != changed:
        return False
    end, duration = row.get("end_time"), row.get("duration")
    if end is None:
        return True
    to_the_end = duration is None or end >= duration - END_TOLERANCE or "truncated" in row.get("warnings", ())
    if clip.end_time is None:
        return to_the_end
    return abs(end - clip.end_time) <= END_TOLERANCE or (duration is not None and to_the_end and end < clip.end_time)


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


def table_schema() -> Any:
    """The `pyarrow.Schema` of rows in Parquet."""
    import pyarrow

    text, real, whole, yes = pyarrow.string(), pyarrow.float64(), pyarrow.int64(), pyarrow.bool_()
    kinds = dict.fromkeys(
        ("start_time", "end_time", "duration", "file_mtime", *AXES, *(f"{axis}_std" for axis in AXES)), real
    )
    kinds |= dict.fromkeys(("sample_rate", "channels", "n_windows", "stream", "file_bytes"), whole)
    kinds |= {"warnings": pyarrow.list_(text), "calibrated": yes, "commercial_use": yes}
    return pyarrow.schema([(name, kinds.get(name, text)) for name in _flat(Scores(provenance=_NOBODY))])


def table_row(scores: Scores) -> dict[str, Any]:
    """A row of `table_schema`: the error's two parts are columns of their own."""
    return {name: encodable(value) for name, value in _flat(scores).items()}


def _flat(scores: Scores) -> dict[str, Any]:
    """The row with the error's two parts as columns of their own."""
    row = scores.row()
    error = row.pop("error") or {"code": None, "message": None}
    return row | {"error_code": error["code"], "error_message": error["message"]}


def _unflat(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the two columns as the error that they were."""
    if not {"status", "error_code"} <= row.keys():
        return row  # of another task
    error = None if row["error_code"] is None else {"code": row["error_code"], "message": row["error_message"]}
    whole = {}
    for name, value in row.items():
        if name not in ("error_code", "error_message"):
            whole[name] = value
        if name == "status":
            whole["error"] = error  # where `Scores.row` has it
    return whole


def encodable(value: Any) -> Any:
    """File names are bytes; those that are no UTF-8 are spelled with backslashes."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


_NOBODY = Provenance("", "", "", "", "", False, False)
