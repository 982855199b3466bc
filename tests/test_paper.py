"""The shipped numbers against those typed from the paper, and against each other as far as arithmetic allows."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from mmmos.paper import (
    CELLS,
    CHECK_MARKED,
    COLUMNS,
    CONFIGURATIONS,
    DEV_RANKING,
    ENCODER_SUBSETS,
    ENSEMBLES,
    ENTRIES,
    METRICS,
    PAM_RANKING,
    ROWS,
    TableKey,
    change,
    printed,
    printed_figures,
    printed_tables,
    ranks,
)

HALF_DIGIT = 0.0005
"""Figures are printed to three decimals."""

VARIANCES = {("Dev", "utterance"): 1.0834, ("PAM", "utterance"): 1.3425, ("Test", "system"): 0.8493}
"""Variance of the composite label, from the published ratings: all 250 clips of Dev, and of PAM and Test."""

Four = tuple[float, float, float, float]

TYPED: dict[tuple[str, str, str, str], Four] = {
    ("I", "B02", "Test", "utterance"): (0.562, 0.905, 0.902, 0.723),
    ("I", "B02", "Test", "system"): (0.226, 0.963, 0.934, 0.800),
    ("I", "T15", "Test", "utterance"): (1.069, 0.878, 0.865, 0.671),
    ("I", "T24", "Test", "system"): (0.203, 0.947, 0.897, 0.743),
    ("I", "Ours", "Test", "utterance"): (0.432, 0.942, 0.922, 0.752),
    ("I", "Ours", "Test", "system"): (0.168, 0.991, 0.949, 0.838),
    ("II", "WavLM", "Dev", "utterance"): (0.997, 0.367, 0.391, 0.278),
    ("II", "MuQ", "Dev", "utterance"): (0.799, 0.520, 0.509, 0.356),
    ("II", "M2D", "Dev", "utterance"): (0.355, 0.826, 0.842, 0.669),
    ("II", "WavLM+MuQ", "Dev", "utterance"): (0.480, 0.766, 0.776, 0.597),
    ("II", "MuQ+M2D", "Dev", "utterance"): (0.371, 0.829, 0.843, 0.671),
    ("II", "WavLM+M2D", "Dev", "utterance"): (0.339, 0.831, 0.847, 0.673),
    ("II", "WavLM+MuQ+M2D", "Dev", "utterance"): (0.338, 0.840, 0.847, 0.676),
    ("III", "BiEnc MLP CCC", "Dev", "utterance"): (0.346, 0.834, 0.846, 0.662),
    ("III", "BiEnc MLP CCC", "Test", "system"): (1.366, 0.918, 0.879, 0.737),
    ("III", "TriEnc BLSTM(t) DCQ", "PAM", "utterance"): (0.405, 0.917, 0.916, 0.748),
    ("III", "TriEnc BLSTM(t) DCQ", "Test", "system"): (0.716, 0.947, 0.915, 0.779),
    ("III", "TriEnc MLP DCQ", "PAM", "utterance"): (0.279, 0.918, 0.921, 0.754),
    ("III", "TriEnc MLP UT", "Dev", "utterance"): (0.342, 0.833, 0.838, 0.656),
    ("III", "TriEnc BLSTM(h) UT", "Test", "system"): (1.113, 0.945, 0.920, 0.793),
    ("IV", "submitted", "PAM", "utterance"): (0.228, 0.921, 0.923, 0.760),
    ("IV", "all", "Test", "system"): (1.140, 0.937, 0.914, 0.781),
    ("IV", "pam_top_4", "Test", "system"): (0.964, 0.946, 0.923, 0.791),
    ("IV", "dev_top_8", "Test", "system"): (1.251, 0.934, 0.906, 0.766),
}
"""Typed from the paper's pages, not from the shipped file."""

