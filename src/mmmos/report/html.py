"""The report of one or several systems: a page that shows distributions, clips to listen to, and comparisons."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from mmmos.io.atomic import write_text
from mmmos.report.page import asset, page
from mmmos.report.players import embed, find_files, link
from mmmos.report.summary import report_data
from mmmos.report.systems import System
from mmmos.wording import counted

NAMED = 3
"""Most systems that the title of a page names."""


def write_report(
    path: Path,
    systems: Sequence[System],
    *,
    title: str = "",
    root: str | os.PathLike[str] = ".",
    embedded: bool = False,
) -> int:
    """Write the page atomically. Returns the number of rows whose audio can be played from it.

    Audio is linked relative to the page's folder; with `embedded`, that of the clips at the top of the lists is inside
    the page. Relative paths of rows start at `root`.
    """
    files = find_files((scores for system in systems for scores in system.scores), root)
    folder = path.resolve().parent
    inside = embed(systems, files) if embedded else {}
    links = {file: inside.get(file) or link(file, folder) for file in files if file is not None}
    sources = [None if file is None else links[file] for file in files]
    names = ", ".join(system.name for system in systems)
    title = title or f"Audio quality: {names if len(systems) <= NAMED else counted(len(systems), 'system')}"
    write_text(path, page(title, _body(title, systems), report_data(title, systems, sources), *_ASSETS))
    return sum(source is not None for source in sources)


_ASSETS = ("base.css", "report.css"), ("charts.js", "report.js", "clips.js", "selection.js")


def _body(title: str, systems: Sequence[System]) -> str:
    rows = counted(sum(len(system.rows) for system in systems), "row")
    of = f" of {counted(len(systems), 'system')}" if len(systems) > 1 else ""
    return Template(asset("report.html")).substitute(title=escape(title), summary=f"{rows}{of}")
