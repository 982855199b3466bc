"""The scores of a clip over time, as a picture or as a page with a player."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from mmmos.audio.clip import Clip
from mmmos.audio.decoder import Decoder
from mmmos.audio.warnings import WARNINGS
from mmmos.errors import UsageError
from mmmos.io.atomic import write_text
from mmmos.report import plots
from mmmos.report.curves import Timeline
from mmmos.report.page import HTML_SUFFIXES, asset, check_page, page
from mmmos.report.players import data_address, find_files, link
from mmmos.report.sound import FLOOR_DB, RATE, picture
from mmmos.report.summary import scale_of
from mmmos.report.timeline_plot import draw
from mmmos.scores import AXIS_NAMES, BASES, SHOWN, Scores

SUFFIXES = (".png", ".svg", ".pdf", *HTML_SUFFIXES)

EMBED_BYTES = 16 << 20
"""The largest file that is put into a page; a larger one is linked."""


def check_timeline(path: Path) -> None:
    """Raise `UsageError` if no timeline can be written to a path."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path}: timelines are written as {', '.join(SUFFIXES)}")
    check = check_page if path.suffix.lower() in HTML_SUFFIXES else plots.check_plot
    check(path)


def make_timeline(clip: Clip, windows: Sequence[Scores], decoder: Decoder) -> Timeline:
    """The timeline of a clip's windows. Decodes the clip again, for its sound. Raises `AudioError`."""
    start, end = windows[0].start_time, windows[-1].end_time
    with closing(decoder.cut([replace(clip, hop=None)], [RATE], 0.0)) as cuts:
        _, items = next(cuts)
        return Timeline(clip.id, clip.path, tuple(windows), picture(items, start, end))


def write_timeline(path: Path, timeline: Timeline, root: str | os.PathLike[str] = ".") -> None:
    """Write a timeline atomically, in the format of the suffix. Raises `UsageError`."""
    check_timeline(path)
    if path.suffix.lower() in HTML_SUFFIXES:
        body = Template(asset("timeline.html")).substitute(name=escape(timeline.name))
        data = timeline_data(timeline, _source(timeline.path, path.resolve().parent, root))
        write_text(path, page(f"Timeline: {timeline.name}", body, data, ["base.css", "timeline.css"], _SCRIPTS))
    else:
        plots.save(path, draw(timeline))


_SCRIPTS = ("charts.js", "timeline.js")


def timeline_data(timeline: Timeline, source: str | None) -> dict[str, Any]:
    """What the page's script draws; `source` is the address of the audio."""
    sound, first = timeline.sound, timeline.windows[0]
    levels = np.round((sound.mel - FLOOR_DB) / -FLOOR_DB * 255).astype(np.uint8)
    low, high = scale_of(timeline.windows)
    axes = [axis for axis in SHOWN if any(math.isfinite(item[axis]) for item in timeline.windows)]
    found = timeline.warnings()
    return {
        "name": timeline.name,
        "source": source,
        "start": sound.start,
        "end": sound.end,
        "scale": [low, high],
        "overlaps": timeline.overlaps,
        "low": [round(float(x), 3) for x in sound.low],
        "high": [round(float(x), 3) for x in sound.high],
        "bands": levels.shape[1],
        "mel": base64.b64encode(levels.tobytes()).decode(),
        "axes": [{"key": axis, "name": AXIS_NAMES[axis]} for axis in axes],
        "curves": {axis: [[_number(x) for x in point] for point in timeline.curve(axis)] for axis in axes},
        "silence": timeline.silence(),
        "windows": [_window(item) for item in timeline.windows],
        "warnings": [
            {"name": name, "meaning": WARNINGS.get(name, ""), "segments": segments} for name, segments in found.items()
        ],
        "bases": BASES,
        "model": None if first.provenance is None else vars(first.provenance),
    }


def _window(item: Scores) -> dict[str, Any]:
    return {
        "start": round(item.start_time, 3),
        "end": round(item.end_time, 3),
        "domain": item.domain,
        "warnings": list(item.warnings),
        **{axis: _number(item[axis]) for axis in SHOWN},
        **{f"{axis}_std": _number(getattr(item, f"{axis}_std")) for axis in SHOWN},
        **{f"{axis}_basis": getattr(item, f"{axis}_basis") for axis in SHOWN},
    }


def _source(path: str | None, folder: Path, root: str | os.PathLike[str]) -> str | None:
    """The audio inside the page if its file is small, else a relative link; None if the file is not here."""
    (file,) = find_files([Scores(path=path)], root)
    if file is None:
        return None
    return data_address(file) if os.path.getsize(file) <= EMBED_BYTES else link(file, folder)


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
