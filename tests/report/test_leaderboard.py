"""The page of a leaderboard: every published row, the user's row with ranks and intervals, the ceiling."""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mmmos.evaluation.leaderboard import Leaderboard, rank_results
from mmmos.evaluation.published import published
from mmmos.evaluation.track2 import Result, Truth, intervals
from mmmos.metrics import LEVELS, METRICS, bootstrap, mse, srcc
from mmmos.paper import ENTRIES
from mmmos.report.leaderboard import write_leaderboard
from tests.browser import data_of, rendered

NAME = "ours <script>"


@cache
def board() -> Leaderboard:
    figures = {"MSE": 0.2, "LCC": 0.985, "SRCC": 0.944, "KTAU": 0.81}
    ceiling = {"MSE": 0.1, "LCC": 0.99, "SRCC": 0.96, "KTAU": 0.9}
    results = tuple(Result("PC", level, 36, figures, ceiling) for level in LEVELS)
    own = {("PC", level, name): (figures[name] - 0.01, figures[name] + 0.02) for level in LEVELS for name in METRICS}
    rows = published()
    return Leaderboard(results, tuple(rows), tuple(rank_results(results, rows)), 3060, (), ("a <remark>",), {}, own)


def table_rows(text: str) -> list[list[str]]:
    """The cells of the first table's body, as text."""
    body = text.split("<tbody>")[1].split("</tbody>")[0]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("<tr")[1:]]


def test_write_leaderboard_ranks_the_row_among_eleven(tmp_path: Path):
    write_leaderboard(tmp_path / "l.html", board(), NAME)
    text = (tmp_path / "l.html").read_text()
    rows = table_rows(text)
    names = [row[0] for row in rows]
    assert sorted(names) == sorted([*("MMMOS" if row == "Ours" else row for row in ENTRIES), html.escape(NAME)])
    order = [float(re.sub(r"<b>(.*?)</b>.*", r"\1", row[7])) for row in rows]  # SRCC over systems
    assert order == sorted(order, reverse=True)
    (own,) = [row for row in rows if row[0] == html.escape(NAME)]
    srcc_rank = next(r.rank for r in board().ranks if (r.level, r.metric) == ("system", "SRCC"))
    assert f"<small>rank {srcc_rank} of 12</small>" in own[7]
    assert "<small>0.934 to 0.964</small>" in own[7]
    assert "a &lt;remark&gt;" in text
    assert "<script>" not in text.replace("<script>", "", 1)


def test_write_leaderboard_draws_every_metric(tmp_path: Path):
    write_leaderboard(tmp_path / "l.html", board(), NAME)
    (found,) = data_of(tmp_path / "l.html")
    strips = {(item["level"], item["metric"]): item for item in found["strips"]}
    assert len(strips) == len(LEVELS) * len(METRICS)
    item = strips["system", "KTAU"]
    assert (item["value"], item["ceiling"], item["interval"]) == (0.81, 0.9, [0.8, 0.83])
    assert len(item["others"]) == 11


@pytest.mark.slow
def test_leaderboard_in_a_browser(tmp_path: Path):
    write_leaderboard(tmp_path / "l.html", board(), NAME)
    text, console = rendered(tmp_path / "l.html", tmp_path / "browser")
    assert console == []
    assert text.count("<circle") == 8 * 12
    assert text.count("noise ceiling 0.960") == 2
    assert text.count('title="Sort by this column"') == 2 * 8


@pytest.mark.slow
def test_intervals_draw_whole_systems():
    rng = np.random.default_rng(0)
    names = [f"audiomos2025-track2-sys{i:05d}-utt{j:06d}" for i in range(12) for j in range(5)]
    systems = [name.split("-")[2][3:] for name in names]
    ratings = np.clip(rng.normal(5, 1.5, (60, 4, 10)), 0, 10)
    predictions = ratings.mean(2) + rng.normal(0, 0.3, (60, 4))
    found = intervals(Truth(tuple(names), tuple(systems), ratings), predictions, samples=50)
    assert len(found) == 5 * len(LEVELS) * len(METRICS)
    p, t = predictions[:, 3], ratings.mean(2)[:, 3]  # PQ
    assert found["PQ", "utterance", "MSE"] == bootstrap(mse, p, t, systems, 50)
    means = [values.reshape(12, 5).mean(1) for values in (p, t)]
    assert found["PQ", "system", "SRCC"] == pytest.approx(bootstrap(srcc, means[0], means[1], None, 50))


def test_intervals_leave_out_axes_without_predictions():
    truth = Truth(("a", "b"), ("x", "y"), np.arange(80.0).reshape(2, 4, 10) / 10)
    predictions = np.full((2, 4), np.nan)
    predictions[:, 2] = [1.0, 2.0]
    assert {axis for axis, _, _ in intervals(truth, predictions, samples=5)} == {"PC"}
