"""The four axes in their one order, a clip's scores, and the scale that the scores are on."""

from __future__ import annotations

import math
import os
import re
import stat
from dataclasses import dataclass, field, fields, replace
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

AXES = ("CE", "CU", "PC", "PQ")
"""The one order of the axes in every array. Files are read and written by name, never by position."""

AXIS_NAMES = {
    "CE": "Content Enjoyment",
    "CU": "Content Usefulness",
    "PC": "Production Complexity",
    "PQ": "Production Quality",
}

BASES = {
    "human": "people rated clips of this kind on this axis, and the model learned from them",
    "distilled-human": "another model that learned from people, and people's order in another kind of test",
    "constructed": "damage in a known order, and ratings of other kinds of clip",
    "derived": "the clip's other scores, as ratings of such clips go together",
}
"""What a score may rest on, the strongest first."""

LabelRange = tuple[float, float]
"""Lowest and highest rating that a listening test allows."""

LABEL_RANGE: LabelRange = (0.0, 10.0)
"""The range of AES ratings, and of every model that does not declare its own (`ModelInfo.label_range`)."""


def scale_name(label_range: LabelRange) -> str:
    """How rows, tables and cards name a rating scale.

    >>> scale_name((0.0, 10.0)), scale_name((1.0, 5.0)), scale_name((-3.0, 3.0))
    ('0-10', '1-5', '-3 to 3')
    """
    low, high = label_range
    return f"{low:g}-{high:g}" if low >= 0 else f"{low:g} to {high:g}"


_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"


def parse_scale(name: str) -> LabelRange | None:
    """The range that `scale_name` named; None for other words.

    >>> parse_scale("0-10"), parse_scale("-3 to 3"), parse_scale("stars")
    ((0.0, 10.0), (-3.0, 3.0), None)
    """
    found = re.fullmatch(rf"({_NUMBER})(?:-| to )({_NUMBER})", name)
    return (float(found[1]), float(found[2])) if found else None


@dataclass(frozen=True)
class ClipError:
    """Why a clip has no score: a code of `errors.AUDIO_ERROR_CODES` and a sentence."""

    code: str
    message: str


@dataclass(frozen=True)
class Provenance:
    """What produced a score; part of every row."""

    model: str  # name, folder or hub id as it was asked for
    model_sha256: str  # of every weight and setting that the scores depend on
    version: str  # of this package
    device: str  # where the encoders ran, "cpu" or "cuda:0"
    dtype: str  # precision that the encoders really ran in
    calibrated: bool  # whether the scores were checked against raters outside the training data
    commercial_use: bool  # whether the licences of weights and training data allow it


@dataclass(frozen=True)
class Scores:
    """A clip's four scores on the rating scale of the model, with what is known of the clip.

    A score is NaN where there is none: the clip could not be read (`error` says why) or is silent
    (`warnings` says so). `*_std` is the spread over an ensemble's members, NaN for a single model.

    >>> scores = Scores(CE=5.0, CU=5.5, PC=2.0, PQ=7.25, id="a.wav")
    >>> scores.PQ, scores["PQ"], scores.status
    (7.25, 7.25, 'ok')
    >>> Scores(id="b.wav", error=ClipError("not_found", "no such file")).row()["PQ"] is None
    True
    """

    CE: float = math.nan
    CU: float = math.nan
    PC: float = math.nan
    PQ: float = math.nan
    CE_std: float = math.nan
    CU_std: float = math.nan
    PC_std: float = math.nan
    PQ_std: float = math.nan
    scale: str | None = None  # rating scale of the scores, "0-10" (`scale_name`); None where it is not known
    domain: str | None = None  # "speech", "music" or "sound", if the model tells them apart
    CE_basis: str | None = None  # what the score rests on, a key of `BASES`
    CU_basis: str | None = None
    PC_basis: str | None = None
    PQ_basis: str | None = None
    id: str = ""  # given by the manifest, else the path as typed
    path: str | None = None  # None for an array
    start_time: float = 0.0  # s, of the stretch that was scored
    end_time: float = math.nan  # s
    sample_rate: int | None = None  # Hz, the file's own
    channels: int | None = None  # the file's own, before the downmix
    duration: float = math.nan  # s, of the whole file
    stream: int = 0  # which of the file's audio streams
    file_bytes: int | None = None  # size of the file; None for an array or an address
    file_mtime: float | None = None  # s since 1970, the file's last change
    n_windows: int = 0
    warnings: tuple[str, ...] = ()
    error: ClipError | None = None
    provenance: Provenance | None = None
    origin: str = field(default="", compare=False)  # "scores.csv, line 12", for messages

    def __str__(self) -> str:
        """One line: the id, its start and end in s if it begins later, the scores, and what is known of them.

        >>> str(Scores(5.0, 5.5, 2.0, 7.25, id="a.wav", scale="0-10", domain="music", warnings=("clipped",)))
        'a.wav: CE 5.00  CU 5.50  PC 2.00  PQ 7.25 (0-10, music, clipped)'
        >>> str(Scores(id="b.wav", error=ClipError("not_found", "no such file: b.wav")))
        'b.wav: not_found: no such file: b.wav'
        """
        if self.error is not None:
            return _one_line(f"{self.id}: {self.error.code}: {self.error.message}")
        axes = "  ".join(f"{axis} {_two_digits(self[axis])}" for axis in AXES)
        facts = ", ".join(filter(None, (self.scale, self.domain, *self.warnings)))
        end = "" if math.isnan(self.end_time) else f"{self.end_time:g}"
        stretch = f" {self.start_time:g}-{end} s" * (self.start_time > 0)
        return _one_line(f"{self.id}{stretch}: {axes}" + f" ({facts})" * bool(facts))

    def __repr__(self) -> str:
        return f"<Scores {self}>"

    def _repr_html_(self) -> str:
        """A table of one row, for notebooks."""
        note = ", ".join(self.warnings) if self.error is None else f"{self.error.code}: {self.error.message}"
        heads = ("id", *AXES, "scale", "domain", "warnings" if self.error is None else "error")
        cells = (self.id, *(_two_digits(self[axis]) for axis in AXES), self.scale or "", self.domain or "", note)
        row = "".join(f"<td>{escape(_one_line(cell))}</td>" for cell in cells)
        return f"<table><tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr><tr>{row}</tr></table>"

    def __getitem__(self, axis: str) -> float:
        """Score of one axis by its short name; KeyError for any other word."""
        if axis not in AXES:
            raise KeyError(axis)
        value: float = getattr(self, axis)
        return value

    @property
    def status(self) -> str:
        """`"ok"` or `"error"`; a silent clip is ok and has no score."""
        return "ok" if self.error is None else "error"

    def with_axes(self, mean: NDArray[np.floating], std: NDArray[np.floating] | None = None) -> Scores:
        """The same clip with these scores.

        Shape:
            - mean, std: [A] in the order of `AXES`, on the label scale
        """
        values = {axis: float(value) for axis, value in zip(AXES, mean, strict=True)}
        if std is not None:
            values |= {f"{axis}_std": float(value) for axis, value in zip(AXES, std, strict=True)}
        return replace(self, **values)  # type: ignore[arg-type]

    def row(self) -> dict[str, Any]:
        """The row that `mmmos score` writes: JSON values only, null for what is not a number."""
        row: dict[str, Any] = {name: _json_value(getattr(self, name)) for name in _ROW_ORDER}
        row["status"] = self.status
        row["error"] = None if self.error is None else {"code": self.error.code, "message": self.error.message}
        if self.provenance is not None:
            row |= {field.name: getattr(self.provenance, field.name) for field in fields(Provenance)}
        return row


