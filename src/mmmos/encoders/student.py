"""Student: FullBand as it is, and a perceptron on its frames that repeats what published networks say of speech.

    FullBand's frames [T, 1376] ► mean and deviation over time, 2752 ─┬► 256 ► 256 ─┬► 7 scores, 3 domains
                                                                      └─────────────┘
The teachers were NISQA v2 (CC BY-NC-SA 4.0, and so are these weights), DistillMOS and DNSMOS P.808; the domains are
those of the recordings. `recipes/student` made the file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmos.encoders.fullband import FullBand
from mmmos.encoders.weights import bundled_state, load_strictly

SCORES = ("mos", "noisiness", "discontinuity", "coloration", "loudness", "distillmos", "dnsmos")
DOMAINS = ("speech", "music", "sound")
RATINGS = len(SCORES) + len(DOMAINS)  # values of a clip
POOLED = 2 * FullBand.dim
HIDDEN = 256
DROPOUT = 0.3
CLIP = 6.0  # deviations of an input
FLOOR = 1e-6  # added to variances over time


class Perceptron(nn.Module):
    """`SCORES` in points, as their teachers give them, and logits of `DOMAINS`, of pooled frames: [B, 2752] -> [B, 10].

    Buffers hold the mean and deviation of inputs and of scores over the training segments.
    """

    input_mean: Tensor
    input_std: Tensor
    score_mean: Tensor
    score_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(POOLED, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.last, self.direct = nn.Linear(HIDDEN, RATINGS), nn.Linear(POOLED, RATINGS, bias=False)
        nn.init.zeros_(self.direct.weight)
        self.dropout = nn.Dropout(DROPOUT)
        for name, size in (("input", POOLED), ("score", len(SCORES))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))

    def forward(self, pooled: Tensor) -> Tensor:
        """[B, 2752] -> [B, 10]."""
        values = self.standard(pooled)
        scores = values[:, : len(SCORES)] * self.score_std + self.score_mean
        return torch.cat([scores, values[:, len(SCORES) :]], dim=1)

    def standard(self, pooled: Tensor) -> Tensor:
        """The same with scores in deviations of the training segments."""
        x = ((pooled - self.input_mean) / self.input_std).clamp(-CLIP, CLIP)
        hidden = F.gelu(self.first(self.dropout(x)))
        hidden = hidden + F.gelu(self.second(hidden))
        result: Tensor = self.last(self.dropout(hidden)) + self.direct(self.dropout(x))
        return result


class Student(FullBand):
    """Waveforms at 48 kHz to 6.25 frames a second: FullBand's three blocks, and the clip's ten values in every frame.

    `state` holds the perceptron's weights, as `recipes.student.train` writes them; the bundled ones by default.
    """

    name = "student"
    block_dims = (*FullBand.block_dims, RATINGS)
    dim = sum(block_dims)

    def __init__(self, state: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        self.rating = Perceptron()
        load_strictly(self.rating, bundled_state(self.name) if state is None else state, f"{self.name} weights")
        self.train()

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> [B, L // 16, 1386]."""
        frames = super().frames(waves)
        with torch.autocast(waves.device.type, enabled=False):  # bfloat16 would round the scores to steps of 1/64
            ratings = self.rating(over_time(frames.float()))
        return torch.cat([frames, ratings[:, None].expand(-1, frames.shape[1], -1).to(frames.dtype)], dim=2)


def over_time(frames: Tensor) -> Tensor:
    """Mean and deviation, [B, T, D] -> [B, 2 D]."""
    return torch.cat([frames.mean(dim=1), (frames.var(dim=1, correction=0) + FLOOR).sqrt()], dim=1)
