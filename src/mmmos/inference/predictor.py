"""Audio in, scores out. The file to read first.

    clip ──► windows of 10 s ──► encoders ──► features ──► member 1 ──┐
             (audio.decoder)     (frozen, once per window)   member 2 ──┼─► weighted mean ──► Scores
                                                           member M ──┘

A clip's score is the mean over its windows, weighted by the amount of audio in each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import torch

from mmmos.audio.clip import Clip, Layout, to_clip
from mmmos.audio.decoder import Decoder, SequentialDecoder
from mmmos.audio.prefetch import PrefetchingDecoder
from mmmos.encoders.base import min_duration, required_rates
from mmmos.encoders.device import pick_device
from mmmos.encoders.torch_settings import building
from mmmos.errors import UsageError
from mmmos.hub.options import DEFAULT_OPTIONS, Backend, DType, LoadOptions
from mmmos.inference.backend import Running, choose_backend
from mmmos.inference.clip_scores import raise_error
from mmmos.inference.stream import ClipStream, checked_clips
from mmmos.model.load import load_encoders, load_model
from mmmos.model.system import ScoringModel
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.scores import Provenance, Scores
from mmmos.version import VERSION
from mmmos.wording import counted

if TYPE_CHECKING:
    from mmmos.audio.clip import Audio
    from mmmos.inference.differentiable import DifferentiableScorer


class Predictor:
    """Scores clips with one model. The same file gets the same score in every run.

    Raises `ModelFormatError` if the encoders are not those that the model was trained on, `UsageError` for an
    unknown device.
    """

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __init__(
        self,
        model: ScoringModel,
        options: LoadOptions = DEFAULT_OPTIONS,
        *,
        batch_size: int | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        """`batch_size` is that of `load`; `decoder` is a `SequentialDecoder` by default."""
        self.model, self.decoder = model, decoder or SequentialDecoder()
        self._options, self._batch_size = options, batch_size
        target = pick_device(options.device)
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch_size is a number of windows from 1 on, not {batch_size}")
        # A CPU is faster with one window at a time, a GPU with many.
        self.batch_size = batch_size or (1 if target.type == "cpu" else 16)
        self.encoders = load_encoders(model, options)
        with torch.inference_mode(False):
            for network in (*self.encoders.values(), *(member.model for member in model.members)):
                network.to(target)
        self.running = choose_backend(model, self.encoders, options, target)
        self.rates, self.min_seconds = required_rates(self.encoders.values()), min_duration(self.encoders.values())

    def __repr__(self) -> str:
        parts = "+".join(self.encoders), counted(len(self.model.members), "member"), f"scale {self.model.info.scale}"
        return f"<Predictor {self.model.name!r}: {', '.join(parts)}, {self.device}, {self.provenance.dtype}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles hold the model, without the hub's token; they load the encoders again, from its cache."""
        return _rebuild, (self.model, replace(self._options, token=None), self._batch_size, self.decoder)

    @property
    def device(self) -> torch.device:
        """The device of the encoders; moving `module` moves them."""
        return next(iter(self.encoders.values())).device

    @property
    def provenance(self) -> Provenance:
        """The model, version, device and precision of this predictor's scores."""
        info, running = self.model.info, self.running
        made_by = self.model.name, self.model.sha256, VERSION, str(self.device), running.precision
        return Provenance(*made_by, info.calibrated, info.commercial_use, running.backend, info.calibrated_on)

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

        - audio: path, a file's bytes, an open binary file (read as a whole; it stays open at its position), or samples
          [S] or [C, S] (floating point in [-1, 1], or integers), or a list of these
        - sample_rate: Hz of the samples; required for samples, forbidden for files
        - start_time, end_time: s, the segment to score; None: to the clip's end
        - layout: "channels_last" for samples [S, C]
        """
        if isinstance(audio, list | tuple):
            clips = [to_clip(item, sample_rate, start_time, end_time, layout) for item in audio]
            return list(self.stream(clips))
        clip = to_clip(audio, sample_rate, start_time, end_time, layout)
        return raise_error(*self.stream([clip]))

    def segments(
        self,
        audio: Audio,
        hop: float | None = None,
        *,
        sample_rate: int | None = None,
        layout: Layout = "channels_first",
    ) -> list[Scores]:
        """Scores of each 10 s window of a clip; with `hop`, 0.25 to 10 s, of overlapping ones. Raises `AudioError`."""
        clip = replace(to_clip(audio, sample_rate, 0.0, None, layout), hop=hop)
        return [raise_error(scores) for scores in self.stream([clip], segments=True)]

    def stream(
        self, clips: Iterable[Clip], *, segments: bool = False, progress: Progress = NO_PROGRESS
    ) -> Iterator[Scores]:
        """Yields the scores of many clips, in order, each as soon as it is available.

        A clip that cannot be scored gives one `Scores` with `error`. With `segments` a clip gives one `Scores` for each
        of its windows. Memory use does not grow with the number of clips or with their length. `progress` advances by
        one for each clip, and is called for every window.
        """
        stream = self.clip_stream(progress)
        with closing(self.decoder.cut(checked_clips(clips), self.rates, self.min_seconds)) as cuts:
            yield from stream.scores(cuts, segments)

    def clip_stream(self, progress: Progress = NO_PROGRESS, running: Running | None = None) -> ClipStream:
        """An empty `ClipStream` of this model, for callers that decode clips and order windows themselves."""
        encoders, dtype = (running or self.running).encoders, (running or self.running).arithmetic
        return ClipStream(self.model, encoders, dtype, self.batch_size, self.provenance, progress)

    @cached_property
    def module(self) -> DifferentiableScorer:
        """`module(waves, lengths, sample_rate=)` gives scores with gradients, for use as a reward or a loss."""
        from mmmos.inference.differentiable import DifferentiableScorer  # slow to import, as it loads torch's compiler

        with building():
            return DifferentiableScorer(self.model, self.encoders).to(self.device)

    def close(self) -> None:
        """End the decoder's processes. The predictor starts them again if it is used again."""
        self.decoder.close()


