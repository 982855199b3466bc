"""The tasks of bulk runs: scoring and feature extraction. Each makes one row per clip."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow
import torch

from mmmos.audio.prefetch import PrefetchingDecoder
from mmmos.encoders.device import pick_device
from mmmos.errors import BulkError
from mmmos.features.cache import Keep
from mmmos.features.crops import CropMode
from mmmos.features.extractor import FeatureExtractor
from mmmos.features.source import EncoderSource
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions
from mmmos.inference.rows import encodable, table_row, table_schema
from mmmos.inference.several import Predictors
from mmmos.model.load import load_model
from mmmos.progress import Progress
from mmmos.scores import ClipError
from mmmos.training.settings import Settings
from mmmos.version import VERSION

if TYPE_CHECKING:
    from mmmos.audio.clip import Clip


class Task(Protocol):
    """The description of the work, as plain values that are cheap to send to a worker."""

    def describe(self) -> dict[str, Any]:
        """All that the rows depend on besides the clips, as JSON. A part's metadata has it, too."""
        ...

    def start(self) -> Work:
        """Load what the work needs; called once in each worker."""
        ...


class Work(Protocol):
    """A task that is loaded in a worker.

    `schema` is that of the rows. It has a column `error_code`, which is null for a clip without an error.
    """

    @property
    def schema(self) -> pyarrow.Schema:
        """Columns of the rows."""
        ...

    def rows(self, clips: Sequence[Clip], progress: Progress) -> Iterator[dict[str, Any]]:
        """One flat row per clip, in order. A clip that cannot be processed gets a row with an `error_code`.

        `progress` advances with each clip, and receives every window of audio.
        """
        ...

    def failed(self, clip: Clip, code: str, message: str) -> dict[str, Any]:
        """The row of a clip that was given up; its file is not touched."""
        ...

    def child_bytes(self) -> int:
        """Peak memory of all child processes together, bytes; 0 if unknown."""
        ...

    def close(self) -> None:
        """End the child processes."""
        ...


def _resolved(options: LoadOptions) -> LoadOptions:
    """The same options without "auto", which each worker's machine might resolve in another way."""
    device = pick_device("auto").type if options.device == "auto" else options.device
    return replace(options, device=device, dtype=options.precision, backend=options.running_backend)


DECODERS = 2
"""Decoder processes per worker, which prefetch the next clips."""


@dataclass(frozen=True)
class ScoreTask:
    """Score clips with a model, as `mmmos score` does. "auto" is resolved on this machine, for all workers."""

    model: str
    options: LoadOptions = DEFAULT_OPTIONS
    batch_size: int | None = None  # windows at a time; with several, the last digits of a score depend on the batch
    deadline: float = 60.0  # s, for the decoder's next window
    threads: int = 1  # per worker
    others: tuple[tuple[str, str], ...] = ()  # other models on the same windows, each after the start of its columns

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", _resolved(self.options))
        if self.batch_size is None:
            object.__setattr__(self, "batch_size", 1 if self.options.device == "cpu" else 16)

    def describe(self) -> dict[str, Any]:
        """The models' sha256, and device, precision and threads. Raises the errors of `load_model`."""
        device = {"device": self.options.device, "dtype": self.options.dtype}
        if self.options.backend != "torch":  # of every run of earlier versions
            device["backend"] = self.options.backend
        settings = {**device, "batch_size": self.batch_size, "threads": self.threads}
        made_by = self._describe(self.model)
        others = [{"columns": start} | self._describe(model) for start, model in self.others]
        calibrated = {"calibrated": made_by.pop("calibrated")}
        described = {"task": "score", **made_by, "version": VERSION, **calibrated, "settings": settings}
        return described | ({"others": others} if others else {})

    def _describe(self, name: str) -> dict[str, Any]:
        model = load_model(name, self.options)
        return {"model": name, "model_sha256": model.sha256, "calibrated": model.info.calibrated}

    def start(self) -> Work:
        """Load the models with their encoders."""
        torch.set_num_threads(self.threads)
        decoder = PrefetchingDecoder(DECODERS, self.deadline)
        return _Scoring(Predictors.open(self.model, dict(self.others), self.options, self.batch_size, decoder))


