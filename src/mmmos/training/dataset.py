"""Training data: joins cached features and labels as tensors.

    labelled rows ──────────┐
    crop plans ─ clip_key ──┼─ build_training_set ─► TrainingSet: the aggregator's input for each crop, and labels
    features in the cache ──┘

Reduced crops are written to a file once. Every process that trains on them maps the file into memory.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmos.data.manifest import LabelledClip, label_array
from mmmos.encoders.base import Features
from mmmos.features.cache import clip_key
from mmmos.features.crops import CropPlan
from mmmos.features.extractor import FeatureExtractor
from mmmos.io.atomic import replacing
from mmmos.model.aggregators import Aggregator
from mmmos.model.fusion import fuse_pooled


@dataclass(frozen=True)
class Sequences:
    """Reduced crops of different lengths, end to end.

    Shape:
        - frames: [sum of T, D], float32 or float16
        - starts: [M + 1], the first frame of each of the M crops, and the end
    """

    frames: Tensor
    starts: tuple[int, ...]
    rate_hz: float
    file: Path | None = None  # the file that holds the frames, if they are mapped into memory; copies map it too

    def __reduce__(self) -> Any:
        if self.file is None:
            return Sequences, (self.frames, self.starts, self.rate_hz)
        return Sequences.mapped, (self.file, self.starts, self.frames.shape[1], self.rate_hz)

    @classmethod
    def mapped(cls, file: Path, starts: tuple[int, ...], dim: int, rate_hz: float) -> Sequences:
        """Map a file of frames of `dim` values each; its suffix is their type."""
        dtype = {".float16": torch.float16, ".float32": torch.float32}[file.suffix]
        frames = torch.from_file(str(file), size=starts[-1] * dim, dtype=dtype) if starts[-1] else torch.zeros(0)
        return cls(frames.view(starts[-1], dim), starts, rate_hz, file)

    def batch(self, crops: Sequence[int]) -> Features:
        """Some of the crops as a padded batch [B, T, D] in float32."""
        if len(self.frames) == len(self.starts) - 1:  # one frame per crop, as for pooled vectors
            vectors = self.frames[list(crops)].float().unsqueeze(1)
            return Features(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool), self.rate_hz)
        pieces = [self.frames[self.starts[i] : self.starts[i + 1]].float() for i in crops]
        lengths = torch.tensor([len(piece) for piece in pieces])
        padded = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        return Features(padded, torch.arange(padded.shape[1]) < lengths[:, None], self.rate_hz)


@dataclass(frozen=True)
class TrainingSet:
    """Rows with their features and labels, ready for training.

    Shape:
        - inputs: M crops, each the output of `aggregator.reduce` for its features
        - crops: for each of the N rows, the indices of its crops in `inputs` and their weights
        - labels: [N, A] on each set's own scale, NaN where a label is missing

    `content` identifies the inputs: audio, crops, encoders, precision and reduction.
    """

    rows: tuple[LabelledClip, ...]
    inputs: Sequences
    crops: tuple[tuple[tuple[int, float], ...], ...]
    labels: Tensor
    content: str = ""

    def take(self, rows: Sequence[LabelledClip]) -> TrainingSet:
        """The subset with these rows, in this order."""
        index = {id(row): i for i, row in enumerate(self.rows)}
        chosen = [index[id(row)] for row in rows]
        return replace(self, rows=tuple(rows), crops=tuple(self.crops[i] for i in chosen), labels=self.labels[chosen])

    def epoch_crops(self, rows: Sequence[int], epoch: int) -> Features:
        """The crop of each of these rows in an epoch, counted from 1: [B, T, D]."""
        return self.inputs.batch([self.crops[i][(epoch - 1) % len(self.crops[i])][0] for i in rows])

    def frames(self, most: int) -> Tensor:
        """Frames of the rows' crops [n, D] in float32; of more than `most` frames, an evenly spaced subset."""
        own = sorted({number for crops in self.crops for number, _ in crops})
        spans = [range(self.inputs.starts[i], self.inputs.starts[i + 1]) for i in own]
        places = [place for span in spans for place in span]
        return self.inputs.frames[places[:: math.ceil(len(places) / most) or 1]].float()


def build_training_set(
    rows: Iterable[LabelledClip], plans: Iterable[CropPlan], extractor: FeatureExtractor, aggregator: Aggregator
) -> TrainingSet:
    """Join rows with their features, which are reduced to the input of the aggregator.

    Rows without a plan and rows whose crops are all silent are left out. The reduced crops are in the cache's folder
    `tables`.
    """
    by_clip = {plan.clip: plan for plan in plans}
    used: list[LabelledClip] = []
    crops: list[tuple[tuple[int, float], ...]] = []
    keys: list[str] = []
    for row in rows:
        planned = by_clip[row.clip].crops if row.clip in by_clip else ()
        weighted = [(clip_key(crop.clip), crop.weight) for crop in planned]
        valid = [(key, weight) for key, weight in weighted if extractor.has_audio(key, aggregator.encoders)]
        if valid:
            used.append(row)
            crops.append(tuple((len(keys) + i, weight) for i, (_, weight) in enumerate(valid)))
            keys += [key for key, _ in valid]
    inputs = _packed(keys, extractor, aggregator)
    labels = torch.from_numpy(label_array(used)).float()
    return TrainingSet(tuple(used), inputs, tuple(crops), labels, str(inputs.file and inputs.file.name))


def _packed(keys: list[str], extractor: FeatureExtractor, aggregator: Aggregator) -> Sequences:
    """The reduced crops: the first call writes the file; later calls, in any process, map it."""
    folders = {name: extractor.folders[name] for name in aggregator.encoders}
    pooled = aggregator.reduction.kind == "pooled"
    name = hashlib.sha256(repr((aggregator.reduction, folders, keys)).encode()).hexdigest()
    # Pooled vectors take little space, and float16 would round a value that hardly varies to a constant.
    file = extractor.cache.root / "tables" / f"{name}.{'float32' if pooled else 'float16'}"
    index = file.with_suffix(".json")
    if not index.is_file():
        lengths, rate_hz = [], 0.0
        with replacing(file) as partial, open(partial, "wb") as out:
            for key in keys:
                reduced = _pooled(key, extractor, aggregator) if pooled else _aligned(key, extractor, aggregator)
                frames = reduced.frames[0].to(torch.float32 if pooled else torch.float16)
                out.write(frames.contiguous().numpy().tobytes())
                lengths.append(len(frames))
                rate_hz = reduced.rate_hz
        with replacing(index) as partial:
            partial.write_text(json.dumps({"lengths": lengths, "rate_hz": rate_hz}))
    metadata = json.loads(index.read_text())
    starts = tuple(accumulate(metadata["lengths"], initial=0))
    return Sequences.mapped(file, starts, aggregator.input_dim, metadata["rate_hz"])


def _pooled(key: str, extractor: FeatureExtractor, aggregator: Aggregator) -> Features:
    return fuse_pooled(extractor.pooled(key, aggregator.encoders), aggregator.encoders, aggregator.config)


def _aligned(key: str, extractor: FeatureExtractor, aggregator: Aggregator) -> Features:
    return aggregator.reduce(extractor.frames(key, aggregator.encoders))
