"""Memory and time of a reward with its gradient, to bench/results/reward.json.

    python -m bench.reward

Each case runs in a process of its own with one thread: lite scores white noise at 24 kHz, forward and backward. Memory
is the peak of the process, without what the loaded model takes.
"""

from __future__ import annotations

import json
import subprocess
import sys

from bench.score import ROOT, machine

CASES = ((1, 10, False), (1, 10, True), (4, 10, False), (4, 10, True), (1, 60, False), (1, 60, True))
"""Clips in a batch, their length in s, and whether activations are computed a second time."""

CODE = """
import json, sys, time
import mmmos, torch

def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) / 1024

clips, seconds, checkpoint = json.loads(sys.argv[1])
torch.set_num_threads(1)
module = mmmos.load(device="cpu").module
module(0.1 * torch.randn(1, 24_000), sample_rate=24_000)
before = status("VmRSS")
waves = (0.1 * torch.randn(clips, 24_000 * seconds)).requires_grad_()
begin = time.process_time()
module(waves, sample_rate=24_000, checkpoint=checkpoint).sum().backward()
print(json.dumps({"mebibytes": status("VmHWM") - before, "seconds": time.process_time() - begin}))
"""


def measure(clips: int, seconds: int, checkpoint: bool) -> dict[str, float]:
    """One case."""
    words = [sys.executable, "-c", CODE, json.dumps([clips, seconds, checkpoint])]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    case = {"clips": clips, "length": seconds, "checkpoint": checkpoint}
    return case | {"mebibytes": round(found["mebibytes"]), "seconds": round(found["seconds"], 1)}


def main() -> None:
    """Measure all cases."""
    words = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    data = {"commit": commit, "machine": machine(), "rows": [measure(*case) for case in CASES]}
    (ROOT / "bench" / "results" / "reward.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
