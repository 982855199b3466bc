"""Draw the pictures of docs/ from the sample clips: a report, a timeline and a leaderboard as a browser shows them.

    python -m recipes.pictures --labels audiomos2025_track2_human_annotations.jsonl

Needs Chromium. The timeline is of all samples, one after another. The leaderboard's scores are the raters' means with
noise, as the test set's audio is not public; without --labels that picture is not drawn.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from mmmos.audio.clip import Clip
from mmmos.audio.windows import Window, cut
from mmmos.report.sound import RATE

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "images"
NOISE = 0.8
"""Standard deviation of the noise in the leaderboard's scores, points."""


def main(words: list[str] | None = None) -> None:
    """Draw the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, help="the raters' file of the Track 2 test set")
    options = parser.parse_args(words)
    labels = options.labels and options.labels.resolve()
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("score", "samples", "-o", f"{folder}/scores.jsonl")
        run("report", f"samples={folder}/scores.jsonl", "-o", f"{folder}/report.html", "--title", "The sample clips")
        photograph(folder / "report.html", PICTURES / "report.png", 1180, 1750)
        join_samples(folder / "samples.flac")
        segments = ["--segments", "--hop", "2", "-o", f"{folder}/segments.jsonl", "--overwrite"]
        run("score", "samples.flac", *segments, "--plot", "timeline.html", folder=folder)
        photograph(folder / "timeline.html", PICTURES / "timeline.png", 1180, 720)
        if labels:
            write_scores(labels, folder / "noisy.jsonl")
            page = ["--html", f"{folder}/leaderboard.html", "--name", "raters with noise", "-o", f"{folder}/l.json"]
            run("leaderboard", f"{folder}/noisy.jsonl", "--labels", str(labels), *page)
            photograph(folder / "leaderboard.html", PICTURES / "leaderboard.png", 1180, 972)


def run(*words: str, folder: Path = ROOT) -> None:
    """Run `mmmos` in a folder, by default at the root of the repository."""
    subprocess.run([sys.executable, "-m", "mmmos", *words], check=True, cwd=folder)


def join_samples(path: Path) -> None:
    """Write all sample clips as one, at 32 kHz."""
    waves = []
    for file in sorted((ROOT / "samples").iterdir()):
        if file.suffix != ".md":
            items = cut(Clip(file.name, str(file)), [RATE], 0.0)
            waves += [item.waves[RATE] for item in items if isinstance(item, Window)]
    soundfile.write(path, np.concatenate(waves), RATE)


def photograph(page: Path, picture: Path, width: int, height: int) -> None:
    """Save what a browser shows of a page, in CSS pixels."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("chromium is not installed")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=4000"]
    size = [f"--window-size={width},{height}", f"--user-data-dir={page.parent}/browser"]
    subprocess.run([browser, *options, *size, f"--screenshot={picture}", page.as_uri()], check=True, timeout=120)


def write_scores(labels: Path, path: Path) -> None:
    """The means of the raters with noise, as rows of scores."""
    from mmmos.evaluation.track2 import read_truth
    from mmmos.scores import AXES

    truth = read_truth(labels)
    means = truth.ratings.mean(axis=2)
    noisy = np.clip(means + np.random.default_rng(0).normal(0, NOISE, means.shape), 0, 10)
    rows = [
        {"id": name, **dict(zip(AXES, map(float, row), strict=True))}
        for name, row in zip(truth.ids, noisy, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
