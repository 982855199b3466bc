"""Result tables as a self-contained HTML page whose columns can be sorted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from mmmos.experiments.cell_text import (
    FLAT,
    LEGEND,
    group_label,
    mean_text,
    metric_label,
    number_text,
    row_label,
    runs_text,
    sizes_text,
)
from mmmos.experiments.result_tables import Entry, ResultTable
from mmmos.paper import CONFIGURATIONS
from mmmos.report.page import page


def to_html(tables: Sequence[ResultTable], note: str) -> str:
    """A self-contained page; all tables of a name except the first are collapsed."""
    parts = []
    for i, table in enumerate(tables):
        info = f"<p class=quiet>{escape(sizes_text(table))}</p>"
        body = f"{info}<div class=scroll>{_html_table(table)}</div>"
        part = escape(table.part)
        if not i or tables[i - 1].name != table.name:
            parts.append(f"<h2>{escape(table.title)} <span>{part}</span></h2>{body}")
        else:
            parts.append(f"<details><summary>{part}</summary>{body}</details>")
    legend = LEGEND.replace("**Bold**", "<b>Bold</b>")
    head = f"<h1>Results</h1>\n<p class=note>{escape(note)}</p>\n<p class=quiet>{legend} Click a header to sort.</p>"
    body = "\n".join(["<main>", head, *parts, "</main>"])
    return page("Results", body, None, ["tables.css"], ["charts.js", "sort.js"])


def _html_table(table: ResultTable) -> str:
    groups = "".join(
        f"<th class=start colspan={len(group.metrics)} scope=colgroup>{escape(group_label(group))}</th>"
        for group in table.groups
    )
    starts = [metric == group.metrics[0] for group, metric in table.columns]
    heads = "".join(
        f"<th scope=col{' class=start' if start else ''} data-first={_first(metric)}>{metric_label(metric)}</th>"
        for start, (_, metric) in zip(starts, table.columns, strict=True)
    )
    lines = [f"<table class=sortable><thead><tr><th rowspan=2></th>{groups}</tr><tr>{heads}</tr></thead><tbody>"]
    for name, entries in table.rows:
        cells = (
            _html_cell(entry, metric, start)
            for entry, start, (_, metric) in zip(entries, starts, table.columns, strict=True)
        )
        block = " class=block" if name in CONFIGURATIONS[4::4] else ""
        flat = "" if all(entry.converged for entry in entries) else f" {FLAT}"
        lines.append(f"<tr{block}><th scope=row>{escape(row_label(table, name))}{flat}</th>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _html_cell(entry: Entry, metric: str, start: bool) -> str:
    kinds = ("start" if start else "", "best" if entry.rank == 1 else "", entry.status)
    mark = {1: "b", 2: "u"}.get(entry.rank, "span")
    text = f"<{mark}>{mean_text(entry, metric)}</{mark}>"
    text += f" <span class=sd>± {number_text(entry.std)}</span>" if not math.isnan(entry.std) else ""
    text += f"<small>{runs_text(entry)}</small>" if runs_text(entry) else ""
    text += f"<small>({number_text(entry.paper)})</small>" if entry.paper is not None else ""
    value = "" if math.isnan(entry.mean) else f"{entry.mean:.6f}"
    return f'<td class="{" ".join(filter(None, kinds))}" data-sort="{value}">{text}</td>'


def _first(metric: str) -> str:
    """The order in which the best value of a column comes first."""
    return "ascending" if "MSE" in metric else "descending"
