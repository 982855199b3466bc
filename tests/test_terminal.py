"""What people read: one clip a line, in columns, whatever the clip is called."""

from __future__ import annotations

import io
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mmmos.bulk.engine import Counts
from mmmos.evaluate import Agreement, Comparison
from mmmos.leaderboard import Place, Published, Result
from mmmos.scores import ClipError, Scores
from mmmos.terminal import (
    agreement_table,
    comparison_table,
    counted,
    counts_line,
    grid_markdown,
    grid_text,
    printable,
    progress,
    score_table,
    stages,
    standing_grids,
)


def table(*scores: Scores, columns: int = 80) -> list[str]:
    out = io.StringIO()
    write = score_table(out, columns)
    for item in scores:
        write(item)
    return out.getvalue().removesuffix("\n").split("\n")


def test_scores_that_no_ratings_stand_behind_are_marked():
    scores = Scores(10, 2, 3, 4, id="a.wav", domain="speech", CE_basis="derived", CU_basis="human", warnings=("short",))
    _, line = table(scores)
    assert line.split() == ["a.wav", "4.00", "3.00", "~10.00", "2.00", "speech,", "short"]


def test_a_clip_is_a_line_under_its_head():
    scores = Scores(CE=1, CU=2.345, PC=10, PQ=4, id="a.wav", warnings=("clipped", "short"))
    head, line = table(scores)
    assert head.split() == ["clip", "PQ", "PC", "CE", "CU", "notes"]
    assert line.split() == ["a.wav", "4.00", "10.00", "1.00", "2.35", "clipped,", "short"]
    for axis, cell in [("PQ", "4.00"), ("PC", "10.00"), ("CE", "1.00"), ("CU", "2.35")]:
        assert head.index(axis) + len(axis) == line.index(cell) + len(cell)


def test_a_clip_without_scores_has_dashes_and_a_reason():
    _, silent, failed = table(
        Scores(id="a.wav", warnings=("silent",)),
        Scores(id="b.wav", error=ClipError("not_found", "no such file: b.wav")),
    )
    assert silent.split() == ["a.wav", "-", "-", "-", "-", "silent"]
    assert failed.split(maxsplit=5) == ["b.wav", "-", "-", "-", "-", "not_found: no such file: b.wav"]


def test_a_stretch_is_named_by_its_times():
    _, whole, stretch, failed = table(
        Scores(id="a.wav", end_time=30.0),
        Scores(id="a.wav", start_time=10.0, end_time=20.4),
        Scores(id="a.wav", start_time=10.0, error=ClipError("segment_out_of_range", "the clip ends at 3 s")),
    )
    assert whole.split()[:2] == ["a.wav", "-"]
    assert stretch.startswith("a.wav 10-20 s ")
    assert failed.startswith("a.wav 10- s ")


@settings(deadline=None, max_examples=100)
@given(st.text() | st.binary().map(os.fsdecode), st.integers(0, 200), st.booleans())
def test_every_clip_is_one_line_whose_cells_are_aligned(name, columns, part):
    scores = Scores(CE=1, CU=1, PC=1, PQ=1, id=name, start_time=100.0 * part, end_time=110.0)
    head, line = table(scores, columns=columns)
    assert line.isprintable()
    assert line.endswith("   1.00" * 4)
    assert len(line) == head.index("  notes")
    line.encode()


def test_a_long_name_keeps_its_end_and_the_stretch():
    _, line = table(Scores(id="folder/" * 20 + "name.wav", start_time=10, end_time=20), columns=80)
    name = line.split("      -")[0]
    assert len(name) == 80 - 52
    assert name.startswith("…")
    assert name.endswith("name.wav 10-20 s")


def test_a_message_with_a_name_in_it_stays_on_its_line():
    name = os.fsdecode(b"a\nb\xff.wav")
    _, line = table(Scores(id=name, error=ClipError("not_found", f"no such file: {name}")))
    assert line.endswith(r"no such file: a\nb\udcff.wav")


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


def test_a_gap_stands_between_parts_and_a_long_name_keeps_its_column():
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


