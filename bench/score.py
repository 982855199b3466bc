"""How fast is scoring with `lite`? Times, as ratios where something compares, into bench/results/score.json.

    python -m bench.score

- start to end: the command on the sample clips, process start and model load included
- one core: files in, scores out, in a process that is up, with one thread for the networks; in bfloat16, too, and with
  OpenVINO if the extra fast is installed, and how far that moves the scores of the sample clips
- an encoder, ours against its published package, in one process, interleaved
- memory, which does not grow with a file

The package `distillmos` must be installed for the last; its torchaudio is not used.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5


def median_seconds(*jobs: Callable[[], object]) -> list[float]:
    """Median wall time of each job over interleaved rounds, after one that is not counted."""
    times: list[list[float]] = [[] for _ in jobs]
    for round_number in range(ROUNDS + 1):
        for job, measured in zip(jobs, times, strict=True):
            begin = time.perf_counter()
            job()
            if round_number:
                measured.append(time.perf_counter() - begin)
    return [statistics.median(measured) for measured in times]


def run(*words: str) -> None:
    """A command in the repository's root, its output thrown away."""
    subprocess.run([sys.executable, *words], check=True, cwd=ROOT, capture_output=True)


def peak_mebibytes(path: Path) -> float:
    """Most memory that scoring a file in a process of its own takes."""
    # Not resource's ru_maxrss, which a child inherits from the process that forked it.
    code = (
        "import sys; from mmmos.inference.predictor import from_pretrained; from_pretrained('lite').score(sys.argv[1]);"
        " print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True)
    return int(done.stdout) / 1024  # /proc counts kibibytes


def published_distillmos() -> torch.nn.Module:
    """The network of the package `distillmos`, which imports torchaudio for its command line alone."""
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    from distillmos import ConvTransformerSQAModel

    return ConvTransformerSQAModel().eval()


def main() -> None:
    """Measure and write."""
    files = [path for path in sorted((ROOT / "samples").glob("*.*")) if path.suffix != ".md"]
    seconds = sum(soundfile.info(path).duration for path in files if path.suffix in (".flac", ".wav", ".mp3", ".opus"))
    seconds += 8.0  # the M4A, which libsndfile does not read
    command, bare, package = median_seconds(
        lambda: run("-m", "mmmos", "score", "samples"), lambda: run("-c", ""), lambda: run("-c", "import mmmos")
    )

    torch.set_num_threads(1)
    from bench.backends import openvino_predictors
    from mmmos.encoders.table import load_encoder
    from mmmos.inference.predictor import from_pretrained
    from mmmos.inference.selfcheck import check_clip
    from mmmos.scores import AXES

    clip, rate = check_clip()
    minute, longer = (ROOT / "build" / f"bench-{minutes}.wav" for minutes in (1, 20))
    minute.parent.mkdir(exist_ok=True)
    soundfile.write(minute, np.tile(clip, 15), rate)
    soundfile.write(longer, np.tile(clip, 300), rate)
    scorer = from_pretrained("lite", device="cpu")
    clips = {one: np.tile(clip, -(-10 * one // len(clip)))[: 10 * one] for one in scorer.rates}
    folder = ROOT / "build" / "networks"
    others = {
        "`--dtype bfloat16`": from_pretrained("lite", device="cpu", dtype="bfloat16"),
        **{
            f"`--backend openvino --dtype {name.split()[1]}`": predictor
            for name, predictor in openvino_predictors(scorer.model, clips, folder, ("float32", "bfloat16")).items()
        },
    }
    ours, theirs = load_encoder("distillmos"), published_distillmos()
    wave = torch.from_numpy(np.tile(clip, 3)[: 10 * rate]).unsqueeze(0)
    with torch.no_grad():
        on_one_core, lean, published, *faster = median_seconds(
            lambda: scorer.score(minute),
            lambda: ours.encode(wave),
            lambda: theirs(wave),
            *(partial(other.score, minute) for other in others.values()),
        )
    exact, *near = (
        np.array([[one[axis] for axis in AXES] for one in p.score([*map(str, files)])])
        for p in (scorer, *others.values())
    )
    changes = [np.abs(exact - scores) for scores in near]
    for predictor in (scorer, *others.values()):
        predictor.close()
    figures = {
        f"`mmmos score samples` from start to end, {seconds:.0f} s of audio": f"{command:.1f} s, "
        f"{seconds / command:.0f} times faster than real time",
        "lite on one core, a one-minute file": f"{60 / on_one_core:.0f} times faster than real time",
        **{
            f"the same with {name}": f"{60 / seconds:.0f} times; scores of the samples move by "
            f"{change.mean():.3f} points, at most {change.max():.3f}"
            for name, seconds, change in zip(others, faster, changes, strict=True)
        },
        "DistillMOS on 10 s, one core, against its published package": f"{published / lean:.1f} times faster",
        "`import mmmos`, beyond starting Python": f"{package - bare:.2f} s",
        "peak memory on a file of one minute, of 20 minutes": f"{peak_mebibytes(minute):.0f} MiB, "
        f"{peak_mebibytes(longer):.0f} MiB",
    }
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    data = {"commit": commit.stdout.strip(), "machine": machine(), "figures": figures}
    (ROOT / "bench" / "results" / "score.json").write_text(json.dumps(data, indent=1) + "\n")
    print(json.dumps(data, indent=1))


def machine() -> str:
    """What this ran on."""
    names = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    cpu = next((line.split(":")[1].strip() for line in names if "model name" in line), platform.processor())
    widest = torch.backends.cpu.get_cpu_capability()
    return f"{os.cpu_count()} cores of an {cpu} ({widest}), no GPU, torch {torch.__version__}"


if __name__ == "__main__":
    main()
