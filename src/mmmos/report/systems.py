"""The systems of a report: rows of scores under a name, with the columns that group them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mmmos.data.columns import TEXT_COLUMNS
from mmmos.errors import UsageError
from mmmos.io.named_paths import split_name
from mmmos.scores import Scores

Row = tuple[Scores, Mapping[str, Any]]
"""Scores, and the columns of their row as written."""

MAX_GROUPS = 200
"""A column with more different values does not group rows: it names them."""


@dataclass(frozen=True)
class System:
    """The scores of one system: a model, a version of a codec, a data set."""

    name: str
    rows: Sequence[Row]

    @property
    def scores(self) -> list[Scores]:
        """The scores of all rows."""
        return [scores for scores, _ in self.rows]


def named(results: Sequence[str]) -> list[tuple[str, str]]:
    """Name and path of each result, which is given as PATH or NAME=PATH.

    A name that is not given is that of the file, with as many of its folders as distinguish the results.
    Raises `UsageError` for a name that is given twice.

    >>> named(["a/scores.jsonl", "b/scores.jsonl", "old=c.csv"])
    [('a/scores', 'a/scores.jsonl'), ('b/scores', 'b/scores.jsonl'), ('old', 'c.csv')]
    """
    pairs = [split_name(result) for result in results]
    parts = [PurePath(os.path.splitext(path)[0]).parts for _, path in pairs]
    names = []
    for (name, path), own in zip(pairs, parts, strict=True):
        depth = 1
        while depth < len(own) and sum(other[-depth:] == own[-depth:] for other in parts) > 1:
            depth += 1
        names.append((name or "/".join(own[-depth:]) or path, path))
    for name, _ in names:
        if sum(name == other for other, _ in names) > 1:
            raise UsageError(f"two results are called {name}: name them, as first={names[0][1]}")
    return names


def column_of(system: System, column: str) -> list[str]:
    """The value of a column in each row of a system. Raises `UsageError` if a row does not have it."""
    for scores, row in system.rows:
        if row.get(column) in (None, ""):
            raise UsageError(f"{scores.origin or scores.id} has no {column}; its columns are {', '.join(row)}")
    return [str(row[column]) for _, row in system.rows]


def split_by(systems: Sequence[System], column: str) -> list[System]:
    """Systems by the values of a column of their rows. Raises `UsageError` if a row does not have it."""
    found: dict[str, list[Row]] = {}
    for system in systems:
        for value, row in zip(column_of(system, column), system.rows, strict=True):
            found.setdefault(value if len(systems) == 1 else f"{system.name} {value}", []).append(row)
    return [System(name, rows) for name, rows in found.items()]


def groupings(systems: Sequence[System]) -> dict[str, list[str]]:
    """The values of every column that groups the rows of all systems, in order; "" for a missing value.

    Only columns with at least 2 and at most `MAX_GROUPS` different values; "folder" is the first folder in which
    paths differ.
    """
    rows = [row for system in systems for row in system.rows]
    found = {"system": [system.name for system in systems for _ in system.rows]}
    found["domain"] = [scores.domain or "" for scores, _ in rows]
    found["folder"] = [name for system in systems for name in _folders(system.scores)]
    found["sample rate"] = [f"{scores.sample_rate} Hz" if scores.sample_rate else "" for scores, _ in rows]
    for column in TEXT_COLUMNS:
        if column not in ("system", "domain"):
            found[column] = [str(fields.get(column) or "") for _, fields in rows]
    return {name: values for name, values in found.items() if 2 <= len(set(values)) <= MAX_GROUPS}


def _folders(scores: Iterable[Scores]) -> list[str]:
    folders = [PurePath(item.path or item.id).parts[:-1] for item in scores]
    depth = 0
    while folders and all(len(parts) > depth for parts in folders) and len({parts[depth] for parts in folders}) == 1:
        depth += 1
    return [parts[depth] if len(parts) > depth else "" for parts in folders]
