"""What commit 577577c wrote still loads: a model folder, a cache, and cut-off runs of training and scoring."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmmos.inference.predictor import from_pretrained
from mmmos.scores import AXES
from tests.recorded_progress import RecordedProgress

GOLDEN = Path(__file__).parent / "golden" / "577577c"
TOLERANCE = 1e-4
"""Points by which processors round differently; the scores are printed with six decimals."""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A writable copy as the working directory: the runs hold relative paths."""
    folder = shutil.copytree(GOLDEN, tmp_path / "earlier")
    monkeypatch.chdir(folder)
    return folder


class Recorded(RecordedProgress):
    """Stands for the console's progress."""

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    recorded = Recorded()
    monkeypatch.setattr(sys.modules["mmmos.cli.train"], "ConsoleProgress", lambda console: recorded)
    return recorded


def scores_of(rows: list[dict[str, Any]]) -> list[list[float]]:
    return [[row[axis] for axis in AXES] for row in sorted(rows, key=lambda row: row["id"])]


@pytest.mark.slow
def test_model_folder_scores_as_before(earlier: Path) -> None:
    rows = [json.loads(line) for line in (earlier / "scores.jsonl").read_text().splitlines()]
    with from_pretrained("model", device="cpu") as predictor:
        found = predictor.score([row["path"] for row in rows])
        assert predictor.model.sha256 == rows[0]["model_sha256"]
    assert scores_of(
        [{"id": row["id"], **{axis: one[axis] for axis in AXES}} for row, one in zip(rows, found, strict=True)]
    ) == [pytest.approx(row, abs=TOLERANCE) for row in scores_of(rows)]


@pytest.mark.slow
def test_cut_off_training_resumes_with_its_cache(earlier: Path, progress: Recorded, run_mmmos: Run) -> None:
    epochs = (earlier / "half" / "history.jsonl").read_text().splitlines()
    words = ("--cache", "cache", "--encoders", "spectrum", "--set", "epochs=4", "--seed", 7)
    status, _, err = run_mmmos("train", "ratings.csv", "-o", "half", *words)
    assert status == 0, err
    assert ("training", 4, "epochs", len(epochs)) in progress.stages
    assert progress.total_windows == 0, "all features come from the cache"
    assert (earlier / "half" / "history.jsonl").read_text().splitlines()[: len(epochs)] == epochs
    assert (earlier / "half" / "model.safetensors").is_file()


@pytest.mark.slow
def test_cut_off_scoring_run_resumes(earlier: Path, run_mmmos: Run) -> None:
    published = {path.name: path.read_bytes() for path in (earlier / "bulk").glob("part-*")}
    options = ("--shard-size", 3, "--workers", 1, "--model", "model", "--device", "cpu")
    status, _, err = run_mmmos("score", "clips", "-o", "bulk/", *options)
    assert status == 0, err
    now = {path.name: path.read_bytes() for path in (earlier / "bulk").glob("part-*")}
    assert now.items() > published.items(), "what was published stays"
    assert run_mmmos("verify", "bulk")[0] == 0
    assert run_mmmos("merge", "bulk", "-o", "all.jsonl")[0] == 0
    rows = [json.loads(line) for line in (earlier / "all.jsonl").read_text().splitlines()]
    before = [json.loads(line) for line in (earlier / "scores.jsonl").read_text().splitlines()]
    assert scores_of(rows) == [pytest.approx(row, abs=TOLERANCE) for row in scores_of(before)]
