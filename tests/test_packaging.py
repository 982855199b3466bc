"""What is distributed: the archive is the repository and passes its tests; the wheel scores without the source tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from mmmos.inference.predictor import Predictor
from mmmos.scores import AXES
from mmmos.version import VERSION
from tests.sounds import SAMPLES

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


def build(what: str, tracked: set[str], copy: Path, target: Path) -> Path:
    """The sdist or wheel that a clean copy of the repository makes, without a network."""
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    code = f"import sys; from setuptools import build_meta; build_meta.build_{what}(sys.argv[1])"
    run(copy, "-c", code, str(target))
    (archive,) = target.glob("mmmos-*")
    return archive


@pytest.fixture(scope="module")
def unpacked(tracked: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the source distribution."""
    target = tmp_path_factory.mktemp("unpacked")
    archive = build("sdist", tracked, tmp_path_factory.mktemp("copy"), target)
    with tarfile.open(archive) as file:
        file.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.3 has none
        file.extractall(target)
    return target / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(tracked: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, a file."""
    return build("wheel", tracked, tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel. The source tree is not on its path: `.pth` files are not nested."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    install = ("-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", "--force-reinstall")
    run(folder, *install, "--disable-pip-version-check", "--quiet", str(wheel))
    return folder


def run(folder: Path, *words: str, path: str = "", python: str = sys.executable) -> str:
    """The output of Python in a folder, with `path` before what is installed."""
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [python, *words],
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


@pytest.mark.slow
def test_sdist_passes_its_own_tests(unpacked: Path) -> None:
    source = str(unpacked / "src")
    assert run(unpacked, "-c", "import mmmos; print(mmmos.__file__)", path=source).startswith(source)
    tests = ["tests/training/test_settings.py", "tests/data/test_splits.py"]
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests)
    summary = run(unpacked, *words, path=source).splitlines()[-1]
    assert " passed" in summary
    assert "failed" not in summary


@pytest.mark.slow
def test_wheel_scores_without_source_tree(site: Path, scorer: Predictor, tmp_path: Path) -> None:
    python, sample = str(site / "bin" / "python"), SAMPLES / "speech_clean.flac"
    home = run(tmp_path, "-c", "import mmmos; print(mmmos.__file__)", python=python)
    assert Path(home).is_relative_to(site)
    line = run(tmp_path, str(site / "bin" / "mmmos"), "score", str(sample), "--device", "cpu", python=python)
    row, expected = json.loads(line), scorer.score(sample).row()
    assert [row[axis] for axis in AXES] == pytest.approx([expected[axis] for axis in AXES], abs=1e-4)  # other threads


OTHERS = [f"python3.{minor}" for minor in range(11, 16) if minor != sys.version_info.minor]
"""Interpreters of the versions that pyproject.toml allows."""


@pytest.mark.parametrize("name", OTHERS)
def test_wheel_imports_in_other_python(wheel: Path, tmp_path: Path, name: str) -> None:
    python = shutil.which(name)
    if python is None or subprocess.run([python, "-V"], capture_output=True, check=False, timeout=60).returncode:
        pytest.skip(f"{name} is not installed")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path)
    run(tmp_path, "-W", "error", "-m", "compileall", "-q", "mmmos", python=python)
    code = "import mmmos; print(mmmos.__file__, mmmos.__version__, *mmmos.AXES)"
    home, number, *axes = run(tmp_path, "-W", "error", "-c", code, path=str(tmp_path), python=python).split()
    assert Path(home).is_relative_to(tmp_path)
    assert number == VERSION
    assert tuple(axes) == AXES
