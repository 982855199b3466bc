"""Feature extraction: plans crops, estimates their size, and fills the cache from frozen encoders.

    clips ─ plan ─► crops ─ extract ─► cache
           (crops.py)      (frozen encoders, once)

This module does not handle labels: `mmmos.training.dataset` joins them with features.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mmmos.audio.clip import Clip
from mmmos.audio.isolated import IsolatedDecoder
from mmmos.audio.windows import ClipReport, Window
from mmmos.data.manifest import preview
from mmmos.data.splits import present_clips
from mmmos.encoders.base import Encoder, EncoderSpec, Features, encode_windows, min_duration, required_rates
from mmmos.errors import AudioError, UsageError
from mmmos.features.cache import FeatureCache, Keep, clip_key
from mmmos.features.crops import CropMode, CropPlan, name_of, plan_crops
from mmmos.features.source import EncoderOptions, EncoderSource, load_encoders
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.wording import agree, counted

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Extraction:
    """Clips whose features are in the cache, and the clips that were left out."""

    plans: tuple[CropPlan, ...]
    missing: tuple[str, ...]  # paths without a file
    failures: dict[Clip, str]  # by clip the reason, as "code: message"

    @property
    def left_out(self) -> list[str]:
        """Missing paths, then the names of clips that failed."""
        return [*self.missing, *map(name_of, self.failures)]


class FeatureExtractor:
    """Frozen encoders, and the cache of their features of every crop."""

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        cache: FeatureCache,
        dtype: torch.dtype = torch.float32,
        checkpoints: Mapping[str, str] | None = None,
    ) -> None:
        self.encoders = dict(encoders)
        self.cache = cache
        self.dtype = dtype
        self.fingerprints = {name: encoder.fingerprint() for name, encoder in encoders.items()}
        ending = "" if dtype == torch.float32 else f"-{str(dtype).removeprefix('torch.')}"
        self.folders = {name: f"{print_[:16]}{ending}" for name, print_ in self.fingerprints.items()}  # in the cache
        self._checkpoints = checkpoints or {}
        self._rates, self._min_duration = required_rates(encoders.values()), min_duration(encoders.values())
        self.decoder_peak_bytes = 0  # peak memory of a decoder process; 0 if the system does not report it

    @classmethod
    def load(
        cls, source: EncoderSource, encoder_options: EncoderOptions, cache: Path, keep: Keep = "frames"
    ) -> FeatureExtractor:
        """The encoders of a source, each with its own options. Raises what `load_encoder` raises."""
        encoders = load_encoders(source, encoder_options)
        precision = getattr(torch, source.options.precision)
        return cls(encoders, FeatureCache(cache, keep), precision, source.checkpoints)

    def specs(self, names: Sequence[str] | None = None) -> tuple[EncoderSpec, ...]:
        """The specs of these encoders for a model's config, in this order; of all encoders without names."""
        return tuple(
            EncoderSpec(
                name,
                self.encoders[name].block_dims,
                self.fingerprints[name],
                self.encoders[name].settings(),
                self._checkpoints.get(name),
            )
            for name in names or self.encoders
        )

    def prepare(
        self,
        clips: Sequence[Clip],
        mode: CropMode,
        n_crops: int = 1,
        seed: int = 0,
        progress: Progress = NO_PROGRESS,
    ) -> Extraction:
        """Plan and extract all clips whose files exist, and log a warning for each clip that is left out.

        `progress` gets a stage "encoding" of all the clips. Raises `UsageError` before anything is encoded if the disk
        has too little free space for the features.
        """
        progress.start("encoding", len(clips))
        present, missing = present_clips(clips)
        progress.advance(len(missing))
        if missing:
            listed = counted(len(missing), "listed clip", of=len(clips))
            logger.warning("%s %s missing: %s", listed, agree(len(missing), "is"), preview(missing))
        plans, unopened = self.plan(present, mode, n_crops, seed, progress)
        self._check_room(plans)
        failures = unopened | self.extract(plans, progress)
        for clip, reason in failures.items():
            logger.warning("%s is left out: %s", name_of(clip), reason)
        return Extraction(tuple(plan for plan in plans if plan.clip not in failures), tuple(missing), failures)

    def plan(
        self,
        clips: Sequence[Clip],
        mode: CropMode,
        n_crops: int = 1,
        seed: int = 0,
        progress: Progress = NO_PROGRESS,
    ) -> tuple[list[CropPlan], dict[Clip, str]]:
        """Crops of every clip (see `plan_crops`), and the clips that cannot be opened, with the reason.

        `progress` advances by one for each of the latter, and is called for every window that is decoded because the
        file's header has no duration.
        """
        plans, failures = [], {}
        with self._decoder() as decoder:
            for clip in clips:
                try:
                    duration = _duration(decoder, clip, progress)
                except AudioError as error:
                    failures[clip] = f"{error.code}: {error}"
                    progress.advance()
                else:
                    plans.append(CropPlan(clip, mode, plan_crops(clip, duration, mode, n_crops, seed)))
        return plans, failures

    def size(self, plans: Iterable[CropPlan]) -> int:
        """Estimate from the file headers by how many bytes the cache will grow."""
        total = 0.0
        for plan in plans:
            if not os.path.exists(plan.clip.path or plan.clip.id):
                continue  # deleted in the meantime
            for crop in plan.crops:
                for name in self._missing(clip_key(crop.clip)):
                    encoder = self.encoders[name]
                    seconds = max(crop.seconds, encoder.settings().get("pad_silence", 0.0))
                    total += self.cache.size(seconds * encoder.rate_hz, encoder.dim)
        return round(total)

    def extract(self, plans: Sequence[CropPlan], progress: Progress = NO_PROGRESS) -> dict[Clip, str]:
        """Encode every crop that the cache does not hold yet.

        Returns the clips that could not be decoded or are silent, each with the reason. Training leaves them out, as
        scoring leaves out silent windows. `progress` advances by one for each clip, and is called for every window
        that is encoded.
        """
        failures: dict[Clip, str] = {}
        with self._decoder() as decoder:
            for plan in plans:
                try:
                    self._encode(plan, decoder, progress)
                    if not any(self.has_audio(clip_key(crop.clip)) for crop in plan.crops):
                        failures[plan.clip] = "silent: it has no audio to learn from"
                except AudioError as error:
                    failures[plan.clip] = f"{error.code}: {error}"
                progress.advance()
        return failures

    def has_audio(self, key: str, names: Iterable[str] | None = None) -> bool:
        """Whether the cache holds the crop for these encoders (by default all), and the crop is not silent."""
        found = (self.cache.pooled(key, self.folders[name]) for name in names or self.encoders)
        return all(stats is not None and len(stats[0]) for stats in found)

    def frames(self, key: str, names: Iterable[str]) -> dict[str, Features]:
        """Features [1, T, D] of a crop by encoder, without encoders that have not encoded it."""
        found = {name: self.cache.frames(key, self.folders[name]) for name in names}
        return {name: features for name, features in found.items() if features is not None}

    def pooled(self, key: str, names: Iterable[str]) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and standard deviation [1, D] of a crop by encoder, without encoders that have not encoded it."""
        found = {name: self.cache.pooled(key, self.folders[name]) for name in names}
        return {name: stats for name, stats in found.items() if stats is not None}

    @contextmanager
    def _decoder(self) -> Iterator[IsolatedDecoder]:
        with IsolatedDecoder() as decoder:
            yield decoder
        self.decoder_peak_bytes = max(self.decoder_peak_bytes, decoder.peak_bytes())

    def _missing(self, key: str) -> list[str]:
        return [name for name, folder in self.folders.items() if not self.cache.holds(key, folder)]

    def _encode(self, plan: CropPlan, decoder: IsolatedDecoder, progress: Progress) -> None:
        missing = [crop for crop in plan.crops if self._missing(clip_key(crop.clip))]
        # All windows are cut in one pass over the file; other crops are cut one by one.
        cuts = [(plan.clip, plan.crops)] if plan.mode == "windows" else [(crop.clip, (crop,)) for crop in missing]
        for clip, crops in cuts if missing else ():
            remaining = iter(crops)
            for item in decoder.cut(clip, self._rates, self._min_duration):
                if isinstance(item, Window) and (crop := next(remaining, None)):
                    self._put(clip_key(crop.clip), item)
                    progress.windows()

    def _put(self, key: str, window: Window) -> None:
        for name in self._missing(key):
            encoder = self.encoders[name]
            silence = Features(torch.zeros(1, 0, encoder.dim), torch.zeros(1, 0, dtype=torch.bool), encoder.rate_hz)
            encoded = silence if window.silent else encode_windows({name: encoder}, [window], self.dtype)[name]
            self.cache.put(key, self.folders[name], encoded)

    def _check_room(self, plans: Sequence[CropPlan]) -> None:
        root, size = self.cache.root, self.size(plans)
        existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
        free = shutil.disk_usage(existing).free
        if size > 1 << 20:
            crops = sum(len(plan.crops) for plan in plans)
            what = f"{counted(crops, 'crop')} of {counted(len(plans), 'clip')}"
            logger.info("encoding %s, about %s in %s", what, _bytes(size), root)
        if size > free:
            raise UsageError(
                f"features would take {_bytes(size)} in {root}, where {_bytes(free)} are free: free some space, or"
                " choose another folder for the cache"
            )


def _duration(decoder: IsolatedDecoder, clip: Clip, progress: Progress) -> float:
    """Seconds of audio in a clip's file, from its header or else by decoding it."""
    duration = decoder.probe(clip).duration
    if math.isfinite(duration):
        return duration
    whole = replace(clip, start_time=0.0, end_time=None)
    for item in decoder.cut(whole, [16_000], 0.0):
        if isinstance(item, ClipReport):
            duration = item.duration
        else:
            progress.windows()
    return duration


def _bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
