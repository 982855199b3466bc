"""Lhotse manifests: cuts and recordings as rows of the other lists have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A cut or a recording of Lhotse with the columns of other lists; any other row as it is.

    A cut is `{"id", "start", "duration", "channel", "recording": {"sources": [{"type", "channels", "source"}]}}`, a
    recording has the `sources` itself. Raises ValueError for one whose audio is not a segment of a file.
    """
    if _is_of(row, "sources", list):
        return {"id": row.get("id"), "path": _file(row, None)}
    if _is_of(row, "tracks", list):
        raise ValueError("a mix of several tracks is not a segment of one file; save it as audio")
    if not _is_of(row, "recording", Mapping):
        return row
    path = _file(row["recording"], row.get("channel"))
    kept = {name: value for name, value in row.items() if name not in ("recording", "start", "duration")}
    start = row.get("start") or 0.0
    try:
        end = None if row.get("duration") is None else float(start) + float(row["duration"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"start and duration are numbers of seconds, not {start!r} and {row['duration']!r}") from error
    return kept | {"path": path, "start_time": start, "end_time": end}


def _is_of(row: Mapping[str, Any], name: str, kind: type) -> bool:
    return isinstance(row.get(name), kind)


def _file(recording: Mapping[str, Any], channel: Any) -> str:
    """The path or URL of a recording. `channel` are the channels of a cut; None for all."""
    if recording.get("transforms"):
        raise ValueError("the recording has transforms, such as a change of speed; save it as audio")
    sources = recording["sources"]
    chosen = None if channel is None else {*(channel if isinstance(channel, list) else [channel])}
    if chosen is not None:
        sources = [source for source in sources if chosen & {*source["channels"]}]
    if len(sources) != 1:
        raise ValueError(f"the audio is in {len(sources)} files, not in one; save it as one")
    (source,) = sources
    if source["type"] not in ("file", "url"):
        raise ValueError(f"the audio is a {source['type']}, not a file; save it as one")
    if chosen is not None and not {*source["channels"]} <= chosen:
        names = " and ".join(map(str, sorted(chosen)))
        raise ValueError(
            f"channel {names} of {len(source['channels'])} is chosen, but a file's score is that of the mean of its"
            " channels; save the channel as a file"
        )
    return str(source["source"])