_ROW_ORDER = (
    *("id", "path", "start_time", "end_time", "sample_rate", "channels", "duration"),
    *("stream", "file_bytes", "file_mtime"),
    *AXES,
    *(f"{axis}_std" for axis in AXES),
    *("scale", "domain"),
    *(f"{axis}_basis" for axis in AXES),
    *("n_windows", "warnings"),
)


def file_state(path: str | None) -> tuple[int | None, float | None]:
    """Size in bytes and time of the last change (s since 1970, to a microsecond) of a local file, else two None."""
    try:
        state = os.stat(path or "")
    except (OSError, ValueError):
        return None, None
    return (state.st_size, round(state.st_mtime, 6)) if stat.S_ISREG(state.st_mode) else (None, None)


def _two_digits(score: float) -> str:
    return f"{score:.2f}" if math.isfinite(score) else "-"


def _one_line(text: str) -> str:
    """Text without line breaks and what else moves a cursor."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Scale:
    """The affine map between a model's z units and the label scale, one pair a axis.

    Fitted on training rows only and saved with the model, so that a score can always be put back on
    the scale that people rated on.

    >>> scale = Scale.fit(np.array([[2.0, 2.0, 1.0, 4.0], [4.0, 6.0, 3.0, 8.0]]))
    >>> scale.to_labels(np.zeros((1, 4))).tolist()
    [[3.0, 4.0, 2.0, 6.0]]
    """

    mean: tuple[float, ...]  # [A], label units
    std: tuple[float, ...]  # [A], label units, ddof 1 as pandas computes it

    def __post_init__(self) -> None:
        if len(self.mean) != len(AXES) or len(self.std) != len(AXES):
            raise ValueError(f"a scale has {len(AXES)} means and {len(AXES)} deviations")
        if not all(math.isfinite(x) for x in self.mean) or not all(0 < x < math.inf for x in self.std):
            raise ValueError("a scale needs finite means and positive deviations")

    @classmethod
    def fit(cls, labels: NDArray[np.floating]) -> Scale:
        """Mean and deviation of the labels [N, A], NaN labels left out.

        An axis with fewer than two distinct labels has no deviation of its own and gets 1; one
        without any label gets the middle of the label range.
        """
        mean, std = [], []
        for column in np.asarray(labels, dtype=np.float64).T:
            known = column[np.isfinite(column)]
            mean.append(float(known.mean()) if len(known) else sum(LABEL_RANGE) / 2)
            deviation = float(known.std(ddof=1)) if len(np.unique(known)) > 1 else 0.0
            std.append(deviation if deviation > 0 else 1.0)
        return cls(tuple(mean), tuple(std))

    def to_z(self, labels: NDArray[np.floating]) -> NDArray[np.floating]:
        """Labels [..., A] in z units."""
        z: NDArray[np.floating] = (np.asarray(labels) - np.array(self.mean)) / np.array(self.std)
        return z

    def to_labels(self, z: NDArray[np.floating]) -> NDArray[np.floating]:
        """Back from z units [..., A] to the label scale."""
        labels: NDArray[np.floating] = np.asarray(z) * np.array(self.std) + np.array(self.mean)
        return labels


SHOWN = ("PQ", "PC", "CE", "CU")
"""The order of the axes for people, as the paper prints them."""
