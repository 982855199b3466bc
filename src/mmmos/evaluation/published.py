"""Published results of AudioMOS Challenge 2025 Track 2: the eleven rows of the paper's Table I, and a user's rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmmos.errors import ManifestError
from mmmos.evaluation.agreement import EVALUATED_AXES, MEAN_OF_AXES
from mmmos.io.delimited import to_float
from mmmos.io.lists import read_rows
from mmmos.metrics import LEVELS, METRICS
from mmmos.paper import COLUMNS, ENTRIES, printed_figures


@dataclass(frozen=True)
class Published:
    """A row of the published table, on one axis at one level."""

    team: str
    axis: str
    level: str
    figures: Mapping[str, float]  # by metric: all four in Table I; a user's row may have fewer


def published(others: Path | None = None) -> list[Published]:
    """The rows of Table I of the MMMOS paper, which has PC only, and a user's rows.

    `others` is CSV with team, axis, level and any of the metrics. Raises `ManifestError` for a
    value that differs from a published one.
    """
    found = {
        (_team(row), "PC", level): printed_figures("I", row, name, level)
        for row in ENTRIES
        for name, level in COLUMNS["I"]
    }
    for line, key, figures in _read_others(others) if others else ():
        there = found.setdefault(key, {})
        for name, value in figures.items():
            if there.setdefault(name, value) != value:
                raise ManifestError(f"{others}, line {line}: {name} of {key[0]} is {there[name]} already, not {value}")
    return [Published(*key, figures) for key, figures in found.items()]


def _team(row: str) -> str:
    return "MMMOS" if row == "Ours" else row


def _read_others(path: Path) -> list[tuple[int, tuple[str, str, str], dict[str, float]]]:
    found = []
    needed = ("team", "axis", "level")
    for line, row in read_rows(path, needed, known=METRICS):
        where = f"{path}, line {line}"
        if not row.keys() >= {*needed}:
            there = ", ".join(row)
            raise ManifestError(
                f"{path}, line 1: the columns are {there}; expected are team, axis, level, any of {', '.join(METRICS)}"
            )
        axis, level = row["axis"].strip(), row["level"].strip()
        if axis not in (*EVALUATED_AXES, MEAN_OF_AXES) or level not in LEVELS:
            raise ManifestError(f"{where}: no axis and level is called {axis!r} and {level!r}")
        figures = {name: _figure(row[name], name, where) for name in METRICS if (row.get(name) or "").strip()}
        found.append((line, (_team(row["team"].strip()), axis, level), figures))
    return found


def _figure(text: Any, name: str, where: str) -> float:
    try:
        value = to_float(text)
    except ValueError:
        value = math.nan
    if not (0 <= value < math.inf if name == "MSE" else -1 <= value <= 1):
        raise ManifestError(f"{where}: {name} cannot be {text!r}")
    return value
