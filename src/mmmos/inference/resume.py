"""Resuming a JSONL file of rows: which clips still need a score."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmmos.audio.clip import Clip
from mmmos.errors import UsageError
from mmmos.inference.rows import encodable
from mmmos.io.atomic import replacing
from mmmos.scores import Provenance, file_state

NO_OTHERS: Mapping[str, Provenance] = MappingProxyType({})


def not_done(
    clips: Iterable[Clip], output: Path, provenance: Provenance, others: Mapping[str, Provenance] = NO_OTHERS
) -> list[Clip]:
    """The clips without a score in a JSONL file; its error rows, and an incomplete last row, are removed from it.

    A row belongs to a clip if id, path, start, end and audio stream are equal and the file has the same size and
    modification time; in rows of versions without these columns, only the others are compared. A clip that is listed
    twice needs two rows. Rows of clips that are not listed stay. `others` are the other models, by the start of their
    columns, of a run with several. Raises `UsageError` for a file with other content, or with rows of another model,
    version or precision; such a file is not changed.
    """
    clips = list(clips)
    if not output.is_file():
        return clips
    waiting: dict[_Key, list[int]] = defaultdict(list)  # clips without a row
    for index, clip in enumerate(clips):
        waiting[_key(clip.id, clip.path, clip.start_time, clip.stream)].append(index)
    with replacing(output.resolve()) as partial, open(output, "rb") as old, open(partial, "wb") as new:
        for line, row in _scored(old, output, _made_by(provenance, others)):
            same = waiting[_key(row["id"], row.get("path"), row["start_time"], row.get("stream") or 0)]
            found = next((index for index in same if _is_of(row, clips[index])), None)
            if found is not None:
                same.remove(found)
            if found is not None or not same:  # otherwise its file or its end has changed
                new.write(line)
    return [clips[index] for index in sorted(index for same in waiting.values() for index in same)]


_Key = tuple[str, str | None, float, int]


def _key(clip_id: str, path: str | None, start_time: float, stream: int) -> _Key:
    """Id, path, start and stream as in rows."""
    return encodable(clip_id), encodable(path), round(start_time, 6), stream


def _made_by(provenance: Provenance, others: Mapping[str, Provenance]) -> dict[str, str]:
    """The columns that the rows of a run have in common."""
    made = {name: str(getattr(provenance, name)) for name in _MADE_BY}
    return made | {f"{start}{_SHA256}": other.model_sha256 for start, other in others.items()}


def _scored(lines: Iterable[bytes], path: Path, made_by: dict[str, str]) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """The lines with all scores, and their rows. Raises `UsageError` for a line that is not of such a run."""
    for number, line in enumerate(lines, start=1):
        try:
            row = {"backend": "torch"} | json.loads(line)  # rows of earlier versions do not have it
            _key(row["id"], row.get("path"), row["start_time"], 0)
            made = {name: row[name] for name in row if name in _MADE_BY or name.endswith(_SHA256)}
            scored = row["status"] == "ok" and not any(row[name] for name in row if name.endswith("_error"))
            if missing := _MADE_BY.keys() - made.keys():
                raise KeyError(*missing)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if line.startswith(b'{"id": ') and not line.endswith(b"\n"):
                return  # the run was killed while it wrote this
            raise UsageError(f"{path}, line {number} is not an mmmos row; cannot resume this file") from error
        for name in made | made_by:
            if made.get(name) != made_by.get(name):
                raise UsageError(
                    f"{path}, line {number} is a row of another {_MADE_BY.get(name, 'model')} ({name}"
                    f" {made.get(name)}, now {made_by.get(name)}); give another output"
                )
        if scored and line.endswith(b"\n"):
            yield line, row


_MADE_BY = {"model_sha256": "model", "version": "version of mmmos", "dtype": "precision", "backend": "back end"}
_SHA256 = "_model_sha256"

END_TOLERANCE = 0.001
"""s by which the end of a row may differ from that of its clip, which is rounded to a sample."""


def _is_of(row: dict[str, Any], clip: Clip) -> bool:
    """Whether a row with the clip's id, path, start and stream also has its end, and its file has not changed."""
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
