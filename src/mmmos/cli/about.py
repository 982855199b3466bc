"""`mmmos doctor` and `mmmos licenses`: what this installation is and may be used for."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def doctor() -> None:
    """Check this installation and the bundled model's scores."""
    from mmmos.inference.doctor import examine

    healthy = True
    for check in examine():
        print(f"{'ok ' if check.ok else 'BAD'}  {check.name:<18} {check.finding}")
        healthy &= check.ok
    raise typer.Exit(0 if healthy else 3)


def licenses(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, as into a pipe.")] = False) -> None:
    """List the licences of all weights and their training data.

    Covers bundled and downloaded weights. Prints a table on a terminal, and JSON into a pipe.
    """
    from mmmos.hub.licenses import LICENSES

    if as_json or not sys.stdout.isatty():
        print(json.dumps([asdict(item) for item in LICENSES]))
        return
    license_table(Console(highlight=False, markup=False, emoji=False))


def license_table(console: Console) -> None:
    """Print the licences, each with its note below the table, and its source where that is narrow."""
    from mmmos.hub.licenses import LICENSES

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_lines=True, padding=(0, 2, 0, 0))
    wide = console.width >= 80
    for title in ("weights", "licence", "commercial use", *["source"] * wide):
        table.add_column(title, overflow="fold", no_wrap=title == "source")
    for item in LICENSES:
        table.add_row(item.name.partition(":")[0], item.license, item.commercial_use, *[item.source] * wide)
    console.print(table)
    for item in LICENSES:
        name, _, role = item.name.partition(": ")
        source = f" ({item.source})" * (not wide)  # words of a fourth column would be cut
        console.print(f"{name}{f' ({role})' * bool(role)}: {item.note}{source}")
