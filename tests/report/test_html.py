"""The report's page: its data, its safety, its audio, and what a browser shows of it."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmmos.evaluation.verdict import compare_scores
from mmmos.inference.rows import open_rows
from mmmos.report.html import write_report
from mmmos.report.page import page
from mmmos.report.players import top_rows
from mmmos.report.systems import System
from mmmos.scores import ClipError, Provenance, Scores
from tests.browser import data_of, rendered

MODEL = Provenance("lite", "ab" * 32, "0.1", "cpu", "float32", False, True)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>.wav"


def clips(count: int, shift: float = 0.0, folder: str = "clips") -> list[Scores]:
    """Clips of two domains with scores around 5, some with warnings; the last one has an error."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        name = f"{folder}/{i}.wav"
        axes = rng.normal(5, 1, 4)
        domain = ("speech", "music")[i % 2]
        warnings = ("clipped",) if i % 5 == 0 else ()
        scores = Scores(id=name, path=name, end_time=36.0, domain=domain, warnings=warnings, scale="0-10")
        spread = np.full(4, 0.1 + i / 100)
        found.append(scores.with_axes(axes + shift, spread))
    found[-1] = Scores(id=f"{folder}/broken.wav", error=ClipError("decode_failed", "no <b>audio</b>"))
    return [Scores(**{**vars(item), "provenance": MODEL}) for item in found]


def system(name: str, scores: list[Scores]) -> System:
    return System(name, [(item, {}) for item in scores])


def write_rows(path: Path, scores: list[Scores]) -> Path:
    with open_rows(path) as write:
        for item in scores:
            write(item)
    return path


def test_write_report_holds_every_row(tmp_path: Path):
    scores = clips(12)
    write_report(tmp_path / "r.html", [system("a", scores)])
    data = data_of(tmp_path / "r.html")
    assert data["rows"]["id"] == [item.id for item in scores]
    assert data["rows"]["PQ"] == [None if item.error else round(item.PQ, 4) for item in scores]
    assert sum(filter(None, data["rows"]["seconds"])) == 11 * 36
    assert data["errors"] == [{"name": "decode_failed", "meaning": "the decoder stopped before any audio"}]
    assert [data["warnings"][code]["name"] for code in data["rows"]["warnings"][5]] == ["clipped"]
    assert data["models"][0]["model_sha256"] == MODEL.model_sha256
    assert data["comparisons"] == []


@pytest.mark.slow
def test_write_report_compares_systems_and_pairs_their_clips(tmp_path: Path):
    write_report(tmp_path / "r.html", [system("a", clips(12)), system("b", clips(12, -0.5)[::-1])])
    data = data_of(tmp_path / "r.html")
    assert {(item["paired"], item["n"], item["difference"]) for item in data["comparisons"]} == {(True, 11, 0.5)}
    assert data["sentence"] == compare_scores({"a": clips(12), "b": clips(12, -0.5)}).sentence
    ids = data["rows"]["id"]
    assert data["reference"][:12] == [None] * 12
    assert all(ids[row] == ids[other] for row, other in enumerate(data["reference"]) if other is not None)
    assert sum(row is not None for row in data["reference"]) == 12


def test_write_report_has_no_sentence_on_scores_of_several_models(tmp_path: Path):
    others = [replace(item, provenance=replace(MODEL, model_sha256="other")) for item in clips(4, -0.5)]
    write_report(tmp_path / "r.html", [system("a", clips(4)), system("b", others)])
    assert data_of(tmp_path / "r.html")["sentence"] == ""


