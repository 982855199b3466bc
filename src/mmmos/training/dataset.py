"""Features and labels as the tensors that training runs on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmos.data.manifest import LabelledClip
from mmmos.encoders.base import Features


@dataclass(frozen=True)
class Sequences:
    """Reduced crops of different lengths, end to end.

    Shape:
        - frames: [sum of T, D], float32 or float16
        - starts: [M + 1], where each of the M crops begins, and the end
    """

    frames: Tensor
    starts: tuple[int, ...]
    rate_hz: float
    file: Path | None = None  # where the frames lie if they are a file mapped into memory, which copies then share

    def __reduce__(self) -> Any:
        if self.file is None:
            return Sequences, (self.frames, self.starts, self.rate_hz)
        return Sequences.mapped, (self.file, self.starts, self.frames.shape[1], self.rate_hz)

    @classmethod
    def mapped(cls, file: Path, starts: tuple[int, ...], dim: int, rate_hz: float) -> Sequences:
        """Frames of `dim` values from a file of them, whose suffix is their type."""
        dtype = {".float16": torch.float16, ".float32": torch.float32}[file.suffix]
        frames = torch.from_file(str(file), size=starts[-1] * dim, dtype=dtype) if starts[-1] else torch.zeros(0)
        return cls(frames.view(starts[-1], dim), starts, rate_hz, file)

    def batch(self, crops: Sequence[int]) -> Features:
        """Some of the crops as a padded batch [B, T, D] in float32."""
        if len(self.frames) == len(self.starts) - 1:  # one frame each, as pooled vectors are
            vectors = self.frames[list(crops)].float().unsqueeze(1)
            return Features(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool), self.rate_hz)
        pieces = [self.frames[self.starts[i] : self.starts[i + 1]].float() for i in crops]
        lengths = torch.tensor([len(piece) for piece in pieces])
        padded = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        return Features(padded, torch.arange(padded.shape[1]) < lengths[:, None], self.rate_hz)


@dataclass(frozen=True)
class Table:
    """Rows ready for training.

    Shape:
        - inputs: M crops, each what `aggregator.reduce` makes of its features
        - crops: for each of the N rows its crops' numbers in `inputs` and their weights
        - labels: [N, A] on each set's own scale, NaN where there is none

    `content` says what the inputs are: audio, crops, encoders, precision and reduction.
    """

    rows: tuple[LabelledClip, ...]
    inputs: Sequences
    crops: tuple[tuple[tuple[int, float], ...], ...]
    labels: Tensor
    content: str = ""

    def take(self, rows: Sequence[LabelledClip]) -> Table:
        """The part of the table that holds these rows, in their order."""
        index = {id(row): i for i, row in enumerate(self.rows)}
        chosen = [index[id(row)] for row in rows]
        return replace(self, rows=tuple(rows), crops=tuple(self.crops[i] for i in chosen), labels=self.labels[chosen])

    def heard(self, rows: Sequence[int], epoch: int) -> Features:
        """Of each of these rows the crop that training hears in an epoch, counted from 1: [B, T, D]."""
        return self.inputs.batch([self.crops[i][(epoch - 1) % len(self.crops[i])][0] for i in rows])

    def frames(self, most: int) -> Tensor:
        """Frames of the table's crops [n, D] in float32, evenly spread where there are more than `most`."""
        own = sorted({number for crops in self.crops for number, _ in crops})
        spans = [range(self.inputs.starts[i], self.inputs.starts[i + 1]) for i in own]
        places = [place for span in spans for place in span]
        return self.inputs.frames[places[:: math.ceil(len(places) / most) or 1]].float()
