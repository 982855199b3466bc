"""Result tables as Markdown, CSV and a page of HTML.

Numbers are to three decimals without the zero before the point, as the paper prints them.
"""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mmmos.experiments.results import (
    AXIS_TITLES,
    COUNTED,
    NEAR_CONSTANT,
    Asked,
    Entry,
    Group,
    Result,
    Table,
    every_table,
)
from mmmos.experiments.summary import Roles, markdown, summary
from mmmos.paper import CONFIGURATIONS, ENSEMBLES

FLAT = "†"
"""Marks a row whose error is about that of a constant, or more."""

_FLAT = (
    f"{FLAT}: the MSE of a run is not {NEAR_CONSTANT:.0%} below that of the mean label of the set, so it did "
    "not converge, or is off by a constant (see bias)."
)
_WORDS = (
    "Arrows say which way is better. Bias is the mean of prediction less label. Failed: no run came to an end. "
    f"Undefined: a run gave everything the same score. {_FLAT}"
)

LEGEND = (
    "Mean over runs with other seeds ± sample standard deviation; in parentheses what the paper prints, of one run. "
    f"**Bold**: best of its column; <u>underlined</u>: second. {_WORDS} Debiased MSE is the error without the bias."
)
"""How to read the page of HTML, as Markdown."""

NARROW_LEGEND = (
    "Means over runs with other seeds, SRCC ± its sample standard deviation. **Bold**: best of its column; *italic*: "
    f"second. {_WORDS} `tables.csv` and `tables.html` have every axis, metric and deviation."
)
"""How to read the Markdown tables."""

PAPER_LEGEND = " Lines *paper* are what the paper prints, of one run."
"""How to read its numbers, where there are any."""


def paper_tables(
    results: Sequence[Result],
    note: str,
    asked: Asked | None = None,
    paper: bool = True,
    roles: Roles | None = None,
) -> dict[str, str]:
    """Every table in three formats: the names of the files and their text.

    `note` is plain text for the reader: which weights and data the results are of. `paper` says whether the paper's
    numbers are of the same encoders and data, `roles` which of the paper's rows a row has the place of.
    """
    tables = every_table(results, asked, paper=paper)
    return {
        "tables.md": to_markdown(tables, note, summary(results, asked, roles)),
        "tables.csv": to_csv(tables),
        "tables.html": to_html(tables, note),
    }


def write_tables(
    results: Sequence[Result],
    folder: Path,
    note: str,
    asked: Asked | None = None,
    paper: bool = True,
    roles: Roles | None = None,
) -> None:
    """Write `paper_tables` into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in paper_tables(results, note, asked, paper, roles).items():
        (folder / name).write_text(text, encoding="utf-8")


def to_markdown(tables: Sequence[Table], note: str, page: Sequence[str] = ()) -> str:
    """The summary `page`, then narrow tables: of each set the composite's metrics, then SRCC and MSE by axis."""
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


def _set_blocks(tables: Sequence[Table], place: tuple[str, str]) -> list[str]:
    """One set's narrow tables: the composite, or the first axis with numbers; then all axes by SRCC and by MSE."""
    of_set = [table for table in tables if place in {(group.set, group.level) for group in table.groups}]
    first = next((table for table in of_set if _is_defined(table, place)), of_set[0])
    (group,) = [group for group in first.groups if (group.set, group.level) == place]
    metrics = [metric for metric in ("SRCC", "LCC", "KTAU", "MSE", "bias") if metric in group.metrics]
    columns = [_column(first, place, metric) for metric in metrics]
    title = f"{_label(group)}, {_size(group)}"
    parts = [f"**{markdown(title)}: {AXIS_TITLES[first.axis]}**", _narrow(first, [_name(m) for m in metrics], columns)]
    for metric in ("SRCC", "MSE") if len(of_set) > 1 else ():
        names = [table.axis.replace("_", " ") for table in of_set]
        parts.append(f"**{markdown(title)}: {_name(metric)} by axis**")
        parts.append(_narrow(first, names, [_column(table, place, metric) for table in of_set], whole=False))
    return parts


def _is_defined(table: Table, place: tuple[str, str]) -> bool:
    """Whether a set has a number of this axis: without a rated axis there is no composite."""
    return any(entry.status == "ok" for entry, _ in _column(table, place, "MSE"))


def _column(table: Table, place: tuple[str, str], metric: str) -> list[tuple[Entry, str]]:
    """A column's entries, row by row, with their metric."""
    at = [(group.set, group.level, name) for group, name in table.columns].index((*place, metric))
    return [(entries[at], metric) for _, entries in table.rows]


def _narrow(table: Table, heads: Sequence[str], columns: Sequence[list[tuple[Entry, str]]], whole: bool = True) -> str:
    """One narrow table; the `whole` one of a set has deviations, marked rows and the paper's numbers, others cells."""
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
    for (name, _), *row in zip(table.rows, *columns, strict=True):
        flat = f" {FLAT}" if whole and not all(entry.converged for entry, _ in row) else ""
        cells = [_markdown_cell(entry, metric, whole) for entry, metric in row]
        lines.append(f"| {markdown(_row_name(table, name))}{flat} | {' | '.join(cells)} |")
        papers = ["" if entry.paper is None else _number(entry.paper) for entry, _ in row]
        if whole and any(papers):
            lines.append(f"| *paper* | {' | '.join(papers)} |")
    return "\n".join(lines)


