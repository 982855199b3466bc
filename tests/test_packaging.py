"""The source distribution: every file of the repository, whose tests pass where it was unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
IN_GIT = shutil.which("git") is not None and (ROOT / ".git").exists()
MADE = {"PKG-INFO", "setup.cfg"}
"""Files that the build adds, next to its egg-info."""

pytestmark = [
    pytest.mark.slow,  # builds and runs the project
    pytest.mark.skipif(not IN_GIT, reason="needs git to say which files there are"),
]


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    """Paths of the repository's files."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def unpacked(tracked: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the source distribution that a clean copy of the repository makes, without a network."""
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("unpacked")
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(copy, "-c", code, str(target))
    (archive,) = target.glob("mmmos-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(target, filter="data")
    return target / archive.name.removesuffix(".tar.gz")


def run(folder: Path, *words: str, path: str = "") -> str:
    """The output of Python in a folder, with `path` before what is installed."""
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sdist_is_the_repository_and_nothing_else(unpacked: Path, tracked: set[str]) -> None:
    found = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert tracked - found == set()
    assert {name for name in found - tracked if ".egg-info/" not in name} == MADE
    for name in tracked:
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes(), name


def test_sdist_passes_its_own_tests(unpacked: Path) -> None:
    source = str(unpacked / "src")
    assert run(unpacked, "-c", "import mmmos; print(mmmos.__file__)", path=source).startswith(source)
    tests = [f"tests/test_{name}.py" for name in ("layers", "settings", "experiments", "splits")]
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests)
    summary = run(unpacked, *words, path=source).splitlines()[-1]
    assert " passed" in summary
    assert "failed" not in summary
