"""Outputs of commands: never an input, and no other file without --overwrite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmmos.cli.options import check_output
from mmmos.errors import UsageError


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, which is the current one, with `in.csv`, links to it, `old.json` and `folder/`."""
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("path,PQ\n")
    Path("old.json").write_text("{}")
    Path("folder").mkdir()
    Path("link.csv").symlink_to("in.csv")
    Path("linked").symlink_to(tmp_path)
    os.link("in.csv", "hard.csv")
    return tmp_path


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["in.csv", "./in.csv", "folder/../in.csv", "link.csv", "hard.csv", "linked/in.csv"])
def test_input_is_never_an_output(name: str, overwrite: bool):
    with pytest.raises(UsageError, match=rf"^{Path(name)} is an input"):
        check_output(name, [None, "gone.csv", "in.csv"], overwrite)


def test_existing_file_needs_overwrite(files: Path):
    with pytest.raises(UsageError, match=r"^old\.json exists; add --overwrite"):
        check_output("old.json", ["in.csv"])
    check_output("old.json", ["in.csv"], overwrite=True)
    check_output(files / "new.json", ["in.csv"])
    assert Path("old.json").read_text() == "{}"


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("name", "message"), [("folder", "is a folder"), ("no/such.json", "there is no folder no")])
def test_output_needs_a_file_name_in_a_folder(name: str, message: str):
    with pytest.raises(UsageError, match=message):
        check_output(name, [], overwrite=True)


def test_devices_and_pipes_always_pass(files: Path):
    os.mkfifo(files / "pipe")
    for name in (files / "pipe", os.devnull):
        check_output(name)
