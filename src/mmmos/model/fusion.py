"""Reduction of a clip: the encoders' frames are pooled over time or aligned to one rate, normalised, concatenated.

It has no parameters, so training computes it once per clip and keeps the result: a sequence of frames, a single one
if they were pooled (paper, section III.B).

    WavLM   [B, T1, D1] ─ pool or align ─ normalise ─┐
    MuQ     [B, T2, D2] ─ pool or align ─ normalise ─┼─► [B, T', D1 + D2 + ...], T' = 1 where pooled
    M2D     [B, T3, D3] ─ pool or align ─ normalise ─┘
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmos.encoders.base import Features

Norm = Literal["l2", "none", "layernorm"]


@dataclass(frozen=True)
class FusionConfig:
    """How the encoders' features become one vector. Aggregators ignore the fields they do not use."""

    pool: Literal["mean", "mean_std"] = "mean"  # over time
    embed_norm: Norm = "l2"  # of each encoder's pooled vector
    standardize: bool = False  # z-score every feature on the training clips, give all blocks of an encoder equal weight
    frame_norm: Norm = "l2"  # of each encoder's frame (blstm_t)
    align: Literal["pool_lowest", "interp_linear", "repeat"] = "pool_lowest"  # of encoders' frames (blstm_t)
    align_rate_hz: float | None = None  # none: the lowest rate for pool_lowest, else the highest
    blstm_hidden: int = 256  # units per direction
    blstm_h_input: Literal["vector", "tokens"] = "vector"  # all encoders as one step, or one step per encoder
    wavlm_output: Literal["last", "weighted_shared", "weighted_per_axis"] = "last"  # state 12, or a learned sum of 13

    def __post_init__(self) -> None:
        for name, choices in _choices().items():
            if vars(self)[name] not in choices:
                raise ValueError(f"{name} is one of {', '.join(choices)}, not {vars(self)[name]!r}")
        if type(self.blstm_hidden) is not int or self.blstm_hidden < 1:
            raise ValueError(f"blstm_hidden is a number of units, not {self.blstm_hidden!r}")
        if self.align_rate_hz is not None and not 0 < self.align_rate_hz < math.inf:
            raise ValueError(f"align_rate_hz is a rate above 0 Hz, not {self.align_rate_hz!r}")
        if self.summed and self.pool == "mean_std":
            raise ValueError(
                f"wavlm_output={self.wavlm_output} requires pool=mean: layers' stds do not determine their sum's"
            )

    @property
    def summed(self) -> str | None:
        """The encoder whose hidden states are summed with learned weights before they are normalised."""
        return None if self.wavlm_output == "last" else "wavlm"


@cache
def _choices() -> dict[str, tuple[str, ...]]:
    """The values of each field that is one of several."""
    kinds = get_type_hints(FusionConfig)
    return {name: get_args(kind) for name, kind in kinds.items() if get_origin(kind) is Literal}


@dataclass(frozen=True)
class Reduction:
    """All that determines the result of `Aggregator.reduce`: equal reductions of the same features are equal."""

    encoders: tuple[str, ...]  # concatenated in this order
    kind: Literal["pooled", "aligned"]
    norm: Norm  # of each encoder's part of the frame
    summed: str | None = None  # the encoder whose part is normalised later
    pool: str | None = None  # pooled only
    align: str | None = None  # aligned only, as the next field
    align_rate_hz: float | None = None


