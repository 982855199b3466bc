"""Student: FullBand whose last three blocks, and what follows them, learned from published networks.

    log-mel [L, 96] ► YAMNet's first five blocks ► three blocks, trained further ► 512 channels of L / 16 × 6
                                 │                   weighted sum over mels, linear ► 384 values per frame
       spectrum, three bands as in FullBand               mean and deviation of the frames ► 64 ► scores, domains

The teachers were EfficientAT mn04 and YAMNet (embeddings), NISQA v2, DistillMOS and DNSMOS P.808 (scores), and the kind
of recording.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmos.encoders import yamnet
from mmmos.encoders.fullband import BANDS, BLOCKS, MELS, MIDDLE, STRIDE, FullBand
from mmmos.encoders.weights import load_strictly

WIDTH, HIDDEN = 384, 64  # values per frame, and inside the perceptron of the scores
SCORES = ("mos", "noisiness", "discontinuity", "coloration", "loudness", "distillmos", "dnsmos")
DOMAINS = ("speech", "music", "sound")
FLOOR = 1e-6  # added to variances over time


class Student(FullBand):
    """Waveforms at 48 kHz to 6.25 frames a second, in four blocks.

    They are FullBand's spectrum (96) and middle (768), 384 values of the trained part, and the clip's `SCORES` (in
    standard deviations of the training segments) and logits of `DOMAINS`, which are the same in every frame.
    """

    name = "student"
    block_dims = (MELS, BANDS * yamnet.BLOCKS[MIDDLE - 1][0], WIDTH, len(SCORES) + len(DOMAINS))
    dim = sum(block_dims)

    def __init__(self, state: dict[str, Tensor]) -> None:
        """The trained part's weights, as `recipes.student.train` writes them."""
        super().__init__()
        channels = yamnet.BLOCKS[BLOCKS - 1][0]
        self.mels = nn.Parameter(torch.full((channels, MELS // STRIDE), STRIDE / MELS))
        self.project = nn.Linear(channels, WIDTH)
        self.rating = nn.Sequential(
            nn.Linear(2 * WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, len(SCORES) + len(DOMAINS))
        )
        fixed = {key: value for key, value in self.state_dict().items() if not is_trained(key)}
        load_strictly(self, state | fixed, f"{self.name} weights")
        self.train()

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> [B, L // 16, 1258]."""
        log_mel = self.log_mel(waves)
        middle = self.start(log_mel)
        values = self.values(middle)
        ratings = self.rate(values)[:, None].expand(-1, values.shape[1], -1)
        return torch.cat([*self.lower(log_mel, middle), values, ratings], dim=2)

    def values(self, middle: Tensor) -> Tensor:
        """The trained part, from the 5th block's output: [B, 256, L // 8, 12] -> [B, L // 16, 384]."""
        pooled = torch.einsum("bctm,cm->btc", self.blocks[MIDDLE:](middle), self.mels)
        values: Tensor = F.gelu(self.project(pooled))
        return values

    def rate(self, values: Tensor) -> Tensor:
        """`SCORES` and logits of `DOMAINS` of each clip, [B, T, 384] -> [B, 10]."""
        ratings: Tensor = self.rating(over_time(values))
        return ratings


def over_time(values: Tensor) -> Tensor:
    """Mean and deviation, [B, T, D] -> [B, 2 D]."""
    return torch.cat([values.mean(dim=1), (values.var(dim=1, correction=0) + FLOOR).sqrt()], dim=1)


def is_trained(key: str) -> bool:
    """Whether a tensor is of the trained part."""
    block = int(key.split(".")[1]) if key.startswith("blocks.") else 0
    return block >= MIDDLE or key.startswith(("mels", "project.", "rating."))