def test_standings_are_a_grid_of_ceilings_and_one_of_places():
    results = [result("PC", level, KTAU=math.nan) for level in ("utterance", "system")]
    unknown = dict.fromkeys(("MSE", "LCC", "SRCC", "KTAU"))
    rows = [Published("a|b", "PC", "utterance", unknown | {"MSE": 0.3}), Published("a|b", "PC", "system", unknown)]
    grids = standing_grids(results, rows, [Place("PC", "utterance", "MSE", 2, 2, 0)])
    (title, own), (beside, others) = grids.items()
    four = ["0.400", "0.900", "0.450", "-"]
    assert [(name.strip(), [cell.strip() for cell in cells]) for name, cells in own] == [
        ("PC", four * 2),
        ("ceiling", ["0.200", "0.950", "0.900", "0.800"] * 2),
        ("reached", ["50.0%", "94.7%", "50.0%", "-"] * 2),
    ]
    assert [(name.strip(), [cell.strip() for cell in cells]) for name, cells in others] == [
        ("a|b", ["0.300", *"-------"]),
        ("this model", four * 2),
        ("place", ["2 of 2", *"-------"]),
    ]
    assert beside.startswith("PC ")
    text = grid_text(title, own).split("\n")
    assert text[0] == title
    assert {len(line) for line in text[3:]} == {len(text[2])}
    assert len(text[2]) < 100
    assert text[2].index("LCC") + 3 == text[3].index("0.900") + 5
    markdown = grid_markdown(beside, others).split("\n")
    assert markdown[2].count("|") == markdown[3].count("|") == markdown[5].count("|") == 10
    assert markdown[4].startswith("| a\\|b | 0.300 | - |")


def test_progress_moves_a_bar_on_a_terminal():
    out = io.StringIO()
    with progress(Console(file=out, force_terminal=True, width=100), "scoring", 5) as advance:
        advance(3)
    assert "scoring" in out.getvalue()
    assert "3/5" in out.getvalue()


def test_progress_is_silent_elsewhere():
    out = io.StringIO()
    with progress(Console(file=out, force_terminal=False), "scoring", 5) as advance:
        advance(3)
    assert out.getvalue() == ""


COUNTS = Counts(12, 1000, 12_000, 1_000_000, 11_990, 10, 0, 12_000, 800.0, 0)


def test_a_run_in_shards_has_a_bar_on_a_terminal():
    out = io.StringIO()
    with counted(Console(file=out, force_terminal=True, width=120), "scoring") as tell:
        tell(COUNTS)
    assert counts_line(COUNTS) in out.getvalue()


def test_a_run_in_shards_has_a_line_now_and_then_elsewhere(monkeypatch):
    out = io.StringIO()
    with counted(Console(file=out, force_terminal=False, width=200), "scoring") as tell:
        tell(COUNTS)
        assert out.getvalue() == ""
        monkeypatch.setattr("mmmos.terminal.LINE_SECONDS", 0.0)
        tell(COUNTS)
    assert out.getvalue() == f"mmmos: scoring: {counts_line(COUNTS)}\n"


def test_the_line_of_a_run_says_how_long_it_takes():
    assert counts_line(COUNTS) == (
        "12/1000 shards, 12000/1000000 clips, 11990 ok, 10 errors, 15.0 clips/s, 18:18 h left"
    )
    assert counts_line(Counts(0, 4, 0, 40, 0, 0, 0, 0, 0.0, 0)) == "0/4 shards, 0/40 clips, 0 ok, 0 errors"
    assert "left" not in counts_line(Counts(4, 4, 40, 40, 40, 0, 0, 40, 4.0, 0))


def test_each_stage_of_the_work_has_a_bar_on_a_terminal():
    out = io.StringIO()
    with stages(Console(file=out, force_terminal=True, width=120)) as show:
        show("encoding", 1, 4)
        show("encoding", 4, 4)
        show("encoding", 0, 8)  # of the next set
        show("training", 2.5, 10.0)
    for shown in ("encoding", "training", " 25%", "time left"):
        assert shown in out.getvalue()


def test_stages_are_silent_elsewhere():
    out = io.StringIO()
    with stages(Console(file=out, force_terminal=False)) as show:
        show("encoding", 1, 4)
    assert out.getvalue() == ""