def pool(features: Features) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation over the valid frames, [B, D] each."""
    weight = features.mask.to(features.frames.dtype).unsqueeze(-1)
    count = weight.sum(dim=1).clamp(min=1)
    mean = (features.frames * weight).sum(dim=1) / count
    variance = ((features.frames - mean.unsqueeze(1)).square() * weight).sum(dim=1) / count
    # The square root has an infinite slope at zero; a constant feature must still have a finite gradient.
    return mean, variance.clamp(min=1e-12).sqrt()


def fuse_pooled(stats: Mapping[str, tuple[Tensor, Tensor]], encoders: Sequence[str], config: FusionConfig) -> Features:
    """One frame per clip from the encoders' `pool`, normalised, concatenated in the order of `encoders`.

    Shape:
        - stats[name]: mean and standard deviation, [B, D] each
        - returns: frames [B, 1, sum of D], twice that for "mean_std"; their rate is 0 Hz
    """
    vectors = []
    for name in encoders:
        mean, std = stats[name]
        vector = mean if config.pool == "mean" else torch.cat([mean, std], dim=-1)
        vectors.append(vector if name == config.summed else normalise(vector, config.embed_norm))
    frames = torch.cat(vectors, dim=-1).unsqueeze(1)
    return Features(frames, torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device), 0.0)


def fuse_aligned(features: Mapping[str, Features], encoders: Sequence[str], config: FusionConfig) -> Features:
    """Frames at one rate, each encoder's part normalised, concatenated in the order of `encoders`.

    The encoder with the lowest rate for "pool_lowest", else with the highest, determines the number of frames.

    Shape:
        - features[name].frames: [B, T, D] at each encoder's own rate
        - returns: frames [B, T', sum of D]
    """
    rates = {name: features[name].rate_hz for name in encoders}
    leader = (min if config.align == "pool_lowest" else max)(encoders, key=rates.__getitem__)
    rate = config.align_rate_hz or rates[leader]
    clips = []
    for i, count in enumerate(features[leader].mask.sum(dim=1).tolist()):
        n_frames = max(1, round(count * rate / rates[leader]))
        parts = []
        for name in encoders:
            frames = features[name].frames[i][features[name].mask[i]]
            part = align_weights(config.align, n_frames, len(frames), rates[name] / rate).to(frames) @ frames
            parts.append(part if name == config.summed else normalise(part, config.frame_norm))
        clips.append(torch.cat(parts, dim=-1))
    padded = nn.utils.rnn.pad_sequence(clips, batch_first=True)
    lengths = torch.tensor([len(clip) for clip in clips], device=padded.device)
    return Features(padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None], rate)


def align_weights(mode: str, n_frames: int, count: int, step: float) -> Tensor:
    """Weights [n_frames, count], float64, that align a stream of `count` frames to `n_frames`, each `step` of its own.

    "pool_lowest" lays both sequences over the same period of time and averages, so that the mean over time does not
    change. For the other modes frame i is at i + 0.5 frames: the paper's encoders are within 5 ms of that.

    >>> align_weights("pool_lowest", 2, 3, 1.5)
    tensor([[0.6667, 0.3333, 0.0000],
            [0.0000, 0.3333, 0.6667]], dtype=torch.float64)
    >>> align_weights("interp_linear", 4, 2, 0.5)
    tensor([[1.0000, 0.0000],
            [0.7500, 0.2500],
            [0.2500, 0.7500],
            [0.0000, 1.0000]], dtype=torch.float64)
    """
    source = torch.arange(count, dtype=torch.float64)
    if mode == "pool_lowest":
        edges = (torch.arange(n_frames + 1, dtype=torch.float64) * count / n_frames).unsqueeze(1)
        overlap = edges[1:].minimum(source + 1) - edges[:-1].maximum(source)
        return overlap.clamp(min=0) * n_frames / count
    middle = ((torch.arange(n_frames, dtype=torch.float64) + 0.5) * step - 0.5).unsqueeze(1)
    if mode == "repeat":
        middle = (middle + 0.5).floor()
    return (1 - (middle.clamp(0, count - 1) - source).abs()).clamp(min=0)


def normalise(vectors: Tensor, norm: str) -> Tensor:
    """[..., D] scaled to length 1 ("l2"), to mean 0 and standard deviation 1 ("layernorm"), or unchanged ("none")."""
    if norm == "l2":
        return F.normalize(vectors, dim=-1, eps=1e-12)
    return F.layer_norm(vectors, vectors.shape[-1:]) if norm == "layernorm" else vectors
