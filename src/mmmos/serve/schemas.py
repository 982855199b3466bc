"""The service's answers, as its OpenAPI document describes them. docs/ROWS.md explains the columns of a row."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmmos.errors import AUDIO_ERROR_CODES
from mmmos.scores import AXIS_NAMES, BASES

Score = Annotated[float | None, Field(description="On the model's scale; null if there is none.")]
Spread = Annotated[float | None, Field(description="Standard deviation over the ensemble's members; null for one.")]
Basis = Annotated[str | None, Field(description=f"The evidence for the score: {', '.join(BASES)}.")]


class Strict(BaseModel):
    """An object without other fields."""

    model_config = ConfigDict(extra="forbid")


class RowError(Strict):
    """Why a clip has no scores."""

    code: str = Field(description=f"One of: {', '.join(AUDIO_ERROR_CODES)}.")
    message: str


class Row(Strict):
    """The scores of a clip, or of one of its windows."""

    id: str = Field(description="The name that the client gave.")
    path: None = Field(description="Always null: a client's names are not paths.")
    start_time: float = Field(description="s")
    end_time: float | None = Field(description="s")
    sample_rate: int | None = Field(description="Hz, of the file")
    channels: int | None
    duration: float | None = Field(description="s, of the whole file")
    stream: int
    file_bytes: int | None
    file_mtime: None = Field(description="Always null.")
    CE: Score = Field(description=AXIS_NAMES["CE"])
    CU: Score = Field(description=AXIS_NAMES["CU"])
    PC: Score = Field(description=AXIS_NAMES["PC"])
    PQ: Score = Field(description=AXIS_NAMES["PQ"])
    CE_std: Spread
    CU_std: Spread
    PC_std: Spread
    PQ_std: Spread
    scale: str | None = Field(description="As 0-10.")
    domain: str | None = Field(description="speech, music or sound, if the model has domains.")
    CE_basis: Basis
    CU_basis: Basis
    PC_basis: Basis
    PQ_basis: Basis
    n_windows: int
    warnings: list[str]
    status: Literal["ok", "error"]
    error: RowError | None
    model: str
    model_sha256: str
    version: str
    device: str
    dtype: str
    calibrated: bool
    commercial_use: bool
    backend: str
    calibrated_on: str | None = Field(description="The ratings that a calibrated model was fitted to.")


class ClipOutline(Strict):
    """What a picture of the waveform needs."""

    seconds: float = Field(description="Time between two peaks, s.")
    peaks: list[float] = Field(description="Largest magnitude of each time, from 0 to 1.")
    loudness: float | None = Field(description="LUFS of the downmix, as in ITU-R BS.1770; null for silence.")


class ClipRow(Row):
    """The scores of a clip, with what the request asked for in addition."""

    segments: list[Row] | None = Field(None, description="With segments=true: a row for each 10-second window.")
    outline: ClipOutline | None = Field(None, description="With outline=true.")


class ScoreResponse(Strict):
    """A row for each clip, in the order of the request."""

    rows: list[ClipRow]


class Reason(Strict):
    """Why a request was refused."""

    code: str
    message: str


class Problem(Strict):
    """The answer to a request that was refused."""

    error: Reason


class Model(Strict):
    """The model, for the page."""

    name: str
    sha256: str
    version: str
    scale: list[float] = Field(description="Lowest and highest rating.")
    calibrated: bool
    commercial_use: bool


class Phrases(Strict):
    """What codes mean, in words."""

    axes: dict[str, list[str]] = Field(description="Name and meaning by axis, in the order in which they are shown.")
    warnings: dict[str, str]
    errors: dict[str, str]
    bases: dict[str, str]


class About(Strict):
    """What the page needs to know of the service."""

    model: Model
    phrases: Phrases
    limits: dict[str, float]
    token_required: bool
    samples: dict[str, str] = Field(description="Titles of the clips in /static/samples/, by file name.")


class Health(Strict):
    """The state of the service."""

    status: Literal["ok"]


def form_and_raw_body() -> dict[str, Any]:
    """The body of `POST /v1/score` in OpenAPI, which FastAPI cannot derive: a form of files, or one file."""
    raw = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
    form = {"type": "object", "required": ["file"], "properties": {"file": files}, "additionalProperties": False}
    return {"required": True, "content": {"multipart/form-data": {"schema": form}, "application/octet-stream": raw}}


def progress_lines() -> dict[str, Any]:
    """The answer to `POST /v1/score?progress=true` in OpenAPI, which has no word for lines of JSON."""
    text = (
        'Lines of JSON: {"progress": [{"seconds", "duration"}, ...]}, the time up to which each clip has been scored'
        " and its length in s, null while it is not known;"
        ' the last line is {"rows": [...]} or {"error": {"code", "message"}}.'
    )
    return {"schema": {"type": "string", "description": text}}


def refusals(**reasons: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's responses of a route: `refusals(_413="...")`."""
    return {int(name[1:]): {"model": Problem, "description": text} for name, text in reasons.items()}
