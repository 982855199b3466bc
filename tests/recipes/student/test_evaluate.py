"""Agreement with listeners and orders on made-up scores, and the clips that are scored once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmmos.encoders.student import SCORES
from recipes.student.evaluate import columns, interval, on_codecs, on_orders, scored
from recipes.student.segments import COSTLY


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipes.student.evaluate.DRAWS", 60)


def test_sum_has_one_score_of_each_teacher() -> None:
    scores = np.random.default_rng(1).normal(size=(20, 7))
    z = (scores - scores.mean(0)) / scores.std(0)
    found = columns(scores, "who")
    np.testing.assert_allclose(found["who, sum"], z[:, 0] + z[:, 5] + z[:, 6])
    assert len(found) == len(SCORES) + 1


def test_codecs_report_the_better_sum() -> None:
    rng, signals = np.random.default_rng(2), np.repeat([f"s{i}" for i in range(10)], 6)
    mushra = rng.normal(size=60)
    good, bad = (mushra[:, None] + noise * rng.normal(size=(60, 7)) for noise in (0.1, 3))
    found = on_codecs(columns(bad, "teachers") | columns(good, "student"), signals, mushra)
    low, high = found["student's sum minus the teachers'"]
    assert 0 < low < high < 2
    low, high = found["student, mos"]["interval"]
    assert low <= found["student, mos"]["srcc"] <= high


def test_orders_compare_versions_of_one_degraded_recording() -> None:
    known = np.array([("0", "clean", "0"), ("0", "white", "1"), ("0", "white", "4"), ("1", "clean", "0")])
    known = np.concatenate([known, [("1", COSTLY[0], "2")]])
    right, wrong = np.array([5.0, 4, 3, 1, 0]), np.array([5.0, 4, 4.5, 0, 1])
    found = on_orders({"right": right, "wrong": wrong}, known)
    assert found["pairs"] == 4
    assert found["pairs of degradations that training left out"] == 1
    assert (found["right"]["right"], found["right"]["right, left out"]) == (1, 1)
    assert (found["wrong"]["right"], found["wrong"]["right, left out"]) == (0.5, 0)


def test_interval_holds_the_statistic() -> None:
    values = np.random.default_rng(3).normal(size=400)
    few, many = (interval(lambda rows: float(values[rows].mean()), np.arange(400) // size) for size in (80, 2))
    assert few[0] < values.mean() < few[1]
    assert many[0] < values.mean() < many[1]


def test_scored_reads_what_is_kept(tmp_path: Path) -> None:
    np.savez(tmp_path / "codecs.npz", pooled=np.ones((2, 3)), scores=np.zeros((2, 7)), known=np.array([["a"], ["b"]]))
    found = scored(tmp_path / "codecs.npz", lambda: iter(()), tmp_path / "no models")
    assert found["known"].tolist() == [["a"], ["b"]]
