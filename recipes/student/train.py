"""Trains the student's perceptron on the shards of `recipes.student.teachers`: minutes on one core.

    python -m recipes.student.train [--work build/student] [--curve 500 1000 2000 4000 8000]

FullBand's pooled frames of each shard are kept in WORK/pooled. Writes WORK/student.safetensors, the moving average of
the weights in float16, and for each number of segments a line in WORK/curve.jsonl: the agreement with each teacher on
segments of packages, songs and signals that training does not see. More shards may be added meanwhile.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.stats import spearmanr
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from mmmos.encoders.fullband import FullBand
from mmmos.encoders.student import DOMAINS, SCORES, Perceptron, over_time

BATCH, STEPS = 64, 4000
RATE, WARM_UP, END_RATE = 1e-3, 50, 0.01  # learning rate, steps until it is reached, and its fraction at the end
WEIGHT_DECAY = 0.1
AVERAGED = 0.99  # decay of the moving average of the weights
DOMAIN_WEIGHT = 0.3  # of the cross-entropy next to the squared error of the scores
SURE = 0.8  # fraction of a segment's power from one domain
LEAST = 1e-3  # deviation of an input over segments
AT_ONCE = 10  # segments
Batch = dict[str, Tensor]


def read_shards(work: Path, kind: str) -> Batch:
    """Pooled frames [N, 2752], scores [N, 7] and domains [N, 3] of all segments of a kind, train or held-out."""
    paths = sorted((work / "shards").glob(f"{kind}-????.npz"))
    if not paths:
        raise SystemExit(f"no shards {kind}-*.npz in {work / 'shards'}: make them with recipes.student.teachers")
    front, found = FullBand(), dict[str, list[Tensor]]()
    for path in paths:
        with np.load(path) as shard:
            found.setdefault("pooled", []).append(pooled(shard["log_mel"], work / "pooled" / f"{path.stem}.npy", front))
            for name in ("scores", "domain"):
                found.setdefault(name, []).append(torch.from_numpy(shard[name]))
    return {name: torch.cat(values) for name, values in found.items()}


@torch.no_grad()
def pooled(log_mel: np.ndarray, kept: Path, front: FullBand) -> Tensor:
    """Mean and deviation of the frames of spectra [N, L, 96], [N, 2752], read from a file or written to it."""
    if not kept.is_file():
        spectra = torch.from_numpy(log_mel).split(AT_ONCE)
        made = torch.cat([over_time(front.frames_of(part.float())) for part in spectra])
        kept.parent.mkdir(exist_ok=True)
        np.save(kept.with_suffix(".partial.npy"), made.numpy())
        kept.with_suffix(".partial.npy").rename(kept)
    return torch.from_numpy(np.load(kept))


def fit(data: Batch, steps: int = STEPS, seed: int = 0) -> Perceptron:
    """A perceptron for segments; scores that are NaN are left out."""
    torch.manual_seed(seed)
    rng, network, known = np.random.default_rng(seed), Perceptron(), ~data["scores"].isnan()
    network.input_mean.copy_(data["pooled"].mean(0))
    network.input_std.copy_(data["pooled"].std(0) + LEAST)
    network.score_mean.copy_(data["scores"].nanmean(0))
    network.score_std.copy_(((data["scores"] - network.score_mean) ** 2).nanmean(0).sqrt())
    target = ((data["scores"] - network.score_mean) / network.score_std).nan_to_num()
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps))
    average = AveragedModel(network, avg_fn=lambda old, new, n: old.lerp(new, 1 - min(AVERAGED, (n + 1) / (n + 11))))
    order = np.concatenate([rng.permutation(len(target)) for _ in range(-(-steps * BATCH // len(target)))])
    for step in range(steps):
        rows = torch.from_numpy(order[step * BATCH : (step + 1) * BATCH])
        scores, logits = network.standard(data["pooled"][rows]).split([len(SCORES), len(DOMAINS)], dim=1)
        error = (scores - target[rows])[known[rows]].square().mean()
        loss = error + DOMAIN_WEIGHT * F.cross_entropy(logits, data["domain"][rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
    network.load_state_dict(average.module.state_dict())
    return network.eval().requires_grad_(False)


def rate_at(step: int, steps: int) -> float:
    """Factor of the learning rate: a short rise, then half a cosine down to `END_RATE`."""
    return min(1.0, (step + 1) / WARM_UP) * (END_RATE + (1 - END_RATE) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def agreement(network: Perceptron, data: Batch) -> dict[str, float]:
    """Rank correlation with each teacher on segments of speech, and the fraction of domains that are right."""
    scores, logits = network(data["pooled"]).split([len(SCORES), len(DOMAINS)], dim=1)
    speech = data["domain"][:, DOMAINS.index("speech")] > SURE
    found = {}
    for i, name in enumerate(SCORES):
        rows = speech & ~data["scores"][:, i].isnan()
        found[name] = round(float(spearmanr(scores[rows, i], data["scores"][rows, i]).statistic), 4)
    sure = data["domain"].amax(1) > SURE
    right = logits.argmax(1) == data["domain"].argmax(1)
    return found | {"domain": round(right[sure].float().mean().item(), 4)}


def first(data: Batch, count: int) -> Batch:
    """The first segments."""
    return {name: values[:count] for name, values in data.items()}


def main() -> None:
    """Train on more and more segments, and write the network of all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/student"), help="folder with shards/; output folder")
    parser.add_argument("--curve", type=int, nargs="*", default=(), help="numbers of segments to train on before all")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"batches of {BATCH} segments")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, held_out = read_shards(options.work, "train"), read_shards(options.work, "held-out")
    whole, lines = len(train["scores"]), list[dict[str, Any]]()
    for count in (*(count for count in sorted(options.curve) if count < whole), whole):
        start = time.process_time()
        network = fit(first(train, count), options.steps)
        line = {"segments": count} | agreement(network, held_out) | {"cpu_s": round(time.process_time() - start)}
        lines.append(line)
        print(json.dumps(line), flush=True)
    (options.work / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    half = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    save_file(half, options.work / "student.safetensors")


if __name__ == "__main__":
    main()