class _Scoring:
    """Makes rows of scores."""

    def __init__(self, predictors: Predictors) -> None:
        self._predictors = predictors
        self.schema = table_schema(predictors.others)

    def rows(self, clips: Sequence[Clip], progress: Progress) -> Iterator[dict[str, Any]]:
        return map(table_row, self._predictors.stream(clips, progress=progress))

    def failed(self, clip: Clip, code: str, message: str) -> dict[str, Any]:
        return table_row(self._predictors.failed(clip, ClipError(code, message)))

    def child_bytes(self) -> int:
        return DECODERS * self._predictors.first.decoder.peak_bytes()

    def close(self) -> None:
        self._predictors.close()


@dataclass(frozen=True)
class ExtractTask:
    """Extract features into a cache, as `mmmos extract` does. All workers must be able to write to it."""

    source: EncoderSource
    settings: Settings  # has the options of the encoders
    cache: Path
    keep: Keep
    mode: CropMode
    n_crops: int  # random crops of a clip
    seed: int
    threads: int = 1  # per worker

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", replace(self.source, options=_resolved(self.source.options)))

    def describe(self) -> dict[str, Any]:
        """The encoders' fingerprints, the crops of a clip, and the cache."""
        prints = json.dumps(self.extractor("cpu").fingerprints)
        crops = {"how": self.mode, "count": self.n_crops, "seed": self.seed}  # as in the run.json of earlier versions
        device = {"device": self.source.options.device, "dtype": self.source.options.dtype}
        settings = {"keep": self.keep, **crops, "threads": self.threads, **device, "cache": os.path.abspath(self.cache)}
        return {
            "task": "extract",
            "model": ",".join(self.source.names),
            "model_sha256": hashlib.sha256(prints.encode()).hexdigest(),
            "version": VERSION,
            "settings": settings,
        }

    def start(self) -> Work:
        """Load the encoders."""
        torch.set_num_threads(self.threads)
        return _Extracting(self, self.extractor(self.source.options.device))

    def extractor(self, device: str) -> FeatureExtractor:
        """The encoders on a device, with the cache."""
        source = replace(self.source, options=replace(self.source.options, device=device))
        return FeatureExtractor.load(source, self.settings.encoder_options, self.cache, self.keep)


EXTRACTED_TOGETHER = 25
"""Clips per start of the decoder."""


class _Extracting:
    """Makes rows of extraction: how many crops of each clip were encoded."""

    schema = pyarrow.schema(
        [
            *((name, pyarrow.string()) for name in ("id", "path")),
            *((name, pyarrow.float64()) for name in ("start_time", "end_time")),
            ("crops", pyarrow.int64()),
            *((name, pyarrow.string()) for name in ("status", "error_code", "error_message")),
        ]
    )

    def __init__(self, task: ExtractTask, extractor: FeatureExtractor) -> None:
        self._task, self._extractor = task, extractor

    def rows(self, clips: Sequence[Clip], progress: Progress) -> Iterator[dict[str, Any]]:
        for first in range(0, len(clips), EXTRACTED_TOGETHER):
            together = clips[first : first + EXTRACTED_TOGETHER]
            task = self._task
            try:
                plans, failures = self._extractor.plan(together, task.mode, task.n_crops, task.seed, progress)
                failures |= self._extractor.extract(plans, progress)
            except OSError as error:
                raise BulkError(f"{task.cache}: {error}; run the same command again to resume") from error
            crops = {plan.clip: len(plan.crops) for plan in plans}
            for clip in together:
                if reason := failures.get(clip):
                    yield self.failed(clip, *reason.split(": ", 1))
                else:
                    yield self._row(clip, crops[clip])

    def failed(self, clip: Clip, code: str, message: str) -> dict[str, Any]:
        return self._row(clip, 0) | {"status": "error", "error_code": code, "error_message": encodable(message)}

    def child_bytes(self) -> int:
        return self._extractor.decoder_peak_bytes

    def close(self) -> None:
        """Nothing: there are no child processes."""

    def _row(self, clip: Clip, crops: int) -> dict[str, Any]:
        names = {"id": encodable(clip.id), "path": encodable(clip.path)}
        return names | {"start_time": clip.start_time, "end_time": clip.end_time, "crops": crops, "status": "ok"}
