"""The bundled model is what its script builds."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from mmmos.model.load import load_model

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("MMMOS_DATA", "no-data"))
WORK = ROOT / "build" / "lite"


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(
    not all(folder.is_dir() for folder in (DATA / "musdb18_aes", DATA / "codec_mushra", DATA / "labels", WORK)),
    reason="MMMOS_DATA names no folder with musdb18_aes, codec_mushra and labels, or lite was never built here",
)
def test_build_gives_the_bundled_model(tmp_path: Path) -> None:
    words = ["--data", DATA, "--work", WORK, "--out", tmp_path / "lite"]
    subprocess.run([sys.executable, "-m", "recipes.lite.build", *words], cwd=ROOT, check=True, capture_output=True)
    built, bundled = load_model(tmp_path / "lite"), load_model("lite")
    assert built.info.training == bundled.info.training
    assert built.info.check == pytest.approx(bundled.info.check, abs=0.01)


@pytest.mark.slow
def test_bundled_files_take_at_most_20_mb_of_a_wheel() -> None:
    files = [path for path in (ROOT / "src" / "mmmos" / "bundled").rglob("*") if path.is_file()]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) <= 20_000_000
