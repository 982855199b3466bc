"""The word list finds home-made terms in prose and in names, and leaves plain English alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.words import findings, main


@pytest.mark.parametrize(
    "line",
    [
        "That is no row.",
        "It was told twice.",
        "def told_as_os_errors() -> None:",
        "class LocalCrew:",
        "The encoder hears one channel.",
        "a part beside its commit",
        "Written anew.",
        "The run goes on.",
        "one a clip",
        "the share of silent clips",
        "class StateSum(Module):",
    ],
)
def test_findings_names_line_and_term(line: str):
    assert [number for number, *_ in findings(f"First line.\n{line}\n")] == [2]


@pytest.mark.parametrize(
    "line",
    [
        "There is no such file.",
        "The key is no longer read.",
        "besides, raters heard ten seconds",
        "screwdriver, enjudged",
        "Workers share the work.",
        "the folder _run/deaths",
    ],
)
def test_findings_leaves_plain_english(line: str):
    assert not list(findings(line))


def test_findings_skips_generated_parts():
    assert [n for n, *_ in findings("<!-- begin help -->\na crew\n<!-- end help -->\na crew\n")] == [4]


def test_main_prints_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("scripts.words.ROOT", tmp_path)
    file = tmp_path / "page.md"
    file.write_text("Fine.\nThe crew.\n")
    assert main([str(file)]) == 1
    assert capsys.readouterr().out.startswith("page.md:2: crew: use worker pool")
    assert main([str(file), "--counts"]) == 0
    file.write_text("Fine.\n")
    assert main([str(file)]) == 0
