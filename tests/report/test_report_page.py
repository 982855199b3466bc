"""The report as a curator of a dataset uses it, in a real browser: sort, filter, play, and save a list of clips."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from mmmos.report.html import write_report
from mmmos.scores import SHOWN, Scores
from scripts.screenshots import CHROMIUM, WIDE, browser
from tests.report.test_html import clips, system
from tests.sounds import music

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium, as of `apt-get install chromium`"),
]

FIRST, SECOND = clips(40), clips(40, -0.5)
SCORED = [item for item in FIRST if item.error is None]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two systems with 40 clips each; their audio is one file under many names."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "clips").mkdir()
    soundfile.write(folder / "clips" / "0.wav", music(0.5, 16_000), 16_000)
    for i in range(1, 39):
        (folder / "clips" / f"{i}.wav").hardlink_to(folder / "clips" / "0.wav")
    write_report(folder / "report.html", [system("first", FIRST), system("second", SECOND)], root=folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as opened:
        yield opened


@pytest.fixture
def page(chromium: Any, report: Path) -> Iterator[Any]:
    """The open page; at the end, nothing may have been blocked or thrown."""
    page = chromium.new_page(viewport=WIDE)
    page.set_default_timeout(60_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(report.as_uri())
    yield page
    page.close()
    assert problems == []


def column(page: Any, table: str, number: int) -> list[str]:
    return page.locator(f"{table} tbody tr td:nth-child({number})").all_text_contents()


def kept_by(scores: list[Scores], least: float) -> list[str]:
    """Ids of the clips with at least this PQ and without clipping."""
    return [item.id for item in scores if item.error is None and least <= item.PQ and not item.warnings]


def test_headers_sort_the_comparison(page: Any):
    head = page.locator("#comparison-table th", has_text="difference")
    orders = []
    for _ in range(2):
        head.get_by_role("button").click()
        orders.append((head.get_attribute("aria-sort"), column(page, "#comparison-table", 5)))
    assert sorted(column(page, "#comparison-table", 3)) == sorted(SHOWN)
    assert {order for order, _ in orders} == {"ascending", "descending"}
    for order, shown in orders:
        values = [float(text.replace("\N{MINUS SIGN}", "-")) for text in shown]
        assert values == sorted(values, reverse=order == "descending")


def test_sliders_keep_the_clips_that_are_downloaded(page: Any):
    """Thresholds, excluded warnings and the chosen system, in the sentence, in JSONL and in CSV."""
    page.locator("#view select").first.select_option(label="second")
    page.get_by_label("Least Production Quality").fill("5")
    page.get_by_label("clipped").check()
    expected = kept_by(SECOND, 5.0)
    assert 5 < len(expected) < 30
    assert f"{len(expected)} of 40 clips" in page.locator("#kept").text_content()
    texts = {}
    for form in ("jsonl", "csv"):
        with page.expect_download() as download:
            page.click(f"#save-{form}")
        assert download.value.suggested_filename == f"kept.{form}"
        texts[form] = Path(download.value.path()).read_text().splitlines()
    rows = [json.loads(line) for line in texts["jsonl"]]
    assert [row["id"] for row in rows] == [row["id"] for row in csv.DictReader(texts["csv"])] == expected
    assert {row["system"] for row in rows} == {"second"}


def test_lists_show_worst_best_and_more(page: Any):
    page.locator("#view select").first.select_option(label="first")
    ordered = [item.path for item in sorted(SCORED, key=lambda item: item.CU)]
    names = page.locator("#clip-list .name")
    page.locator("#clip-controls select").select_option("CU")
    assert names.all_text_contents() == ordered[:10]
    page.get_by_role("button", name="Show more").click()
    assert names.all_text_contents() == ordered[:30]
    page.get_by_role("button", name="Best").click()
    assert names.all_text_contents() == ordered[:-11:-1]
    page.get_by_role("button", name="Most degraded").click()
    assert page.locator("#clip-list").text_content() == "There is no such clip."


def test_players_play_one_at_a_time(page: Any):
    players = page.locator("#clip-list audio")
    for i in (0, 1):
        players.nth(i).evaluate("audio => { audio.loop = true; return audio.play(); }")
    assert [players.nth(i).evaluate("audio => audio.paused") for i in (0, 1)] == [True, False]


def test_click_on_a_dot_opens_its_clip(page: Any):
    target = page.evaluate("(({ row, x, y }) => ({ name: fileName(row), x, y }))(scatter.points[0])")
    page.locator("#scatter").click(position={"x": target["x"], "y": target["y"]})
    assert page.locator("#picked .name").text_content() == target["name"]
    assert page.locator("#scatter-legend").text_content() == "firstsecond"
