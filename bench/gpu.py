"""Parity, throughput and memory on one GPU, in under ten minutes, to bench/results/gpu.json.

    python -m bench.gpu [--device cuda] [--small] [-o FILE]

- parity: features of every encoder against those of the CPU in float32, with TF32 off, and in bfloat16
- encoders: clips/s and peak memory by batch size, as they are, with `torch.compile`, and with CUDA graphs
- systems: samples in, scores out, of equal and of mixed lengths, next to `audiobox-aesthetics` as published
- files: the same from files. Decoding is fast enough if files take no more time than samples
- command: `mmmos score --device` on files, its scores against those of the CPU

Weights that are not in the package are random. `--small --device cpu` runs the same code on a CPU with toy networks and
short clips, without the peer: its figures mean nothing, and memory is
not measured.
"""

from __future__ import annotations

import argparse
import copy
import json
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile
import torch
from torch import Tensor

from bench.encoders import AUDIOBOX, FULL, PEER, clip, published, write_models
from bench.score import ROOT
from mmmos.audio.clip import Clip
from mmmos.audio.prefetch import PrefetchingDecoder
from mmmos.encoders.base import Encoder
from mmmos.encoders.table import ENCODERS
from mmmos.hub.options import LoadOptions
from mmmos.inference.predictor import Predictor, open_predictor
from mmmos.model.load import load_encoders, load_model
from mmmos.model.system import ScoringModel
from mmmos.scores import AXES

