"""Tables of figures as text."""

from __future__ import annotations

import math

import pytest

from mmmos.evaluation.agreement import Agreement, Comparison
from mmmos.evaluation.leaderboard import Rank
from mmmos.evaluation.published import Published
from mmmos.evaluation.track2 import Result
from mmmos.report.text import (
    agreement_table,
    comparison_table,
    leaderboard_tables,
    printable,
    table_markdown,
    table_text,
)


def test_printable_leaves_good_names_alone():
    for name in ("a b.wav", "ünïcödé ☃ 🎵.wav", r"back\slash.wav", ""):
        assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [("\x1b[31mred", r"\x1b[31mred"), ("a\tb\r", r"a\tb\r"), ("\u2028", r"\u2028"), ("\udce9", r"\udce9")],
)
def test_printable_spells_out_what_would_move_the_cursor(name, shown):
    assert printable(name) == shown


def agreement(**values: object) -> Agreement:
    numbers = {"n": 120, "MSE": 0.5, "LCC": 0.91, "SRCC": 0.89, "KTAU": 0.7, "bias": -0.25, "debiased_mse": 0.4}
    interval = {"SRCC_low": 0.8, "SRCC_high": 0.95}
    return Agreement(**{"axis": "PQ", "part": "all", "level": "utterance"} | numbers | interval | values)


def test_agreement_is_a_line_an_axis_and_part():
    head, line, system = agreement_table([agreement(), agreement(level="system", n=7, KTAU=math.nan)]).split("\n")
    assert head.split() == ["axis", "part", "level", "n", "MSE", "bias", "debiased", "LCC", "SRCC", "95", "%", "KTAU"]
    assert line.split(maxsplit=4) == [
        "PQ",
        "all",
        "utterance",
        "120",
        "0.500  -0.25     0.400  0.910  0.890  [0.80, 0.95]    0.700",
    ]
    assert system.split()[-1] == "-"
    assert len(head) == len(line) == len(system) < 100


def test_parts_are_separated_and_long_names_keep_columns():
    found = [agreement(), agreement(part="a domain with a long name"), agreement(part="a domain with a long name")]
    head, first, gap, second, third = agreement_table(found).split("\n")
    assert gap == ""
    assert second == third
    assert "a domain …" in second
    assert len(head) == len(first) == len(second)


def comparison(**values: object) -> Comparison:
    numbers = {"n": 3060, "first": 0.9, "second": 0.8, "difference": 0.1, "low": -0.05, "high": 0.15, "better": 0.975}
    return Comparison(**{"axis": "composite", "part": "all", "level": "utterance", "metric": "SRCC"} | numbers | values)


def test_a_comparison_names_its_place_once():
    nothing = dict.fromkeys(("first", "second", "difference", "low", "high", "better"), math.nan)
    table = comparison_table([comparison(), comparison(metric="debiased_mse", **nothing), comparison(axis="PQ")])
    head, line, other, third = table.split("\n")
    assert line.split() == [
        *("composite", "all", "utterance", "3060", "SRCC", "0.900", "0.800", "0.100", "[-0.050,", "0.150]", "97.5%"),
    ]
    assert other.split() == ["debiased_mse", *"-----"]
    assert third.startswith("PQ ")
    assert len(head) == len(line) == len(other) == len(third) < 100


def result(axis: str, level: str, **figures: float) -> Result:
    ceiling = {"MSE": 0.2, "LCC": 0.95, "SRCC": 0.9, "KTAU": 0.8}
    return Result(axis, level, 5, {"MSE": 0.4, "LCC": 0.9, "SRCC": 0.45, "KTAU": 0.4} | figures, ceiling)


def test_standings_are_a_grid_of_ceilings_and_one_of_ranks():
    results = [result("PC", level, KTAU=math.nan) for level in ("utterance", "system")]
    rows = [Published("a|b", "PC", "utterance", {"MSE": 0.3}), Published("a|b", "PC", "system", {})]
    limits = {("PC", "utterance", "MSE"): (0.35, 0.45)}
    grids = leaderboard_tables(results, rows, [Rank("PC", "utterance", "MSE", 2, 2)], limits)
    (title, own), (ranks, others) = grids.items()
    four = ["0.400", "0.900", "0.450", "-"]
    assert [(name.strip(), [cell.strip() for cell in cells]) for name, cells in own] == [
        ("PC", four * 2),
        ("95 %: from", ["0.350", *"-------"]),
        ("to", ["0.450", *"-------"]),
        ("ceiling", ["0.200", "0.950", "0.900", "0.800"] * 2),
        ("reached", ["50.0%", "94.7%", "50.0%", "-"] * 2),
    ]
    assert [(name.strip(), [cell.strip() for cell in cells]) for name, cells in others] == [
        ("a|b", ["0.300", *"-------"]),
        ("this model", four * 2),
        ("rank", ["2 of 2", *"-------"]),
    ]
    assert ranks.startswith("PC ")
    text = table_text(title, own).split("\n")
    assert text[0] == title
    assert {len(line) for line in text[3:]} == {len(text[2])}
    assert len(text[2]) < 100
    assert text[2].index("LCC") + 3 == text[3].index("0.900") + 5
    markdown = table_markdown(ranks, others).split("\n")
    assert markdown[2].count("|") == markdown[3].count("|") == markdown[5].count("|") == 10
    assert markdown[4].startswith("| a\\|b | 0.300 | - |")
