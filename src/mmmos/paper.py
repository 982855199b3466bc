"""What the MMMOS paper prints: all 356 numbers of Tables I to IV, and what follows from them.

The numbers are in `bundled/paper/tables.csv`, as printed, to three decimals; rows, rankings and check marks are
derived from them.

Every number is of a single run, and two runs differ: WavLM+M2D and WavLM+MuQ+M2D with UT and MLP are in both
Table II and Table III, with other numbers. In Table IV, Dev top 8 has the very digits of PAM top 8 on PAM, most
likely by mistake.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class TableKey:
    """The row and column of one number."""

    table: str  # of `ROWS`
    row: str
    set: str  # "Dev", "PAM" or "Test"
    level: str  # "utterance" or "system"
    axis: str  # "PC" in Table I, else "composite": the mean of the four axes
    metric: str  # of `METRICS`


def printed_tables() -> list[dict[str, Any]]:
    """Every printed number: dicts with table, row, set, level, axis, metric, and value as a float.

    >>> printed_tables()[0]["row"], printed_tables()[0]["value"], len(printed_tables())
    ('B02', 0.562, 356)
    """
    lines = files("mmmos").joinpath("bundled", "paper", "tables.csv").read_text(encoding="utf-8").splitlines()
    return [row | {"value": float(row["value"])} for row in csv.DictReader(lines)]


CELLS: dict[TableKey, float] = {
    TableKey(**{key: value for key, value in row.items() if key != "value"}): row["value"] for row in printed_tables()
}
"""Every printed number by its row and column, in the order printed."""

METRICS = tuple(dict.fromkeys(cell.metric for cell in CELLS))
"""The columns of every table, in the order printed."""

ROWS = {
    table: tuple(dict.fromkeys(cell.row for cell in CELLS if cell.table == table))
    for table in dict.fromkeys(cell.table for cell in CELLS)
}
"""Table -> its rows, in the order printed."""

COLUMNS = {
    table: tuple(dict.fromkeys((cell.set, cell.level) for cell in CELLS if cell.table == table)) for table in ROWS
}
"""Table -> its sets with the level that the metrics are taken at."""

ENTRIES = ROWS["I"]
"""The baseline B02, teams of the AudioMOS 2025 challenge (Track 2), and the paper's own entry."""

ENCODER_SUBSETS = ROWS["II"]
"""Encoder combinations. The paper calls WavLM+M2D BiEnc, and all three TriEnc."""

CONFIGURATIONS = ROWS["III"]
"""Encoders, aggregator and loss."""

ENSEMBLES = {
    "submitted": "Submitted",
    "all": "All models",
    "pam_top_8": "PAM top 8",
    "pam_top_4": "PAM top 4",
    "dev_top_8": "Dev top 8",
    "pam_top_1": "PAM top 1",
}
"""Rows of Table IV: name in `mmmos.ensemble.STRATEGIES` -> name in the paper."""


def printed(cell: TableKey) -> float | None:
    """The number that the paper prints there; None if it has no such cell.

    The paper does not say whether the Test columns of Tables III and IV are of the composite or are the mean
    of the four axes' metrics, so both readings get its number.

    >>> printed(TableKey("II", "MuQ+M2D", "Dev", "utterance", "composite", "MSE"))
    0.371
    """
    axis = "composite" if cell.axis == "mean_of_axes" and cell.set == "Test" else cell.axis
    return CELLS.get(TableKey(cell.table, cell.row, cell.set, cell.level, axis, cell.metric))


def printed_figures(table: str, row: str, name: str, level: str) -> dict[str, float]:
    """A row's four metrics on one set.

    >>> printed_figures("IV", "submitted", "Test", "system")
    {'MSE': 1.137, 'LCC': 0.937, 'SRCC': 0.91, 'KTAU': 0.768}
    """
    axis = "PC" if table == "I" else "composite"
    return {metric: CELLS[TableKey(table, row, name, level, axis, metric)] for metric in METRICS}


def ranking(name: str) -> tuple[str, ...]:
    """Table III by SRCC on Dev or PAM, best first; equal ones by KTAU, then by the lower MSE.

    >>> ranking("PAM")[:2]
    ('TriEnc MLP DCQ', 'TriEnc BLSTM(h) UT')
    """
    of = {row: printed_figures("III", row, name, "utterance") for row in CONFIGURATIONS}
    return tuple(sorted(of, key=lambda row: (-of[row]["SRCC"], -of[row]["KTAU"], of[row]["MSE"])))


DEV_RANKING, PAM_RANKING = ranking("Dev"), ranking("PAM")

CHECK_MARKED = tuple(row for row in CONFIGURATIONS if row in DEV_RANKING[:11] and row in PAM_RANKING[:12])
"""The eight configurations with a check mark in Table III: the ensemble that was submitted.

The text says "the top 12 on the Dev and the top 12 on the PAM dev set", which is nine; with 11 on Dev it is exactly
the eight that are marked.
"""


def ranks(row: str = "Ours") -> dict[tuple[str, str], int]:
    """The rank of an entry of Table I among all eleven, by level and metric; equal figures share the better rank.

    >>> ranks()["system", "SRCC"]
    2
    """
    found = {}
    for name, level in COLUMNS["I"]:
        for metric in METRICS:
            values = {entry: printed_figures("I", entry, name, level)[metric] for entry in ENTRIES}
            sign = 1 if metric == "MSE" else -1
            found[level, metric] = 1 + sum(sign * value < sign * values[row] for value in values.values())
    return found


def change(level: str, metric: str) -> float:
    """By how much the paper's entry differs from the baseline B02 in Table I, as a fraction of the baseline's figure.

    >>> round(change("system", "MSE"), 3)
    -0.257
    """
    ours, baseline = (printed_figures("I", row, "Test", level)[metric] for row in ("Ours", ENTRIES[0]))
    return ours / baseline - 1
