"""The table of scores: one clip a line, in columns, whatever the clip is called and however wide the terminal is."""

from __future__ import annotations

import io
import os
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from mmmos.cli.score_table import MARK, score_table, shortened
from mmmos.scores import ClipError, Scores


def table(*scores: Scores, columns: int = 80, segments: bool = False, **options: Any) -> list[str]:
    label_range = options.pop("label_range", (0.0, 10.0))
    out = io.StringIO()
    console = Console(file=out, width=columns, highlight=False, markup=False, emoji=False, **options)
    with score_table(console, [item.id for item in scores], label_range, segments) as write:
        for item in scores:
            write(item)
    return out.getvalue().removesuffix("\n").split("\n")


def test_scores_without_ratings_are_marked_and_explained():
    scores = Scores(10, 2, 3, 4, id="a.wav", domain="speech", CE_basis="derived", CU_basis="human", warnings=("short",))
    _, line, mark = table(scores)
    assert line.split() == ["a.wav", "4.00", "3.00", "~10.00", "2.00", "speech,", "short"]
    assert mark == MARK


def test_a_mark_that_does_not_occur_is_not_explained():
    silent = Scores(id="b.wav", CE_basis="derived", warnings=("silent",))
    assert len(table(Scores(1, 2, 3, 4, id="a.wav", CE_basis="human"), silent)) == 3


def test_a_clip_is_a_line_under_its_head():
    scores = Scores(CE=1, CU=2.345, PC=10, PQ=4, id="a.wav", warnings=("clipped", "short"))
    head, line = table(scores)
    assert head.split() == ["clip", "(scores", "0-10)", "PQ", "PC", "CE", "CU", "notes"]
    assert line.split() == ["a.wav", "4.00", "10.00", "1.00", "2.35", "clipped,", "short"]
    for axis, cell in [("PQ", "4.00"), ("PC", "10.00"), ("CE", "1.00"), ("CU", "2.35")]:
        assert head.index(axis) + len(axis) == line.index(cell) + len(cell)


@pytest.mark.parametrize("columns", [40, 80])
def test_the_head_names_the_scale(columns):
    head, _ = table(Scores(1, 2, 3, 4, id="a.wav"), label_range=(1.0, 5.0), columns=columns)
    assert head.startswith("clip (")
    assert "1-5)" in head


def test_short_names_leave_no_gap_on_a_wide_terminal():
    head, line = table(Scores(1, 2, 3, 4, id="a.wav"), columns=120)
    assert head.index("PQ") == len("clip (scores 0-10)") + 5
    assert line.index("4.00") < 30


def test_row_without_scores_has_dashes_or_its_error():
    _, silent, failed = table(
        Scores(id="a.wav", warnings=("silent",)),
        Scores(id="b.wav", error=ClipError("not_found", "no such file: b.wav")),
    )
    assert silent.split() == ["a.wav", "-", "-", "-", "-", "silent"]
    assert failed.split(maxsplit=1) == ["b.wav", "not_found: no such file: b.wav"]


def test_a_segment_is_named_by_its_times():
    _, whole, segment, failed = table(
        Scores(id="a.wav", end_time=30.0),
        Scores(id="a.wav", start_time=10.0, end_time=20.4),
        Scores(id="a.wav", start_time=10.0, error=ClipError("segment_out_of_range", "the clip ends at 3 s")),
        segments=True,
    )
    assert whole.split()[:2] == ["a.wav", "-"]
    assert segment.startswith("a.wav 10-20 s ")
    assert failed.startswith("a.wav 10- s ")


NAMES = st.text() | st.binary().map(os.fsdecode) | st.text("日本語🎵é/e\u0301", min_size=1, max_size=80)


@pytest.mark.slow
@given(NAMES, NAMES, st.sampled_from([40, 60, 80, 120]), st.booleans(), st.booleans())
@example("あ" * 40 + ".wav", "a.wav", 60, True, True)
def test_every_line_fits_the_terminal_and_cells_are_aligned(name, other, columns, part, marked):
    basis = {"PQ_basis": "derived"} if marked else {}
    scores = [
        Scores(1, 1, 1, 1, id=item, start_time=100.0 * part, end_time=110.0, domain="music", warnings=notes, **basis)
        for item, notes in ((name, ()), (other, ("narrowband", "upsampled", "phase_cancel")))
    ]
    errors = [Scores(id=name, error=ClipError("decode_failed", f"the file {name} cannot be read as audio"))]
    head, *lines = table(*scores, *errors, columns=columns, segments=part)
    assert all(cell_len(line) <= columns for line in (head, *lines))
    assert all(line.isprintable() for line in lines)
    cells = [line for line in lines if len(re.findall(r" ~?1\.00", line)) == 4]
    assert len(cells) >= 2
    ends = {cell_len(line[: line.rindex("1.00") + 4]) for line in cells}
    assert ends == {cell_len(head[: head.index("CU") + 2])}


def test_names_are_shortened_in_the_middle():
    name = "corpus/" + "folder/" * 20 + "take_0001.wav"
    _, line = table(Scores(id=name, start_time=10, end_time=20), columns=80, segments=True)
    assert re.match(r"corp\S*…\S*take_0001\.wav 10-20 s ", line)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Mn"]), max_size=60), st.integers(6, 40))
def test_a_shortened_name_fits_and_keeps_both_ends(name, width):
    short = shortened(name, width)
    assert cell_len(short) <= width
    if cell_len(name) <= width:
        assert short == name
    else:
        start, end = short.split("…", 1) if "…" not in name else ("", "")
        assert name.startswith(start)
        assert name.endswith(end)
        assert cell_len(short) >= width - 2  # a wide character may not fit at either end


def test_notes_go_below_on_a_narrow_terminal():
    scores = Scores(1, 2, 3, 4, id="a.wav", domain="music", warnings=("narrowband",))
    _, line, notes = table(scores, columns=40)
    assert line.split() == ["a.wav", "4.00", "3.00", "1.00", "2.00"]
    assert notes == "  music, narrowband"


def test_a_message_with_a_name_in_it_stays_printable():
    name = os.fsdecode(b"a\nb\xff.wav")
    _, line = table(Scores(id=name, error=ClipError("not_found", f"no such file: {name}")), columns=100)
    assert line.endswith(r"no such file: a\nb\udcff.wav")


@pytest.mark.parametrize(
    ("value", "label_range", "colour"),
    [(9.0, (0, 10), "32"), (5.0, (0, 10), None), (1.0, (0, 10), "31"), (4.5, (1, 5), "32"), (9.0, (0, 100), "31")],
)
def test_good_and_bad_scores_have_a_colour_except_complexity(value, label_range, colour):
    scores = Scores(CE=value, CU=value, PC=value, PQ=value, id="a.wav")
    options = {"label_range": label_range, "force_terminal": True, "color_system": "standard", "_environ": {}}
    _, line = table(scores, **options)
    assert line.count("\x1b[") == (6 if colour else 0)
    assert colour is None or line.count(f"\x1b[{colour}m") == 3


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(environment):
    _, line = table(Scores(9, 9, 9, 9, id="a.wav"), force_terminal=True, _environ=environment)
    assert not re.search(r"\x1b\[3\dm", line)


def test_no_scores_give_a_head_alone():
    assert table() == ["clip (scores 0-10)     PQ     PC     CE     CU  notes"]
