"""Labels of a listening test: bias, reliability, raters needed, against references."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmmos.data.answers import Answer
from mmmos.data.labels import read_labels
from mmmos.evaluation.ceiling import reliability
from mmmos.evaluation.raters import rate, rater_biases, raters_needed

Run = Callable[..., tuple[int, str, str]]


def answers(ratings: np.ndarray) -> list[Answer]:
    """One answer for each rating [clips, raters] that is not NaN."""
    return [
        Answer(f"{i}.wav", f"r{j}", float(ratings[i, j]), 0)
        for i in range(len(ratings))
        for j in range(ratings.shape[1])
        if np.isfinite(ratings[i, j])
    ]


def simulated(clips: int, raters: int, missing: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratings, the true scores and the biases."""
    rng = np.random.default_rng(0)
    true, bias = rng.normal(0, 1, clips), rng.normal(0, 0.7, raters)
    ratings = true[:, None] + bias + rng.normal(0, 0.5, (clips, raters))
    ratings[rng.random(ratings.shape) < missing] = np.nan
    return ratings, true, bias


def test_rater_biases_are_those_of_least_squares():
    ratings, _, _ = simulated(30, 6, missing=0.5)
    clip, rater = np.nonzero(np.isfinite(ratings))
    scores = ratings[clip, rater]
    design = np.hstack([np.eye(30)[clip], np.eye(6)[rater]])
    expected = np.linalg.lstsq(design, scores)[0][30:]
    expected -= expected[rater].mean()
    assert rater_biases(scores, clip, rater) == pytest.approx(expected, abs=1e-8)


def test_rate_with_bias_removed_is_nearer_to_the_truth():
    ratings, true, _ = simulated(200, 12, missing=0.7)
    error = {}
    for removed in (False, True):
        found, summary = rate(answers(ratings), remove_bias=removed)
        index = [int(clip.clip.removesuffix(".wav")) for clip in found]
        residual = np.array([clip.mean for clip in found]) - true[index]
        error[removed] = residual.std()
        assert summary.bias_removed is removed
    assert error[True] < 0.75 * error[False]


def test_summary_of_a_complete_table_equals_the_ceiling():
    ratings, _, bias = simulated(100, 8)
    found, summary = rate(answers(ratings))
    assert [clip.mean for clip in found] == pytest.approx(ratings.mean(1))
    assert summary.reliability == pytest.approx(reliability(ratings))
    assert summary.ceiling_lcc == pytest.approx(math.sqrt(reliability(ratings)))
    between, within = 8 * ratings.mean(1).var(ddof=1), ratings.var(axis=1, ddof=1).mean()
    assert summary.single == pytest.approx((between - within) / (between + 7 * within))  # Shrout and Fleiss, ICC(1,1)
    assert summary.bias_std == pytest.approx(bias.std(ddof=1), abs=0.1)


def test_raters_needed_reach_the_reliability():
    single = 0.3
    for target in (0.8, 0.9):
        n = raters_needed(single, target) or 0
        assert n * single / (1 + (n - 1) * single) >= target > (n - 1) * single / (1 + (n - 2) * single)
    assert raters_needed(math.nan, 0.8) is None


def test_rate_of_one_rater_is_undefined():
    found, summary = rate(answers(np.array([[1.0], [4.0], [3.0]])))
    assert [clip.mean for clip in found] == [1, 4, 3]
    values = summary.to_json()
    undefined = ("reliability", "single", "ceiling_lcc", "ceiling_mse", "bias_std")
    assert {values[name] for name in undefined} == {None}
    assert set(summary.raters_needed.values()) == {None}


def test_rate_of_constant_ratings_is_undefined():
    assert rate(answers(np.full((5, 3), 4.0)))[1].to_json()["reliability"] is None


def test_ratings_command_writes_a_list_of_labels(run_mmmos: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    lines = [
        "path,rater,score,system",
        *(f"{i}.wav,r{j},{1 + (i + j) % 5},s{i % 2}" for i in range(6) for j in range(3)),
    ]
    Path("a.csv").write_text("\n".join(lines))
    status, out, err = run_mmmos("ratings", "a.csv", "-o", "labels.csv", "--scale", "1", "5", "--axis", "CE")
    assert status == 0, err
    report = json.loads(out)
    assert (report["clips"], report["raters"], report["ratings"], report["axis"]) == (6, 3, 18, "CE")
    assert "18 ratings of 6 clips by 3 raters" in err
    rows = read_labels("labels.csv", label_range=(1, 5))
    assert [row.system for row in rows] == ["s0", "s1"] * 3
    assert rows[0].labels[0] == pytest.approx(2)
    status, _, err = run_mmmos("ratings", "a.csv", "-o", "labels.csv", "--scale", "1", "5")
    assert (status, "labels.csv exists" in err) == (2, True)
    status, _, err = run_mmmos("ratings", "a.csv", "-o", "b.csv", "--scale", "1", "4")
    assert (status, "5 is outside the scale 1-4" in err) == (2, True)
    Path("a.csv").write_text("\n".join([*lines, "5.wav,r0,3,s1"]))
    status, out, err = run_mmmos("ratings", "a.csv", "-o", "b.csv", "--scale", "1", "5")
    assert (status, json.loads(out)["ratings"], json.loads(out)["list"]["left_out"]) == (0, 18, 1)
    assert "line 20: r0 has rated 5.wav in line 17: this row is left out" in err
    status, _, err = run_mmmos("ratings", "a.csv", "-o", "c.csv", "--scale", "1", "5", "--strict")
    assert (status, "line 20: r0 has rated 5.wav in line 17" in err, Path("c.csv").exists()) == (2, True, False)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["a.wav,r1,3", "b.wav,r1,4"], "2 ratings of 2 clips by 1 rater\nmmmos: no clip has two raters: reliability"),
        (
            ["a.wav,r1,3", "a.wav,r2,3", "b.wav,r1,3"],
            "by 2 raters\nmmmos: the means of the clips do not differ: reliab",
        ),
    ],
    ids=["one_rater", "constant"],
)
def test_ratings_command_says_why_there_is_no_ceiling(rows: list[str], words: str, run_mmmos: Run, tmp_path: Path):
    (tmp_path / "a.csv").write_text("\n".join(["path,rater,score", *rows]))
    status, out, err = run_mmmos("ratings", tmp_path / "a.csv", "-o", tmp_path / "b.csv", "--scale", "1", "5")
    assert (status, json.loads(out)["reliability"]) == (0, None)
    assert words in err


def test_ratings_command_prints_a_sentence_on_a_terminal(
    run_mmmos: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", terminal)
    (tmp_path / "a.csv").write_text("path,rater,score\na.wav,r1,3\na.wav,r2,4\n")
    assert run_mmmos("ratings", tmp_path / "a.csv", "-o", tmp_path / "b.csv", "--scale", "1", "5")[0] == 0
    assert terminal.getvalue() == f"{tmp_path}/b.csv: 1 clip with a mean rating of PQ\n"
