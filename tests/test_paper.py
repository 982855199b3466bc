"""The paper's figures agree with each other, as far as arithmetic lets one say so."""

from __future__ import annotations

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
    Cell,
    Place,
    printed,
)

HALF_DIGIT = 0.0005
"""Figures are printed to three decimals."""

VARIANCES = {("Dev", "utterance"): 1.0834, ("PAM", "utterance"): 1.3425, ("Test", "system"): 0.8493}
"""Variance of the composite label, from the published ratings: all 250 clips of Dev, and of PAM and Test."""

KNOWN = {
    ("I", "Ours", "Test", "utterance", "PC"): (0.432, 0.942, 0.922, 0.752),
    ("I", "Ours", "Test", "system", "PC"): (0.168, 0.991, 0.949, 0.838),
    ("I", "T04", "Test", "system", "PC"): (None, 0.991, None, None),
    ("I", "T15", "Test", "system", "PC"): (None, 0.991, None, None),
    ("II", "WavLM", "Dev", "utterance", "composite"): (None, None, 0.391, None),
    ("II", "MuQ", "Dev", "utterance", "composite"): (0.799, 0.520, None, None),
    ("II", "M2D", "Dev", "utterance", "composite"): (None, None, 0.842, None),
    ("II", "WavLM+MuQ", "Dev", "utterance", "composite"): (None, None, None, None),
    ("II", "WavLM+M2D", "Dev", "utterance", "composite"): (0.339, 0.831, 0.847, 0.673),
    ("II", "WavLM+MuQ+M2D", "Dev", "utterance", "composite"): (0.338, 0.840, 0.847, 0.676),
    ("III", "BiEnc MLP UT", "Dev", "utterance", "composite"): (0.361, 0.822, 0.849, 0.672),
    ("III", "TriEnc MLP UT", "Dev", "utterance", "composite"): (0.342, 0.833, 0.838, 0.656),
    ("III", "TriEnc BLSTM(t) UT", "Dev", "utterance", "composite"): (0.378, None, 0.832, 0.656),
    ("III", "TriEnc BLSTM(t) DCQ", "Dev", "utterance", "composite"): (None, None, 0.832, 0.656),
    ("III", "TriEnc BLSTM(t) CCC", "Dev", "utterance", "composite"): (None, None, 0.842, None),
    ("III", "TriEnc MLP CCC", "Dev", "utterance", "composite"): (None, None, 0.830, None),
    ("III", "TriEnc MLP CCC", "PAM", "utterance", "composite"): (None, None, 0.913, None),
    ("III", "TriEnc MLP DCQ", "PAM", "utterance", "composite"): (0.279, 0.918, 0.921, 0.754),
    ("III", "TriEnc MLP DCQ", "Test", "system", "composite"): (1.466, 0.944, 0.919, 0.796),
    ("III", "TriEnc BLSTM(h) Con", "Test", "system", "composite"): (None, None, 0.912, None),
    ("III", "TriEnc BLSTM(h) DCQ", "Test", "system", "composite"): (None, None, 0.909, None),
    ("III", "TriEnc BLSTM(h) UT", "Test", "system", "composite"): (None, None, 0.920, None),
    ("IV", "pam_top_8", "PAM", "utterance", "composite"): (0.212, 0.923, 0.924, 0.760),
    ("IV", "pam_top_4", "PAM", "utterance", "composite"): (0.204, 0.925, None, None),
    ("IV", "submitted", "Test", "system", "composite"): (1.137, 0.937, None, None),
}


def four(table: str, row: str, name: str, level: str, axis: str = "composite") -> tuple[float | None, ...]:
    return tuple(printed(Cell(table, row, name, level, axis, metric)) for metric in METRICS)


@pytest.mark.parametrize("place", KNOWN, ids=lambda place: " ".join(place[:3]))
def test_figures_are_as_printed_and_the_rest_unknown(place: tuple[str, str, str, str, str]) -> None:
    assert four(*place) == KNOWN[place]


def test_rows_are_the_papers() -> None:
    assert [len(rows) for rows in (ENTRIES, ENCODER_SUBSETS, CONFIGURATIONS, tuple(ENSEMBLES))] == [11, 7, 16, 6]
    assert CONFIGURATIONS[:2] == ("BiEnc MLP CCC", "BiEnc MLP Con")
    assert CONFIGURATIONS[-1] == "TriEnc BLSTM(h) UT"
    assert len(set(CHECK_MARKED)) == 8
    assert set(CHECK_MARKED) < set(CONFIGURATIONS)


def test_every_figure_has_a_place_in_its_table() -> None:
    for cell in CELLS:
        assert cell.row in ROWS[cell.table]
        assert (cell.set, cell.level) in COLUMNS[cell.table]
        assert cell.axis == ("PC" if cell.table == "I" else "composite")
        assert cell.metric in METRICS