def test_page_loads_nothing_from_elsewhere(tmp_path: Path):
    write_report(tmp_path / "r.html", [system("a", clips(4))])
    text = (tmp_path / "r.html").read_text()
    assert set(re.findall(r"https?://[^\s\"'<>]+", text)) == {"http://www.w3.org/2000/svg"}  # a namespace
    assert not re.search(r"<(link|iframe|object|embed)\b|@import|url\(", text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in text


def test_page_keeps_data_from_ending_the_script():
    text = page("t", "", {"id": HOSTILE, "end": "</script><!--"}, [], [])
    assert text.count("<script") == 2
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert "<!--" not in text


def test_write_report_escapes_what_users_wrote(tmp_path: Path):
    scores = [Scores(id=HOSTILE, path=HOSTILE, PQ=5.0), Scores(id="b", PQ=6.0)]
    write_report(tmp_path / "r.html", [system(HOSTILE, scores)], title=HOSTILE)
    text = (tmp_path / "r.html").read_text()
    assert "<script>alert" not in text
    assert "<img" not in text
    assert html.escape(HOSTILE) in text


def test_write_report_links_audio_relative_to_the_page(tmp_path: Path, make_file: Callable[..., Path]):
    make_file("a #1.wav", seconds=0.2)
    (tmp_path / "pages").mkdir()
    scores = [Scores(id="a #1.wav", path="a #1.wav", PQ=5.0), Scores(id="gone.wav", path="gone.wav", PQ=5.0)]
    assert write_report(tmp_path / "pages" / "r.html", [system("a", scores)], root=tmp_path) == 1
    source = data_of(tmp_path / "pages" / "r.html")["rows"]["source"]
    assert [source["names"][code] for code in source["codes"]] == ["../a%20%231.wav", ""]


def test_write_report_embeds_audio(tmp_path: Path, make_file: Callable[..., Path]):
    file = make_file("a.flac", seconds=0.2)
    write_report(tmp_path / "r.html", [system("a", [Scores(id="a", path=str(file), PQ=5.0)])], embedded=True)
    (source,) = data_of(tmp_path / "r.html")["rows"]["source"]["names"]
    kind, _, data = source.partition(";base64,")
    assert kind == "data:audio/flac"
    assert base64.b64decode(data) == file.read_bytes()


def test_top_rows_are_those_of_every_list():
    first = [Scores(id=str(i), PQ=float(i), PQ_std=(i * 7 % 30) / 10) for i in range(30)]
    drop = [0.0] * 29 + [2.0]
    second = [Scores(id=str(i), PQ=i + 0.5 - drop[i]) for i in range(30)]
    found = top_rows([system("a", first), system("b", second)], count=1)
    uncertain = max(range(30), key=lambda i: first[i].PQ_std)
    assert found == [0, 29, uncertain, 30, 58, 59]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet"])
def test_report_command_reads_every_format(tmp_path: Path, name: str, run_mmmos: Callable[..., tuple[int, str, str]]):
    write_rows(tmp_path / name, clips(6))
    status, stdout, stderr = run_mmmos("report", tmp_path / name, "-o", tmp_path / "r.html")
    assert (status, stdout) == (0, ""), stderr
    data = data_of(tmp_path / "r.html")
    assert (len(data["rows"]["id"]), data["systems"], len(data["evidence"])) == (6, ["rows"], 0)
    assert run_mmmos("report", tmp_path / name, "-o", tmp_path / "r.html")[0] == 2  # it exists


def test_report_command_refuses_other_suffixes(tmp_path: Path, run_mmmos: Callable[..., tuple[int, str, str]]):
    write_rows(tmp_path / "rows.jsonl", clips(3))
    status, _, stderr = run_mmmos("report", tmp_path / "rows.jsonl", "-o", tmp_path / "r.pdf")
    assert status == 2
    assert "pages are written as .html" in stderr
    assert run_mmmos("report", tmp_path, "-o", tmp_path / "r.html")[0] == 2  # a folder without a run


@pytest.mark.slow
def test_report_shows_a_run_folder(
    tmp_path: Path, make_file: Callable[..., Path], run_mmmos: Callable[..., tuple[int, str, str]]
):
    make_file("a.wav", seconds=0.5)
    (tmp_path / "bad.wav").write_bytes(b"")
    run_mmmos("score", tmp_path / "a.wav", tmp_path / "bad.wav", "-o", f"{tmp_path}/run/", "--workers", "1")
    status, _, stderr = run_mmmos("report", f"run={tmp_path}/run", "-o", tmp_path / "r.html")
    assert status == 0, stderr
    data = data_of(tmp_path / "r.html")
    assert [data["rows"]["PQ"][0] is None, data["rows"]["PQ"][1] is None] == [False, True]
    assert data["errors"][0]["name"] == "empty_file"
    assert data["evidence"][0]["domain"] in ("speech", "music", "sound")


@pytest.mark.slow
def test_report_in_a_browser(tmp_path: Path, make_file: Callable[..., Path]):
    make_file("0.wav", seconds=0.2)
    scores = [*clips(40), Scores(id=HOSTILE, path=HOSTILE, PQ=0.1, end_time=36.0)]
    systems = [system("first <b>", scores), system("second", clips(40, 0.3))]
    write_report(tmp_path / "r.html", systems, root=tmp_path)
    text, console = rendered(tmp_path / "r.html", tmp_path / "browser")
    assert console == []
    assert text.count('class="card"') == 10
    assert html.escape(HOSTILE, quote=False) in text
    assert "<img" not in text
    assert "first &lt;b&gt;" in text
    assert "47.4 min of 47.4 min" in text
    assert "second scores higher than first &lt;b&gt; on PQ (+0.30)" in text
    assert "\u22120.30" in text  # a minus sign
    assert text.count("<circle") >= 8 + 4  # medians of two systems on four axes, and four differences
