"""Answers of listening tests: one rating of one clip by one rater, from the files of the usual test programs.

| form | what it is | a row |
|---|---|---|
| long | own tables | `path` (or `id`), `rater`, `score` |
| wide | own tables | `path` (or `id`), and a column per rater |
| webmushra | webMUSHRA's `mushra.csv` | `session_uuid`, `trial_id`, `rating_stimulus`, `rating_score` |
| p808_votes | `..._votes_per_worker.csv` of the ITU-T P.808 toolkit | `workerid`, `file`, `vote` |
| p808 | the answers of a crowd platform that the toolkit reads | `WorkerId`, `Answer.Q0`, `Answer.Q0_url`, ... |

In webMUSHRA a stimulus is a key of the test's configuration; a pattern such as `audio/{trial}_{stimulus}.wav` gives its
path. Trapping and gold clips of P.808 answers (`Input.TP`, `Input.gold_clips`, ...) are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmmos.data.columns import ID_COLUMNS, PATH_COLUMNS, RATER_COLUMNS, TEXT_COLUMNS
from mmmos.errors import ManifestError, UsageError
from mmmos.io.delimited import finite_number
from mmmos.io.lists import OnBadRow, read_rows, refuse
from mmmos.scores import LabelRange, scale_name
from mmmos.wording import counted

SCORE_COLUMNS = ("score", "rating", "vote", "mos")
"""Accepted names of the rating, in long tables."""

_CLIP_COLUMNS = (*PATH_COLUMNS, *ID_COLUMNS, "clip")
_WEBMUSHRA = {"session_uuid", "trial_id", "rating_stimulus", "rating_score"}
_QUESTION = re.compile(r"answer\.(q\d+)", re.IGNORECASE)
_CONTROL = re.compile(r"input\.(tp|trap\w*|gold\w*)", re.IGNORECASE)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """One rating."""

    clip: str  # a path
    rater: str
    score: float
    line: int
    text: tuple[tuple[str, str], ...] = ()  # system, domain, group ... of the clip


def read_answers(
    path: Path,
    label_range: LabelRange | None = None,
    paths: str | None = None,
    form: str = "auto",
    on_bad_row: OnBadRow = refuse,
) -> list[Answer]:
    """The answers of a file; `form` is seen from its columns by default, `paths` is the pattern for webMUSHRA.

    `on_bad_row` gets the `ManifestError` of a row with a score that is not a number, without a clip or a rater, or with
    a rating that its rater has given before; by default it is raised, and so it always is for a score outside
    `label_range`, as the range may be wrong. Raises `UsageError` for columns of no known form.
    """
    bad: list[ManifestError] = []

    def leave_out(error: ManifestError) -> None:
        on_bad_row(error)
        bad.append(error)

    rows = list(read_rows(path, on_bad_row=leave_out, known=(*_CLIP_COLUMNS, *SCORE_COLUMNS)))
    if not rows:
        raise ManifestError(f"{path}: there is no answer")
    columns = list(rows[0][1])
    chosen = _form_of(columns, path) if form == "auto" else form
    if chosen not in FORMS:
        raise UsageError(f"no form of answers is called {chosen!r}; there are {', '.join(FORMS)}")
    if (chosen == "webmushra") != (paths is not None):
        raise UsageError(
            f"{path}: answers of webMUSHRA need --paths, as 'audio/{{trial}}_{{stimulus}}.wav'"
            if chosen == "webmushra"
            else f"{path}: --paths is for answers of webMUSHRA; these are {chosen}"
        )
    answers: dict[tuple[str, str], Answer] = {}
    for line, row in rows:
        try:
            found = _of_row(FORMS[chosen], row, path, line, paths or "")
            _check_first(found, answers, path)
        except ManifestError as error:
            leave_out(error)
            continue
        _check_range(found, path, label_range)
        answers |= {(answer.clip, answer.rater): answer for answer in found}
    if not answers:
        left_out = f" ({counted(len(bad), 'row')} left out); the first: {bad[0]}" if bad else ""
        raise ManifestError(f"{path}: no row has a rating{left_out}")
    return list(answers.values())


def _of_row(form: Form, row: Row, path: Path, line: int, paths: str) -> list[Answer]:
    """The answers in a row. Raises `ManifestError` for a bad one."""
    answers = []
    text = tuple((name, str(row[name])) for name in TEXT_COLUMNS if row.get(name) not in (None, ""))
    for clip, rater, score in form(row, paths):
        if score in (None, ""):
            continue
        value = finite_number(score)
        if math.isnan(value):
            raise ManifestError(f"{path}, line {line}: the score is not a number: {score!r}")
        if not clip or not rater:
            raise ManifestError(f"{path}, line {line} has no {'clip' if not clip else 'rater'}")
        answers.append(Answer(clip, rater, value, line, text))
    return answers


def _check_first(found: Sequence[Answer], known: Mapping[tuple[str, str], Answer], path: Path) -> None:
    """Raise `ManifestError` for a clip that its rater has rated before."""
    in_row: dict[tuple[str, str], Answer] = {}
    for answer in found:
        key = answer.clip, answer.rater
        if earlier := known.get(key) or in_row.get(key):
            rated = f"{answer.rater} has rated {answer.clip}"
            raise ManifestError(f"{path}, line {answer.line}: {rated} in line {earlier.line}")
        in_row[key] = answer


def _check_range(found: Sequence[Answer], path: Path, label_range: LabelRange | None) -> None:
    for answer in found:
        if label_range and not label_range[0] <= answer.score <= label_range[1]:
            outside = f"{answer.score:g} is outside the scale {scale_name(label_range)}; does the test have another?"
            raise ManifestError(f"{path}, line {answer.line}: {outside}")


def _form_of(columns: Sequence[str], path: Path) -> str:
    """The form of a table, by its columns. Raises `UsageError`."""
    lower = {name.lower() for name in columns}
    if lower >= _WEBMUSHRA - {"session_uuid"}:
        return "webmushra"
    if {"workerid", "file", "vote"} <= lower:
        return "p808_votes"
    if any(_QUESTION.fullmatch(name) for name in columns):
        return "p808"
    has_clip = bool({*columns} & {*_CLIP_COLUMNS})
    if has_clip and {*columns} & {*SCORE_COLUMNS} and {*columns} & {*RATER_COLUMNS}:
        return "long"
    if has_clip and len(_rater_columns(columns)) > 1 and not {*columns} & {*RATER_COLUMNS}:
        return "wide"
    raise UsageError(
        f"{path}: its columns ({', '.join(columns)}) are not those of ratings; give path, rater and score, or path and"
        " a column per rater, or the file of webMUSHRA or of the P.808 toolkit"
    )


def _rater_columns(columns: Iterable[str]) -> list[str]:
    """The columns of a wide table that hold ratings."""
    return [name for name in columns if name not in (*_CLIP_COLUMNS, *TEXT_COLUMNS)]


def _long(row: Row, _: str) -> Iterable[tuple[str, str, Any]]:
    yield _first(row, _CLIP_COLUMNS), _first(row, RATER_COLUMNS), _first(row, SCORE_COLUMNS)


def _wide(row: Row, _: str) -> Iterable[tuple[str, str, Any]]:
    for name in _rater_columns(row):
        yield _first(row, _CLIP_COLUMNS), name, row[name]


def _webmushra(row: Row, paths: str) -> Iterable[tuple[str, str, Any]]:
    try:
        clip = paths.format(trial=row["trial_id"], stimulus=row["rating_stimulus"])
    except (KeyError, IndexError, ValueError) as error:
        raise UsageError(f"--paths {paths!r} may hold {{trial}} and {{stimulus}}, and no other braces") from error
    rater = _first(row, ("session_uuid", "participant_id", "email", *RATER_COLUMNS))
    yield clip, rater, row["rating_score"]


def _p808_votes(row: Row, _: str) -> Iterable[tuple[str, str, Any]]:
    lower = {name.lower(): value for name, value in row.items()}
    yield str(lower["file"] or ""), str(lower["workerid"] or ""), lower["vote"]


def _p808(row: Row, _: str) -> Iterable[tuple[str, str, Any]]:
    lower = {name.lower(): value for name, value in row.items()}
    if str(lower.get("assignmentstatus") or "").lower() == "rejected":
        return
    control = {str(value) for name, value in lower.items() if _CONTROL.fullmatch(name) and value}
    for name, value in lower.items():
        url = str(lower.get(f"{name}_url") or lower.get(name.replace("answer.", "input."), "") or "")
        if _QUESTION.fullmatch(name) and url not in control:
            yield url, str(lower.get("workerid") or ""), value


def _first(row: Row, names: Iterable[str]) -> str:
    return next((str(row[name]).strip() for name in names if row.get(name) not in (None, "")), "")


Form = Callable[[Row, str], Iterable[tuple[str, str, Any]]]
FORMS: dict[str, Form] = {
    "long": _long,
    "wide": _wide,
    "webmushra": _webmushra,
    "p808_votes": _p808_votes,
    "p808": _p808,
}
"""Clip, rater and score of a row, by the form of its table."""
