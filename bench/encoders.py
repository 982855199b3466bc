"""Time and memory of our and the published encoders, on one clip of 10 s, to bench/results/encoders.json.

    python -m bench.encoders [--threads 1] [--rounds 5]

The file keeps one measurement per kind of machine. bfloat16 is left out where the processor does not multiply it.

Weights are random, of full size: time and memory do not depend on their values. All systems take turns in one process,
and a ratio is the median over rounds of two times from one round: on a busy machine, trust the ratios rather than the
seconds. Memory is measured in a separate process per system.

    float32          the reference
    autocast         --dtype bfloat16: weights stay float32 and are cast on use
    bfloat16         weights are cast once, in advance
    openvino ...     --backend openvino in each precision, int8 with ranges of this clip; needs the extra fast.
                     Fractions of the peak are of bfloat16's, also in int8; of float32's where bfloat16 is left out
    audiobox-...     the published predictor, which always computes in float32

The packages `audiobox-aesthetics` and `transformers` must be installed; torchaudio is not used.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast, get_args
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

from bench.backends import openvino_predictors, with_openvino
from bench.score import ROOT, machine
from mmmos.encoders.base import Encoder
from mmmos.encoders.device import has_fast_bfloat16
from mmmos.hub.options import LoadOptions, Precision
from mmmos.inference.predictor import Predictor
from mmmos.inference.selfcheck import check_clip
from mmmos.model.load import load_encoders, load_model
from mmmos.model.quality import build_model
from mmmos.scores import AXES

Job = Callable[[], object]

PEER = f"audiobox-aesthetics {version('audiobox-aesthetics')}, as published"
SECONDS = 10
CUBE = 2048
CONVOLUTION = (512, 32, 250)  # channels, bands, frames; 3 x 3
GFLOP = {"wavlm": 139, "muq": 418, "m2d": 54}
"""Of a 10-second clip, two for a multiplication with its addition."""
TITLES = {"wavlm": "WavLM", "muq": "MuQ", "m2d": "M2D"}
AUDIOBOX = "audiobox model, our WavLM"
FULL = "all three and eight heads"


def clip(rate: int = 16_000) -> np.ndarray:
    """Ten seconds, [S]."""
    wave, own = check_clip()
    assert own == 16_000
    return np.tile(wave, 8)[: SECONDS * rate]


def write_models(folder: Path) -> None:
    """The full system, and a checkpoint of the peer's shape."""
    script = runpy.run_path(str(ROOT / "recipes" / "paper" / "random_weights.py"))
    script["write_model"](folder / "full")
    torch.manual_seed(0)
    settings = {"proj_num_layer": 5, "proj_ln": True, "proj_act_fn": "gelu", "proj_dropout": 0.0, "nth_layer": 13}
    settings |= {"use_weighted_layer_sum": True, "normalize_embed": True, "output_dim": 1, "precision": "bf16"}
    target = {axis: {"mean": 5.0, "std": 1.5} for axis in AXES}
    network = published().AesMultiOutput(**settings, target_transform=target)
    held = {"state_dict": network.state_dict(), "model_cfg": settings, "target_transform": target}
    torch.save(held, folder / "audiobox.pt")


def published() -> types.ModuleType:
    """The module of the peer's predictor. Of torchaudio it is given a resampler that has nothing to do."""
    audio = types.ModuleType("torchaudio")
    audio.functional = types.SimpleNamespace(resample=lambda wave, orig_freq, new_freq: wave)  # type: ignore[attr-defined]
    warnings.simplefilter("ignore")  # its weight norm is of the older kind
    with mock.patch.dict(sys.modules, torchaudio=audio):
        import audiobox_aesthetics.infer as module
    return module


def clips() -> dict[int, np.ndarray]:
    """By the sample rates of the encoders."""
    return {rate: clip(rate) for rate in (16_000, 24_000)}


def load_ours(path: Path) -> dict[str, Predictor]:
    """A model in torch's precisions, and in OpenVINO's; the first two share their encoders."""
    model = load_model(path, LoadOptions(trust_checkpoint=True))
    model = replace(model, loaded=load_encoders(model))
    found = {"float32": Predictor(model, LoadOptions("cpu"))}
    if has_fast_bfloat16():
        half = load_model(path, LoadOptions(trust_checkpoint=True))
        half = replace(half, loaded={name: each.to(torch.bfloat16) for name, each in load_encoders(half).items()})
        found["autocast"] = Predictor(model, LoadOptions("cpu", "bfloat16"))
        found["bfloat16"] = Predictor(half, LoadOptions("cpu"))
    precisions = [one for one in get_args(Precision) if one != "bfloat16" or has_fast_bfloat16()]
    return found | openvino_predictors(model, clips(), path.with_name("networks"), precisions)


