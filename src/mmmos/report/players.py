"""Where the page of a report finds the audio of its clips: next to it, or inside it."""

from __future__ import annotations

import base64
import mimetypes
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from mmmos.evaluation.pairing import pair_clips
from mmmos.io.remote import is_url
from mmmos.report.systems import System
from mmmos.scores import AXES, Scores

EMBED_BYTES = 64 << 20
"""Most bytes of audio inside a page."""

LISTED = 10
"""Clips of each list (of each axis and system) whose audio is embedded: those that the page shows first."""

_TYPES = {".opus": "audio/ogg", ".oga": "audio/ogg", ".flac": "audio/flac", ".m4a": "audio/mp4", ".weba": "audio/webm"}


def find_files(scores: Iterable[Scores], root: str | os.PathLike[str]) -> list[str | None]:
    """The file of each clip; None if it is not on this machine. Relative paths start at `root`."""
    known: dict[str, str | None] = {}

    def find(path: str | None) -> str | None:
        if path is None or is_url(path):
            return None
        if path not in known:
            file = os.path.abspath(os.path.join(root, path))
            known[path] = file if os.path.isfile(file) else None
        return known[path]

    return [find(item.path) for item in scores]


def link(file: str | os.PathLike[str], folder: str | os.PathLike[str]) -> str:
    """The relative address of a file, for a page in `folder`.

    >>> link("/data/a b/c#1.wav", "/data/pages")
    '../a%20b/c%231.wav'
    """
    return quote(os.path.relpath(file, folder))


def embed(systems: Sequence[System], files: Sequence[str | None], limit: int = EMBED_BYTES) -> dict[str, str]:
    """The files of the clips at the top of lists as data addresses, up to `limit` bytes together.

    `files` are those of the rows of all systems. A file that cannot be read is left out.
    """
    found: dict[str, str] = {}
    for row in top_rows(systems):
        file = files[row]
        if file is None or file in found:
            continue
        try:
            if os.path.getsize(file) > limit:
                continue
            data = Path(file).read_bytes()
        except OSError:
            continue
        limit -= len(data)
        found[file] = _address(file, data)
    return found


def data_address(file: str) -> str:
    """The content of an audio file as an address. Raises OSError."""
    return _address(file, Path(file).read_bytes())


def _address(file: str, data: bytes) -> str:
    return f"data:{_type(file)};base64,{base64.b64encode(data).decode()}"


def _type(file: str) -> str:
    suffix = Path(file).suffix.lower()
    return _TYPES.get(suffix) or mimetypes.guess_type(file)[0] or "application/octet-stream"


def top_rows(systems: Sequence[System], count: int = LISTED) -> list[int]:
    """The rows at the top of the page's lists: worst, best, most uncertain, and most degraded on each axis."""
    top: list[int] = []
    begin = 0
    for system in systems:
        rows = system.scores
        pairs = pair_clips(systems[0].scores, rows) if system is not systems[0] else None
        for axis in AXES:
            values = np.array([item[axis] for item in rows], dtype=np.float64)
            spread = np.array([getattr(item, f"{axis}_std") for item in rows], dtype=np.float64)
            if pairs is None:
                lost = np.where([bool(item.warnings) for item in rows], -values, np.nan)
            else:
                lost = np.full(len(rows), np.nan)
                lost[pairs[1]] = np.array([systems[0].scores[row][axis] for row in pairs[0]]) - values[pairs[1]]
            top += [begin + int(row) for key in (-values, values, spread, lost) for row in _largest(key, count)]
        begin += len(rows)
    return list(dict.fromkeys(top))


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    order = np.argsort(-values, kind="stable")  # NaN last
    return order[: min(count, int(np.isfinite(values).sum()))]
