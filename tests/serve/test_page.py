"""The page as a visitor meets it, in a real browser: from a dropped file to sorted, compared and saved scores."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from mmmos.inference.predictor import Predictor
from mmmos.serve.app import STATIC, create_app
from mmmos.serve.limits import Limits
from scripts.screenshots import CHROMIUM, NARROW, WIDE, browser, scored
from tests.serve.conftest import GatedPredictor, served, wav
from tests.sounds import SAMPLES

PAIR = [SAMPLES / "speech_clean.flac", SAMPLES / "speech_noisy.wav"]
NOTHING = "\N{EN DASH}"
DROP = """([name, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""


def test_page_loads_nothing_from_elsewhere(client: TestClient):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"<style|<script(?! type=\"module\" src=)|\son\w+=|\sstyle=", page.text)
    for path in STATIC.rglob("*"):
        if path.suffix in (".html", ".css", ".js"):
            addresses = set(re.findall(r"https?://[^\s\"'`)]+", path.read_text()))
            assert addresses <= {"http://www.w3.org/2000/svg"}, path
    for name in re.findall(r'(?:href|src)="([^"]+)"', page.text):
        assert client.get(f"/{name}").status_code == 200, name


def test_static_files_are_all_that_is_served(client: TestClient):
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/..%2f..%2fversion.py"):
        assert client.get(path).status_code == 404


def test_every_sample_of_the_page_is_served(client: TestClient):
    names = client.get("/v1/about").json()["samples"]
    for name in names:
        assert client.get(f"/static/samples/{name}").content == (SAMPLES / name).read_bytes()
    assert len(names) == 5


needs_browser = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium, as of `apt-get install chromium`"),
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs a Chromium")
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def address(scorer: Predictor) -> Iterator[str]:
    with served(create_app(scorer, decoders=2)) as client:
        yield str(client.base_url)


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A wide page; at the end, nothing may have been blocked or thrown."""
    page = chromium.new_page(viewport=WIDE)
    page.set_default_timeout(60_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if "Policy" in message.text else None)
    yield page
    page.close()
    assert problems == []


def names(page: Any) -> list[str]:
    return page.locator("#rows td button").all_text_contents()


class TestInBrowser:
    pytestmark = needs_browser

    def test_dropped_clip_is_scored_without_a_click(self, page: Any, address: str, scorer: Predictor):
        scored(page, address, [])
        page.evaluate(DROP, ["my clip.flac", list(PAIR[0].read_bytes())])
        page.locator("#status", has_text="1 of 1 scored").wait_for()
        expected = scorer.score(PAIR[0])
        shown = [float(text.split()[0]) for text in page.locator(".gauge .value").all_text_contents()]
        assert shown == pytest.approx([expected[axis] for axis in ("PQ", "PC", "CE", "CU")], abs=0.006)
        assert page.locator("#clip-title").text_content() == "my clip.flac"
        assert page.locator("#facts").text_content() == "classified as speech · 0:04 · 44.1 kHz · mono · 167 kB"
        assert page.locator("#list").is_hidden()
        assert len(page.locator(".wave .shape").get_attribute("d")) > 1000

    def test_sample_is_one_click_away(self, page: Any, address: str):
        scored(page, address, [])
        shown = page.locator("#axes dt").all_text_contents()
        assert shown == ["Production Quality", "Production Complexity", "Content Enjoyment", "Content Usefulness"]
        page.get_by_role("button", name="A drum").click()
        page.locator("#status", has_text="1 of 1 scored").wait_for()
        assert page.locator("#facts").text_content().startswith("classified as music")
        assert page.locator("#meanings").is_hidden()

    def test_nothing_moves_when_scores_arrive(self, page: Any, toy: GatedPredictor):
        with served(create_app(toy, decoders=1)) as client:
            scored(page, str(client.base_url), [])
            toy.gate.clear()
            page.set_input_files("#files", PAIR)
            parts = ("#list", "#clip", "#waves", "#play", "#gauges", "#scale")
            before = [page.locator(part).bounding_box() for part in parts]
            toy.gate.set()
            page.locator("#status", has_text="2 of 2 scored").wait_for()
            assert [page.locator(part).bounding_box() for part in parts] == before

    def test_short_clip_gets_a_curve_after_its_scores(self, page: Any, toy: GatedPredictor, tmp_path: Path):
        """The curve is that of overlapping windows, drawn at their middles and to both ends of the clip."""
        clip = tmp_path / "clip.wav"
        clip.write_bytes(wav(14.0))
        with served(create_app(toy, decoders=1)) as client:
            scored(page, str(client.base_url), [clip])
            page.locator("#scale", has_text="the 10 seconds around each moment").wait_for()
            line = page.locator("path.score.PQ").get_attribute("d")
            shown = page.locator(".gauge.PQ .value").text_content()
        points = [[float(value) for value in point.split(",")] for point in line.removeprefix("M").split("L")]
        windows = toy.segments(clip, hop=0.5)
        low, high = toy.model.info.label_range
        middles = [(item.start_time + item.end_time) / 2 for item in windows]
        assert [x for x, _ in points] == pytest.approx([time / 14 * 1000 for time in (0, *middles, 14)], abs=0.06)
        heights = [94 - 88 * (item.PQ - low) / (high - low) for item in (windows[0], *windows, windows[-1])]
        assert [y for _, y in points] == pytest.approx(heights, abs=0.006)
        assert float(shown.split()[0]) == pytest.approx(toy.score(clip).PQ, abs=0.006)

    def test_clip_shows_how_far_it_is_scored(self, page: Any, toy: GatedPredictor, tmp_path: Path):
        clip = tmp_path / "clip.wav"
        clip.write_bytes(wav(40.0, 8_000))
        with served(create_app(toy, decoders=1)) as client:
            scored(page, str(client.base_url), [])
            toy.gate.clear()
            page.set_input_files("#files", clip)
            page.locator(".waiting", has_text="Scored up to 0:00 of 0:40").wait_for()
            assert page.get_by_role("progressbar", name="Scoring of clip.wav").is_visible()
            toy.gate.set()
            page.locator("#status", has_text="1 of 1 scored").wait_for()
            assert page.locator(".waiting").count() == 0

    def test_cancel_ends_the_scoring_of_a_clip(self, page: Any, toy: GatedPredictor, tmp_path: Path):
        """The next clip gets its place in the queue, and it counts as neither scored nor failed."""
        clip = tmp_path / "long.wav"
        clip.write_bytes(wav(40.0, 8_000))
        with served(create_app(toy, Limits(queue=1), decoders=1)) as client:
            scored(page, str(client.base_url), [])
            toy.gate.clear()
            page.set_input_files("#files", clip)
            page.locator(".waiting", has_text="Scored up to").wait_for()
            page.get_by_role("button", name="Cancel").click()
            assert page.locator("#clip").is_hidden()
            toy.gate.set()
            page.set_input_files("#files", PAIR)
            page.locator("#status", has_text="2 of 2 scored").wait_for()
            assert 'mmmos_clips_total{result="ok"} 2.0' in client.get("/metrics").text
            assert page.evaluate("document.getElementById('files').value") == ""  # a file can be chosen again
            page.select_option("#compare", label=PAIR[1].name)
            page.get_by_role("button", name="Remove", exact=True).click()
            assert page.locator("#ab").is_hidden()  # the clip that is left is not compared with itself
            assert page.locator("#clip-title").text_content() == PAIR[1].name
            assert page.locator("#list").is_hidden()

    def test_click_on_the_wave_plays_from_there(self, page: Any, address: str):
        scored(page, address, PAIR[:1])
        wave = page.get_by_role("slider", name="Position in speech_clean.flac")
        box = wave.bounding_box()
        wave.click(position={"x": box["width"] / 2, "y": 40})
        page.locator("#play", has_text="Pause").wait_for()
        assert float(wave.get_attribute("aria-valuenow")) >= 2.2
        page.locator("#time", has_text="0:03 /").wait_for()
        page.keyboard.press(" ")
        page.locator("#play", has_text="Play").wait_for()

    def test_keys_seek_and_play(self, page: Any, address: str):
        scored(page, address, PAIR[:1])
        wave = page.get_by_role("slider")
        wave.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        assert wave.get_attribute("aria-valuetext") == "0:01 of 0:04"
        page.keyboard.press("End")
        assert float(wave.get_attribute("aria-valuenow")) == pytest.approx(4.5, abs=0.1)

    def test_table_sorts_by_any_column(self, page: Any, address: str, scorer: Predictor):
        clips = [*PAIR, SAMPLES / "music_lowrate.mp3"]
        scored(page, address, clips)
        expected = dict(zip(clips, scorer.score(clips), strict=True))
        for axis in ("PQ", "PC", "CE", "CU"):
            best = sorted(clips, key=lambda path: -expected[path][axis])
            head = page.locator(f"th[data-column={axis}]")
            head.get_by_role("button").click()
            assert head.get_attribute("aria-sort") == "descending"
            assert names(page) == [path.name for path in best]
            head.get_by_role("button").click()
            assert names(page) == [path.name for path in reversed(best)]
        page.get_by_role("button", name="Clip").click()
        assert names(page) == sorted(path.name for path in clips)

    def test_a_and_b_switch_at_the_same_position_and_loudness(self, page: Any, address: str):
        scored(page, address, PAIR)
        page.select_option("#compare", label="speech_noisy.wav")
        page.get_by_role("slider").first.click(position={"x": 200, "y": 40})
        page.locator("#play", has_text="Pause").wait_for()
        page.get_by_role("button", name="B", exact=True).click()
        both = page.get_by_role("slider")
        first, second = (float(both.nth(i).get_attribute("aria-valuenow")) for i in (0, 1))
        assert abs(first - second) < 0.5
        assert page.get_by_role("button", name="B", exact=True).get_attribute("aria-pressed") == "true"
        page.keyboard.press("a")
        assert page.get_by_role("button", name="A", exact=True).get_attribute("aria-pressed") == "true"
        assert "equally loud" in page.locator("#playing").text_content()
        assert "less than A." in page.locator(".gauge.PQ").text_content()

    def test_errors_are_sentences_and_affect_one_clip(self, page: Any, address: str, tmp_path: Path, scorer: Predictor):
        broken, silent = tmp_path / "broken.wav", tmp_path / "silent.wav"
        broken.write_bytes(b"no audio")
        silent.write_bytes(wav()[:44] + bytes(16_000))
        scored(page, address, [broken, silent, PAIR[0]])
        assert page.locator("#status").text_content() == "2 of 3 scored; 1 could not be scored"
        assert (
            page.locator("#failure").text_content().startswith("This is not an audio file, or its format is not known.")
        )
        page.get_by_role("button", name="silent.wav").click()
        assert "The clip is silent, so it has no scores." in page.locator("#notes").text_content()
        assert page.locator("td.PQ").all_text_contents() == [NOTHING, NOTHING, f"{scorer.score(PAIR[0]).PQ:.2f}"]

    def test_refusals_are_sentences(self, page: Any, toy: GatedPredictor):
        with served(create_app(toy, Limits(body_bytes=1000), decoders=1)) as client:
            scored(page, str(client.base_url), PAIR[:1])
            assert page.locator("#failure").text_content().startswith("The file is larger than this service accepts.")

    def test_full_queue_is_waited_for(self, page: Any, toy: GatedPredictor):
        app = create_app(toy, Limits(queue=1), decoders=1)
        with served(app) as client:
            scored(page, str(client.base_url), [])
            page.set_input_files("#files", PAIR)
            page.locator("#status", has_text="2 of 2 scored").wait_for()
            assert page.locator("td.failed").count() == 0

    def test_token_is_asked_for(self, page: Any, toy: GatedPredictor):
        with served(create_app(toy, token="secret", decoders=1)) as client:
            page.goto(str(client.base_url))
            page.get_by_label("Token", exact=True).fill("wrong")
            page.get_by_role("button", name="Use it").click()
            page.get_by_label("Token", exact=True).fill("secret")
            page.get_by_role("button", name="Use it").click()
            page.wait_for_selector("body[data-ready]")
            page.set_input_files("#files", PAIR[:1])
            page.locator("#status", has_text="1 of 1 scored").wait_for()

    def test_downloads_hold_every_row(self, page: Any, address: str, scorer: Predictor):
        scored(page, address, PAIR)
        texts = {}
        for kind in ("CSV", "JSON"):
            with page.expect_download() as download:
                page.get_by_role("button", name=f"Download {kind}").click()
            texts[kind] = Path(download.value.path()).read_text()
        lines = list(csv.DictReader(io.StringIO(texts["CSV"])))
        assert [line["id"] for line in lines] == [path.name for path in PAIR]
        rows = json.loads(texts["JSON"])
        for path, line, row in zip(PAIR, lines, rows, strict=True):
            assert float(line["PQ"]) == row["PQ"] == pytest.approx(scorer.score(path).PQ, abs=1e-4)
            assert len(row["segments"]) == 1

    def test_recording_is_scored(self, page: Any, address: str):
        scored(page, address, [])
        page.get_by_role("button", name="Record").click()
        page.get_by_role("button", name="Stop recording").wait_for()
        page.wait_for_timeout(1500)
        page.get_by_role("button", name="Stop recording").click()
        page.locator("#status", has_text="1 of 1 scored").wait_for()
        assert page.locator("#clip-title").text_content().endswith(".webm")
        assert page.locator("#failure").is_hidden()

    def test_folder_gives_its_audio_files(self, page: Any, address: str, tmp_path: Path):
        inner = tmp_path / "takes" / "one"
        inner.mkdir(parents=True)
        (inner / "a.wav").write_bytes(wav())
        (tmp_path / "takes" / "notes.txt").write_text("not audio")
        scored(page, address, [])
        page.set_input_files("#folder", tmp_path / "takes")
        page.locator("#status", has_text="1 of 1 scored").wait_for()
        assert page.locator("#clip-title").text_content() == "takes/one/a.wav"

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
    def test_page_is_accessible_and_fits(self, chromium: Any, address: str, scheme: str, size: Any):
        """Axe finds nothing, in either colour scheme; nothing is wider than the screen, down to 360 px."""
        from axe_playwright_python.sync_playwright import Axe

        page = chromium.new_page(viewport=size, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
        page.set_default_timeout(60_000)
        scored(page, address, [*PAIR, SAMPLES / "music_lowrate.mp3"])
        page.select_option("#compare", index=1)
        checked = Axe().run(page).response
        assert len(checked["passes"]) > 20
        found = checked["violations"]
        assert [(item["id"], [node["html"] for node in item["nodes"]]) for item in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, re.findall(r"\d+", back))) < 60) == (scheme == "dark")
        page.close()
