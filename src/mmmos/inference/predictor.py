"""Audio in, scores out. The file to read first.

    clip ──► windows of 10 s ──► encoders ──► features ──► member 1 ──┐
             (decoder.py)        (frozen, once a window)   member 2 ──┼─► weighted mean ──► Scores
                                                           member M ──┘

A clip's score is the mean over its windows, weighted by how much of each holds audio.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch

from mmmos.audio.clip import Clip, Layout, to_clip
from mmmos.audio.isolated import IsolatedDecoder
from mmmos.audio.prefetch import PrefetchingDecoder
from mmmos.audio.windows import ClipReport, Window, cut
from mmmos.encoders.base import encode_windows, min_duration, required_rates
from mmmos.encoders.device import pick_device
from mmmos.encoders.torch_settings import building, running
from mmmos.errors import AudioError, UsageError
from mmmos.inference.clip_scores import PendingClip
from mmmos.model.load import load_encoders, load_model
from mmmos.model.system import ScoringModel
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.scores import AXES, ClipError, Provenance, Scores
from mmmos.version import VERSION

if TYPE_CHECKING:
    from mmmos.audio.clip import Audio
    from mmmos.inference.differentiable import DifferentiableScorer


class Predictor:
    """Scores clips with one model. Same file, same score, every run.

    Raises `ModelFormatError` if the encoders at hand are not those that the model was trained on,
    `UsageError` for a device or precision that there is not.
    """

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __init__(
        self,
        model: ScoringModel,
        *,
        device: str = "auto",
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        batch_size: int | None = None,
        trust_checkpoint: bool = False,
        accept_licenses: Collection[str] = (),
        deadline: float = 60.0,
        decoders: int = 0,
    ) -> None:
        """`deadline` is the longest wait for a clip's next window, s.

        Of many clips, `decoders` at a time are decoded ahead of the one that is scored; 0 decodes each in its turn.
        """
        self.model = model
        self._options: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "batch_size": batch_size,
            "trust_checkpoint": trust_checkpoint,
            "accept_licenses": tuple(accept_licenses),
            "deadline": deadline,
            "decoders": decoders,
        }
        place = pick_device(device)
        if dtype not in ("auto", "float32", "bfloat16"):
            raise UsageError(f"no precision is called {dtype!r}; there are auto, float32, bfloat16")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size is a number of windows from 1 on, not {batch_size}")
        self.dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        # On a CPU windows go faster one by one; a GPU wants them together.
        self.batch_size = batch_size or (1 if place.type == "cpu" else 16)
        self.encoders = load_encoders(model, trust_checkpoint, accept_licenses)
        with torch.inference_mode(False):
            for network in (*self.encoders.values(), *(member.model for member in model.members)):
                network.to(place)
        self.rates = required_rates(self.encoders.values())
        self.min_seconds = min_duration(self.encoders.values())
        self.decoder = IsolatedDecoder(deadline)
        self.ahead = PrefetchingDecoder(decoders, deadline) if decoders else None

    def __repr__(self) -> str:
        encoders, members = "+".join(self.encoders), len(self.model.members)
        parts = f"{encoders}, {members} member{'s' * (members > 1)}, scale {self.model.info.scale}"
        return f"<Predictor {self.model.name!r}: {parts}, {self.device}, {self.provenance.dtype}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles hold the model and load the encoders again; decoders' processes are started anew."""
        return _rebuild, (self.model, self._options)

    @property
    def device(self) -> torch.device:
        """Where the encoders are: `module` moves them when it is moved."""
        return next(iter(self.encoders.values())).device

    @property
    def provenance(self) -> Provenance:
        """What produced the scores of this predictor."""
        return Provenance(
            model=self.model.name,
            model_sha256=self.model.sha256,
            version=VERSION,
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            calibrated=self.model.info.calibrated,
            commercial_use=self.model.info.commercial_use,
        )

    @overload
    def score(
        self,
        audio: Audio,
        *,
        sample_rate: int | None = ...,
        start_time: float = ...,
        end_time: float | None = ...,
        layout: Layout = ...,
    ) -> Scores: ...
    @overload
    def score(
        self,
        audio: list[Audio] | tuple[Audio, ...],
        *,
        sample_rate: int | None = ...,
        start_time: float = ...,
        end_time: float | None = ...,
        layout: Layout = ...,
    ) -> list[Scores]: ...

    def score(
        self,
        audio: Audio | list[Audio] | tuple[Audio, ...],
        *,
        sample_rate: int | None = None,
        start_time: float = 0.0,
        end_time: float | None = None,
        layout: Layout = "channels_first",
    ) -> Scores | list[Scores]:
        """Scores of one clip, or of each clip of a list.

        A single clip that cannot be scored raises `AudioError`. In a list it does not: its `Scores`
        have NaN on every axis and `error` says why, so the other clips keep theirs.

        - audio: path, a file's bytes, an open binary file (read as a whole, left open where it was), or samples [S] or
          [C, S] (floating point in [-1, 1], or integers), or a list of such
        - sample_rate: Hz of the samples; required for samples, forbidden for files
        - start_time, end_time: s, the stretch to score; to the clip's end when None
        - layout: "channels_last" for samples [S, C]
        """
        if isinstance(audio, list | tuple):
            clips = [to_clip(item, sample_rate, start_time, end_time, layout) for item in audio]
            return list(self.stream(clips))
        clip = to_clip(audio, sample_rate, start_time, end_time, layout)
        (scores,) = self.stream([clip])
        return _raise_error(scores)

    def segments(
        self, audio: Audio, *, sample_rate: int | None = None, layout: Layout = "channels_first"
    ) -> list[Scores]:
        """Scores of each 10-second window of a clip. Raises `AudioError`."""
        clip = to_clip(audio, sample_rate, 0.0, None, layout)
        return [_raise_error(scores) for scores in self.stream([clip], segments=True)]

    def stream(
        self, clips: Iterable[Clip], *, segments: bool = False, progress: Progress = NO_PROGRESS
    ) -> Iterator[Scores]:
        """Scores of many clips, in their order, each as soon as it is known.

        A clip that cannot be scored gives one `Scores` with `error`. With `segments` a clip gives one
        for each of its windows. Memory grows neither with the number of clips nor with their length.
        `progress` advances by one for each clip, and is called for every window.
        """
        waiting: list[PendingClip] = []  # clips not yet given out, oldest first
        batch: list[tuple[PendingClip, Window]] = []
        with closing(self._cuts(_checked(clips))) as cuts:
            for clip, items in cuts:
                pending = PendingClip(clip)
                waiting.append(pending)
                try:
                    for item in items:
                        if isinstance(item, ClipReport):
                            pending.report = item
                        elif item.silent:
                            pending.add(item)
                            progress.windows()
                        else:
                            batch.append((pending, item))
                            if len(batch) == self.batch_size:
                                self._score_batch(batch, progress)
                except AudioError as error:
                    pending.error = ClipError(error.code, str(error))
                    batch = [(other, window) for other, window in batch if other is not pending]
                while waiting and not any(other is waiting[0] for other, _ in batch):
                    yield from waiting.pop(0).finish(self.model, self.provenance, segments)
                    progress.advance()
        self._score_batch(batch, progress)
        for pending in waiting:
            yield from pending.finish(self.model, self.provenance, segments)
            progress.advance()

    @cached_property
    def module(self) -> DifferentiableScorer:
        """`module(waves, lengths, sample_rate=)` gives scores with gradients, for use as a reward or a loss."""
        from mmmos.inference.differentiable import DifferentiableScorer  # loads the compiler, which nothing else needs

        with building():
            return DifferentiableScorer(self.model, self.encoders).to(self.device)

    def close(self) -> None:
        """End the decoders' processes. The predictor starts them again if it is used again."""
        self.decoder.close()
        if self.ahead is not None:
            self.ahead.close()

    def decoder_peak_bytes(self) -> int:
        """Most memory that one of the decoders' processes has had in use so far; 0 where the system does not tell."""
        return max(self.decoder.peak_bytes(), self.ahead.peak_bytes() if self.ahead else 0)

    def _cuts(self, clips: Iterable[Clip]) -> Generator[tuple[Clip, Iterator[Window | ClipReport]], None, None]:
        """Each clip with its windows, ahead of time or as they are asked for."""
        if self.ahead is not None:
            yield from self.ahead.cut(clips, self.rates, self.min_seconds)
            return
        for clip in clips:
            # Samples in memory are decoded already; only files need a process that may be lost.
            yield clip, (self.decoder.cut if clip.samples is None else _cut_samples)(clip, self.rates, self.min_seconds)

    def _score_batch(self, batch: list[tuple[PendingClip, Window]], progress: Progress) -> None:
        """Score the windows, add each result to its clip, and empty the list."""
        if not batch:
            return
        predictions, probabilities = [], []
        with torch.inference_mode(), running(self.device):
            features = encode_windows(self.encoders, [window for _, window in batch], self.dtype)
            for member in self.model.members:
                z, domains = (part.double().cpu().numpy() for part in member.model.predict_with_domains(features))
                predictions.append(member.scale.to_labels(z))
                probabilities.append(domains[:, : len(self.model.domains)])
        rated = [axis in self.model.info.rated for axis in AXES]
        for i, (pending, window) in enumerate(batch):
            prediction = np.stack(predictions)[:, i]
            if not np.isfinite(prediction[:, rated]).all():
                pending.error = ClipError("scoring_failed", "the model's score of the clip is not a finite number")
            pending.add(window, prediction, np.mean(probabilities, axis=0)[i])
        progress.windows(len(batch))
        batch.clear()


