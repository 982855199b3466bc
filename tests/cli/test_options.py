"""Outputs of commands: never an input, and no other file without --overwrite."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mmmos.cli.options import check_folder, check_output, open_predictors
from mmmos.errors import ModelNotFoundError, UsageError
from mmmos.hub.options import LoadOptions


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


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("overwrite", [False, True])
def test_file_of_an_input_folder_is_never_an_output(overwrite: bool):
    Path("folder/config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"is an input \(the same file as folder/config\.json\)"):
        check_output("linked/folder/config.json", ["folder"], overwrite)


@pytest.mark.parametrize("name", ["out", "err"])
def test_redirected_stream_is_never_an_output(files: Path, capfd: pytest.CaptureFixture[str], name: str):
    descriptor = {"out": 1, "err": 2}[name]
    saved = os.dup(descriptor)
    try:
        with open("old.json", "ab") as file:
            os.dup2(file.fileno(), descriptor)
            with pytest.raises(UsageError, match=r"^old\.json is where standard"):
                check_output("old.json", [], overwrite=True)
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
    check_output(files / "old.json", [], overwrite=True)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("name", ["folder/ratings.csv", "linked/folder/ratings.csv", "folder/deep/a.wav"])
def test_output_folder_holds_no_input(name: str):
    Path("folder/deep").mkdir()
    Path(name).write_text("path,PQ\n")
    with pytest.raises(UsageError, match="lies in the output folder folder"):
        check_folder(Path("folder"), [None, "in.csv", name])
    check_folder(Path("folder"), [None, "in.csv"])
    check_folder(Path("new"), [name])
    with pytest.raises(UsageError, match=r"^in\.csv is a file; name a new folder"):
        check_folder(Path("in.csv"), [])


def test_open_predictors_ends_the_decoder_of_a_missing_model(monkeypatch: pytest.MonkeyPatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *args, **options: started.append(popen(*args, **options)) or started[-1]
    )
    with pytest.raises(ModelNotFoundError, match="no model 'gone'"):
        open_predictors("gone", {}, LoadOptions())
    (child,) = started
    assert child.poll() is not None