def to_csv(tables: Sequence[Table]) -> str:
    """One line a cell, in full precision; empty where there is no number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
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
    writer.writerow(head)
    for table in tables:
        for name, entries in table.rows:
            for entry, (group, metric) in zip(entries, table.columns, strict=True):
                place = (table.name, table.axis, name, group.set, group.level, metric)
                mean, std = (None if math.isnan(x) else x for x in (entry.mean, entry.std))
                flat = "" if entry.status == "failed" else "yes" if entry.converged else "no"
                writer.writerow((*place, mean, std, entry.runs, entry.paper, entry.status, entry.rank or None, flat))
    return out.getvalue()


def to_html(tables: Sequence[Table], note: str) -> str:
    """A page that needs nothing else; tables beyond the first of a name are folded."""
    parts = []
    for i, table in enumerate(tables):
        info = f"<p class=quiet>{escape(_sizes(table))}</p>"
        body = f"{info}<div class=scroll>{_html_table(table)}</div>"
        part = escape(table.part)
        if not i or tables[i - 1].name != table.name:
            parts.append(f"<h2>{escape(table.title)} <span>{part}</span></h2>{body}")
        else:
            parts.append(f"<details><summary>{part}</summary>{body}</details>")
    return _PAGE.format(
        style=_STYLE, note=escape(note), legend=LEGEND.replace("**Bold**", "<b>Bold</b>"), tables="\n".join(parts)
    )


def _html_table(table: Table) -> str:
    groups = "".join(
        f"<th class=start colspan={len(group.metrics)} scope=colgroup>{escape(_label(group))}</th>"
        for group in table.groups
    )
    starts = [metric == group.metrics[0] for group, metric in table.columns]
    heads = "".join(
        f"<th scope=col{' class=start' if start else ''}>{_name(metric)}</th>"
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
        lines.append(f"<tr{block}><th scope=row>{escape(_row_name(table, name))}{flat}</th>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _html_cell(entry: Entry, metric: str, start: bool) -> str:
    kinds = ("start" if start else "", "best" if entry.rank == 1 else "", entry.status)
    mark = {1: "b", 2: "u"}.get(entry.rank, "span")
    text = f"<{mark}>{_mean(entry, metric)}</{mark}>"
    text += f" <span class=sd>± {_number(entry.std)}</span>" if not math.isnan(entry.std) else ""
    text += f"<small>{_few(entry)}</small>" if _few(entry) else ""
    text += f"<small>({_number(entry.paper)})</small>" if entry.paper is not None else ""
    return f'<td class="{" ".join(filter(None, kinds))}">{text}</td>'


def _markdown_cell(entry: Entry, metric: str, whole: bool) -> str:
    mean = _mean(entry, metric)
    text = {1: f"**{mean}**", 2: f"*{mean}*"}.get(entry.rank, mean)
    if not whole:
        return text if entry.converged else f"{text} {FLAT}"
    text += f" ± {_number(entry.std)}" if metric == "SRCC" and not math.isnan(entry.std) else ""
    return text + (f", {_few(entry)}" if metric == "SRCC" and _few(entry) else "")


def _mean(entry: Entry, metric: str) -> str:
    if entry.status != "ok":
        return entry.status
    sign = "+" if metric == "bias" and round(entry.mean, 3) > 0 else ""
    return sign + _number(entry.mean)


def _few(entry: Entry) -> str:
    """Said of a row that has fewer runs than another."""
    return f"{entry.runs} of {entry.of} runs" if 0 < entry.runs < entry.of else ""


def _number(value: float) -> str:
    r"""Three decimals without the zero before the point.

    >>> _number(0.3384), _number(-1.2), _number(-0.0001)
    ('.338', '\u22121.200', '.000')
    """
    text = f"{abs(value):.3f}".removeprefix("0")
    return f"\u2212{text}" if round(value, 3) < 0 else text


def _name(metric: str) -> str:
    return metric.replace("debiased_MSE", "debiased MSE") + (
        "" if metric == "bias" else " ↓" if "MSE" in metric else " ↑"
    )


def _row_name(table: Table, name: str) -> str:
    return ENSEMBLES.get(name, name) if table.name == "IV" else name


def _label(group: Group) -> str:
    return group.set if group.level == "utterance" else f"{group.set} systems"


def _sizes(table: Table) -> str:
    """How many clips or systems each group is of."""
    if not table.groups:
        return "Every run failed."
    return "; ".join(f"{group.set}: {_size(group)}" for group in table.groups)


def _size(group: Group) -> str:
    low, high = group.n
    return f"{low if low == high else f'{low} to {high}'} {COUNTED[group.level]}"


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