RATE = 16_000
DECODERS = 4
Row = dict[str, Any]
Job = Callable[[list[np.ndarray]], object]
"""Scores clips [S] at 16 kHz."""
DTYPES: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
COMPILED: dict[str, dict[str, Any]] = {"compiled": {}, "CUDA graphs": {"mode": "reduce-overhead"}}
"""Arguments of `torch.compile`."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    seconds: float  # longest clip, s
    clips: int  # of a measurement of a system
    batches: tuple[int, ...]
    rounds: int
    compiled: tuple[str, ...] = ("wavlm", "muq", "m2d")  # encoders that are measured compiled, too


LARGE, SMALL = Sizes(10.0, 64, (1, 4, 16, 64), 3), Sizes(0.5, 2, (1, 2), 1, ("m2d",))


def synchronize(device: torch.device) -> None:
    """Wait for the work that is queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(job: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Wall time of a job over rounds, after one that is not counted: it compiles, and allocates memory."""
    times = []
    for _ in range(rounds + 1):
        synchronize(device)
        begin = time.perf_counter()
        job()
        synchronize(device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def peak_gib(device: torch.device) -> float | None:
    """Most memory that tensors on the GPU took since `forget_peak`; None on a CPU."""
    return round(torch.cuda.max_memory_allocated(device) / 2**30, 2) if device.type == "cuda" else None


def forget_peak(device: torch.device) -> None:
    """Begin to measure `peak_gib`."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def waves(count: int, seconds: float, rate: int, mixed: bool = False) -> list[np.ndarray]:
    """Different excerpts of the clip, [S] each; if `mixed`, of 20 to 100 % of the length."""
    whole = clip(rate)
    longest, generator = int(seconds * rate), np.random.default_rng(0)
    sizes = generator.integers(longest // 5, longest + 1, count) if mixed else np.full(count, longest)
    return [np.roll(whole, int(generator.integers(len(whole))))[:size] for size in sizes]


def every_encoder(paper: dict[str, Encoder]) -> Iterator[Encoder]:
    """The paper's, and one of each other kind: bundled weights, else random ones."""
    yield from paper.values()
    torch.manual_seed(0)
    for name, kind in ENCODERS.items():
        if name not in paper:
            yield kind().train(False)


def encode(encoder: Encoder, batch: Tensor, dtype: str) -> Tensor:
    """Frames [B, T, D] in the precision that `Predictor` would use."""
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        return encoder.encode(batch).frames


def parity(encoders: Iterator[Encoder], device: torch.device, sizes: Sizes) -> list[Row]:
    """Differences of frames from the CPU's in float32, relative to their standard deviation, and the cosine."""
    rows: list[Row] = []
    for encoder in encoders:
        batch = torch.from_numpy(np.stack(waves(2, sizes.seconds, encoder.sample_rate))).float()
        expected = encode(encoder, batch, "float32").double()
        moved = copy.deepcopy(encoder).to(device)
        for dtype in DTYPES:
            found = encode(moved, batch.to(device), dtype).double().cpu()
            relative = ((found - expected).abs().max() / expected.std()).item()
            cosine = torch.cosine_similarity(found, expected, dim=2).mean().item()
            rows.append({"encoder": encoder.name, "dtype": dtype, "max_relative": relative, "mean_cosine": cosine})
    return rows


def kinds_of(encoder: Encoder, device: torch.device, sizes: Sizes) -> Iterator[tuple[str, Encoder]]:
    """The encoder as it is, and compiled. A CPU has no CUDA graphs; there, it is traced and not compiled."""
    yield "as it is", encoder
    for name, options in COMPILED.items():
        if encoder.name not in sizes.compiled or (device.type == "cpu" and "mode" in options):
            continue
        changed = copy.copy(encoder)
        backend: dict[str, Any] = {"backend": "eager"} if device.type == "cpu" else {}
        changed.frames = torch.compile(encoder.frames, dynamic=False, **options, **backend)  # type: ignore[method-assign]
        yield name, changed


def encoder_rows(paper: dict[str, Encoder], device: torch.device, sizes: Sizes) -> list[Row]:
    """Clips/s and peak memory of each of the paper's encoders. Out of memory leaves larger batches out."""
    rows: list[Row] = []
    for encoder in paper.values():
        moved = copy.deepcopy(encoder).to(device)
        for kind, one in kinds_of(moved, device, sizes):
            for dtype in DTYPES if kind == "as it is" else DTYPES[1:]:
                for size in sizes.batches if kind == "as it is" else sizes.batches[-2:-1]:
                    rows.append(encoder_row(one, device, sizes, size, dtype) | {"kind": kind})
        torch.compiler.reset()
    return rows


def encoder_row(encoder: Encoder, device: torch.device, sizes: Sizes, size: int, dtype: str) -> Row:
    """One batch size."""
    batch = torch.from_numpy(np.stack(waves(size, sizes.seconds, encoder.sample_rate))).float().to(device)
    forget_peak(device)
    row: Row = {"encoder": encoder.name, "dtype": dtype, "batch": size}
    try:
        taken = median_seconds(lambda: encode(encoder, batch, dtype), device, sizes.rounds)
    except torch.OutOfMemoryError:
        return row | {"clips_per_s": None, "peak_gib": None}
    return row | {"clips_per_s": size / taken, "peak_gib": peak_gib(device)}


def system_rows(folder: Path, device: torch.device, sizes: Sizes, peer: bool) -> list[Row]:
    """Clips/s from samples to scores: the full system, the peer, and the peer's model with our WavLM."""
    rows: list[Row] = []
    for name, file in {FULL: "full", **({AUDIOBOX: "audiobox.pt"} if peer else {})}.items():
        model = load_model(folder / file, LoadOptions(trust_checkpoint=True))
        for dtype in DTYPES:
            options = LoadOptions(str(device), dtype, trust_checkpoint=True)

            def prepare(size: int, model: ScoringModel = model, options: LoadOptions = options) -> Job:
                predictor = Predictor(model, options, batch_size=size)
                return lambda clips: predictor.score([*clips], sample_rate=RATE)

            rows += [{"system": name, "dtype": dtype} | row for row in rows_of(prepare, device, sizes)]
    if peer:
        found = rows_of(lambda size: peer_on(folder, device, size), device, sizes)
        rows += [{"system": PEER, "dtype": "float32"} | row for row in found]
    return rows


def rows_of(prepare: Callable[[int], Job], device: torch.device, sizes: Sizes) -> list[Row]:
    """Clips/s and peak memory of one system, which is alone on the device, by batch size and lengths."""
    rows: list[Row] = []
    for size in sizes.batches:
        forget_peak(device)
        job = prepare(size)
        for lengths in ("equal", "mixed"):
            clips = waves(sizes.clips, sizes.seconds, RATE, lengths == "mixed")
            row: Row = {"batch": size, "lengths": lengths}
            try:
                row["clips_per_s"] = len(clips) / median_seconds(partial(job, clips), device, sizes.rounds)
            except torch.OutOfMemoryError:
                row["clips_per_s"] = None
            rows.append(row | {"peak_gib": peak_gib(device)})
        del job
    return rows


def peer_on(folder: Path, device: torch.device, size: int) -> Job:
    """The peer's predictor, clips in batches of `size`."""
    predictor = published().AesPredictor(checkpoint_pth=str(folder / "audiobox.pt"))
    predictor.model.to(device)
    predictor.device = device

    def score(clips: list[np.ndarray]) -> None:
        items = [{"path": torch.from_numpy(wave).float()[None], "sample_rate": RATE} for wave in clips]
        for start in range(0, len(items), size):
            predictor.forward(items[start : start + size])

    return score


def file_rows(model: Path, files: list[Path], device: torch.device, sizes: Sizes) -> Row:
    """Clips/s of decoding alone, of scoring files while the next are decoded, and of scoring samples in memory."""
    clips = [Clip(str(path)) for path in files]
    samples = [soundfile.read(path)[0] for path in files]
    options, size = LoadOptions(str(device), "bfloat16"), sizes.batches[-1]
    with Predictor(load_model(model), options, batch_size=size, decoder=PrefetchingDecoder(DECODERS)) as predictor:

        def decode() -> None:
            with closing(predictor.decoder.cut(clips, predictor.rates, predictor.min_seconds)) as cuts:
                for _, items in cuts:
                    list(items)

        jobs: dict[str, Callable[[], object]] = {"decoding": decode, "files": lambda: list(predictor.stream(clips))}
        jobs["samples"] = lambda: predictor.score(samples, sample_rate=RATE)
        return {name: len(files) / median_seconds(job, device, sizes.rounds) for name, job in jobs.items()}


def command(model: Path, files: list[Path], device: torch.device) -> Row:
    """The largest difference of the command's scores on the device from those of the CPU, in points."""
    words = ["-m", "mmmos", "score", "--device", str(device), "--model", str(model), *map(str, files)]
    done = subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    with open_predictor(model, LoadOptions("cpu", "float32")) as predictor:
        expected = predictor.score([*map(str, files)])
    change = max(abs(row[axis] - scores[axis]) for row, scores in zip(rows, expected, strict=True) for axis in AXES)
    return {"clips": len(rows), "devices": sorted({row["device"] for row in rows}), "max_change": change}


def bench(folder: Path, device: torch.device, sizes: Sizes, peer: bool) -> Row:
    """Everything that is written."""
    model = folder / "full"
    paper = load_encoders(load_model(model))
    files = [folder / f"{number}.wav" for number in range(sizes.clips)]
    for path, wave in zip(files, waves(len(files), sizes.seconds, RATE), strict=True):
        soundfile.write(path, wave, RATE)
    return {
        "parity": parity(every_encoder(paper), device, sizes),
        "encoders": encoder_rows(paper, device, sizes),
        "systems": system_rows(folder, device, sizes, peer),
        "files": file_rows(model, files, device, sizes),
        "command": command(model, files[:2], device),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "bench" / "results" / "gpu.json")
    options = parser.parse_args()
    device, sizes = torch.device(options.device), SMALL if options.small else LARGE
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if options.small:
            script = runpy.run_path(str(ROOT / "recipes" / "paper" / "random_weights.py"))
            script["write_model"](Path(folder) / "full", members=2, tiny=True)
        else:
            write_models(Path(folder))
        data = bench(Path(folder), device, sizes, not options.small)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    data = {"commit": commit.stdout.strip(), "device": name, "torch": torch.__version__, "small": options.small} | data
    data["seconds"] = round(time.perf_counter() - begin)
    print(json.dumps(data, indent=1))
    options.output.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
