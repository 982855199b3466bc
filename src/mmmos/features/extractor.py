"""Clips encoded once, as the tensors that training runs on.

    rows ─ plan ─► crops ─ extract ─► cache ─ table ─► Table: what the aggregator makes of each crop, with labels
           (crops.py)     (frozen encoders, once)

What is reduced is written once and mapped into memory by all who train on it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmos.audio.clip import Clip
from mmmos.audio.isolated import IsolatedDecoder
from mmmos.audio.windows import WINDOW_SECONDS, ClipReport, Window
from mmmos.data.manifest import LabelledClip, label_array
from mmmos.encoders.base import Encoder, Features, encode_windows, wants
from mmmos.errors import AudioError
from mmmos.features.cache import FeatureCache, clip_key
from mmmos.features.crops import Crop, How, plan_crops
from mmmos.io.atomic import replacing
from mmmos.model.aggregators import Aggregator
from mmmos.model.fusion import fuse_pooled
from mmmos.progress import NO_PROGRESS, Progress


@dataclass(frozen=True)
class Planned:
    """A row, and which stretches of its clip are heard."""

    row: LabelledClip
    how: How
    crops: tuple[Crop, ...]


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


class Extractor:
    """Frozen encoders and what they have heard so far: every crop once, kept in the cache."""

    def __init__(
        self, encoders: Mapping[str, Encoder], cache: FeatureCache, dtype: torch.dtype = torch.float32
    ) -> None:
        self.encoders = encoders
        self.cache = cache
        self.dtype = dtype
        ending = "" if dtype == torch.float32 else f"-{str(dtype).removeprefix('torch.')}"
        self.fingerprints = {name: encoder.fingerprint() for name, encoder in encoders.items()}
        self._folders = {name: f"{print_[:16]}{ending}" for name, print_ in self.fingerprints.items()}
        self._rates, self._shortest = wants(encoders.values())
        self.decoder_peak_bytes = 0  # the most memory that a decoder's process took; 0 where the system does not tell

    def plan(
        self,
        rows: Sequence[LabelledClip],
        how: How,
        count: int = 1,
        seed: int = 0,
        progress: Progress = NO_PROGRESS,
    ) -> tuple[list[Planned], dict[str, str]]:
        """Crops of every row (see `plan_crops`), and by name the clips that cannot be opened, with the reason.

        `progress` advances by one for each of the latter, and is called for every window of a clip without a duration.
        """
        planned, failed = [], {}
        with self._decoder() as decoder:
            for row in rows:
                try:
                    duration = _duration(decoder, row, progress)
                except AudioError as error:
                    failed[name_of(row.clip)] = f"{error.code}: {error}"
                    progress.advance()
                else:
                    planned.append(Planned(row, how, plan_crops(row.clip, duration, how, count, seed)))
        return planned, failed

    def size(self, plans: Iterable[Planned]) -> int:
        """Bytes that the cache will grow by, as near as the headers of the files tell."""
        total = 0.0
        for plan in plans:
            if not os.path.exists(plan.row.clip.path or plan.row.clip.id):
                continue  # it went meanwhile
            for crop in plan.crops:
                for name in self._missing(clip_key(crop.clip)):
                    encoder = self.encoders[name]
                    seconds = max(crop.weight * WINDOW_SECONDS, encoder.settings().get("pad_silence", 0.0))
                    total += self.cache.size(seconds * encoder.rate_hz, encoder.dim)
        return round(total)

    def extract(self, plans: Sequence[Planned], progress: Progress = NO_PROGRESS) -> dict[str, str]:
        """Encode every crop that the cache does not hold yet.

        Returns the clips that could not be decoded or are silent, by name, with the reason. They are left out
        of training, as scoring leaves silent windows out. `progress` advances by one for each clip, and is called for
        every window that is encoded.
        """
        failed: dict[str, str] = {}
        with self._decoder() as decoder:
            for plan in plans:
                try:
                    self._encode(plan, decoder, progress)
                    if not any(self._is_heard(clip_key(crop.clip)) for crop in plan.crops):
                        failed[name_of(plan.row.clip)] = "silent: there is nothing to learn from"
                except AudioError as error:
                    failed[name_of(plan.row.clip)] = f"{error.code}: {error}"
                progress.advance()
        return failed

    def table(self, plans: Sequence[Planned], aggregator: Aggregator) -> Table:
        """The rows of which the cache holds a crop that is not silent, reduced to what the aggregator trains on.

        What was reduced lies in the cache's folder, where all who train on it map it into memory.
        """
        rows: list[LabelledClip] = []
        crops: list[tuple[tuple[int, float], ...]] = []
        keys: list[str] = []
        for plan in plans:
            found = [(clip_key(crop.clip), crop.weight) for crop in plan.crops]
            heard = [(key, weight) for key, weight in found if self._is_heard(key, aggregator.encoders)]
            if heard:
                rows.append(plan.row)
                crops.append(tuple((len(keys) + i, weight) for i, (_, weight) in enumerate(heard)))
                keys += [key for key, _ in heard]
        inputs = self._packed(keys, aggregator)
        labels = torch.from_numpy(label_array(rows)).float()
        return Table(tuple(rows), inputs, tuple(crops), labels, str(inputs.file and inputs.file.name))

    @contextmanager
    def _decoder(self) -> Iterator[IsolatedDecoder]:
        with IsolatedDecoder() as decoder:
            yield decoder
        self.decoder_peak_bytes = max(self.decoder_peak_bytes, decoder.peak_bytes())

    def _missing(self, key: str) -> list[str]:
        return [name for name, folder in self._folders.items() if not self.cache.holds(key, folder)]

    def _is_heard(self, key: str, encoders: Iterable[str] | None = None) -> bool:
        """Whether the crop is there, and not silent."""
        found = (self.cache.pooled(key, self._folders[name]) for name in encoders or self.encoders)
        return all(stats is not None and len(stats[0]) for stats in found)

    def _encode(self, plan: Planned, decoder: IsolatedDecoder, progress: Progress) -> None:
        missing = [crop for crop in plan.crops if self._missing(clip_key(crop.clip))]
        # Windows come in one pass over the file; other crops are cut one by one.
        cuts = [(plan.row.clip, plan.crops)] if plan.how == "windows" else [(crop.clip, (crop,)) for crop in missing]
        for clip, crops in cuts if missing else ():
            waiting = iter(crops)
            for item in decoder.cut(clip, self._rates, self._shortest):
                if isinstance(item, Window) and (crop := next(waiting, None)):
                    self._put(clip_key(crop.clip), item)
                    progress.windows()

    def _put(self, key: str, window: Window) -> None:
        for name in self._missing(key):
            encoder = self.encoders[name]
            silence = Features(torch.zeros(1, 0, encoder.dim), torch.zeros(1, 0, dtype=torch.bool), encoder.rate_hz)
            found = silence if window.silent else encode_windows({name: encoder}, [window], self.dtype)[name]
            self.cache.put(key, self._folders[name], found)

    def _packed(self, keys: Sequence[str], aggregator: Aggregator) -> Sequences:
        """Written at the first call; mapped by this and by every later one, in other processes too."""
        folders = {name: self._folders[name] for name in aggregator.encoders}
        pooled = aggregator.reduction.kind == "pooled"
        name = hashlib.sha256(repr((aggregator.reduction, folders, keys)).encode()).hexdigest()
        # Pooled vectors are few, and in float16 a value that hardly varies would not vary at all.
        file = self.cache.root / "tables" / f"{name}.{'float32' if pooled else 'float16'}"
        index = file.with_suffix(".json")
        if not index.is_file():
            lengths, rate_hz = [], 0.0
            with replacing(file) as partial, open(partial, "wb") as out:
                for key in keys:
                    reduced = self._pooled(key, aggregator) if pooled else self._aligned(key, aggregator)
                    frames = reduced.frames[0].to(torch.float32 if pooled else torch.float16)
                    out.write(frames.contiguous().numpy().tobytes())
                    lengths.append(len(frames))
                    rate_hz = reduced.rate_hz
            with replacing(index) as partial:
                partial.write_text(json.dumps({"lengths": lengths, "rate_hz": rate_hz}))
        told = json.loads(index.read_text())
        starts = tuple(accumulate(told["lengths"], initial=0))
        return Sequences.mapped(file, starts, aggregator.input_dim, told["rate_hz"])

    def _pooled(self, key: str, aggregator: Aggregator) -> Features:
        found = {name: self.cache.pooled(key, self._folders[name]) for name in aggregator.encoders}
        stats = {name: stats for name, stats in found.items() if stats is not None}
        return fuse_pooled(stats, aggregator.encoders, aggregator.config)

    def _aligned(self, key: str, aggregator: Aggregator) -> Features:
        found = {name: self.cache.frames(key, self._folders[name]) for name in aggregator.encoders}
        return aggregator.reduce({name: features for name, features in found.items() if features is not None})


def name_of(clip: Clip) -> str:
    """A clip's id, with the stretch and stream that are meant if it is not the whole of the first.

    >>> name_of(Clip("a.wav")), name_of(Clip("a.wav", start_time=4.0, end_time=8.0))
    ('a.wav', 'a.wav 4-8 s')
    """
    end = "" if clip.end_time is None else f"{clip.end_time:g}"
    stretch = f" {clip.start_time:g}-{end} s" if clip.start_time or end else ""
    return f"{clip.id}{stretch}" + (f" stream {clip.stream}" if clip.stream else "")


def _duration(decoder: IsolatedDecoder, row: LabelledClip, progress: Progress) -> float:
    """Seconds of audio in a row's file, as its header says, else as its decoder does."""
    duration = decoder.probe(row.clip).duration
    if math.isfinite(duration):
        return duration
    whole = replace(row.clip, start_time=0.0, end_time=None)
    for item in decoder.cut(whole, [16_000], 0.0):
        if isinstance(item, ClipReport):
            duration = item.duration
        else:
            progress.windows()
    return duration
