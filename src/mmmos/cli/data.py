"""`mmmos data`: what there is of the paper's corpora."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmmos.cli.help import Sections

if TYPE_CHECKING:
    from mmmos.data.corpora import CorpusStatus

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None, cls=Sections, help="List the corpora of the paper.")


@data.command()
def status(
    data_root: Annotated[
        Path | None, typer.Option("--data-root", help="Folder of the corpora; by default MMMOS_DATA.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Folder of the label files; by default DATA_ROOT/labels.")
    ] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="First fetch the label files that are missing.")] = False,
    probe: Annotated[bool, typer.Option("--probe", help="Open every clip; count those that no decoder reads.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON with every path, as into a pipe.")] = False,
) -> None:
    """List which label files and clips are here or missing.

    Also says where to get what is missing.
    """
    from mmmos.data.corpora import status as corpora_status
    from mmmos.data.label_files import LABEL_FILES, label_file

    folder = labels or (data_root and data_root / "labels")
    for name in LABEL_FILES if fetch else ():
        label_file(name, folder)
    root = str(data_root or os.environ.get("MMMOS_DATA") or "") or None
    found: dict[str, Any] = {"data_root": root, "labels": _label_files(folder)}
    corpora = corpora_status(data_root, labels, probe)
    if as_json or not sys.stdout.isatty():
        print(json.dumps(found | {"corpora": [_corpus(item) for item in corpora]}, allow_nan=False))
    else:
        print(f"data root: {root or 'none; --data-root or MMMOS_DATA names it'}\n")
        print(_table(found["labels"], corpora))


def _label_files(folder: Path | None) -> list[dict[str, Any]]:
    from mmmos.data.label_files import LABEL_FILES, find_label_file, is_published

    rows = []
    for name, known in LABEL_FILES.items():
        path = find_label_file(name, folder)
        row = {"name": name, "rows": known.rows, "path": path and str(path), "url": known.url}
        rows.append(row | {"as_published": None if path is None else is_published(name, path)})
    return rows


def _corpus(item: CorpusStatus) -> dict[str, Any]:
    from mmmos.data.sources import SOURCES

    info = SOURCES[item.source]
    row = {"source": item.source, "title": info.title, "expected": item.expected, "found": item.found}
    return row | {
        "missing": None if item.missing is None else list(item.missing),
        "unreadable": None if item.unreadable is None else list(item.unreadable),
        "home": info.home,
        "terms": info.terms,
    }


def _table(files: Sequence[dict[str, Any]], corpora: Sequence[CorpusStatus]) -> str:
    lines = [f"{'label file':<20}{'rows':>5}  where"]
    for file in files:
        remark = "" if file["as_published"] in (True, None) else " (not as published)"
        lines.append(f"{file['name']:<20}{file['rows']:>5}  {file['path'] or 'not here; --fetch gets it'}{remark}")
    lines += ["", f"{'corpus':<27}{'clips':>6}{'found':>7}{'missing':>9}{'unreadable':>12}"]
    for item in corpora:
        missing, unreadable = ("-" if paths is None else str(len(paths)) for paths in (item.missing, item.unreadable))
        found = "-" if item.found is None else str(item.found)
        lines.append(f"{item.source:<27}{item.expected:>6}{found:>7}{missing:>9}{unreadable:>12}")
    wanted = [_corpus(item) for item in corpora if item.missing != ()]
    if wanted:
        lines += ["", "What is missing, you get from:"]
    for row in wanted:
        lines.append(f"  {row['title']}: {row['home']}\n    {row['terms']}")
    return "\n".join(lines)
