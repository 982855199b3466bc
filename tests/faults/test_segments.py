"""Segments that their clips do not have, and lists that are empty, broken or out of order."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from mmmos.inference.predictor import Predictor
from mmmos.model.load import load_model
from tests.faults.conftest import TOLERANCE, Mmmos, WriteWave, axes
from tests.sounds import SAMPLES

MakeFile = Callable[..., Path]


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Path]:
    """`listed({"path": ...}, ...)` writes a list of clips as JSONL."""

    def write(*rows: dict[str, Any], name: str = "clips.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def sound(make_file: MakeFile) -> str:
    return str(make_file("sound.wav", seconds=3.0))


@pytest.mark.slow
def test_19_segment_past_the_end(score_between: Mmmos, make_file: MakeFile, listed: Callable[..., Path]) -> None:
    rows: list[dict[str, Any]] = [{"path": str(SAMPLES / "music_tabla.m4a"), "start_time": 9}]
    for suffix in ("wav", "flac", "mp3", "ogg"):
        path = str(make_file(f"sound.{suffix}", seconds=3.0))
        rows += [{"path": path, "start_time": 4}, {"path": path, "start_time": 60, "end_time": 61.5}]
    run = score_between(listed(*rows))
    assert run.codes == ["segment_out_of_range"] * 9
    assert [row["start_time"] for row in run.rows] == [row["start_time"] for row in rows]
    assert run.status == 1


@pytest.mark.slow
def test_19_segment_that_ends_past_the_end_is_clamped(
    score_between: Mmmos, sound: str, listed: Callable[..., Path]
) -> None:
    run = score_between(listed({"path": sound, "start_time": 0.5, "end_time": 4}, {"path": sound, "start_time": 0.5}))
    assert [row["warnings"] for row in run.rows] == [["segment_clamped"], []]
    assert [row["end_time"] for row in run.rows] == [3.0, 3.0]
    assert axes(run.rows[0]) == axes(run.rows[1])
    assert run.status == 0


@pytest.mark.slow
def test_20_float_start_and_open_end(
    score_between: Mmmos, sound: str, listed: Callable[..., Path], write_wave: WriteWave
) -> None:
    samples, rate = soundfile.read(sound)
    parts = write_wave("closed.wav", samples[4_000:28_000]), write_wave("open.wav", samples[4_000:])
    rows = {"path": sound, "start_time": 0.25, "end_time": 1.75}, {"path": sound, "start_time": 0.25}
    run = score_between(listed(*rows), *parts)
    assert rate == 16_000
    assert [(row["start_time"], row["end_time"], row["duration"]) for row in run.rows[:2]] == [
        (0.25, 1.75, 3.0),
        (0.25, 3.0, 3.0),
    ]
    for segment, part in zip(run.rows[:2], run.rows[2:], strict=True):
        assert axes(segment) == pytest.approx(axes(part), abs=TOLERANCE)
    assert run.status == 0


@pytest.mark.slow
def test_20_segment_that_is_none(score_between: Mmmos, sound: str, listed: Callable[..., Path]) -> None:
    segments = [(2.0, 1.0), (1.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (0.0, math.inf)]
    run = score_between(listed(*({"path": sound, "start_time": start, "end_time": end} for start, end in segments)))
    assert run.codes == ["bad_segment"] * 5
    assert run.status == 1


@pytest.mark.slow
def test_23_empty_list(mmmos: Mmmos, score_between: Mmmos, tmp_path: Path) -> None:
    texts = {"a.jsonl": "", "b.jsonl": "\n \n", "c.csv": "path,id\n", "d.csv": "", "e.scp": ""}
    paths = [tmp_path / name for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    alone, among = mmmos("score", *paths), score_between(*paths)
    assert alone.rows == among.rows == []
    assert alone.status == among.status == 0
    assert f"nothing to score in {paths[0]}" in alone.notes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.jsonl", '{"path": "a.wav"}\n\n{"path": "b.wav"\n', "line 3"),
        ("b.jsonl", '{"path": "a.wav"}\n["b.wav"]\n', "line 2"),
        ("c.jsonl", '{"path": "a.wav"}\n{"file_name": "b.wav"}\n', "line 2"),
        ("d.jsonl", '{"path": "a.wav", "start_time": "soon"}\n', "line 1"),
        ("e.csv", "id,path\n1,a.wav\n2\n", "line 3"),
        ("f.scp", "a a.wav\nb sox b.wav -t wav - |\n", "line 2"),
    ],
)
def test_23_bad_line_of_a_list(mmmos: Mmmos, sound: str, tmp_path: Path, name: str, text: str, line: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    strict = mmmos("score", sound, path, "--strict")
    assert strict.rows == []
    assert strict.status == 2
    assert f"{path}, {line}" in strict.notes
    run = mmmos("score", sound, path)
    assert run.status == 1
    assert run.codes[0] is None  # the good clip before the list
    if path.suffix == ".scp":
        assert run.codes == [None, "not_found", "not_found"]
        assert "a command is never run" in run.rows[2]["error"]["message"]
    else:
        assert f"{path}, {line}" in run.notes
        assert "1 row of lists was left out" in run.notes


@pytest.mark.slow
def test_23_bad_line_is_reported_on_stderr_before_torch_loads(tmp_path: Path) -> None:
    path = tmp_path / "clips.jsonl"
    path.write_text("{\n")
    words = [sys.executable, "-X", "importtime", "-m", "mmmos", "score", path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"mmmos: {path}, line 1 is not JSON" in done.stderr
    assert "mmmos.data.manifest" in imported
    assert "torch" not in imported


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 4])
def test_31_rows_keep_order_id_and_path(
    mmmos: Mmmos,
    toy_folder: Path,
    make_file: MakeFile,
    listed: Callable[..., Path],
    tmp_path: Path,
    batch_size: int,
) -> None:
    rows = []
    for number, seconds in zip((5, 2, 9, 2, 7), (0.5, 21.0, 0.5, 11.0, 0.5), strict=True):
        rows.append({"id": f"clip {number}", "path": str(make_file(f"{len(rows)}.wav", seconds=seconds))})
    rows.insert(2, {"id": "lost", "path": str(tmp_path / "gone.wav")})
    run = mmmos("score", listed(*rows), "--model", toy_folder, "--batch-size", batch_size)
    assert [{"id": row["id"], "path": row["path"]} for row in run.rows] == rows
    assert [row["n_windows"] for row in run.rows] == [1, 3, 0, 1, 2, 1]
    assert run.codes == [None, None, "not_found", None, None, None]
    alone = Predictor(load_model(toy_folder)).score([row["path"] for row in rows])
    for row, scores in zip(run.rows, alone, strict=True):
        assert axes(row) == pytest.approx(axes(scores.row()), abs=TOLERANCE)
    assert run.status == 1
