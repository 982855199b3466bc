"""Write result tables as Markdown, CSV, and HTML (`mmmos.experiments.html`)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from mmmos.experiments.cell_text import (
    FLAT,
    NARROW_LEGEND,
    PAPER_LEGEND,
    group_label,
    mean_text,
    metric_label,
    number_text,
    row_label,
    runs_text,
    size_text,
)
from mmmos.experiments.html import to_html
from mmmos.experiments.result_tables import Entry, RequestedRows, ResultTable, every_table
from mmmos.experiments.results import AXIS_TITLES, Result
from mmmos.experiments.summary import Roles, markdown, summary
from mmmos.io.delimited import csv_text


def paper_tables(
    results: Sequence[Result],
    note: str,
    requested: RequestedRows | None = None,
    paper: bool = True,
    roles: Roles | None = None,
) -> dict[str, str]:
    """Every table in three formats: file name -> text.

    `note` is plain text for the reader: the weights and data of the results. `paper` says whether the paper's numbers
    are for the same encoders and data, `roles` maps rows to the corresponding rows of the paper.
    """
    tables = every_table(results, requested, paper=paper)
    return {
        "tables.md": to_markdown(tables, note, summary(results, requested, roles)),
        "tables.csv": to_csv(tables),
        "tables.html": to_html(tables, note),
    }


def write_tables(
    results: Sequence[Result],
    folder: Path,
    note: str,
    requested: RequestedRows | None = None,
    paper: bool = True,
    roles: Roles | None = None,
) -> None:
    """Write `paper_tables` to a folder, which is created if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in paper_tables(results, note, requested, paper, roles).items():
        (folder / name).write_text(text, encoding="utf-8")


def to_markdown(tables: Sequence[ResultTable], note: str, page: Sequence[str] = ()) -> str:
    """The summary `page`, then narrow tables: for each set the composite's metrics, then SRCC and MSE by axis."""
    parts = ["# Results", textwrap.fill(markdown(note), 100), *page]
    papers = any(entry.paper is not None for table in tables for _, entries in table.rows for entry in entries)
    parts += ["## Tables", textwrap.fill(NARROW_LEGEND + (PAPER_LEGEND if papers else ""), 100)] if tables else []
    for name in dict.fromkeys(table.name for table in tables):
        of_name = [table for table in tables if table.name == name]
        parts.append(f"### {markdown(of_name[0].title)}")
        parts.append("" if of_name[0].groups else "Every run failed.")
        for group in dict.fromkeys((group.set, group.level) for table in of_name for group in table.groups):
            parts += _set_blocks(of_name, group)
    return "\n\n".join(part for part in parts if part) + "\n"


def _set_blocks(tables: Sequence[ResultTable], key: tuple[str, str]) -> list[str]:
    """The narrow tables of one set: the composite or the first defined axis, then all axes by SRCC and by MSE."""
    of_set = [table for table in tables if key in {(group.set, group.level) for group in table.groups}]
    first = next((table for table in of_set if _is_defined(table, key)), of_set[0])
    (group,) = [group for group in first.groups if (group.set, group.level) == key]
    metrics = [metric for metric in ("SRCC", "LCC", "KTAU", "MSE", "bias") if metric in group.metrics]
    columns = [_column(first, key, metric) for metric in metrics]
    title = f"{group_label(group)}, {size_text(group)}"
    parts = [
        f"**{markdown(title)}: {AXIS_TITLES[first.axis]}**",
        _narrow(first, [metric_label(m) for m in metrics], columns),
    ]
    for metric in ("SRCC", "MSE") if len(of_set) > 1 else ():
        names = [table.axis.replace("_", " ") for table in of_set]
        parts.append(f"**{markdown(title)}: {metric_label(metric)} by axis**")
        parts.append(_narrow(first, names, [_column(table, key, metric) for table in of_set], whole=False))
    return parts


def _is_defined(table: ResultTable, key: tuple[str, str]) -> bool:
    """Whether a set has a value on this axis: the composite is undefined if an axis was not rated."""
    return any(entry.status == "ok" for entry, _ in _column(table, key, "MSE"))


def _column(table: ResultTable, key: tuple[str, str], metric: str) -> list[tuple[Entry, str]]:
    """The entries of a column, each with its metric."""
    at = [(group.set, group.level, name) for group, name in table.columns].index((*key, metric))
    return [(entries[at], metric) for _, entries in table.rows]


def _narrow(
    table: ResultTable, heads: Sequence[str], columns: Sequence[list[tuple[Entry, str]]], whole: bool = True
) -> str:
    """One narrow table; if `whole`, with standard deviations, row marks and the paper's numbers, else marked cells."""
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
    for (name, _), *row in zip(table.rows, *columns, strict=True):
        flat = f" {FLAT}" if whole and not all(entry.converged for entry, _ in row) else ""
        cells = [_markdown_cell(entry, metric, whole) for entry, metric in row]
        lines.append(f"| {markdown(row_label(table, name))}{flat} | {' | '.join(cells)} |")
        papers = ["" if entry.paper is None else number_text(entry.paper) for entry, _ in row]
        if whole and any(papers):
            lines.append(f"| *paper* | {' | '.join(papers)} |")
    return "\n".join(lines)


def to_csv(tables: Sequence[ResultTable]) -> str:
    """One line per cell, in full precision; empty for a missing value."""
    head = (
        "table",
        "axis",
        "row",
        "set",
        "level",
        "metric",
        "mean",
        "std",
        "n_seeds",
        "paper",
        "status",
        "rank",
        "converged",
    )
    lines = []
    for table in tables:
        for name, entries in table.rows:
            for entry, (group, metric) in zip(entries, table.columns, strict=True):
                key = (table.name, table.axis, name, group.set, group.level, metric)
                mean, std = (None if math.isnan(x) else x for x in (entry.mean, entry.std))
                flat = "" if entry.status == "failed" else "yes" if entry.converged else "no"
                lines.append((*key, mean, std, entry.runs, entry.paper, entry.status, entry.rank or None, flat))
    return csv_text(head, lines)


def _markdown_cell(entry: Entry, metric: str, whole: bool) -> str:
    mean = mean_text(entry, metric)
    text = {1: f"**{mean}**", 2: f"*{mean}*"}.get(entry.rank, mean)
    if not whole:
        return text if entry.converged else f"{text} {FLAT}"
    text += f" ± {number_text(entry.std)}" if metric == "SRCC" and not math.isnan(entry.std) else ""
    return text + (f", {runs_text(entry)}" if metric == "SRCC" and runs_text(entry) else "")
