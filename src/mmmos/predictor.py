"""Audio in, scores out. The file to read first.

    clip ──► windows of 10 s ──► encoders ──► features ──► member 1 ──┐
             (decoder.py)        (frozen, once a window)   member 2 ──┼─► weighted mean ──► Scores
                                                           member M ──┘

A clip's score is the mean over its windows, weighted by how much of each holds audio.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray

from mmmos.ahead import DecodersAhead
from mmmos.clips import Clip, Layout, to_clip
from mmmos.decoder import IsolatedDecoder
from mmmos.differentiable import DifferentiableScorer
from mmmos.encoders import encode_windows, wants
from mmmos.ensemble import combine
from mmmos.errors import AudioError, UsageError
from mmmos.hub import ScoringModel
from mmmos.models import load_encoders, load_model
from mmmos.scores import AXES, BASES, ClipError, Provenance, Scores
from mmmos.version import VERSION
from mmmos.windows import ClipReport, Window, cut

if TYPE_CHECKING:
    from mmmos.clips import Audio

COUNTED_SHARE = 0.25
"""A domain with so much of a clip, or the most, counts for what the clip's scores rest on."""


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
        self.device = pick_device(device)
        if dtype not in ("auto", "float32", "bfloat16"):
            raise UsageError(f"no precision is called {dtype!r}; there are auto, float32, bfloat16")
        self.dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        # On a CPU windows go faster one by one; a GPU wants them together.
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else 16)
        self.encoders = load_encoders(model, trust_checkpoint, accept_licenses)
        for network in (*self.encoders.values(), *(member.model for member in model.members)):
            network.to(self.device)
        self.rates, self.min_seconds = wants(self.encoders.values())
        self.decoder = IsolatedDecoder(deadline)
        self.ahead = DecodersAhead(decoders, deadline) if decoders else None
        self.provenance = Provenance(
            model=model.name,
            model_sha256=model.sha256,
            version=VERSION,
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            calibrated=model.about.calibrated,
            commercial_use=model.about.commercial_use,
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

    def stream(self, clips: Iterable[Clip], *, segments: bool = False) -> Iterator[Scores]:
        """Scores of many clips, in their order, each as soon as it is known.

        A clip that cannot be scored gives one `Scores` with `error`. With `segments` a clip gives one
        for each of its windows. Memory grows neither with the number of clips nor with their length.
        """
        waiting: list[_Pending] = []  # clips not yet given out, oldest first
        batch: list[tuple[_Pending, Window]] = []
        with closing(self._cuts(clips)) as cuts:
            for clip, items in cuts:
                pending = _Pending(clip)
                waiting.append(pending)
                try:
                    for item in items:
                        if isinstance(item, ClipReport):
                            pending.report = item
                        elif item.silent:
                            pending.add(item)
                        else:
                            batch.append((pending, item))
                            if len(batch) == self.batch_size:
                                self._score_batch(batch)
                except AudioError as error:
                    pending.error = ClipError(error.code, str(error))
                    batch = [(other, window) for other, window in batch if other is not pending]
                while waiting and not any(other is waiting[0] for other, _ in batch):
                    yield from self._finish(waiting.pop(0), segments)
        self._score_batch(batch)
        for pending in waiting:
            yield from self._finish(pending, segments)

    @cached_property
    def module(self) -> DifferentiableScorer:
        """`module(waves, lengths)` gives scores through which gradients flow, for use as a reward or loss."""
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
            yield clip, (self.decoder.cut if clip.samples is None else cut)(clip, self.rates, self.min_seconds)

    def _score_batch(self, batch: list[tuple[_Pending, Window]]) -> None:
        """Score the windows, hand each its share, and empty the list."""
        if not batch:
            return
        features = encode_windows(self.encoders, [window for _, window in batch], self.dtype)
        predictions, shares = [], []
        with torch.inference_mode():
            for member in self.model.members:
                z, share = (part.double().cpu().numpy() for part in member.model.judge(features))
                predictions.append(member.scale.to_labels(z))
                shares.append(share[:, : len(self.model.domains)])
        for i, (pending, window) in enumerate(batch):
            pending.add(window, np.stack(predictions)[:, i], np.mean(shares, axis=0)[i])
        batch.clear()

    def _finish(self, pending: _Pending, segments: bool) -> Iterator[Scores]:
        clip, report = pending.clip, pending.report
        given: dict[str, Any] = {"id": clip.id, "path": clip.path, "start_time": clip.start_time}
        scores = Scores(**given, scale=self.model.about.scale, provenance=self.provenance)
        if report is None or pending.error is not None:
            yield replace(scores, error=pending.error)
            return
        scores = replace(
            scores,
            sample_rate=report.info.sample_rate,
            channels=report.info.channels,
            duration=report.duration,
            warnings=report.warnings,
        )
        if not segments:
            scores = replace(scores, end_time=report.end_time, n_windows=len(pending.windows))
            yield self._with_axes(scores, *pending.mean())
            return
        for window, prediction, shares in sorted(pending.windows, key=lambda item: item[0].start_time):
            part = replace(scores, start_time=window.start_time, end_time=window.end_time, n_windows=1)
            if window.silent:
                part = replace(part, warnings=tuple(sorted({*part.warnings, "silent"})))
            yield self._with_axes(part, prediction, shares)

    def _with_axes(
        self, scores: Scores, prediction: NDArray[np.float64] | None, shares: NDArray[np.float64] | None
    ) -> Scores:
        """Combine the members' predictions [M, A]; name the domain of the largest share, and what scores rest on."""
        if prediction is None:
            return scores
        about = self.model.about
        unrated = np.array([axis not in about.rated for axis in AXES])
        if about.clip_output:
            prediction = np.clip(prediction, *about.label_range)
        mean, std = combine(np.where(unrated, np.nan, prediction)[:, None], self.model.weights)
        if shares is not None and len(shares):
            domain = self.model.domains[int(shares.argmax())]
            counted = [self.model.domains[i] for i in np.flatnonzero(shares >= min(COUNTED_SHARE, shares.max()))]
            basis = weakest_basis(about.basis, counted)
            named: dict[str, Any] = {f"{axis}_basis": word for axis, word in basis.items()}
            scores = replace(scores, domain=domain, **named)
        return scores.with_axes(mean[0], std[0])


@dataclass
class _Pending:
    """A clip on its way: what has come back of its windows so far."""

    clip: Clip
    windows: list[tuple[Window, NDArray[np.float64] | None, NDArray[np.float64] | None]] = field(default_factory=list)
    report: ClipReport | None = None
    error: ClipError | None = None

    def add(
        self,
        window: Window,
        prediction: NDArray[np.float64] | None = None,
        shares: NDArray[np.float64] | None = None,
    ) -> None:
        """Keep what came of a window: predictions [M, A] and shares of the domains, or nothing if it is silent."""
        # The samples have done their work; an hour of them would fill the memory.
        self.windows.append((replace(window, waves={}), prediction, shares))

    def mean(self) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Predictions and shares over the windows that have any, weighted by how much audio they hold."""
        heard = [(window.weight, *found) for window, *found in self.windows if found[0] is not None]
        if not heard:
            return None, None
        weights, predictions, shares = zip(*heard, strict=True)
        return np.average(predictions, axis=0, weights=weights), np.average(shares, axis=0, weights=weights)


def weakest_basis(basis: Mapping[str, Mapping[str, str]], domains: Collection[str]) -> dict[str, str]:
    """The weakest thing that an axis's score rests on in any of these domains; a word that is unknown is the weakest.

    >>> weakest_basis({"music": {"PQ": "human", "PC": "human"}, "sound": {"PQ": "constructed"}}, ["music", "sound"])
    {'PC': 'human', 'PQ': 'constructed'}
    """
    strength = {word: place for place, word in enumerate(reversed(BASES), 1)}
    told = [basis.get(domain, {}) for domain in domains]
    by_axis = {axis: [words[axis] for words in told if axis in words] for axis in AXES}
    return {axis: min(words, key=lambda word: strength.get(word, 0)) for axis, words in by_axis.items() if words}


def from_pretrained(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    batch_size: int | None = None,
    trust_checkpoint: bool = False,
    accept_licenses: Collection[str] = (),
    deadline: float = 60.0,
    decoders: int = 0,
    **hub_options: Any,
) -> Predictor:
    """A predictor for any model that `models.load_model` finds; `hub_options` are that function's."""
    trust: dict[str, Any] = {"trust_checkpoint": trust_checkpoint, "accept_licenses": accept_licenses}
    model = load_model(name, **trust, **hub_options)
    placed: dict[str, Any] = {"device": device, "dtype": dtype, "batch_size": batch_size}
    return Predictor(model, **placed, deadline=deadline, decoders=decoders, **trust)


def _raise_error(scores: Scores) -> Scores:
    if scores.error is not None:
        raise AudioError(scores.error.code, scores.error.message)
    return scores


def pick_device(device: str) -> torch.device:
    """The device of that name; "auto" is the first GPU, else the CPU. Raises `UsageError`."""
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"no device {device!r}: {str(error).splitlines()[0]}") from error
    if resolved.type not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r}: mmmos runs on cpu, cuda or cuda:N")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {device!r} was asked for, and there is no such GPU")
    return resolved
