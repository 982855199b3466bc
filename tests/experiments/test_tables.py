"""Tables that render: Markdown and HTML by their parsers, CSV by its own, every name as it is."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from mmmos.experiments.html import to_html
from mmmos.experiments.result_tables import every_table
from mmmos.experiments.results import Result
from mmmos.experiments.tables import paper_tables, to_csv, to_markdown, write_tables
from mmmos.paper import CONFIGURATIONS, ENSEMBLES
from tests.browser import rendered

NOTE = "Encoders with random weights & <no> meaning."
AWKWARD = "a|b <script>*x*</script> & [c](d) `e` _f_ \\|\\ {g}"
VOID = {"meta"}


class Reader(HTMLParser):
    """Rows of cells' text, for every table; refuses tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.widths: list[list[int]] = []
        self.addresses: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
            self.widths.append([])
        elif tag == "tr":
            self.tables[-1].append([])
            self.widths[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.widths[-1][-1] += int(dict(attrs).get("colspan") or 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def result(row: str, seed: int, srcc: float, **options: object) -> Result:
    """A result on Dev for Table II; `options` are other fields of it."""
    plain = Result("II", row, seed, "Dev", "utterance", "composite", 234, 1 - srcc, srcc, srcc, srcc / 2, 0.1, 0.2)
    return replace(plain, **options)


SMALL = [
    result("WavLM", 1, 0.40),
    result("WavLM", 2, 0.44),
    result("M2D", 1, 0.8),
    result("MuQ", 1, 0.5, LCC=math.nan),
    result("MuQ", 2, 0.5, LCC=0.5),
]


def test_a_small_table_as_it_should_read() -> None:
    asked = {"II": ("WavLM", "MuQ", "M2D", "WavLM+MuQ+M2D")}
    text = to_markdown(every_table(SMALL, asked), "Made up.")
    assert text.startswith("# Results\n\nMade up.\n\n## Tables\n\nMeans over runs")
    assert text.split("### ")[1] == (
        "Table II: Which encoders (loss UT, aggregator MLP)\n\n"
        "**Dev, 234 clips: composite of the four axes**\n\n"
        "| | SRCC ↑ | LCC ↑ | KTAU ↑ | MSE ↓ |\n"
        "|---|--:|--:|--:|--:|\n"
        "| WavLM | .420 ± .028 | *.420* | .210 | .580 |\n"
        "| *paper* | .391 | .367 | .278 | .997 |\n"
        "| MuQ | *.500* ± .000 | undefined | *.250* | *.500* |\n"
        "| *paper* | .509 | .520 | .356 | .799 |\n"
        "| M2D | **.800**, 1 of 2 runs | **.800** | **.400** | **.200** |\n"
        "| *paper* | .842 | .826 | .669 | .355 |\n"
        "| WavLM+MuQ+M2D | failed | failed | failed | failed |\n"
        "| *paper* | .847 | .840 | .676 | .338 |\n"
    )
    assert "*paper*" in text.split("### ")[0]
    assert "*paper*" not in to_markdown(every_table(SMALL, asked, paper=False), "")


def test_a_row_near_a_constant_is_marked() -> None:
    """Marked: an MSE of at least 95 % of the constant's."""
    results = [
        result(row, seed, 0.5, table="Mine", MSE=mse, constant_MSE=1.0)
        for row, values in {"flat": (0.96, 0.5), "good": (0.94, 0.5), "off": (1.7, 1.8)}.items()
        for seed, mse in enumerate(values)
    ]
    results += [replace(one, axis="PQ", MSE=0.3) for one in results]
    text = paper_tables(results, NOTE)
    lines = text["tables.md"].split("composite of the four axes")[1].splitlines()
    assert [line.split(" |")[0] for line in lines[4:7]] == ["| flat †", "| good", "| off †"]
    rows = list(csv.DictReader(text["tables.csv"].splitlines()))
    assert {row["row"] for row in rows if row["converged"] == "no"} == {"flat", "off"}
    assert {row["axis"] for row in rows if row["converged"] == "no"} == {"composite"}
    assert "flat †" in text["tables.html"]
    assert "- Mine, flat: did not converge on composite (1 of 2 runs)\n" in text["tables.md"]
    assert "- Mine, off: did not converge on composite (2 of 2 runs)\n" in text["tables.md"]
    assert "Mine, good" not in text["tables.md"]


def full() -> list[Result]:
    """Three seeds of Tables III and IV with the paper's sets, an axis, and a set more; one row without runs."""
    rng = np.random.default_rng(0)
    places = [("Dev", "utterance"), ("PAM", "utterance"), ("Test", "system"), ("Test", "utterance")]
    return [
        result(row, seed, rng.random(), table=table, set=name, level=level, axis=axis, bias=rng.normal())
        for table, rows in (("III", CONFIGURATIONS[1:]), ("IV", tuple(ENSEMBLES)), ("Own", (AWKWARD, "b")))
        for row in rows
        for seed in (42, 43, 44)
        for name, level in places
        for axis in ("composite", "PQ")
    ]


@pytest.mark.slow
def test_markdown_renders_as_narrow_tables_of_equal_rows() -> None:
    text = paper_tables(full(), NOTE)["tables.md"]
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    found = Reader(html).tables
    for rows in found:
        assert len({len(row) for row in rows}) == 1
        assert len(rows[0]) <= 8
    assert max(len(line) for line in text.splitlines() if AWKWARD[:2] not in line.replace("\\", "")) <= 100
    named = [{row[0] for row in rows} for rows in found]
    assert sum(names >= set(CONFIGURATIONS) for names in named) == 4 * 3  # sets, and for each metrics, SRCC, MSE
    assert sum(AWKWARD in names for names in named) == 4 * 3
    assert text.index("## Summary") < text.index("Where the paper's claims hold") < text.index("## Tables")
    assert text[: text.index("## Tables")].count("\n") < 60  # one page


def test_the_page_parses_and_shows_names_as_they_are() -> None:
    tables = every_table(full())
    html = to_html(tables, NOTE)
    found = Reader(html)
    assert len(found.tables) == len(tables)
    assert html.count("<table class=sortable>") == len(tables)
    assert "random weights &amp; &lt;no&gt; meaning" in html
    assert found.tables[-1][2][0] == AWKWARD
    assert [row[0] for row in found.tables[0][2:]] == list(CONFIGURATIONS)
    for table, rows, widths in zip(tables, found.tables, found.widths, strict=True):
        assert rows[0] == ["", *(group.set + (" systems" if group.level == "system" else "") for group in table.groups)]
        assert widths == [len(table.columns) + 1, len(table.columns), *[len(table.columns) + 1] * len(table.rows)]
        assert all(all(row[1:]) for row in rows)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    html = to_html(every_table(full()), NOTE)
    assert not Reader(html).addresses
    assert not any(word in html for word in ("https:", "url(", "@import"))
    assert set(re.findall(r"http:[^\"]*", html)) == {"http://www.w3.org/2000/svg"}  # a namespace


@pytest.mark.slow
def test_the_page_sorts_its_tables(tmp_path: Path) -> None:
    (tmp_path / "tables.html").write_text(to_html(every_table(full()), NOTE))
    text, console = rendered(tmp_path / "tables.html", tmp_path / "browser")
    assert console == []
    columns = sum(len(table.columns) for table in every_table(full()))
    assert text.count('title="Sort by this column"') == columns


def test_where_no_composite_is_defined_the_first_axis_leads() -> None:
    nothing = dict.fromkeys(("MSE", "LCC", "SRCC", "KTAU", "bias", "debiased_MSE"), math.nan)
    results = [result("a", 1, 0.5, table="Own", **nothing), result("a", 1, 0.5, table="Own", axis="PC")]
    text = paper_tables(results, NOTE)["tables.md"]
    assert "**Dev, 234 clips: Production Complexity**" in text
    assert "| a | undefined | **.500** |" in text


@pytest.mark.slow
def test_what_never_ran_reads_failed() -> None:
    text = paper_tables(full(), NOTE)
    first = CONFIGURATIONS[0]
    lines = [line for line in text["tables.md"].splitlines() if line.startswith(f"| {first} |")]
    assert [line.count("failed") for line in lines[:3]] == [4, 2, 2]
    assert f"- failed: III {first}" in paper_tables(full(), NOTE, {"III": CONFIGURATIONS})["tables.md"]
    rows = [row for row in csv.DictReader(text["tables.csv"].splitlines()) if row["row"] == first]
    assert {(row["status"], row["mean"], row["n_seeds"]) for row in rows} == {("failed", "", "0")}
    assert all(cell.startswith("failed") for cell in Reader(text["tables.html"]).tables[0][2][1:])


@pytest.mark.slow
def test_csv_has_a_line_for_each_cell_in_full_precision() -> None:
    results = full()
    tables = every_table(results)
    rows = list(csv.DictReader(to_csv(tables).splitlines()))
    assert len(rows) == sum(len(table.rows) * len(table.columns) for table in tables)
    places = [tuple(row[name] for name in ("table", "axis", "row", "set", "level", "metric")) for row in rows]
    assert len(set(places)) == len(places)
    for row in rows:
        of = [
            getattr(item, row["metric"])
            for item in results
            if all(getattr(item, name) == row[name] for name in ("table", "axis", "row", "set", "level"))
        ]
        if of and row["table"] == "IV":
            assert float(row["mean"]) == np.mean(of)
            assert float(row["std"]) == np.std(of, ddof=1)


def test_strategies_have_the_papers_names_in_tables() -> None:
    text = paper_tables(full(), NOTE)
    assert "| Dev top 8 | " in text["tables.md"]
    assert "dev_top_8" not in text["tables.md"]
    assert "IV,composite,dev_top_8,PAM,utterance,MSE," in text["tables.csv"]


def test_a_bias_has_its_sign() -> None:
    results = [result(row, 1, 0.5, set="Test", bias=bias, table="Own") for row, bias in (("a", 0.25), ("b", -0.5))]
    text = to_markdown(every_table(results), NOTE)
    assert "**+.250**" in text
    assert "*\u2212.500*" in text


def test_files_are_written(tmp_path: Path) -> None:
    write_tables(SMALL, tmp_path / "new" / "folder", NOTE)
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new" / "folder").iterdir()}
    assert written == paper_tables(SMALL, NOTE)


def test_no_results_make_no_table() -> None:
    text = paper_tables([], NOTE)
    assert "|--" not in text["tables.md"]
    assert "All runs finished" in text["tables.md"]
    assert "<table" not in text["tables.html"]
    assert len(text["tables.csv"].splitlines()) == 1
