"""`mmmos report`: scores of one or several systems as one HTML file."""

from __future__ import annotations

import logging
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmmos.cli.options import OverwriteOption, StrictOption, check_output
from mmmos.io.bad_rows import BadRows
from mmmos.io.remote import is_url
from mmmos.wording import counted

if TYPE_CHECKING:
    from mmmos.report.systems import System

logger = logging.getLogger(__name__)


def report(
    results: Annotated[
        list[str],
        typer.Argument(help="Rows (.jsonl, .csv, .parquet) or folders of runs, each as PATH or NAME=PATH."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Write the page here: .html.")],
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "",
    split: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Compare rows with different values of this column.")
    ] = None,
    embed: Annotated[
        bool, typer.Option("--embed", help="Put the audio of the clips at the top of lists into the page.")
    ] = False,
    audio_root: Annotated[Path, typer.Option(metavar="DIR", help="Start of relative paths of the rows.")] = Path(),
    overwrite: OverwriteOption = False,
    strict: StrictOption = False,
) -> None:
    """Write scores as a page: distributions, clips, systems compared.

    Each result is a system; more than one are compared, clip by clip where they have the same clips. The page is one
    file that works offline. It links to the audio relative to its own folder, or holds it with --embed.
    """
    from mmmos.report.html import write_report
    from mmmos.report.page import check_page
    from mmmos.report.systems import named, split_by

    check_page(output)
    sources = named(results)
    check_output(output, [path for _, path in sources if not is_url(path)], overwrite)
    systems = [_read(name, path, strict) for name, path in sources]
    if split:
        systems = split_by(systems, split)
    rows = sum(len(system.rows) for system in systems)
    played = write_report(output, systems, title=title, root=audio_root, embedded=embed)
    logger.info("%s: %s, the audio of %d can be played", output, counted(rows, "row"), played)


def _read(name: str, path: str, strict: bool) -> System:
    """The rows of a file, or the finished ones of a run's folder."""
    from mmmos.evaluation.predictions import parse_rows, read_fields
    from mmmos.report.systems import System

    bad = BadRows(path, strict)
    if is_url(path) or os.path.isdir(path):
        from mmmos.bulk.finished import finished_rows
        from mmmos.bulk.stores import open_store

        store = open_store(path)
        rows = parse_rows(lambda _: finished_rows(store), path, bad)
    else:
        rows = parse_rows(partial(read_fields, Path(path)), path, bad)
    bad.report(len(rows))
    return System(name, rows)
