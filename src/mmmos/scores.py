"""The four axes and their order, the scores of a clip, and their scale."""

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
"""The order of the axes in every array. Files are read and written by name, never by position."""

AXIS_NAMES = {
    "CE": "Content Enjoyment",
    "CU": "Content Usefulness",
    "PC": "Production Complexity",
    "PQ": "Production Quality",
}

BASES = {
    "human": "the model was trained on people's ratings of such clips on this axis",
    "distilled-human": "a teacher model trained on people's ratings, and people's ranking in another kind of test",
    "constructed": "synthetic degradations of known severity, and ratings of other clip types",
    "derived": "the clip's other scores, by the correlation of the axes in ratings of such clips",
}
"""The kinds of evidence for a score, strongest first."""

LabelRange = tuple[float, float]
"""Lowest and highest rating of a listening test."""

LABEL_RANGE: LabelRange = (0.0, 10.0)
"""The range of AES ratings, and of every model without a range of its own (`ModelInfo.label_range`)."""


def scale_name(label_range: LabelRange) -> str:
    """The name of a rating scale in rows, tables and cards.

    >>> scale_name((0.0, 10.0)), scale_name((1.0, 5.0)), scale_name((-3.0, 3.0))
    ('0-10', '1-5', '-3 to 3')
    """
    low, high = label_range
    return f"{low:g}-{high:g}" if low >= 0 else f"{low:g} to {high:g}"


_NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"


def parse_scale(name: str) -> LabelRange | None:
    """The range of a name by `scale_name`; None for any other text.

    >>> parse_scale("0-10"), parse_scale("-3 to 3"), parse_scale("stars")
    ((0.0, 10.0), (-3.0, 3.0), None)
    """
    found = re.fullmatch(rf"({_NUMBER})(?:-| to )({_NUMBER})", name)
    return (float(found[1]), float(found[2])) if found else None


@dataclass(frozen=True)
class ClipError:
    """Why a clip has no score: a code of `errors.AUDIO_ERROR_CODES` and a message."""

    code: str
    message: str


@dataclass(frozen=True)
class Provenance:
    """The origin of a score; part of every row."""

    model: str  # name, folder or hub id as given by the user
    model_sha256: str  # of all weights and settings that affect the scores
    version: str  # of this package
    device: str  # of the encoders, "cpu" or "cuda:0"
    dtype: str  # precision that the encoders actually used
    calibrated: bool  # whether the scores were validated against raters outside the training data
    commercial_use: bool  # whether the licences of weights and training data allow it


@dataclass(frozen=True)
class Scores:
    """A clip's four scores on the rating scale of the model, and facts about the clip.

    Scores are NaN if the clip could not be read (see `error`) or is silent (see `warnings`). `*_std` is the
    standard deviation over the members of an ensemble, NaN for a single model.

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
    scale: str | None = None  # rating scale of the scores, "0-10" (`scale_name`); None if unknown
    domain: str | None = None  # "speech", "music" or "sound", if the model classifies domains
    CE_basis: str | None = None  # the evidence for the score, a key of `BASES`
    CU_basis: str | None = None
    PC_basis: str | None = None
    PQ_basis: str | None = None
    id: str = ""  # from the manifest, else the path as given
    path: str | None = None  # None for an array
    start_time: float = 0.0  # s, of the segment that was scored
    end_time: float = math.nan  # s
    sample_rate: int | None = None  # Hz, the file's own
    channels: int | None = None  # the file's own, before the downmix
    duration: float = math.nan  # s, of the whole file
    stream: int = 0  # which of the file's audio streams
    file_bytes: int | None = None  # size of the file; None for an array or an address
    file_mtime: float | None = None  # s since 1970, time of the last change
    n_windows: int = 0
    warnings: tuple[str, ...] = ()
    error: ClipError | None = None
    provenance: Provenance | None = None
    origin: str = field(default="", compare=False)  # "scores.csv, line 12", for messages

    def __str__(self) -> str:
        """One line: the id, start and end in s if it starts after 0, the scores, the scale, the domain and warnings.

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
        segment = f" {self.start_time:g}-{end} s" * (self.start_time > 0)
        return _one_line(f"{self.id}{segment}: {axes}" + f" ({facts})" * bool(facts))

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
        """Score of one axis by its short name. Raises KeyError for any other name."""
        if axis not in AXES:
            raise KeyError(axis)
        value: float = getattr(self, axis)
        return value

    @property
    def status(self) -> str:
        """`"ok"` or `"error"`; a silent clip is ok and has no score."""
        return "ok" if self.error is None else "error"

    def with_axes(self, mean: NDArray[np.floating], std: NDArray[np.floating] | None = None) -> Scores:
        """A copy with these scores.

        Shape:
            - mean, std: [A] in the order of `AXES`, on the label scale
        """
        values = {axis: float(value) for axis, value in zip(AXES, mean, strict=True)}
        if std is not None:
            values |= {f"{axis}_std": float(value) for axis, value in zip(AXES, std, strict=True)}
        return replace(self, **values)  # type: ignore[arg-type]

    def row(self) -> dict[str, Any]:
        """The row that `mmmos score` writes: JSON values only, null instead of NaN and infinity."""
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
    """Size in bytes and time of the last change (s since 1970, to a microsecond) of a local file, else None, None."""
    try:
        state = os.stat(path or "")
    except (OSError, ValueError):
        return None, None
    return (state.st_size, round(state.st_mtime, 6)) if stat.S_ISREG(state.st_mode) else (None, None)


