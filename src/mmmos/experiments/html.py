"""Result tables as a self-contained HTML page."""

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
    return _PAGE.format(
        style=_STYLE, note=escape(note), legend=LEGEND.replace("**Bold**", "<b>Bold</b>"), tables="\n".join(parts)
    )


def _html_table(table: ResultTable) -> str:
    groups = "".join(
        f"<th class=start colspan={len(group.metrics)} scope=colgroup>{escape(group_label(group))}</th>"
        for group in table.groups
    )
    starts = [metric == group.metrics[0] for group, metric in table.columns]
    heads = "".join(
        f"<th scope=col{' class=start' if start else ''}>{metric_label(metric)}</th>"
        for start, (_, metric) in zip(starts, table.columns, strict=True)
    )
    lines = [f"<table><thead><tr><th rowspan=2></th>{groups}</tr><tr>{heads}</tr></thead><tbody>"]
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
    return f'<td class="{" ".join(filter(None, kinds))}">{text}</td>'


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Results</title>
<style>{style}</style>
<main>
<h1>Results</h1>
<p class=note>{note}</p>
<p class=quiet>{legend}</p>
{tables}
</main>
</html>
"""


_STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfaf8; --panel: #fff; --head: #f3f1ed; --text: #1d1f23; --quiet: #6d7078; --line: #e2dfd9;
  --best: #0b6b50; --best-back: #e4f3ec; --wrong: #a6392b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131518; --panel: #191c20; --head: #22262b; --text: #e5e6e8; --quiet: #969ba4; --line: #30353b;
    --best: #6fd6ae; --best-back: #1b332b; --wrong: #ef8d7f;
  }
}
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1500px; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { margin: 0 0 .5rem; font-size: 1.6rem; }
h2 { margin: 2.4rem 0 .2rem; font-size: 1.15rem; font-weight: 600; }
h2 span { margin-left: .5rem; color: var(--quiet); font-size: .95rem; font-weight: 400; }
summary { margin-top: .5rem; cursor: pointer; font-size: .9rem; }
p { max-width: 85ch; margin: .3rem 0; }
.note { margin: .6rem 0; border-left: 3px solid var(--best); padding-left: .8rem; }
.quiet { color: var(--quiet); font-size: .85rem; }
.scroll {
  width: fit-content; max-width: 100%; max-height: 88vh; margin: .5rem 0 .8rem; overflow: auto;
  border: 1px solid var(--line); border-radius: 8px; background: var(--panel);
}
table { border-collapse: separate; border-spacing: 0; font-size: 12.5px; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .4rem; text-align: right; white-space: nowrap; vertical-align: top; }
tbody tr > * { border-top: 1px solid var(--line); }
tbody tr.block > * { border-top: 2px solid var(--line); }
.start { border-left: 1px solid var(--line); }
thead { position: sticky; top: 0; z-index: 2; }
thead th { background: var(--head); font-weight: 600; }
thead th[colspan] { text-align: left; }
thead tr + tr th { color: var(--quiet); font-weight: 500; white-space: normal; vertical-align: bottom; }
tbody th, thead th[rowspan] { position: sticky; left: 0; padding-left: .7rem; background: var(--panel); }
tbody th { text-align: left; font-weight: 500; }
thead th[rowspan] { background: var(--head); }
small { display: block; color: var(--quiet); font-size: 10.5px; line-height: 1.2; }
.sd { color: var(--quiet); font-size: 10.5px; }
.best { background: var(--best-back); }
.best b { color: var(--best); }
u { text-underline-offset: 3px; }
.failed span, .undefined span { color: var(--wrong); font-style: italic; }
"""
