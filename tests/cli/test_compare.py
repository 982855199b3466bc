"""`mmmos compare` and `mmmos.compare` as a user meets them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mmmos
from mmmos.scores import AXES, Scores

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(run_mmmos: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`run("compare", "a.csv", "b.csv")` in a folder with the rows of two systems, half a point apart."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    quality = rng.uniform(3, 7, 30)
    for name, shift in (("a", 0.5), ("b", 0.0)):
        lines = [f"id,song,codec,{','.join(AXES)}"]
        for i, value in enumerate(quality):
            scores = value + shift + rng.normal(0, 0.1, 4)
            lines.append(f"{i}.wav,song{i // 3},{name}{i % 2},{','.join(map(str, scores))}")
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return run_mmmos


def test_compare_in_a_pipe_is_json(run: Run):
    status, out, err = run("compare", "new=a.csv", "old=b.csv", "--detect", "0.1")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert report["sentence"].startswith("On 30 pairs of clips, new scores higher than old on PQ (+0.5")
    assert [(item["axis"], item["n"], item["detect"]) for item in report["differences"]] == [
        (axis, 30, 0.1) for axis in ("PQ", "PC", "CE", "CU")
    ]
    first = report["differences"][0]
    assert first["low"] < 0.5 < first["high"]
    assert first["effect"] == pytest.approx(first["difference"] / first["deviation"], rel=1e-6)
    assert first["clips_for_detect"] > 10


def test_compare_on_a_terminal_begins_with_a_sentence(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    status, out, _ = run("compare", "a.csv", "b.csv")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].startswith("On 30 pairs of clips, a scores higher than b on PQ")
    assert lines[2:4] == ["A  a", "B  b"]
    assert max(map(len, lines[2:])) <= 100
    assert [line.split()[:3] for line in lines[5:]] == [[axis, "all", "30"] for axis in ("PQ", "PC", "CE", "CU")]
    assert all(line.split()[-2] == "<.001" for line in lines[5:])


@pytest.mark.slow
def test_compare_writes_csv(run: Run, tmp_path: Path):
    assert run("compare", "a.csv", "b.csv", "-o", "c.csv")[:2] == (0, "")
    rows = list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    assert [row["axis"] for row in rows] == ["PQ", "PC", "CE", "CU"]
    assert float(rows[0]["difference"]) == pytest.approx(0.5, abs=0.1)
    status, _, err = run("compare", "a.csv", "b.csv", "-o", "c.csv")
    assert (status, "c.csv exists" in err) == (2, True)
    status, _, err = run("compare", "a.csv", "b.csv", "-o", "a.csv", "--overwrite")
    assert (status, "is an input" in err) == (2, True)


def test_compare_splits_and_groups_by_columns(run: Run):
    _, out, err = run("compare", "a.csv", "--split", "codec", "--group", "song")
    report = json.loads(out)
    assert report["systems"] == ["a0", "a1"]
    assert {(item["paired"], item["n"], item["n_second"]) for item in report["differences"]} == {(False, 10, 10)}
    assert "different clips" in err
    status, _, err = run("compare", "a.csv", "b.csv", "--group", "singer")
    assert (status, "has no singer; its columns are id, song" in err) == (2, True)


def test_compare_needs_two_systems(run: Run, tmp_path: Path):
    status, _, err = run("compare", "a.csv")
    assert (status, "at least two systems" in err) == (2, True)
    (tmp_path / "empty").mkdir()
    status, _, err = run("compare", "a.csv", "empty")
    assert (status, "empty has no audio and is not the folder of a run" in err) == (2, True)


def test_python_compare_equals_the_command(run: Run, tmp_path: Path):
    _, out, _ = run("compare", "a.csv", "b.csv")
    assert mmmos.compare(["a.csv", tmp_path / "b.csv"]).to_json() == json.loads(out)
    scores = [Scores(id=str(i)).with_axes(np.full(4, 5.0 + i)) for i in range(4)]
    found = mmmos.compare({"a": scores, "b": scores}, detect=1)
    assert "no difference is found between a and b" in str(found)


@pytest.mark.slow
def test_compare_scores_folders_of_audio(run: Run, make_file: Callable[..., Path], tmp_path: Path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for name in "xy":
            make_file(f"{folder}/{name}.wav", seconds=1.0)
    status, out, _ = run("compare", "one", "two")
    report = json.loads(out)
    assert (status, report["scale"]) == (0, "0-10")
    assert {(item["paired"], item["n"], item["difference"]) for item in report["differences"]} == {(True, 2, 0.0)}