def load(
    name: str | Path = "lite",
    *,
    device: str = "auto",
    dtype: DType = "auto",
    batch_size: int | None = None,
    trust_checkpoint: bool = False,
    accept_licenses: Collection[str] = (),
    deadline: float = 60.0,
    decoders: int = 0,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
    backend: Backend = "auto",
) -> Predictor:
    """A predictor for `lite`, `audiobox`, a model folder, a checkpoint of Audiobox Aesthetics, or a hub model's id.

    - device: "cpu", "cuda" or "cuda:N"; "auto" is the first GPU, else the CPU
    - dtype, backend: as in `LoadOptions`; what is not float32 in torch needs a check by `mmmos doctor --precision`
    - batch_size: windows at a time; by default 1 on a CPU and 16 on a GPU
    - trust_checkpoint: read a pickle of unknown origin, tensors only
    - accept_licenses: names of weights whose licence is accepted before they are fetched
    - deadline: longest wait for a clip's next window, s
    - decoders: number of processes that decode the clips that are scored next; 0 decodes each clip when it is scored
    - revision, cache_dir, local_files_only, token: where and how a hub's files are found, as in `huggingface_hub`

    Raises `ModelNotFoundError` if there is no such model (there is no fallback), `ModelFormatError`,
    `LicenseError`, and `UsageError` for an unknown device or precision.
    """
    options = LoadOptions(
        device=device,
        dtype=dtype,
        trust_checkpoint=trust_checkpoint,
        accept_licenses=tuple(accept_licenses),
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        token=token,
        backend=backend,
    )
    decoder = PrefetchingDecoder(decoders, deadline) if decoders else SequentialDecoder(deadline)
    return open_predictor(name, options, batch_size, decoder)


from_pretrained = load
"""`load` under the name that is usual for hub models."""


def open_predictor(
    name: str | Path, options: LoadOptions, batch_size: int | None = None, decoder: Decoder | None = None
) -> Predictor:
    """`load` with the options as one object."""
    return Predictor(load_model(name, options), options, batch_size=batch_size, decoder=decoder)


def _rebuild(model: ScoringModel, options: LoadOptions, batch_size: int | None, decoder: Decoder) -> Predictor:
    return Predictor(model, options, batch_size=batch_size, decoder=decoder)
