"""Keep the results of an experiment for dev/LOG.md, as recipes/paper/results/NAME.json.

    python -m recipes.paper.log OUT NAME

OUT is the folder that `mmmos experiment` wrote. Kept are mean and deviation over seeds of SRCC and MSE by clip.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import numpy as np

from mmmos.experiments.results import read_results

ROOT = Path(__file__).resolve().parents[2]
AXES = ("composite", "mean_of_axes")


def main() -> None:
    """Read the results, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the experiment")
    parser.add_argument("name", help="of the file in recipes/paper/results")
    options = parser.parse_args()
    runs: dict[tuple[str, str], dict[str, dict[str, list[tuple[float, float]]]]] = {}
    for result in read_results(options.out / "results.jsonl"):
        if result.level == "utterance" and result.axis in AXES:
            sets = runs.setdefault((result.table, result.row), {}).setdefault(result.set, {})
            sets.setdefault(result.axis, []).append((result.SRCC, result.MSE))
    rows = [
        {"table": table, "row": row, "sets": {name: _figures(found) for name, found in sets.items()}}
        for (table, row), sets in sorted(runs.items())
    ]
    words = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    path = Path(__file__).parent / "results" / f"{options.name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"commit": commit, "rows": rows}, indent=1, allow_nan=False) + "\n")


def _figures(found: dict[str, list[tuple[float, float]]]) -> dict[str, dict[str, float | int]]:
    figures = {}
    for axis, values in found.items():
        srcc, mse = np.array(values).T
        spread = round(float(srcc.std(ddof=1)), 3) if len(srcc) > 1 else 0.0
        figures[axis] = {
            "srcc": round(float(srcc.mean()), 3),
            "std": spread,
            "mse": round(float(mse.mean()), 3),
            "seeds": len(srcc),
        }
    return figures


if __name__ == "__main__":
    main()