def _two_digits(score: float) -> str:
    return f"{score:.2f}" if math.isfinite(score) else "-"


def _one_line(text: str) -> str:
    """Text with line breaks and other control characters escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class Scale:
    """The affine map between a model's z units and the label scale, with one mean and std per axis.

    It is fitted on training rows only and saved with the model, so that outputs can always be converted back to the
    scale of the ratings.

    >>> scale = Scale.fit(np.array([[2.0, 2.0, 1.0, 4.0], [4.0, 6.0, 3.0, 8.0]]))
    >>> scale.to_labels(np.zeros((1, 4))).tolist()
    [[3.0, 4.0, 2.0, 6.0]]
    """

    mean: tuple[float, ...]  # [A], label units
    std: tuple[float, ...]  # [A], label units, ddof 1 as pandas computes it

    def __post_init__(self) -> None:
        if len(self.mean) != len(AXES) or len(self.std) != len(AXES):
            raise ValueError(f"a scale has {len(AXES)} means and {len(AXES)} standard deviations")
        if not all(math.isfinite(x) for x in self.mean) or not all(0 < x < math.inf for x in self.std):
            raise ValueError("a scale needs finite means and positive standard deviations")

    @classmethod
    def fit(cls, labels: NDArray[np.floating]) -> Scale:
        """Mean and standard deviation of the labels [N, A], ignoring NaN.

        An axis with fewer than two distinct labels gets a standard deviation of 1; an axis without labels
        also gets the middle of the label range as its mean.
        """
        mean, std = [], []
        for column in np.asarray(labels, dtype=np.float64).T:
            known = column[np.isfinite(column)]
            mean.append(float(known.mean()) if len(known) else sum(LABEL_RANGE) / 2)
            spread = float(known.std(ddof=1)) if len(np.unique(known)) > 1 else 0.0
            std.append(spread if spread > 0 else 1.0)
        return cls(tuple(mean), tuple(std))

    def to_z(self, labels: NDArray[np.floating]) -> NDArray[np.floating]:
        """Labels [..., A] in z units."""
        z: NDArray[np.floating] = (np.asarray(labels) - np.array(self.mean)) / np.array(self.std)
        return z

    def to_labels(self, z: NDArray[np.floating]) -> NDArray[np.floating]:
        """Values [..., A] in z units on the label scale."""
        labels: NDArray[np.floating] = np.asarray(z) * np.array(self.std) + np.array(self.mean)
        return labels


SHOWN = ("PQ", "PC", "CE", "CU")
"""The order of the axes in output for people, as in the paper."""
