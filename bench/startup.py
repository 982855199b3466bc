"""CPU and wall time of the first score from a cold start, and of its stages, to bench/results/startup.json.

    python -m bench.startup [--rounds 5] [--against SRC]

All commands take turns. CPU time is that of a process and its children: it says what a change saves on a busy machine,
too, where wall time says nothing. Two cores work at once while the decoder's process starts, so on an idle machine wall
time is below CPU time. `--against` is the `src` folder of another version, which takes part as "before". Stages are of
one process with this version; all but the last two are imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from bench.score import ROOT, machine
from mmmos.inference.selfcheck import check_clip

STAGES = """
import json, sys, time
marks = [("Python", time.process_time())]
def mark(name): marks.append((name, time.process_time()))
import numpy; mark("NumPy")
import mmmos.cli; mark("the command line, with Typer and Rich")
import torch; mark("torch")
import mmmos.inference.several; mark("encoders and models")
predictor = mmmos.load("lite", device="cpu"); mark("loading lite")
predictor.score(sys.argv[1]); mark("scoring 10 s")
before = [0.0, *(end for _, end in marks)]
print(json.dumps({name: end - begin for (name, end), begin in zip(marks, before)}))
"""


def run(words: list[str], source: Path) -> tuple[float, float]:
    """CPU and wall seconds of a command of Python on the package in `source`, its output thrown away.

    Raises RuntimeError if it fails.
    """
    nowhere = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)]
    begin = time.perf_counter()
    child = os.posix_spawn(
        sys.executable, [sys.executable, *words], os.environ | {"PYTHONPATH": str(source)}, file_actions=nowhere
    )
    _, status, used = os.wait4(child, 0)
    wall = time.perf_counter() - begin
    if status:
        raise RuntimeError(f"python {' '.join(words)} ended with status {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime, wall


def measure(clip: Path, against: Path | None, rounds: int) -> list[dict[str, object]]:
    """Medians over rounds, after one that is not counted."""
    ours = ROOT / "src"
    first = ["-m", "mmmos", "score", "--device", "cpu", str(clip)]
    jobs = {
        "Python": (["-c", ""], ours),
        "import torch": (["-c", "import torch"], ours),
        "mmmos --version": (["-m", "mmmos", "--version"], ours),
        "mmmos score of 10 s": (first, ours),
    }
    if against:
        jobs["mmmos score of 10 s, before"] = first, against
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            taken = run(*job)
            times[name] += [taken] if number else []
    rows: list[dict[str, object]] = []
    for name, measured in times.items():
        cpu, wall = (round(statistics.median(values), 2) for values in zip(*measured, strict=True))
        rows.append({"what": name, "cpu_s": cpu, "wall_s": wall})
    return rows


def stages(clip: Path, rounds: int) -> dict[str, float]:
    """CPU seconds by stage, medians over processes."""
    found = []
    for _ in range(rounds):
        words = [sys.executable, "-c", STAGES, str(clip)]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        found.append(json.loads(done.stdout))
    return {name: round(statistics.median(one[name] for one in found), 2) for name in found[0]}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, metavar="SRC")
    options = parser.parse_args()
    wave, rate = check_clip()
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.wav"
        soundfile.write(clip, np.tile(wave, 8)[: 10 * rate], rate)
        rows, parts = measure(clip, options.against, options.rounds), stages(clip, options.rounds)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    data = {"commit": commit.stdout.strip(), "machine": machine(), "load": round(os.getloadavg()[0], 1)}
    data |= {"rounds": options.rounds, "rows": rows, "stages": parts}
    print(json.dumps(data, indent=1))
    (ROOT / "bench" / "results" / "startup.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
