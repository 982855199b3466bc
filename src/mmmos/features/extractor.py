"""Clips encoded once, as the tensors that training runs on.

    rows ─ plan ─► crops ─ extract ─► cache ─ table ─► Table: what the aggregator makes of each crop, with labels
           (crops.py)     (frozen encoders, once)

What is reduced is written once and mapped into memory by all who train on it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal

import torch

from mmmos.audio.clip import Clip
from mmmos.audio.isolated import IsolatedDecoder
from mmmos.audio.windows import WINDOW_SECONDS, ClipReport, Window
from mmmos.data.manifest import LabelledClip, label_array, preview
from mmmos.data.splits import split_present
from mmmos.encoders.base import Encoder, EncoderSpec, Features, encode_windows, min_duration, required_rates
from mmmos.encoders.device import pick_device
from mmmos.encoders.table import load_encoder
from mmmos.errors import AudioError, UsageError
from mmmos.features.cache import FeatureCache, Keep, clip_key
from mmmos.features.crops import Crop, How, plan_crops
from mmmos.io.atomic import replacing
from mmmos.model.aggregators import AGGREGATORS, Aggregator
from mmmos.model.fusion import fuse_pooled
from mmmos.model.quality import ModelConfig
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.training.dataset import Sequences, Table
from mmmos.training.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """A row, and which stretches of its clip are heard."""

    row: LabelledClip
    how: How
    crops: tuple[Crop, ...]


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
        self._rates = required_rates(encoders.values())
        self._shortest = min_duration(encoders.values())
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


@dataclass(frozen=True)
class EncoderSource:
    """Which encoders, where their weights may come from, and what they run on."""

    names: tuple[str, ...]  # keys of `ENCODERS`, or NAME=PATH for one whose checkpoint lies at the path
    device: str = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    trust_checkpoint: bool = False  # whether a pickle of unknown origin is read
    accept_licenses: tuple[str, ...] = ()


class Listener:
    """Encoders loaded once for all that is trained on them, and the clips that they have heard."""

    def __init__(self, source: EncoderSource, settings: Settings, cache: Path, keep: Keep = "frames") -> None:
        device = pick_device(source.device)
        places = {name: place for name, _, place in (word.partition("=") for word in source.names)}
        self.encoders: dict[str, Encoder] = {}
        for name, place in places.items():
            options = settings.encoder_options(name)
            encoder = load_encoder(name, place or None, source.trust_checkpoint, source.accept_licenses, **options)
            self.encoders[name] = encoder.to(device)
        self.extractor = Extractor(self.encoders, FeatureCache(cache, keep), getattr(torch, source.dtype))
        self._specs = {
            name: EncoderSpec(
                name,
                encoder.block_dims,
                self.extractor.fingerprints[name],
                encoder.settings(),
                str(Path(places[name]).resolve()) if places[name] else None,
            )
            for name, encoder in self.encoders.items()
        }

    def config(self, settings: Settings, encoders: Sequence[str] | None = None) -> ModelConfig:
        """A model on these encoders, in their order; on all of them if none are named."""
        names = tuple(encoders or self._specs)
        specs = tuple(self._specs[name] for name in names)
        return ModelConfig(specs, settings.aggregator, settings.fusion(names), settings.heads())

    def hear(
        self,
        rows: Sequence[LabelledClip],
        how: How,
        count: int = 1,
        seed: int = 0,
        progress: Progress = NO_PROGRESS,
    ) -> tuple[list[Planned], list[str]]:
        """Plan and encode the clips. Returns the plans, and what is left out: paths that are missing, ids that failed.

        `progress` gets a stage "encoding" of all the clips. Raises `UsageError` before anything is encoded if the disk
        has no room for the features.
        """
        progress.start("encoding", len(rows))
        present, missing = split_present(rows)
        progress.advance(len(missing))
        if missing:
            logger.warning("%d of %d listed clips are missing: %s", len(missing), len(rows), preview(missing))
        plans, unopened = self.extractor.plan(present, how, count, seed, progress)
        self._make_room(plans)
        failed = unopened | self.extractor.extract(plans, progress)
        for name, reason in failed.items():
            logger.warning("%s is left out: %s", name, reason)
        return [plan for plan in plans if name_of(plan.row.clip) not in failed], [*missing, *failed]

    def table(self, plans: Sequence[Planned], config: ModelConfig) -> Table:
        """The clips as that model is trained on them."""
        block_dims = {spec.name: spec.block_dims for spec in config.encoders}
        return self.extractor.table(plans, AGGREGATORS[config.aggregator](block_dims, config.fusion))

    def _make_room(self, plans: Sequence[Planned]) -> None:
        root = self.extractor.cache.root
        size = self.extractor.size(plans)
        place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
        free = shutil.disk_usage(place).free
        if size > 1 << 20:
            crops = sum(len(plan.crops) for plan in plans)
            logger.info("encoding %d crops of %d clips, about %s in %s", crops, len(plans), _bytes(size), root)
        if size > free:
            raise UsageError(f"features would take {_bytes(size)} in {root}, where {_bytes(free)} are free")


def _bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