def load(
    name: str | Path = "lite",
    *,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    batch_size: int | None = None,
    trust_checkpoint: bool = False,
    accept_licenses: Collection[str] = (),
    deadline: float = 60.0,
    decoders: int = 0,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Predictor:
    """A scorer: `lite`, `audiobox`, a model folder, a published checkpoint of Audiobox Aesthetics, or a hub model's id.

    - device: "cpu", "cuda" or "cuda:N"; "auto" is the first GPU, else the CPU
    - dtype: precision of the encoders; "auto" is float32
    - batch_size: windows at a time; by default 1 on a CPU and 16 on a GPU
    - trust_checkpoint: read a pickle of unknown origin, tensors only
    - accept_licenses: names of weights whose licence is accepted before they are fetched
    - deadline: longest wait for a clip's next window, s
    - decoders: how many clips are decoded at a time, ahead of the one that is scored; 0 decodes each in its turn
    - revision, cache_dir, local_files_only, token: where and how a hub's files are found, as in `huggingface_hub`

    Raises `ModelNotFoundError` if there is no such model (another is never taken in its place), `ModelFormatError`,
    `LicenseError`, and `UsageError` for a device or precision that there is not.
    """
    where: dict[str, Any] = {"revision": revision, "cache_dir": cache_dir, "token": token}
    trust: dict[str, Any] = {"trust_checkpoint": trust_checkpoint, "accept_licenses": accept_licenses}
    model = load_model(name, local_files_only=local_files_only, **where, **trust)
    placed: dict[str, Any] = {"device": device, "dtype": dtype, "batch_size": batch_size}
    return Predictor(model, **placed, deadline=deadline, decoders=decoders, **trust)


from_pretrained = load
"""The same by the name that users of hubs know."""


def _rebuild(model: ScoringModel, options: dict[str, Any]) -> Predictor:
    return Predictor(model, **options)


def _checked(clips: Iterable[Clip]) -> Iterator[Clip]:
    for clip in clips:
        if not isinstance(clip, Clip):
            raise TypeError(
                f"stream takes mmmos.Clip objects, not {type(clip).__name__}; score takes files and samples"
            )
        yield clip


def _cut_samples(clip: Clip, rates: Sequence[int], min_seconds: float) -> Iterator[Window | ClipReport]:
    """`windows.cut` in this process, whatever numpy does here about rounding."""
    items = cut(clip, rates, min_seconds)
    while True:
        with np.errstate(all="ignore"):
            item = next(items, None)
        if item is None:
            return
        yield item


def _raise_error(scores: Scores) -> Scores:
    if scores.error is not None:
        raise AudioError(scores.error.code, scores.error.message)
    return scores
