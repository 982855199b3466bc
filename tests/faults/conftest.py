"""Runs of `mmmos score` on bad input between good clips, in this process, and their results."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import soundfile

from mmmos import cli
from mmmos.encoders.table import open_encoder
from mmmos.errors import AUDIO_ERROR_CODES
from mmmos.inference.predictor import Predictor
from mmmos.model import load as models
from mmmos.model.folder import save_model
from mmmos.model.info import ModelInfo
from mmmos.scores import AXES
from tests.sounds import music
from tests.toys import ToyEncoder, toy_member

Row = dict[str, Any]
TOLERANCE = 1e-4
"""Points by which a clip's scores may differ from one run to another."""


@dataclass(frozen=True)
class Run:
    """What a command left behind."""

    status: int  # exit status
    rows: list[Row]  # stdout
    notes: str  # stderr

    @property
    def codes(self) -> list[str | None]:
        return [row["error"] and row["error"]["code"] for row in self.rows]


Mmmos = Callable[..., Run]


def strict_json(line: str) -> Row:
    """A line that a JSON parser reads which, unlike Python's, knows no NaN or Infinity."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(f"{word} is not JSON")

    row: Row = json.loads(line, parse_constant=refuse)
    return row


def axes(row: Row) -> list[float | None]:
    return [row[axis] for axis in AXES]


def check_row(row: Row) -> None:
    """An error row says why and has no score; any other has all four, unless the clip is silent."""
    if row["status"] == "error":
        assert row["error"]["code"] in AUDIO_ERROR_CODES
        assert row["error"]["message"]
        assert axes(row) == [None] * 4
    else:
        assert row["status"] == "ok"
        assert row["error"] is None
        if "silent" in row["warnings"]:
            assert axes(row) == [None] * 4
        else:
            assert all(0 < score < 10 for score in axes(row))


open_encoder_once = cache(open_encoder)


@pytest.fixture
def mmmos(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mmmos:
    """`mmmos("score", path)` runs the command; every line of its stdout is strict JSON."""

    def run(*words: object) -> Run:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["mmmos", *map(str, words)])
            patch.setattr(signal, "signal", lambda *_: None)  # the signals stay pytest's
            patch.setattr(models, "open_encoder", open_encoder_once)
            with pytest.raises(SystemExit) as ended:
                cli.main()
        out, notes = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Run(ended.value.code, [strict_json(line) for line in out.splitlines()], notes)

    return run


@pytest.fixture(scope="session")
def good_clips(tmp_path_factory: pytest.TempPathFactory, scorer: Predictor) -> dict[Path, list[float]]:
    """Two sound files with the scores that each has on its own."""
    folder = tmp_path_factory.mktemp("good")
    clips = {}
    for name, seconds in (("first.wav", 2.0), ("last.wav", 2.2)):
        soundfile.write(folder / name, music(seconds), 16_000)
        scores = scorer.score(folder / name)
        clips[folder / name] = [scores[axis] for axis in AXES]
    return clips


@pytest.fixture
def score_between(mmmos: Mmmos, good_clips: dict[Path, list[float]]) -> Mmmos:
    """`score_between(path)` scores path between the two good clips, which must keep their scores.

    Gives the rows of what stands between them.
    """

    def run(*words: object) -> Run:
        first, last = good_clips
        whole = mmmos("score", first, *words, last)
        for row, (path, scores) in zip((whole.rows[0], whole.rows[-1]), good_clips.items(), strict=True):
            assert row["path"] == str(path)
            assert row["warnings"] == []
            assert axes(row) == pytest.approx(scores, abs=TOLERANCE)
        for row in whole.rows:
            check_row(row)
        return Run(whole.status, whole.rows[1:-1], whole.notes)

    return run


@pytest.fixture
def toy_folder(toy_encoder: ToyEncoder, tmp_path: Path) -> Path:
    """A model folder on a toy encoder, for long clips."""
    folder = tmp_path / "toy-model"
    save_model(folder, toy_member(0), ModelInfo(), "A toy.\n")
    return folder


WriteWave = Callable[..., Path]


@pytest.fixture
def write_wave(tmp_path: Path) -> WriteWave:
    """`write_wave("a.wav", samples, rate=16_000)` writes [S] or [S, C] as they are, in 32-bit floats."""

    def write(name: str, samples: np.ndarray, rate: int = 16_000, subtype: str = "FLOAT") -> Path:
        path = tmp_path / name
        soundfile.write(path, samples, rate, subtype)
        return path

    return write
