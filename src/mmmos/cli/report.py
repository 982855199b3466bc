"""`mmmos report`: scores of one or several systems as one HTML file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from mmmos.cli.options import OverwriteOption, StrictOption, check_output
from mmmos.io.remote import is_url
from mmmos.wording import counted

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
    from mmmos.bulk.results import read_systems
    from mmmos.report.html import write_report
    from mmmos.report.page import check_page
    from mmmos.report.systems import named

    check_page(output)
    check_output(output, [path for _, path in named(results) if not is_url(path)], overwrite)
    systems = read_systems(results, split, strict)
    rows = sum(len(system.rows) for system in systems)
    played = write_report(output, systems, title=title, root=audio_root, embedded=embed)
    logger.info("%s: %s, the audio of %s can be played", output, counted(rows, "row"), f"{played:,}")
