"""Whether `lite` would gain from a third encoder that is pretrained on free recordings.

    python -m recipes.lite.study_encoder --data DIR [--work build/lite] [--out recipes/paper/results/third_encoder.json]

A small convolutional network takes the mel spectrum and learns, on free recordings only, the kind of degradation,
which of two versions is less degraded, which has more simultaneous sources, and the domain. Its pooled output is added
to lite's inputs, and everything is cross-validated as in recipes/lite/evaluate.py. Packages in `HELD_OUT` are not
trained on: they measure how well the network itself orders degradations.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mmmos.audio.isolated import IsolatedDecoder
from mmmos.audio.windows import Window
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.spectrum import RATE, Spectrum
from mmmos.metrics import srcc
from mmmos.scores import AXES
from recipes.lite.build import ROOT, encode, read_data
from recipes.lite.degradations import DEGRADATIONS
from recipes.lite.evaluate import PQ, Evaluation, codec_family
from recipes.lite.heads import (
    CLEAN,
    CODEC,
    DOMAINS,
    FREE,
    SOURCES,
    count_pairs,
    degradation_of,
    degradation_pairs,
    read_norms,
)

HELD_OUT = ("hedgewars-data", "asterisk-core-sounds-it-wav", "warzone2100-music", "scorched3d-data")
EPOCHS, TOGETHER, FRAMES = 40, 12, 140  # recordings a step, with all their versions; frames of 20 ms of each
NAMES = (CLEAN, *DEGRADATIONS)


class SmallNet(nn.Module):
    """Mel spectra [B, T, 64] to 256 features per clip, with linear outputs on them; 240 000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (1, 24, 48, 96, 128)
        blocks = []
        for i, (wide, wider) in enumerate(pairwise(sizes)):
            stride = (2, 1) if i == 3 else 2
            blocks += [nn.Conv2d(wide, wider, 3, stride, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
        self.body = nn.Sequential(*blocks)
        self.top = nn.Sequential(nn.Conv1d(512, 128, 1, bias=False), nn.BatchNorm1d(128), nn.ReLU())
        self.drop = nn.Dropout(0.2)
        self.kind, self.domain = nn.Linear(256, len(NAMES)), nn.Linear(256, len(DOMAINS))
        self.quality, self.count = nn.Linear(256, len(DOMAINS)), nn.Linear(256, 1)

    def forward(self, spectra: Tensor) -> Tensor:
        """Mean and standard deviation over time: [B, 256]."""
        frames = self.top(self.body(spectra.transpose(1, 2)[:, None] / 2).flatten(1, 2))
        return torch.cat([frames.mean(dim=2), (frames.var(dim=2, unbiased=False) + 1e-5).sqrt()], dim=1)


def read_spectra(rows: Sequence[LabelledClip]) -> list[Tensor]:
    """Mel spectrum [T, 64] of each clip."""
    spectrum, spectra = Spectrum().eval(), []
    with IsolatedDecoder() as decoder, torch.inference_mode():
        for row in rows:
            windows = [item for item in decoder.cut(row.clip, (RATE,), 0.0) if isinstance(item, Window)]
            spectra.append(spectrum.frames(torch.from_numpy(windows[0].waves[RATE])[None])[0])
    return spectra


def crop(spectrum: Tensor, place: float) -> Tensor:
    """`FRAMES` of it, from the start (0) to the end (1); a short clip is repeated."""
    spectrum = spectrum.repeat(-(-FRAMES // len(spectrum)), 1)
    first = int(place * (len(spectrum) - FRAMES))
    return spectrum[first : first + FRAMES]


def pretrain(rows: Sequence[LabelledClip], spectra: Sequence[Tensor]) -> SmallNet:
    """Train on all versions of `TOGETHER` recordings per step."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    by_recording: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if row.set == FREE and row.source not in HELD_OUT:
            by_recording.setdefault(row.group, []).append(i)
    recordings = sorted(by_recording)
    network = SmallNet()
    steps = EPOCHS * (len(recordings) // TOGETHER)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        order, right = rng.permutation(len(recordings)), []
        for at in range(0, len(order) - TOGETHER + 1, TOGETHER):
            groups = [by_recording[recordings[i]] for i in order[at : at + TOGETHER]]
            chosen = [i for group in groups for i in group]
            places = [place for group, place in zip(groups, rng.random(TOGETHER), strict=True) for _ in group]
            batch = torch.stack([crop(spectra[i], place) for i, place in zip(chosen, places, strict=True)])
            loss, fraction = _loss(network, batch + 0.1 * torch.randn(len(batch), 1, 1), [rows[i] for i in chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            right.append(fraction)
        print(f"epoch {epoch + 1}: {np.mean(right):.1%} of pairs in order")
    return network.eval().requires_grad_(False)


def _loss(network: SmallNet, spectra: Tensor, rows: Sequence[LabelledClip]) -> tuple[Tensor, float]:
    """The loss, and the fraction of pairs of versions in the right order."""
    pooled = network.drop(network(spectra))
    domain = torch.tensor([DOMAINS.index(row.domain) for row in rows])
    kinds = [degradation_of(row)[0] for row in rows]
    single = torch.tensor([kind != SOURCES for kind in kinds])
    kind = torch.tensor([NAMES.index(kind) for kind in kinds if kind != SOURCES])
    quality, count = network.quality(pooled)[torch.arange(len(rows)), domain], network.count(pooled)[:, 0]
    (better, worse), (fewer, more) = (found(rows, [True] * len(rows)) for found in (degradation_pairs, count_pairs))
    loss = F.cross_entropy(network.kind(pooled)[single], kind) + F.cross_entropy(network.domain(pooled), domain)
    loss = loss + 2 * F.softplus(quality[worse] - quality[better]).mean()
    if fewer:
        loss = loss + F.softplus(count[fewer] - count[more]).mean()
    return loss, float((quality[better] > quality[worse]).float().mean())


def figures(study: Evaluation, extra: NDArray[np.float64] | None) -> dict[str, float]:
    """SRCC with people on music and codecs, and the order of degradations, with these inputs next to lite's."""
    unseen = study.cross_score(study.fold_of, extra=extra)
    family = study.cross_score(codec_family, extra=extra)[:, PQ]
    transfer = study.cross_score(lambda row: CODEC if row.set == CODEC else None, extra=extra)[:, PQ]
    found = {axis: srcc(unseen[study.music, i], study.labels[study.music, i]) for i, axis in enumerate(AXES)}
    for name, scores in (("signals", unseen[:, PQ]), ("families", family), ("transfer", transfer)):
        found[name] = srcc(scores[study.codec], study.labels[study.codec, PQ])
    found["order"] = float(np.mean([study.order(unseen[:, PQ])[domain][0] for domain in DOMAINS]))
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    """Pretrain, compare, and keep the figures for the log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of musdb18_aes, codec_mushra and labels")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "lite", help="folder of intermediate results")
    parser.add_argument("--out", type=Path, default=ROOT / "recipes" / "paper" / "results" / "third_encoder.json")
    options = parser.parse_args()
    table, config = encode(read_data(options.data.resolve(), options.work), options.work / "cache")
    study = Evaluation(table, config, read_norms(options.data / "labels"), {})
    spectra = read_spectra(study.rows)
    network = pretrain(study.rows, spectra)
    pooled = torch.cat([network(spectrum[None]) for spectrum in spectra])
    own = network.quality(pooled).numpy()[np.arange(len(pooled)), [DOMAINS.index(row.domain) for row in study.rows]]
    held = [row.set == FREE and row.source in HELD_OUT for row in study.rows]
    better, worse = degradation_pairs(study.rows, held)
    free = torch.from_numpy(study.sets == FREE)
    z = (pooled - pooled[free].mean(dim=0)) / (pooled[free].std(dim=0) + 1e-6)
    extra = (z.clamp(-6, 6) / z.shape[1] ** 0.5).double().numpy()
    result: dict[str, Any] = {
        "own_order": round(float(np.mean(own[better] > own[worse])), 3),
        "lite": figures(study, None),
        "lite and the pretrained encoder": figures(study, extra),
    }
    options.out.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
