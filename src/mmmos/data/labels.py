"""Lists of clips with human labels: one row per clip, or one row per rater and clip.

`mmmos.data.ratings` has the names of label columns, `mmmos.data.manifest` the other columns.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from mmmos.audio.clip import Clip
from mmmos.data.columns import AXIS_COLUMNS, LABEL_NAMES, PATH_COLUMNS, TEXT_COLUMNS
from mmmos.data.manifest import LabelledClip, Segment, read_clip, segment_of
from mmmos.data.ratings import Ratings, has_labels, means, rater_columns, rater_of, ratings_of
from mmmos.errors import ManifestError
from mmmos.io.delimited import described, encoding_of
from mmmos.io.lists import OnBadRow, list_kind, read_rows, refuse
from mmmos.scores import AXES, LABEL_RANGE, LabelRange
from mmmos.wording import counted


def read_labels(
    path: str | Path,
    data_root: str | Path | None = None,
    axes: Sequence[str] = (),
    *,
    columns: Mapping[str, str] | None = None,
    where: Mapping[str, str] | None = None,
    label_range: LabelRange | None = LABEL_RANGE,
    on_bad_row: OnBadRow = refuse,
) -> list[LabelledClip]:
    """The labelled clips of a list; relative paths start at its folder, or at `data_root`.

    `columns` maps our column names to those of the list: {"group": "song"}. `where` keeps the rows with these values:
    {"label_suspect": "0"}. Several ratings of a clip, in one row or in rows that name their rater, are averaged.
    `on_bad_row` gets the `ManifestError` of a label outside `label_range` (None: any finite label is valid), of a row
    without a label, and of a clip listed twice; by default it is raised. Also raises `ManifestError` for a table
    without a label column, for scores of mmmos, if all rows are bad, and if one of `axes` has no label in any row.
    """
    clips: dict[Segment, _Rated] = {}
    keys: dict[str, None] = {}  # in the order of columns
    bad: list[ManifestError] = []

    def leave_out(error: ManifestError) -> None:
        on_bad_row(error)
        bad.append(error)

    for line, row in read_rows(path, PATH_COLUMNS, leave_out, LABEL_NAMES):
        if missing := {*(columns or {}).values(), *(where or {})} - row.keys():
            raise ManifestError(f"{path}, line {line} has no {', '.join(sorted(missing))}")
        _check_labels(row, path, line)
        if any(str(row[name]) != str(value) for name, value in (where or {}).items()):
            continue
        row = {**row, **{ours: row[theirs] for ours, theirs in (columns or {}).items()}}
        keys |= dict.fromkeys(row)
        try:
            _add_row(clips, row, path, line, data_root, label_range)
        except ManifestError as error:
            leave_out(error)
    rows = [rated.labelled(path) for rated in clips.values()]
    if not rows and bad:
        raise ManifestError(f"{path}: no row can be used ({counted(len(bad), 'row')} left out); the first: {bad[0]}")
    if axes and not rows:
        raise ManifestError(no_rows(path))
    several = rater_columns(tuple(keys))
    for axis in axes:
        if not keys.keys() & set(AXIS_COLUMNS[axis]) and not several[axis]:
            raise ManifestError(f"{path}, line 1: no column is called {described(list(keys), AXIS_COLUMNS[axis])}")
        if all(math.isnan(row.labels[AXES.index(axis)]) for row in rows):
            raise ManifestError(f"{rows[-1].origin}: no row up to here has a label of {axis}")
    return rows


@dataclass
class _Rated:
    """A clip, and the contents of its rows read so far."""

    clip: Clip
    line: int  # its first line in the list
    text: dict[str, str]
    ratings: Ratings
    raters: list[str | None]  # one per row; None if no column names the rater

    def labelled(self, path: str | Path) -> LabelledClip:
        return LabelledClip(
            self.clip,
            means(self.ratings),
            **self.text,
            origin=f"{path}, line {self.line}",
            ratings=self.ratings,
            list_rows=len(self.raters),
        )


def _add_row(
    clips: dict[Segment, _Rated],
    row: Mapping[str, Any],
    path: str | Path,
    line: int,
    data_root: str | Path | None,
    label_range: LabelRange | None,
) -> None:
    """Add a row to the clips: a new clip, or another rater's ratings of a known clip. Raises `ManifestError`."""
    clip = read_clip(row, path, line, data_root, folder=Path(path).parent)
    ratings, rater = ratings_of(row, f"{path}, line {line}", label_range), rater_of(row)
    known = clips.get(segment_of(clip))
    if known is None:
        text = {name: "" if row.get(name) is None else str(row[name]) for name in TEXT_COLUMNS}
        clips[segment_of(clip)] = _Rated(clip, line, text, ratings, [rater])
        return
    if rater is None or None in known.raters:
        hint = "" if rater else "; if rows are ratings of several people, add a column `rater`"
        raise ManifestError(f"{path}, line {line}: {clip.path} stands in line {known.line} already{hint}")
    if rater in known.raters:
        raise ManifestError(f"{path}, line {line}: {rater} has rated {clip.path} already")
    known.ratings = tuple(old + new for old, new in zip(known.ratings, ratings, strict=True))
    known.raters.append(rater)


def _check_labels(row: Mapping[str, Any], path: str | Path, line: int) -> None:
    """Raise `ManifestError` for a table whose rows cannot have labels: no label column, or scores of mmmos."""
    if row.keys() >= {"model_sha256", "n_windows"}:
        raise ManifestError(
            f"{path}, line {line}: these are scores of mmmos (model_sha256 stands there), not labels; give the file of"
            " people's labels first, and this one with --scores"
        )
    if list_kind(path) in (".csv", ".tsv") and not has_labels(list(row)):
        raise ManifestError(f"{path}, line 1: no column holds labels, as {described(list(row), LABEL_NAMES)}")


def no_rows(path: str | Path) -> str:
    """The error message for a list without rows."""
    expected = f"{PATH_COLUMNS[0]} (or {', '.join(PATH_COLUMNS[1:])}) and any of {', '.join(LABEL_NAMES)}"
    header = _header(path)
    if header:
        return (
            f"{path}, line 1: there is no row below the header {', '.join(header)}; the columns to give are {expected}"
        )
    return f"{path}, line 1: there is no row: the file is empty; the columns to give are {expected}"


def _header(path: str | Path) -> list[str]:
    """The columns of a table, read again; empty for any other kind of file."""
    if not os.path.isfile(path) or PurePath(path).suffix.lower() not in (".csv", ".tsv"):
        return []
    with open(path, encoding=encoding_of(path)) as lines:
        return [name for name in next(iter(lines), "").strip().split(",") if name]