MARKED_IN_THE_PAPER = {
    *("BiEnc MLP Con", "TriEnc BLSTM(h) Con", "BiEnc MLP DCQ", "TriEnc BLSTM(t) DCQ", "BiEnc MLP UT"),
    *("TriEnc MLP UT", "TriEnc BLSTM(t) UT", "TriEnc BLSTM(h) UT"),
}
"""Typed from the column Ensemble of Table III."""


def four(table: str, row: str, name: str, level: str, axis: str = "composite") -> tuple[float | None, ...]:
    return tuple(printed(TableKey(table, row, name, level, axis, metric)) for metric in METRICS)


def test_printed_is_as_typed() -> None:
    for place, typed in TYPED.items():
        axis = "PC" if place[0] == "I" else "composite"
        assert four(*place, axis) == typed == tuple(printed_figures(*place).values()), place


def test_printed_tables_has_all_numbers() -> None:
    rows = printed_tables()
    assert len(rows) == len(CELLS) == 11 * 2 * 4 + 7 * 4 + 16 * 3 * 4 + 6 * 2 * 4 == 356
    assert all(list(row) == ["table", "row", "set", "level", "axis", "metric", "value"] for row in rows)
    assert all(type(row["value"]) is float and round(row["value"], 3) == row["value"] for row in rows)
    rows[0]["value"] = 0.0
    assert printed_tables()[0]["value"] == 0.562


def test_printed_tables_are_those_of_the_data_folder() -> None:
    folder = os.environ.get("MMMOS_DATA")
    path = Path(folder or "") / "paper" / "tables.csv"
    if not folder or not path.is_file():
        pytest.skip("MMMOS_DATA names no folder with paper/tables.csv")
    with open(path, newline="") as file:
        assert printed_tables() == [row | {"value": float(row["value"])} for row in csv.DictReader(file)]


def test_rows_are_the_papers() -> None:
    assert [len(rows) for rows in (ENTRIES, ENCODER_SUBSETS, CONFIGURATIONS, tuple(ENSEMBLES))] == [11, 7, 16, 6]
    assert tuple(ENSEMBLES) == ROWS["IV"]
    assert (ENTRIES[0], ENTRIES[-1]) == ("B02", "Ours")
    assert CONFIGURATIONS[:2] == ("BiEnc MLP CCC", "TriEnc MLP CCC")
    assert CONFIGURATIONS[-1] == "TriEnc BLSTM(h) UT"
    assert METRICS == ("MSE", "LCC", "SRCC", "KTAU")
    assert COLUMNS["III"] == (("Dev", "utterance"), ("PAM", "utterance"), ("Test", "system"))


def test_every_row_has_every_column() -> None:
    ranks = [
        TableKey(table, row, name, level, "PC" if table == "I" else "composite", metric)
        for table, rows in ROWS.items()
        for row in rows
        for name, level in COLUMNS[table]
        for metric in METRICS
    ]
    assert set(ranks) == set(CELLS)


def test_check_marks_are_the_papers() -> None:
    assert set(CHECK_MARKED) == MARKED_IN_THE_PAPER
    assert len(CHECK_MARKED) == 8


def test_an_axis_of_its_own_has_no_printed_number() -> None:
    assert four("III", "TriEnc MLP DCQ", "Test", "system", "PQ") == (None,) * 4
    assert four("III", "TriEnc MLP DCQ", "PAM", "utterance", "mean_of_axes") == (None,) * 4
    assert four("IV", "no such row", "Test", "system") == (None,) * 4


def test_both_readings_of_test_columns_match_the_paper() -> None:
    assert four("IV", "pam_top_1", "Test", "system", "mean_of_axes") == (1.466, 0.944, 0.919, 0.796)


# --- what the paper says of Table I


def test_places_are_first_in_six_of_eight() -> None:
    """Abstract: "gains first place in six of eight Production Complexity metrics"."""
    found = ranks()
    assert len(found) == 8
    assert {key for key, place in found.items() if place > 1} == {("system", "MSE"), ("system", "SRCC")}
    assert (found["system", "MSE"], found["system", "SRCC"]) == (3, 2)
    assert ranks("B02")["utterance", "KTAU"] == 6


