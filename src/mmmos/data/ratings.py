"""The labels of a row: for each axis one mean, or the ratings of several raters.

| a row has | a column is |
|---|---|
| the mean | `PQ`, `Production_Quality`; in JSON also a list of ratings |
| several raters | `PQ_1`, `PQ_2` ...; `PQ_rater1`, `PQ_rater_anna` ...; also with `Production_Quality` |
| one rating | `PQ`, and who gave it: `rater`, `rater_id`, `listener`, `listener_id`, `annotator`, `worker_id` |
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.data.columns import AXIS_COLUMNS, LABEL_NAMES, PATH_COLUMNS, RATER_COLUMNS
from mmmos.errors import ManifestError
from mmmos.io.delimited import to_float
from mmmos.io.lists import OnBadRow, read_rows, refuse
from mmmos.scores import AXES, LABEL_RANGE, LabelRange, scale_name
from mmmos.wording import counted

_RATER = r"(?:r|rater|listener|annotator|worker|rating)"
_SEVERAL = {
    axis: re.compile(rf"(?:{'|'.join(names)})[ _.-]?(?:{_RATER}?[ _.-]?\d+|{_RATER}[ _.-]\w+)")
    for axis, names in AXIS_COLUMNS.items()
}

Ratings = tuple[tuple[float, ...], ...]
"""The ratings of a clip for each axis, in the order of `AXES`; empty if nobody rated the axis."""


@lru_cache  # called for each row of a list
def rater_columns(columns: tuple[str, ...]) -> dict[str, list[str]]:
    """Axis -> the columns that each hold the ratings of one rater.

    >>> {axis: found for axis, found in rater_columns(("path", "PQ_1", "PQ_rater2", "PQ_std")).items() if found}
    {'PQ': ['PQ_1', 'PQ_rater2']}
    """
    return {axis: [name for name in columns if pattern.fullmatch(name)] for axis, pattern in _SEVERAL.items()}


def has_labels(columns: Sequence[str]) -> bool:
    """Whether any column holds labels."""
    return bool({*columns} & {*LABEL_NAMES}) or any(rater_columns(tuple(columns)).values())


def rater_of(row: Mapping[str, Any]) -> str | None:
    """The rater of a row with one rating per axis; None if no column names the rater."""
    return next((str(row[name]).strip() for name in RATER_COLUMNS if row.get(name) not in (None, "")), None)


def ratings_of(row: Mapping[str, Any], where: str, label_range: LabelRange | None) -> Ratings:
    """The ratings of a row. Raises `ManifestError`, beginning with `where`, unless every value is a number in range."""
    several = rater_columns(tuple(row))
    found = []
    for axis, names in AXIS_COLUMNS.items():
        value = next((row[name] for name in names if row.get(name) not in (None, "")), None)
        values = [row[name] for name in several[axis] if row[name] not in (None, "")] if value is None else value
        try:
            found.append(_numbers(values, axis, where, label_range))
        except (TypeError, ValueError, OverflowError) as error:
            raise ManifestError(f"{where}: {axis} is not a number: {values!r}") from error
    if not any(found):
        raise ManifestError(f"{where} has no label; the axes are {', '.join(AXES)}")
    return tuple(found)


def _numbers(value: Any, axis: str, where: str, label_range: LabelRange | None) -> tuple[float, ...]:
    """The ratings as numbers; empty if one of them is NaN, which tables have for a missing label."""
    values = [to_float(item) if isinstance(item, str) else item for item in value] if isinstance(value, list) else value
    numbers = np.atleast_1d(np.asarray(to_float(values) if isinstance(values, str) else values, dtype=np.float64))
    low, high = label_range or (-sys.float_info.max, sys.float_info.max)
    outside = numbers[(numbers < low) | (numbers > high)]
    if len(outside):
        scale = f"outside {scale_name(label_range)}" if label_range else "not a finite number"
        raise ManifestError(f"{where}: {axis} is {outside[0]:g}, {scale}")
    return () if np.isnan(numbers).any() else tuple(numbers.ravel().tolist())


def means(ratings: Ratings) -> tuple[float, ...]:
    """The mean rating of each axis, [A]; NaN without a rating."""
    return tuple(float(np.mean(values)) if values else math.nan for values in ratings)


def read_ratings(path: str | Path, on_bad_row: OnBadRow = refuse) -> tuple[list[str], NDArray[np.float64]]:
    """The ids of the clips in an AES JSONL file, and their ratings [N, A, R] by R raters per clip.

    A clip's id is its `data_path`. `on_bad_row` gets the `ManifestError`, which names the line, if an axis is missing,
    has a different number of ratings from the first line, or has a rating outside 0-10, and if a clip is listed twice;
    by default the error is raised.
    """
    ratings: dict[str, NDArray[np.float64]] = {}
    raters = 0
    for line, row in read_rows(path, PATH_COLUMNS, on_bad_row):
        try:
            name, lists = _ratings(row, f"{path}, line {line}", raters)
            if name in ratings:
                raise ManifestError(f"{path}, line {line} has {name} again")
        except ManifestError as error:
            on_bad_row(error)
            continue
        ratings[name] = np.array(lists, dtype=np.float64)
        raters = raters or len(lists[0])
    return list(ratings), np.array(list(ratings.values())).reshape(len(ratings), len(AXES), raters)


def _ratings(row: Mapping[str, Any], where: str, raters: int) -> tuple[str, list[list[float]]]:
    """The name of a clip and the list of ratings of each axis, by `raters` raters (0: by any number)."""
    name = next((str(row[key]) for key in PATH_COLUMNS if row.get(key)), None)
    if name is None:
        raise ManifestError(f"{where} has no data_path")
    lists = []
    for axis, names in AXIS_COLUMNS.items():
        given = next((row[key] for key in names if key in row), None)
        if not isinstance(given, list) or not all(type(x) in (int, float) for x in given):
            raise ManifestError(f"{where}: {axis} is not a list of ratings")
        raters = raters or len(given)
        if len(given) != raters or not given:
            raise ManifestError(f"{where}: {axis} has {counted(len(given), 'rating')}, not {raters or 'some'}")
        if not all(LABEL_RANGE[0] <= x <= LABEL_RANGE[1] for x in given):
            raise ManifestError(f"{where}: {axis} has a rating outside 0-10")
        lists.append(given)
    return name, lists
