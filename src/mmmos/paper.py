"""What the MMMOS paper prints in Tables I to IV, as far as it is known here.

A number that is not known is None and never made up; the others are given as printed, to three decimals.

Every number is of a single run, and two runs differ: WavLM+M2D and WavLM+MuQ+M2D with UT and MLP stand in
both Table II and Table III, with other numbers. In Table IV, Dev top 8 has the very digits of PAM top 8 on
PAM, most likely by mistake.
"""

from __future__ import annotations

from dataclasses import dataclass

METRICS = ("MSE", "LCC", "SRCC", "KTAU")
"""The columns of every table, in the order printed."""

ENTRIES = ("B02", "T03", "T04", "T06", "T12", "T14", "T15", "T20", "T21", "T24", "Ours")
"""Rows of Table I: the baseline, teams of the AudioMOS 2025 challenge (Track 2), and the paper's own entry."""

ENCODER_SUBSETS = ("WavLM", "MuQ", "M2D", "WavLM+MuQ", "WavLM+M2D", "MuQ+M2D", "WavLM+MuQ+M2D")
"""Rows of Table II. The paper calls WavLM+M2D BiEnc, and all three TriEnc."""

CONFIGURATIONS = tuple(
    f"{network} {loss}"
    for network in ("BiEnc MLP", "TriEnc MLP", "TriEnc BLSTM(t)", "TriEnc BLSTM(h)")
    for loss in ("CCC", "Con", "DCQ", "UT")
)
"""Rows of Table III: encoders, aggregator and loss."""

CHECK_MARKED = (
    *("BiEnc MLP Con", "BiEnc MLP DCQ", "BiEnc MLP UT", "TriEnc MLP UT"),
    *("TriEnc BLSTM(t) DCQ", "TriEnc BLSTM(t) UT", "TriEnc BLSTM(h) Con", "TriEnc BLSTM(h) UT"),
)
"""The configurations with a check mark in Table III: the ensemble that was submitted."""

ENSEMBLES = {
    "all": "All",
    "pam_top_8": "PAM top 8",
    "pam_top_4": "PAM top 4",
    "pam_top_1": "PAM top 1",
    "dev_top_8": "Dev top 8",
    "submitted": "Submitted",
}
"""Rows of Table IV: name in `mmmos.ensemble.STRATEGIES` -> name in the paper."""

ROWS = {"I": ENTRIES, "II": ENCODER_SUBSETS, "III": CONFIGURATIONS, "IV": tuple(ENSEMBLES)}
"""Table -> its rows, in the order printed."""

COLUMNS = {
    "I": (("Test", "utterance"), ("Test", "system")),
    "II": (("Dev", "utterance"),),
    "III": (("Dev", "utterance"), ("PAM", "utterance"), ("Test", "system")),
    "IV": (("PAM", "utterance"), ("Test", "system")),
}
"""Table -> its sets with the level that the metrics are taken at."""


@dataclass(frozen=True)
class Cell:
    """The place of one number."""

    table: str  # of `ROWS`
    row: str
    set: str  # "Dev", "PAM" or "Test"
    level: str  # "utterance" or "system"
    axis: str  # "PC" in Table I, else "composite": the mean of the four axes
    metric: str  # of `METRICS`


@dataclass(frozen=True)
class Place:
    """One place of a ranking by SRCC: whose it is, and the SRCC that is printed there."""

    row: str | None
    SRCC: float | None


DEV_RANKING = (
    Place("BiEnc MLP UT", 0.849),
    Place("BiEnc MLP CCC", 0.846),
    Place("TriEnc BLSTM(t) CCC", 0.842),
    Place("BiEnc MLP Con", 0.839),
    Place("TriEnc BLSTM(h) Con", 0.838),
    Place("TriEnc MLP UT", 0.838),
    Place("TriEnc BLSTM(h) UT", 0.836),
    Place("BiEnc MLP DCQ", 0.832),
    Place("TriEnc BLSTM(t) DCQ", 0.832),
    Place("TriEnc BLSTM(t) UT", 0.832),
    Place(None, 0.831),
    Place("TriEnc MLP CCC", 0.830),
    Place(None, 0.828),
)
"""Table III by SRCC on Dev, best first, to place 13; which of two equal ones comes first means nothing."""

PAM_RANKING = (
    Place("TriEnc MLP DCQ", 0.921),
    Place("TriEnc BLSTM(h) UT", None),
    Place("TriEnc BLSTM(h) Con", 0.916),
    Place("TriEnc BLSTM(t) DCQ", 0.916),
    Place("BiEnc MLP Con", 0.915),
    Place("TriEnc BLSTM(t) Con", None),
    Place("TriEnc BLSTM(t) UT", None),
    Place("TriEnc MLP CCC", 0.913),
    Place(None, 0.912),
    Place(None, None),
    Place(None, 0.911),
    Place(None, 0.911),
    Place(None, 0.909),
)
"""Table III by SRCC on PAM, best first, to place 13."""

