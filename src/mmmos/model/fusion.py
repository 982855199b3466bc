"""Reducing a clip: the encoders' frames pooled over time or brought to one rate, normalised, put side by side.

It has no parameters, so training does it once a clip and keeps the result: a sequence of frames, with a single one
where they were pooled (paper, section III.B).

    WavLM   [B, T1, D1] ─ pool or align ─ normalise ─┐
    MuQ     [B, T2, D2] ─ pool or align ─ normalise ─┼─► [B, T', D1 + D2 + ...], T' = 1 where pooled
    M2D     [B, T3, D3] ─ pool or align ─ normalise ─┘
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmos.encoders.base import Features

Norm = Literal["l2", "none", "layernorm"]


@dataclass(frozen=True)
class FusionConfig:
    """How the encoders' features become one vector. What an aggregator has no use for, it does not read."""

    pool: Literal["mean", "mean_std"] = "mean"  # over time
    embed_norm: Norm = "l2"  # of each encoder's pooled vector
    standardize: bool = False  # z-score every feature on the training clips, weigh every block of an encoder alike
    frame_norm: Norm = "l2"  # of each encoder's frame (blstm_t)
    align: Literal["pool_lowest", "interp_linear", "repeat"] = "pool_lowest"  # of encoders' frames (blstm_t)
    align_rate_hz: float | None = None  # the lowest rate, or the highest where nothing is pooled
    blstm_hidden: int = 256  # units each way
    blstm_h_input: Literal["vector", "tokens"] = "vector"  # all encoders as one step, or one step per encoder
    wavlm_output: Literal["last", "weighted_shared", "weighted_per_axis"] = "last"  # state 12, or a learned sum of 13

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(FusionConfig).items():
            if get_origin(kind) is Literal and vars(self)[name] not in get_args(kind):
                raise ValueError(f"{name} is one of {', '.join(get_args(kind))}, not {vars(self)[name]!r}")
        if type(self.blstm_hidden) is not int or self.blstm_hidden < 1:
            raise ValueError(f"blstm_hidden is a number of units, not {self.blstm_hidden!r}")
        if self.align_rate_hz is not None and not 0 < self.align_rate_hz < math.inf:
            raise ValueError(f"align_rate_hz is a rate above 0 Hz, not {self.align_rate_hz!r}")
        if self.summed and self.pool == "mean_std":
            raise ValueError(f"{self.wavlm_output} wants pool mean: no deviation of a sum follows from its states'")

    @property
    def summed(self) -> str | None:
        """The encoder whose states are summed with learned weights, and normalised after that."""
        return None if self.wavlm_output == "last" else "wavlm"


@dataclass(frozen=True)
class Reduction:
    """All that decides what `Aggregator.reduce` makes of features; where it is equal, so are the results."""

    encoders: tuple[str, ...]  # side by side in this order
    kind: Literal["pooled", "aligned"]
    norm: Norm  # of each encoder's share
    summed: str | None = None  # the encoder whose share is not normalised yet
    pool: str | None = None  # pooled only
    align: str | None = None  # aligned only, as the next one
    align_rate_hz: float | None = None


def pool(features: Features) -> tuple[Tensor, Tensor]:
    """Mean and population deviation over the real frames, [B, D] each."""
    weight = features.mask.to(features.frames.dtype).unsqueeze(-1)
    count = weight.sum(dim=1).clamp(min=1)
    mean = (features.frames * weight).sum(dim=1) / count
    variance = ((features.frames - mean.unsqueeze(1)).square() * weight).sum(dim=1) / count
    # The root's slope at zero is infinite; a constant feature must still have a gradient.
    return mean, variance.clamp(min=1e-12).sqrt()


def fuse_pooled(stats: Mapping[str, tuple[Tensor, Tensor]], encoders: Sequence[str], config: FusionConfig) -> Features:
    """One frame a clip of the encoders' `pool`, normalised, side by side in the order of `encoders`.

    Shape:
        - stats[name]: mean and deviation, [B, D] each
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
    """Frames at one rate, each encoder's share normalised, side by side in the order of `encoders`.

    The encoder of the lowest rate, or of the highest where nothing is pooled, says how many frames a clip has.

    Shape:
        - features[name].frames: [B, T, D] at each encoder's own rate
        - returns: frames [B, T', sum of D]
    """
    rates = {name: features[name].rate_hz for name in encoders}
    leader = (min if config.align == "pool_lowest" else max)(encoders, key=rates.__getitem__)
    rate = config.align_rate_hz or rates[leader]
    clips = []
    for i, count in enumerate(features[leader].mask.sum(dim=1).tolist()):
        wanted = max(1, round(count * rate / rates[leader]))
        shares = []
        for name in encoders:
            frames = features[name].frames[i][features[name].mask[i]]
            share = align_weights(config.align, wanted, len(frames), rates[name] / rate).to(frames) @ frames
            shares.append(share if name == config.summed else normalise(share, config.frame_norm))
        clips.append(torch.cat(shares, dim=-1))
    padded = nn.utils.rnn.pad_sequence(clips, batch_first=True)
    lengths = torch.tensor([len(clip) for clip in clips], device=padded.device)
    return Features(padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None], rate)


def align_weights(how: str, wanted: int, count: int, step: float) -> Tensor:
    """Weights [wanted, count], float64, that make as many frames as wanted of a stream's, `step` of its a frame.

    "pool_lowest" lays both sequences over the same stretch of time and takes means, so that the mean over time stays
    as it is. For the others frame i is at i + 0.5 frames: no encoder of the paper is more than 5 ms off that.

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
    if how == "pool_lowest":
        edges = (torch.arange(wanted + 1, dtype=torch.float64) * count / wanted).unsqueeze(1)
        overlap = edges[1:].minimum(source + 1) - edges[:-1].maximum(source)
        return overlap.clamp(min=0) * wanted / count
    middle = ((torch.arange(wanted, dtype=torch.float64) + 0.5) * step - 0.5).unsqueeze(1)
    if how == "repeat":
        middle = (middle + 0.5).floor()
    return (1 - (middle.clamp(0, count - 1) - source).abs()).clamp(min=0)


def normalise(vectors: Tensor, how: str) -> Tensor:
    """[..., D] brought to length 1 ("l2"), to mean 0 and deviation 1 ("layernorm"), or as they are ("none")."""
    if how == "l2":
        return F.normalize(vectors, dim=-1, eps=1e-12)
    return F.layer_norm(vectors, vectors.shape[-1:]) if how == "layernorm" else vectors
