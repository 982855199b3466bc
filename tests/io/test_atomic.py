"""Files are whole or not there, wherever a process ends."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors.torch import save_file

from mmmos.errors import UsageError
from mmmos.io.atomic import locked, replacing, write_text


def write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text)


def test_written_file_is_the_only_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    for text in ("first", "second, which takes its place"):
        write(path, text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_nothing_has_the_name_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as partial:
        assert partial.parent == path.parent  # a rename within one disk
        partial.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"


@pytest.mark.parametrize("step", ["os.fsync", "os.replace", "pathlib.Path.write_text"])
def test_an_end_at_any_step_leaves_what_was_there(tmp_path: Path, step: str) -> None:
    path = tmp_path / "a.txt"
    write(path, "old")
    with mock.patch(step, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        write(path, "new")
    assert path.read_text() == "old"
    write(path, "new")
    assert path.read_text() == "new"


def test_an_error_in_writing_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write(path, "old")
    with pytest.raises(TypeError):
        write(path, 7)
    assert path.read_text() == "old"


@pytest.fixture(params=[0o022, 0o077, 0o027], ids=oct)
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    """A umask of this process, for the time of a test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("own", [0o600, 0o644, 0o666, None])
def test_replacing_follows_the_umask_whatever_the_writer_does(tmp_path: Path, mask: int, own: int | None) -> None:
    path = tmp_path / "a.bin"
    path.touch(0o640)  # the mode of what was there does not count
    with replacing(path, durable=False) as partial:
        partial.write_bytes(b"new")
        if own is not None:
            partial.chmod(own)
    assert mode(path) == 0o666 & ~mask


def test_replacing_follows_the_umask_with_safetensors(tmp_path: Path, mask: int) -> None:
    with replacing(tmp_path / "a.safetensors") as partial:
        save_file({"x": torch.zeros(2)}, partial)
    assert mode(tmp_path / "a.safetensors") == 0o666 & ~mask


def test_two_processes_do_not_write_to_one_place(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as ours:
        ours.write_text("ours")
        with mock.patch("os.getpid", return_value=os.getpid() + 1), replacing(path) as theirs:
            assert theirs != ours
            theirs.write_text("theirs")
        assert path.read_text() == "theirs"
    assert path.read_text() == "ours"


@pytest.mark.parametrize("durable", [True, False])
def test_bytes_are_synced_before_the_rename_on_request(tmp_path: Path, durable: bool) -> None:
    steps = []
    real_sync, real_replace = os.fsync, os.replace
    with (
        mock.patch("os.fsync", side_effect=lambda fd: steps.append(os.fstat(fd).st_size) or real_sync(fd)),
        mock.patch("os.replace", side_effect=lambda *names: steps.append("name") or real_replace(*names)),
        replacing(tmp_path / "a.txt", durable) as partial,
    ):
        partial.write_text("seven b")
    assert steps == ([7] if durable else []) + ["name"]
    assert (tmp_path / "a.txt").read_text() == "seven b"


def test_text_goes_through_links_and_into_devices(tmp_path: Path) -> None:
    path, link = tmp_path / "a.txt", tmp_path / "link.txt"
    link.symlink_to(path)
    for text in ("ä\n", "b\n"):
        write_text(link, text)
        assert path.read_text(encoding="utf-8") == text
    assert link.is_symlink()
    write_text(Path(os.devnull), "c\n")
    assert not Path(os.devnull).is_file()
    assert sorted(tmp_path.iterdir()) == [path, link]


HOLD = (
    "import sys, time; from pathlib import Path; from mmmos.io.atomic import locked; lock = locked(Path(sys.argv[1])); \
lock.__enter__(); print('held', flush=True); time.sleep(60)"
)


def test_lock_keeps_another_process_away_until_it_ends(tmp_path: Path) -> None:
    path, link = tmp_path / "a.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(path)
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        for name in (path, link):
            with pytest.raises(UsageError, match=r"a\.jsonl is being written by another run"), locked(name):
                pytest.fail("two processes have the lock")
        other.kill()
    with locked(path):
        path.write_text("ours")
    assert sorted(tmp_path.iterdir()) == [path, link]


def test_devices_are_not_locked() -> None:
    with locked(Path(os.devnull)), locked(Path(os.devnull)):
        pass
