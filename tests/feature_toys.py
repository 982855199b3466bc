"""Small encoders, clips and aggregators for tests of features and training sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import soundfile
import torch
from torch import nn

from mmmos.audio.clip import Clip
from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import Encoder, Features
from mmmos.features.crops import CropMode, CropPlan
from mmmos.features.extractor import FeatureExtractor
from mmmos.model.aggregators import AGGREGATORS, Aggregator
from mmmos.model.fusion import FusionConfig
from tests.toys import ToyEncoder


class WideToy(ToyEncoder):
    """As wide as a small network."""

    name = "wide"
    dim = 128
    block_dims = (128,)

    def __init__(self) -> None:
        super().__init__()
        self.directions = nn.Parameter(torch.randn(128, 160, generator=torch.Generator().manual_seed(1)))


def clip(path: Path, start: float = 0.0, end: float | None = None) -> Clip:
    return Clip(path.name, str(path), start, end)


def row(path: Path, number: float = 5.0, start: float = 0.0, end: float | None = None) -> LabelledClip:
    return LabelledClip(clip(path, start, end), (number, math.nan, 2.0, 3.0))


def extracted(
    extractor: FeatureExtractor, clips: Sequence[Clip], mode: CropMode = "windows", n_crops: int = 1
) -> list[CropPlan]:
    """The clips planned and encoded, none of them left out."""
    plans, unopened = extractor.plan(clips, mode, n_crops)
    assert unopened == extractor.extract(plans) == {}
    return plans


def build(name: str = "mlp", names: Sequence[str] = ("toy", "slow"), **options: object) -> Aggregator:
    """An aggregator on some of the toys."""
    return AGGREGATORS[name](
        {name: ToyEncoder.block_dims for name in names}, FusionConfig(**{"blstm_hidden": 3} | options)
    )


def encoded(encoder: Encoder, path: Path, start: float = 0.0, end: float | None = None) -> Features:
    """What the encoder itself gives of a file at its own rate, or at twice that."""
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == encoder.sample_rate
    return encoder.encode(
        torch.from_numpy(samples[round(start * rate) : None if end is None else round(end * rate)])[None]
    )
