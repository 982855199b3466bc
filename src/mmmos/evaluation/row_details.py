"""What a row of `mmmos score` says next to its four scores: spread, domain, evidence, warnings, error and origin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from mmmos.io.delimited import finite_number
from mmmos.scores import AXES, ClipError, Provenance


def details(row: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `Scores` from the columns of docs/ROWS.md that the row has, in JSONL, CSV or Parquet.

    A value that cannot be read is left out: rows of other programs may use a name otherwise.
    """
    found: dict[str, Any] = {f"{axis}_std": finite_number(row.get(f"{axis}_std")) for axis in AXES}
    found |= {name: _text(row.get(name)) for name in ("domain", *(f"{axis}_basis" for axis in AXES))}
    found |= {name: _whole(row.get(name)) for name in ("sample_rate", "channels")}
    found["n_windows"] = _whole(row.get("n_windows")) or 0
    found["warnings"] = _words(row.get("warnings"))
    found["error"] = _error(row)
    found["provenance"] = _provenance(row)
    return found


def _whole(value: Any) -> int | None:
    number = finite_number(value)
    return None if math.isnan(number) else int(number)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _words(value: Any) -> tuple[str, ...]:
    """A list, or the words between semicolons of CSV."""
    if isinstance(value, str):
        value = value.split(";")
    return tuple(word for word in value if isinstance(word, str) and word) if isinstance(value, list) else ()


def _error(row: Mapping[str, Any]) -> ClipError | None:
    found = row.get("error")
    if not isinstance(found, Mapping):
        found = {"code": row.get("error_code"), "message": row.get("error_message")}
    code = _text(found.get("code"))
    return ClipError(code, _text(found.get("message")) or "") if code else None


def _provenance(row: Mapping[str, Any]) -> Provenance | None:
    """None for a row that names no model."""
    if not _text(row.get("model")):
        return None
    values: dict[str, Any] = {
        field.name: _text(row.get(field.name)) or ("" if field.default is MISSING else field.default)
        for field in fields(Provenance)
    }
    for name in ("calibrated", "commercial_use"):
        values[name] = str(row.get(name)).lower() == "true"
    return Provenance(**values)