def test_change_against_the_baseline() -> None:
    """Abstract: "a 20-30% reduction in mean squared error and a 4-5% increase in Kendall's tau"."""
    assert [round(100 * change(level, "MSE")) for level in ("utterance", "system")] == [-23, -26]
    assert [round(100 * change(level, "KTAU"), 1) for level in ("utterance", "system")] == [4.0, 4.7]
    assert change("system", "KTAU") == pytest.approx(0.0475)  # which is 4.8 % where halves are rounded up
    assert all(-0.3 < change(level, "MSE") < -0.2 for level in ("utterance", "system"))
    assert all(0.04 < change(level, "KTAU") < 0.05 for level in ("utterance", "system"))


# --- arithmetic


def groups() -> set[tuple[str, str, str, str]]:
    return {(cell.table, cell.row, cell.set, cell.level) for cell in CELLS if cell.axis == "composite"}


def test_no_error_is_below_what_the_correlation_allows() -> None:
    """MSE >= var(label) (1 - LCC^2). The 234 clips of the paper's Dev may have a variance as low as 0.916."""
    for place in groups():
        found = printed_figures(*place)
        variance = 0.916 if place[2] == "Dev" else VARIANCES[place[2], place[3]]
        assert found["MSE"] + HALF_DIGIT >= variance * (1 - (found["LCC"] + HALF_DIGIT) ** 2), place


def test_kendalls_tau_is_below_spearmans_rho() -> None:
    for place in {(c.table, c.row, c.set, c.level) for c in CELLS}:
        found = printed_figures(*place)
        assert 0 < found["KTAU"] < found["SRCC"] < 1, place


def test_muq_bounds_the_variance_of_dev() -> None:
    """The bound rules out all 450 clips, whose variance is 1.2488."""
    found = printed_figures("II", "MuQ", "Dev", "utterance")
    assert (found["MSE"] + HALF_DIGIT) / (1 - (found["LCC"] + HALF_DIGIT) ** 2) == pytest.approx(1.0966, abs=5e-5)


def test_pam_top_4_is_near_the_best_that_its_correlation_allows() -> None:
    found = printed_figures("IV", "pam_top_4", "PAM", "utterance")
    best = VARIANCES["PAM", "utterance"] * (1 - found["LCC"] ** 2)
    assert best == pytest.approx(0.1938, abs=5e-5)
    assert found["MSE"] / best == pytest.approx(1.05, abs=0.01)


def test_an_ensemble_of_one_is_its_member() -> None:
    for name, level in COLUMNS["IV"]:
        assert four("IV", "pam_top_1", name, level) == four("III", "TriEnc MLP DCQ", name, level)


def test_dev_top_8_repeats_pam_top_8() -> None:
    assert four("IV", "dev_top_8", "PAM", "utterance") == four("IV", "pam_top_8", "PAM", "utterance")


def test_two_runs_of_one_configuration_differ() -> None:
    for subset, row in (("WavLM+M2D", "BiEnc MLP UT"), ("WavLM+MuQ+M2D", "TriEnc MLP UT")):
        assert four("II", subset, "Dev", "utterance") != four("III", row, "Dev", "utterance")


def test_rankings_fall() -> None:
    for name, ranking in (("Dev", DEV_RANKING), ("PAM", PAM_RANKING)):
        srcc = [printed_figures("III", row, name, "utterance")["SRCC"] for row in ranking]
        assert srcc == sorted(srcc, reverse=True)
        assert set(ranking) == set(CONFIGURATIONS)
    assert DEV_RANKING[:3] == ("BiEnc MLP UT", "BiEnc MLP CCC", "TriEnc BLSTM(t) CCC")
    assert PAM_RANKING[:3] == ("TriEnc MLP DCQ", "TriEnc BLSTM(h) UT", "TriEnc BLSTM(h) Con")
    assert (DEV_RANKING[-1], PAM_RANKING[-1]) == ("TriEnc BLSTM(h) CCC", "TriEnc BLSTM(h) DCQ")