def encoder_job(encoder: Encoder, autocast: bool) -> Job:
    """Encode the clip."""
    wave = torch.from_numpy(clip(encoder.sample_rate))[None]

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            encoder.encode(wave)

    return run


def score_job(predictor: Predictor) -> Job:
    """Samples in, scores out."""
    return lambda: predictor.score(clip(), sample_rate=16_000)


def peer_job(folder: Path) -> Job:
    """The same with the peer."""
    predictor = published().AesPredictor(checkpoint_pth=str(folder / "audiobox.pt"))
    wave = torch.from_numpy(clip())[None]
    return lambda: predictor.forward([{"path": wave, "sample_rate": 16_000}])


def transformers_job() -> Job:
    """WavLM Base+ of the package transformers."""
    from transformers.models.wavlm.configuration_wavlm import WavLMConfig
    from transformers.models.wavlm.modeling_wavlm import WavLMModel

    network, wave = WavLMModel(WavLMConfig()).eval(), torch.from_numpy(clip())[None]

    def run() -> None:
        with torch.inference_mode():
            network(wave)

    return run


def peak_jobs() -> dict[str, Job]:
    """What torch multiplies fastest with, from two libraries: a product of 2048-cubes, a convolution as in MuQ's stem.

    In float32 the first library runs at half of what some processors can, so neither alone is the machine's peak.
    """
    jobs: dict[str, Job] = {}
    for dtype in (torch.float32, torch.bfloat16)[: 1 + has_fast_bfloat16()]:
        a, b = torch.randn(2, CUBE, CUBE, dtype=dtype).unbind()
        channels, bands, frames = CONVOLUTION
        maps = torch.randn(1, channels, bands, frames, dtype=dtype).to(memory_format=torch.channels_last)
        kernel = torch.randn(channels, channels, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
        jobs[f"{dtype} product"] = partial(torch.mm, a, b)
        jobs[f"{dtype} convolution"] = partial(F.conv2d, maps, kernel, padding=1)
    return jobs


def measure(jobs: dict[str, Job], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of each job in each round, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, job in jobs.items():
            begin = time.perf_counter()
            job()
            if number:
                times[name].append(time.perf_counter() - begin)
        print(f"round {number} of {rounds}", file=sys.stderr)
    return times


def system_job(folder: Path, system: str, dtype: str) -> Job:
    """One system alone, for its memory."""
    if system == PEER:
        return peer_job(folder)
    if system.startswith("transformers"):
        return transformers_job()
    model = load_model(folder / ("audiobox.pt" if system == AUDIOBOX else "full"), LoadOptions(trust_checkpoint=True))
    wanted = {name for name, title in TITLES.items() if title == system}
    if wanted:
        specs = tuple(spec for spec in model.encoders if spec.name in wanted)
        config = replace(model.members[0].model.config, encoders=specs)
        model = replace(model, members=(replace(model.members[0], model=build_model(config)),))
        model = replace(model, weights=np.ones((1, len(AXES))))
    library, _, precision = dtype.rpartition(" ")
    if library:
        model = with_openvino(model, cast(Precision, precision), clips(), folder / "networks")
    encoders = load_encoders(model)
    if dtype == "bfloat16":
        for encoder in encoders.values():
            encoder.to(torch.bfloat16)
    if wanted:
        (encoder,) = encoders.values()
        return encoder_job(encoder, dtype == "autocast")
    arithmetic: Precision = "bfloat16" if dtype == "autocast" else "float32"
    return score_job(Predictor(replace(model, loaded=encoders), LoadOptions("cpu", arithmetic)))


def memory(folder: Path, system: str, dtype: str, threads: int) -> tuple[float, float]:
    """Peak of a process that loads a system and runs it twice, and what it holds between runs, GiB."""
    words = [sys.executable, "-m", "bench.encoders", "--threads", str(threads), "--alone", str(folder), system, dtype]
    done = subprocess.run(words, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    peak, held = map(float, done.stdout.split())
    return peak, held


def report_memory(folder: Path, system: str, dtype: str) -> None:
    """What `memory` reads: peak and present resident size, GiB."""
    job = system_job(folder, system, dtype)
    for _ in range(2):
        job()
    gc.collect()
    sizes = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    print(*(float(sizes[name].split()[0]) / 2**20 for name in ("VmHWM", "VmRSS")))


def change_of_scores(predictors: dict[str, Predictor]) -> dict[str, dict[str, float]]:
    """By how much the sample clips' scores differ from those in float32, in points."""
    files = sorted(path for path in (ROOT / "samples").iterdir() if path.suffix != ".md")
    scores = {
        dtype: np.array([[each[axis] for axis in AXES] for each in predictor.score([*map(str, files)])])
        for dtype, predictor in predictors.items()
    }
    for predictor in predictors.values():
        predictor.close()
    changes = {}
    for dtype in set(scores) - {"float32"}:
        change = abs(scores[dtype] - scores["float32"])
        changes[dtype] = {"mean": float(change.mean()), "max": float(change.max())}
    changes["float32"] = {"std_over_clips": float(scores["float32"].std(axis=0).mean())}
    return changes


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", nargs=3, metavar=("FOLDER", "SYSTEM", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.alone:
        report_memory(Path(options.alone[0]), *options.alone[1:])
        return
    with tempfile.TemporaryDirectory() as name:
        write_models(Path(name))
        data = bench(Path(name), options.threads, options.rounds)
    print(json.dumps(data, indent=1))
    results = ROOT / "bench" / "results" / "encoders.json"
    found = json.loads(results.read_text()) | {data["machine"]: data}
    results.write_text(json.dumps(found, indent=1) + "\n")


def bench(folder: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Everything that is written."""
    full, audiobox = load_ours(folder / "full"), load_ours(folder / "audiobox.pt")
    library = f"transformers {version('transformers')}, WavLMModel"
    jobs: dict[tuple[str, str], Job] = {
        (PEER, "float32"): peer_job(folder),
        **{(AUDIOBOX, dtype): score_job(predictor) for dtype, predictor in audiobox.items()},
        (library, "float32"): transformers_job(),
    }
    for name, title in TITLES.items():
        for dtype, predictor in full.items():
            jobs[title, dtype] = encoder_job(predictor.encoders[name], dtype == "autocast")
    jobs |= {(FULL, dtype): score_job(predictor) for dtype, predictor in full.items()}
    times = measure({**{"|".join(key): job for key, job in jobs.items()}, **peak_jobs()}, rounds)
    flop = {"product": 2 * CUBE**3, "convolution": 2 * 9 * CONVOLUTION[0] * math.prod(CONVOLUTION)}
    peak = {
        dtype: {kind: round(1e-9 * flop[kind] / statistics.median(times[f"torch.{dtype} {kind}"])) for kind in flop}
        for dtype in ("float32", "bfloat16")[: 1 + has_fast_bfloat16()]
    }
    changes = {FULL: change_of_scores(full), AUDIOBOX: change_of_scores(audiobox)}
    del full, audiobox
    rows = []
    for system, dtype in jobs:
        taken = times[f"{system}|{dtype}"]
        seconds = statistics.median(taken)
        ratios = [ours / theirs for ours, theirs in zip(taken, times[f"{PEER}|float32"], strict=True)]
        half = "bfloat16" in peak and not dtype.endswith("float32")
        best = max(peak["bfloat16" if half else "float32"].values())
        highest, held = memory(folder, system, dtype, threads)
        row = {"system": system, "dtype": dtype, "seconds": round(seconds, 3)}
        row |= {"ratio_to_peer": round(statistics.median(ratios), 3)}
        row |= {"share_of_peak": round(work(system) / seconds / best, 3)}
        row |= {"peak_gib": round(highest, 2), "held_gib": round(held, 2)}
        row |= {f"score_{key}": round(value, 5) for key, value in changes.get(system, {}).get(dtype, {}).items()}
        rows.append(row)
        print(*row.values(), sep="  ", file=sys.stderr)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return {
        "commit": commit.stdout.strip(),
        "machine": machine(),
        "threads": threads,
        "rounds": rounds,
        "peak_gflops": peak,
        "rows": rows,
    }


def work(system: str) -> int:
    """GFLOP of a clip."""
    names = {TITLES[name]: name for name in TITLES}
    if system == FULL:
        return sum(GFLOP.values())
    return GFLOP[names.get(system, "wavlm")]


if __name__ == "__main__":
    main()
