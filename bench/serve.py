"""How fast is `mmmos serve`? Throughput and latency next to plain scoring, into bench/results/serve.json.

    python -m bench.serve [--rounds 3] [--seconds 20] [--soak 120]

- plain: `Predictor.stream` over the sample clips in a process that is up, as `mmmos score` runs it
- 1, 8 and 64 clients on the loopback interface, each with one clip at a time, in rounds that alternate with plain
- soak: 64 clients for two minutes; answers that are not rows, and the memory of the service and its decoders
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = (1, 8, 64)


@dataclass
class Load:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)  # of each answer with a row
    lost: int = 0  # answers without one
    wall: float = 0.0  # s

    @property
    def rate(self) -> float:
        """Clips per second."""
        return len(self.seconds) / self.wall


@contextmanager
def service() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`mmmos serve` in a process of its own, ready, and its port."""
    words = [sys.executable, "-m", "mmmos", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stderr is not None
            port = next(int(found[1]) for line in process.stderr if (found := re.search(r":(\d+);", line)))
            threading.Thread(target=process.stderr.read, daemon=True).start()  # its log must not fill the pipe
            while _get(port, "/readyz")[0] != 200:
                time.sleep(0.1)
            yield process, port
        finally:
            process.terminate()


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def load(port: int, clients: int, seconds: float, bodies: list[bytes]) -> Load:
    """Clients that send one clip after another for a time; answers after that time are waited for and counted."""
    found, lock, end = Load(), threading.Lock(), time.perf_counter() + seconds

    def run(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        for body in islice(cycle(bodies), first, None):
            began = time.perf_counter()
            if began > end:
                return
            connection.request("POST", "/v1/score", body, {"Content-Type": "application/octet-stream"})
            answer = connection.getresponse()
            rows = json.loads(answer.read()).get("rows", [{}])
            with lock:
                if answer.status == 200 and rows[0].get("status") == "ok":
                    found.seconds.append(time.perf_counter() - began)
                else:
                    found.lost += 1

    threads = [threading.Thread(target=run, args=(i,)) for i in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.wall = time.perf_counter() - began
    return found


def plain_rate(scorer: Any, paths: list[Path], seconds: float) -> float:
    """Clips per second of `Predictor.stream`."""
    from mmmos.audio.clip import Clip

    began, count = time.perf_counter(), 0
    for _ in scorer.stream(Clip(str(path), str(path)) for path in cycle(paths)):
        count += 1
        if count >= len(paths) and time.perf_counter() - began > seconds:
            break
    return count / (time.perf_counter() - began)


def mebibytes(pid: int) -> float:
    """Resident memory of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += (task / "children").read_text().split()
    status = [Path(f"/proc/{one}/status").read_text() for one in {str(pid), *children}]
    return sum(int(found[1]) for text in status if (found := re.search(r"VmRSS:\s+(\d+)", text))) / 1024


def soak(process: subprocess.Popen[str], port: int, seconds: float, bodies: list[bytes]) -> dict[str, Any]:
    """64 clients for a time, with the memory after a quarter of it and at the end."""
    memory: list[float] = []
    timer = threading.Timer(seconds / 4, lambda: memory.append(mebibytes(process.pid)))
    timer.start()
    found = load(port, 64, seconds, bodies)
    timer.join()
    memory.append(mebibytes(process.pid))
    return {"seconds": seconds, "clips": len(found.seconds), "lost": found.lost, "mebibytes": [*map(round, memory)]}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--soak", type=float, default=120.0, help="s; 64 clients")
    options = parser.parse_args()
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # as the command sets it; torch reads it when it is imported
    from bench.score import machine
    from mmmos.inference.predictor import from_pretrained

    paths = [path for path in sorted((ROOT / "samples").glob("*.*")) if path.suffix != ".md"]
    bodies = [path.read_bytes() for path in paths]
    plain: list[float] = []
    served: dict[int, list[Load]] = {clients: [] for clients in CLIENTS}
    with from_pretrained("lite", device="cpu") as scorer, service() as (process, port):
        for _ in range(options.rounds):
            plain.append(plain_rate(scorer, paths, options.seconds))
            for clients in CLIENTS:
                served[clients].append(load(port, clients, options.seconds, bodies))
        soaked = soak(process, port, options.soak, bodies)
    rows = []
    for clients, loads in served.items():
        seconds = [one for each in loads for one in each.seconds]
        p50, p99 = np.percentile(seconds, [50, 99])
        ratios = [each.rate / rate for each, rate in zip(loads, plain, strict=True)]
        row = {"clients": clients, "rate": statistics.median(each.rate for each in loads)}
        row |= {"of_plain": statistics.median(ratios), "p50": float(p50), "p99": float(p99)}
        rows.append({**row, "lost": sum(each.lost for each in loads)})
    words = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    data = {"commit": commit, "machine": machine(), "rounds": options.rounds, "load": os.getloadavg()[0]}
    data |= {"plain": statistics.median(plain), "rows": rows, "soak": soaked}
    (ROOT / "bench" / "results" / "serve.json").write_text(json.dumps(data, indent=1) + "\n")
    print(json.dumps(data, indent=1))


if __name__ == "__main__":
    main()
