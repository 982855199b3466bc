"""The example of docs/REWARD.md: two ascents from the same dull clip, to results.json and docs/images/reward.png.

    python -m recipes.reward.curve [--clip samples/speech_clean.flac] [--steps 30] [--nisqa nisqa.tar]

`--nisqa` is the released file of NISQA v2 (`mmmos.encoders.nisqa`): a predictor with other encoders and other ratings.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import soundfile
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mmmos.encoders.resample import resample
from mmmos.encoders.table import load_encoder
from mmmos.inference.predictor import load
from mmmos.report.plots import COLOURS, GREY, INK, save
from recipes.reward.equaliser import DULL, Equaliser, FreeSignal, ascend

ROOT = Path(__file__).resolve().parents[2]
RESULTS, PICTURE = Path(__file__).with_name("results.json"), ROOT / "docs" / "images" / "reward.png"
SECONDS = 3

RUNS = {
    "equaliser, near its start": {"lr": 1.0, "distance_weight": 0.01},
    "free signal, no distance": {"lr": 0.002, "distance_weight": 0.0},
}
"""Title -> options of `ascend`."""


def main(words: list[str] | None = None) -> None:
    """Climb, and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=ROOT / "samples" / "speech_clean.flac")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--nisqa", type=Path)
    options = parser.parse_args(words)
    original, rate = read(options.clip)
    other = options.nisqa and nisqa_score(options.nisqa, rate)
    results = climb(original, rate, options.steps, other) | {"clip": options.clip.name}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    save(PICTURE, draw(results))


def read(path: Path) -> tuple[Tensor, int]:
    """The first seconds of a file, mono [S], and its rate, Hz."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(samples.mean(axis=1))[: SECONDS * rate], rate


def nisqa_score(path: Path, rate: int) -> Callable[[Tensor], float]:
    """A function that gives NISQA's overall quality (1-5) of a wave [S] at `rate`, Hz."""
    encoder: Any = load_encoder("nisqa", path, trust_checkpoint=True)

    def score(wave: Tensor) -> float:
        with torch.no_grad():
            return float(encoder.score(resample(wave[None], rate, encoder.sample_rate))[0, 0])

    return score


def climb(original: Tensor, rate: int, steps: int, other: Callable[[Tensor], float] | None = None) -> dict[str, Any]:
    """PQ of the original, the other predictor's score of it, and the steps of each run."""
    with torch.no_grad():
        start = Equaliser(DULL)(original, rate)
    with load("lite", device="cpu") as scorer:
        runs = {}
        for title, options in RUNS.items():
            generator = Equaliser() if title.startswith("equaliser") else FreeSignal(len(start))
            found = ascend(scorer, generator, start, original, rate, steps=steps, other=other, **options)
            runs[title] = [asdict(step) for step in found]
        score = scorer.score(original, sample_rate=rate).PQ
        return {"original": score, "other_original": other and other(original), "runs": runs}


def draw(results: Mapping[str, Any]) -> Figure:
    """A column per run: PQ, the other predictor's score if there is one, and the distance to the original."""
    compared = results["other_original"] is not None
    lines = 2 + compared
    figure = Figure((9.0, 3.6 + 1.6 * compared), dpi=160, layout="constrained")
    heights = (3, 2, 2)[:lines]
    grid = figure.subplots(lines, len(results["runs"]), sharex=True, sharey="row", height_ratios=heights, squeeze=False)
    for column, (title, steps) in enumerate(results["runs"].items()):
        _draw_scores(grid[0, column], steps, results["original"])
        grid[0, column].set_title(title, color=INK, fontsize=11)
        if compared:
            grid[1, column].plot([step["other"] for step in steps], color=COLOURS[2])
            grid[1, column].axhline(results["other_original"], color=GREY, ls="--", lw=1)
        grid[-1, column].plot([step["original_distance"] for step in steps], color=COLOURS[4])
        grid[-1, column].set_xlabel("step")
    labels = ("PQ, points", *["NISQA (1-5)"] * compared, "distance to the\noriginal, dB")
    for panel, label in zip(grid[:, 0], labels, strict=True):
        panel.set_ylabel(label)
    grid[0, -1].legend(frameon=False, fontsize=9, loc="center right")
    for panel in grid.flat:
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_scores(panel: Axes, steps: Sequence[Mapping[str, float]], original: float) -> None:
    panel.plot([step["reward"] for step in steps], color=COLOURS[0], label="reward")
    panel.plot([step["held_out"] for step in steps], color=COLOURS[1], label="held-out member")
    panel.axhline(original, color=GREY, ls="--", lw=1, label="the original")


if __name__ == "__main__":
    main()
