"""Help as people read it: every command in one line, none cut off; and tables of licences that fit a terminal."""

from __future__ import annotations

import io
import json

import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console
from typer.main import get_command

from mmmos.cli import app
from mmmos.cli.about import license_table
from mmmos.cli.help import SECTIONS
from mmmos.hub.licenses import LICENSES

ROOT = get_command(app)
COMMANDS = ROOT.commands  # type: ignore[attr-defined]
PATHS = [(), ("data",), ("data", "status"), *((name,) for name in COMMANDS if name != "data")]


def shown(*words: str, columns: int = 80) -> str:
    result = CliRunner(env={"COLUMNS": str(columns), "TERM": "dumb"}).invoke(ROOT, words)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("words", PATHS, ids=" ".join)
def test_h_is_help(words: tuple[str, ...]):
    assert "-h, --help" in shown(*words, "-h")


def test_help_has_two_names():
    assert shown("score", "-h") == shown("score", "--help")


@pytest.mark.parametrize("words", [(), ("data",)], ids=["mmmos", "data"])
def test_each_command_has_a_summary_of_one_whole_line(words: tuple[str, ...]):
    text = shown(*words, "-h")
    assert "..." not in text.split("\n", 1)[1]
    group = COMMANDS["data"] if words else ROOT
    lines = text.splitlines()
    for name in group.commands:  # type: ignore[attr-defined]
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert line.endswith(".")
        assert len(line) <= 80


def test_every_command_has_a_section():
    assert sorted(COMMANDS) == sorted(name for names in SECTIONS.values() for name in names)
    text = shown("-h")
    assert [text.index(f"\n{title}:\n") for title in SECTIONS] == sorted(
        text.index(f"\n{title}:\n") for title in SECTIONS
    )


def test_licenses_into_a_pipe_are_json():
    found = json.loads(shown("licenses"))
    assert all(list(item) == ["name", "license", "commercial_use", "note", "source"] for item in found)
    assert [item["name"] for item in found] == [item.name for item in LICENSES]
    assert shown("licenses", "--json") == shown("licenses")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_licenses_are_a_table_that_fits(columns: int):
    out = io.StringIO()
    license_table(Console(file=out, width=columns, highlight=False, markup=False, emoji=False))
    text = out.getvalue()
    assert max(map(cell_len, text.splitlines())) <= columns
    assert all(" ".join(item.note.split()) in " ".join(text.split()) for item in LICENSES)
    words = set(text.replace("(", " ").replace(")", " ").split())
    assert all(word in words for item in LICENSES for word in (*item.license.split(), *item.source.split()))
