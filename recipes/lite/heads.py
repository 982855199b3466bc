"""What the parts of `lite`'s heads have in common: sets of clips, AES ratings of a domain, folds, the gate.

Evidence for each score:

            PQ                                   PC                         CE, CU
    speech   ratings of codecs, known order of    one function of all        from PQ and PC, as in AES
             degradations, a copy of three        domains: ratings of        ratings of speech
             networks trained on ratings          music, mean ratings of
    music    ratings, minus a severity            speech and sound, mixes    ratings, minus a severity
    sound    severity                                                        as for speech
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from mmmos.data.ratings import read_ratings
from mmmos.scores import AXES

Array = NDArray[np.float64]

DOMAINS = ("speech", "music", "sound")
CE, CU, PC, PQ = (AXES.index(axis) for axis in ("CE", "CU", "PC", "PQ"))
MUSIC, CODEC, FREE, REMIXED = "musdb18_aes", "codec_mushra", "free", "remixed"  # sets
CLEAN = "clean"  # kind of an unrated clip that is not degraded
AES = {"speech": "AES_natural_speech", "sound": "AES_natural_sound"}  # label files

BASIS = {
    "speech": {"PQ": "distilled-human", "PC": "constructed", "CE": "derived", "CU": "derived"},
    "music": dict.fromkeys(AXES, "human"),
    "sound": {"PQ": "constructed", "PC": "constructed", "CE": "derived", "CU": "derived"},
}
"""Evidence for an axis in a domain: ratings of such clips, order of degradations, or other axes' scores.

Music that is not similar to the rated songs has "extrapolated" instead (support.py).
"""

GATE_DECAY = 6e-5  # half of it makes crossfades steeper, more costs solo vocals
GATE_WEIGHT = {"speech": 2.0, "music": 1.0, "sound": 1.0}  # noise in speech is lost on the heads of other domains
SINGING = "vocals"  # kind of the solo vocals of rated songs
KIND_WEIGHT = {SINGING: 2.0, REMIXED: 2.0}  # else the weight of speech draws singing to it
PARTS = 5  # of the groups; each member goes without one, and their spread is part of the scores' standard deviation


@dataclass(frozen=True)
class Norms:
    """A domain's AES ratings: means and standard deviations by axis; CE and CU as linear functions of PQ and PC."""

    mean: dict[str, float]
    std: dict[str, float]
    slopes: Array  # [2, 3], of CE and CU on 1, PQ, PC


def read_norms(labels: Path) -> dict[str, Norms]:
    """Of speech and sound, from the published label files in a folder."""
    norms = {}
    for domain, name in AES.items():
        means = read_ratings(labels / f"{name}.jsonl")[1].mean(axis=2)
        inputs = np.column_stack([np.ones(len(means)), means[:, PQ], means[:, PC]])
        slopes = np.linalg.lstsq(inputs, means[:, [CE, CU]], rcond=None)[0].T
        mean, std = (dict(zip(AXES, map(float, part), strict=True)) for part in (means.mean(axis=0), means.std(axis=0)))
        norms[domain] = Norms(mean, std, slopes)
    return norms


def part_of(group: str) -> int:
    """The part of the groups that a group is in."""
    return int(hashlib.sha256(group.encode()).hexdigest(), 16) % PARTS


def fit_gate(x: Array, clips: Sequence[tuple[str, str]], targets: Array) -> torch.Tensor:
    """Logistic regression, kinds weighted by the root of their size: weights and biases [domains, D + 1].

    `clips` are pairs of a domain and a kind, which is a set in most cases. `targets` [N, domains] are probabilities.
    """
    inputs = torch.from_numpy(np.column_stack([x, np.ones(len(x))]))
    target = torch.from_numpy(targets)
    sizes = Counter(clips)
    total = {domain: sum(size**0.5 for (other, _), size in sizes.items() if other == domain) for domain in DOMAINS}
    weight = {
        (domain, kind): GATE_WEIGHT[domain] * KIND_WEIGHT.get(kind, 1.0) / total[domain] / size**0.5
        for (domain, kind), size in sizes.items()
    }
    weights = torch.tensor([weight[clip] for clip in clips], dtype=torch.float64)
    gate = torch.zeros(len(DOMAINS), inputs.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([gate], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        wrong = (F.cross_entropy(inputs @ gate.T, target, reduction="none") * weights).sum() / weights.sum()
        total = wrong + GATE_DECAY * gate[:, :-1].square().sum()
        total.backward()
        return total

    solver.step(loss)
    return gate.detach()