Four = tuple[float | None, float | None, float | None, float | None]

_PRINTED: tuple[tuple[str, str, str, str, Four], ...] = (
    ("I", "T04", "Test", "system", (None, 0.991, None, None)),
    ("I", "T15", "Test", "system", (None, 0.991, None, None)),
    ("I", "Ours", "Test", "utterance", (0.432, 0.942, 0.922, 0.752)),
    ("I", "Ours", "Test", "system", (0.168, 0.991, 0.949, 0.838)),
    ("II", "WavLM", "Dev", "utterance", (None, None, 0.391, None)),
    ("II", "MuQ", "Dev", "utterance", (0.799, 0.520, None, None)),
    ("II", "M2D", "Dev", "utterance", (None, None, 0.842, None)),
    ("II", "WavLM+M2D", "Dev", "utterance", (0.339, 0.831, 0.847, 0.673)),
    ("II", "WavLM+MuQ+M2D", "Dev", "utterance", (0.338, 0.840, 0.847, 0.676)),
    ("III", "BiEnc MLP UT", "Dev", "utterance", (0.361, 0.822, 0.849, 0.672)),
    ("III", "TriEnc MLP UT", "Dev", "utterance", (0.342, 0.833, 0.838, 0.656)),
    ("III", "TriEnc MLP DCQ", "PAM", "utterance", (0.279, 0.918, 0.921, 0.754)),
    ("III", "TriEnc MLP DCQ", "Test", "system", (1.466, 0.944, 0.919, 0.796)),
    ("III", "TriEnc BLSTM(t) DCQ", "Dev", "utterance", (None, None, 0.832, 0.656)),
    ("III", "TriEnc BLSTM(t) UT", "Dev", "utterance", (0.378, None, 0.832, 0.656)),
    ("III", "TriEnc BLSTM(h) Con", "Test", "system", (None, None, 0.912, None)),
    ("III", "TriEnc BLSTM(h) DCQ", "Test", "system", (None, None, 0.909, None)),
    ("III", "TriEnc BLSTM(h) UT", "Test", "system", (None, None, 0.920, None)),
    ("IV", "pam_top_8", "PAM", "utterance", (0.212, 0.923, 0.924, 0.760)),
    ("IV", "pam_top_4", "PAM", "utterance", (0.204, 0.925, None, None)),
    ("IV", "pam_top_1", "PAM", "utterance", (0.279, 0.918, 0.921, 0.754)),
    ("IV", "pam_top_1", "Test", "system", (1.466, 0.944, 0.919, 0.796)),
    ("IV", "dev_top_8", "PAM", "utterance", (0.212, 0.923, 0.924, 0.760)),
    ("IV", "submitted", "Test", "system", (1.137, 0.937, None, None)),
)
"""Table, row, set, level and the four metrics; what Table III tells of SRCC alone is in the rankings."""


def printed(cell: Cell) -> float | None:
    """The number that the paper prints there, or None where it is not known or there is no such cell.

    The paper does not say whether the Test columns of Tables III and IV are of the composite or are the mean
    of the four axes' metrics, so both readings get its number.

    >>> printed(Cell("II", "WavLM+M2D", "Dev", "utterance", "composite", "MSE"))
    0.339
    >>> printed(Cell("II", "MuQ+M2D", "Dev", "utterance", "composite", "MSE")) is None
    True
    """
    axis = "composite" if cell.axis == "mean_of_axes" and cell.set == "Test" else cell.axis
    return CELLS.get(Cell(cell.table, cell.row, cell.set, cell.level, axis, cell.metric))


def _cells() -> dict[Cell, float]:
    rows = [
        (row, name, place.SRCC)
        for name, ranking in (("Dev", DEV_RANKING), ("PAM", PAM_RANKING))
        for place in ranking
        if (row := place.row)
    ]
    cells = {Cell("III", row, name, "utterance", "composite", "SRCC"): srcc for row, name, srcc in rows}
    for table, row, name, level, values in _PRINTED:
        axis = "PC" if table == "I" else "composite"
        cells |= {Cell(table, row, name, level, axis, m): v for m, v in zip(METRICS, values, strict=True)}
    return {cell: value for cell, value in cells.items() if value is not None}


CELLS = _cells()
"""Every number that is known, by its place."""