def test_a_figure_of_one_axis_is_nobodys() -> None:
    assert four("III", "TriEnc MLP DCQ", "Test", "system", "PQ") == (None,) * 4
    assert four("III", "TriEnc MLP DCQ", "PAM", "utterance", "mean_of_axes") == (None,) * 4
    assert four("IV", "no such row", "Test", "system") == (None,) * 4


def test_both_readings_of_the_test_columns_have_the_papers_figure() -> None:
    assert four("IV", "pam_top_1", "Test", "system", "mean_of_axes") == (1.466, 0.944, 0.919, 0.796)


def groups() -> set[tuple[str, str, str, str]]:
    return {(cell.table, cell.row, cell.set, cell.level) for cell in CELLS if cell.axis == "composite"}


@pytest.mark.parametrize("place", sorted(groups()), ids=" ".join)
def test_no_error_is_below_what_the_correlation_allows(place: tuple[str, str, str, str]) -> None:
    """MSE >= var(label) (1 - LCC^2). The 234 clips of the paper's Dev may have a variance as low as 0.916."""
    mse, lcc, _, _ = four(*place)
    if mse is None or lcc is None:
        return
    variance = 0.916 if place[2] == "Dev" else VARIANCES[place[2], place[3]]
    assert mse + HALF_DIGIT >= variance * (1 - (lcc + HALF_DIGIT) ** 2)


@pytest.mark.parametrize("place", sorted(groups()), ids=" ".join)
def test_kendalls_tau_is_below_spearmans_rho(place: tuple[str, str, str, str]) -> None:
    _, _, srcc, ktau = four(*place)
    assert srcc is None or ktau is None or 0 < ktau < srcc < 1


def test_the_second_figure_of_muq_is_its_lcc() -> None:
    """It puts the bound on Dev's variance that rules out all 450 clips, whose variance is 1.2488."""
    mse, lcc, srcc, _ = four("II", "MuQ", "Dev", "utterance")
    assert mse is not None
    assert lcc is not None
    assert srcc is None
    assert (mse + HALF_DIGIT) / (1 - (lcc + HALF_DIGIT) ** 2) == pytest.approx(1.0966, abs=5e-5)


def test_pam_top_4_is_near_the_best_that_its_correlation_allows() -> None:
    mse, lcc, _, _ = four("IV", "pam_top_4", "PAM", "utterance")
    assert mse is not None
    assert lcc is not None
    best = VARIANCES["PAM", "utterance"] * (1 - lcc**2)
    assert best == pytest.approx(0.1938, abs=5e-5)
    assert mse / best == pytest.approx(1.05, abs=0.01)


def test_an_ensemble_of_one_is_its_member() -> None:
    for name, level in COLUMNS["IV"]:
        assert four("IV", "pam_top_1", name, level) == four("III", "TriEnc MLP DCQ", name, level)


def test_dev_top_8_repeats_pam_top_8() -> None:
    assert four("IV", "dev_top_8", "PAM", "utterance") == four("IV", "pam_top_8", "PAM", "utterance")


def test_two_runs_of_one_configuration_differ() -> None:
    for subset, row in (("WavLM+M2D", "BiEnc MLP UT"), ("WavLM+MuQ+M2D", "TriEnc MLP UT")):
        assert four("II", subset, "Dev", "utterance") != four("III", row, "Dev", "utterance")


@pytest.mark.parametrize(("name", "ranking"), [("Dev", DEV_RANKING), ("PAM", PAM_RANKING)])
def test_rankings_fall_and_agree_with_the_cells(name: str, ranking: tuple[Place, ...]) -> None:
    known = [place.SRCC for place in ranking if place.SRCC is not None]
    assert known == sorted(known, reverse=True)
    rows = [place.row for place in ranking if place.row is not None]
    assert len(set(rows)) == len(rows)
    assert set(rows) < set(CONFIGURATIONS)
    for place in ranking:
        if place.row:
            assert printed(Cell("III", place.row, name, "utterance", "composite", "SRCC")) == place.SRCC


def test_the_eight_on_pam_are_clear_and_the_eighth_on_dev_is_not() -> None:
    assert (PAM_RANKING[7].SRCC, PAM_RANKING[8].SRCC) == (0.913, 0.912)
    assert (PAM_RANKING[3].SRCC, PAM_RANKING[4].SRCC) == (0.916, 0.915)
    assert [place.SRCC for place in DEV_RANKING[6:11]] == [0.836, 0.832, 0.832, 0.832, 0.831]


def test_the_two_best_on_pam_are_the_best_on_test() -> None:
    """So the text says; and that UT is no better than Con and DCQ there, which BLSTM(h) contradicts."""
    srcc = {row: four("III", row, "Test", "system")[2] for row in CONFIGURATIONS}
    known = {row: value for row, value in srcc.items() if value is not None}
    assert set(sorted(known, key=known.__getitem__)[-2:]) == {place.row for place in PAM_RANKING[:2]}
    assert known["TriEnc BLSTM(h) UT"] > max(known["TriEnc BLSTM(h) Con"], known["TriEnc BLSTM(h) DCQ"])
