"""The scores of a clip, and the row that is written of them."""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass, field, fields, replace
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmmos.scores.axes import AXES


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
    backend: str = "torch"  # what ran the encoders, "torch" or "openvino"
    calibrated_on: str | None = None  # the ratings that `mmmos calibrate` fitted the scores to


@dataclass(frozen=True)
class Scores:
    """A clip's four scores on the rating scale of the model, and facts about the clip.

    Scores are NaN if the clip could not be read (see `error`) or is silent (see `warnings`). `*_std` is the
    standard deviation over the members of an ensemble, of lite also of its known error; NaN where neither is known.

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
    others: tuple[tuple[str, Scores], ...] = ()  # of the same clip by other models, each with the start of its columns
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
        for start, scores in self.others:
            own = scores.row()
            row |= {f"{start}_{name}": own[name] for name in BY_MODEL if name in own}
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

BY_MODEL = (
    *AXES,
    *(f"{axis}_std" for axis in AXES),
    *("scale", "domain"),
    *(f"{axis}_basis" for axis in AXES),
    *("warnings", "error", "model", "model_sha256", "calibrated", "commercial_use"),
)
"""The columns of a row that may differ between models; those of another model begin with its name."""


def file_state(path: str | None) -> tuple[int | None, float | None]:
    """Size in bytes and time of the last change (s since 1970, to a microsecond) of a local file, else None, None.

    For `shard.tar::clip.flac`, a member of an archive, these are the archive's.
    """
    archive, member, _ = (path or "").partition(".tar::")
    try:
        state = os.stat(f"{archive}.tar" if member else archive)
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
