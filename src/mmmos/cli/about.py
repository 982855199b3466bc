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

from mmmos.cli.options import AcceptOption, TrustOption
from mmmos.errors import UsageError
from mmmos.hub.options import LoadOptions


def doctor(
    clips: Annotated[list[str] | None, typer.Argument(help="With --precision: clips to compare scores on.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Check bfloat16 and int8 on OpenVINO for a model: what they do to scores."),
    ] = None,
    trust_checkpoint: TrustOption = False,
    accept_license: AcceptOption = [],  # noqa: B006, typer makes a new list each time
) -> None:
    """Check this installation and the bundled model's scores.

    With --precision MODEL, it converts its encoders, quantises them on every second clip, and compares scores of
    all clips with those in float32. The model may then be used with --backend openvino in each precision that passed:
    SRCC to float32 of at least .99 and a mean change of at most .05 points on each axis. 20 clips are enough, 50 are
    better; fewer are cut into pieces of 2 s.
    """
    from mmmos.inference.doctor import examine, examine_precisions

    if (precision is None) != (not clips):
        raise UsageError("mmmos doctor --precision MODEL CLIPS checks precisions; it needs both")
    if precision is None:
        checks = examine()
    else:
        from mmmos.data.inputs import expand

        options = LoadOptions("cpu", "float32", trust_checkpoint, tuple(accept_license))
        checks = examine_precisions(precision, list(expand(clips or [])), options)
    healthy = True
    for check in checks:
        print(f"{'ok ' if check.ok else 'BAD'}  {check.name:<20} {check.finding}")
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
