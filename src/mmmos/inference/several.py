"""Several models on one decoding pass: each scores every window, and a row has the scores of all.

    clip ──► windows, at the rates of all models ──┬─► model 1 ──► Scores ─┐
                                                   └─► model 2 ──► Scores ─┴─► the first one's, with the others'

A model's scores are those that it gives alone. Encoders that models have in common are in memory once, and run once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mmmos.audio.clip import Clip
from mmmos.audio.decoder import Decoder
from mmmos.audio.windows import ClipReport, Window, is_silent, silence_warnings
from mmmos.encoders.base import Encoder, Features, encode_windows
from mmmos.errors import AudioError, UsageError
from mmmos.hub.options import LoadOptions
from mmmos.inference.clip_scores import PendingClip
from mmmos.inference.predictor import Predictor, open_predictor
from mmmos.inference.stream import ClipStream, checked_clips
from mmmos.progress import NO_PROGRESS, Progress
from mmmos.scores import ClipError, Provenance, Scores


class Predictors:
    """A predictor, and others that score the same windows.

    Raises `UsageError` for models whose shortest clips differ.
    """

    def __init__(self, first: Predictor, others: Mapping[str, Predictor]) -> None:
        """`others` are by the start of their columns. The decoder is the first one's."""
        self.first, self.others = first, dict(others)
        self._all = [first, *self.others.values()]
        if len(lengths := {predictor.min_seconds for predictor in self._all}) > 1:
            shortest = " and ".join(f"{seconds:.2f} s" for seconds in sorted(lengths))
            raise UsageError(f"these models score clips from {shortest} on; score with each in a run of its own")
        self._share_encoders()

    @classmethod
    def open(
        cls,
        model: str,
        others: Mapping[str, str],
        options: LoadOptions,
        batch_size: int | None = None,
        decoder: Decoder | None = None,
    ) -> Predictors:
        """Load the models. Raises the errors of `load`."""
        first = open_predictor(model, options, batch_size, decoder)
        return cls(first, {start: open_predictor(name, options, batch_size) for start, name in others.items()})

    def __enter__(self) -> Predictors:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes of the decoders."""
        for predictor in self._all:
            predictor.close()

    @property
    def provenance_of_others(self) -> dict[str, Provenance]:
        """By the start of their columns."""
        return {start: predictor.provenance for start, predictor in self.others.items()}

    def stream(
        self, clips: Iterable[Clip], *, segments: bool = False, progress: Progress = NO_PROGRESS
    ) -> Iterator[Scores]:
        """As `Predictor.stream`; the scores of the other models are in `others`.

        With `segments`, a clip that one of the models cannot score gives one `Scores`.
        """
        if not self.others:
            yield from self.first.stream(clips, segments=segments, progress=progress)
            return
        memo = _Memo()
        rates = sorted({rate for predictor in self._all for rate in predictor.rates})
        streams = [
            _SharedStream(
                **vars(predictor.clip_stream(progress if predictor is self.first else NO_PROGRESS)), memo=memo
            )
            for predictor in self._all
        ]
        models = [_Model(stream, predictor.rates) for stream, predictor in zip(streams, self._all, strict=True)]
        with closing(self.first.decoder.cut(checked_clips(clips), rates, self.first.min_seconds)) as cuts:
            for clip, items in cuts:
                _add(models, clip, items)
                yield from self._rows(models, segments)
        yield from self._rows(models, segments, at_end=True)

    def failed(self, clip: Clip, error: ClipError) -> Scores:
        """The scores of a clip that no model scored."""
        scores = Scores(id=clip.id, path=clip.path, start_time=clip.start_time, error=error)
        first, *others = (
            replace(scores, scale=predictor.model.info.scale, provenance=predictor.provenance)
            for predictor in self._all
        )
        return replace(first, others=tuple(zip(self.others, others, strict=True)))

    def _rows(self, models: Sequence[_Model], segments: bool, at_end: bool = False) -> Iterator[Scores]:
        """The rows of the clips that all models have finished."""
        for model in models:
            model.finished += model.stream.finished(at_end)
        while all(model.finished for model in models):
            pending = [model.finished.pop(0) for model in models]
            whole = not segments or any(one.error is not None for one in pending)
            found = [
                one.finish(model.stream.model, model.stream.provenance, not whole)
                for one, model in zip(pending, models, strict=True)
            ]
            for first, *others in zip(*found, strict=True):
                yield replace(first, others=tuple(zip(self.others, others, strict=True)))

    def _share_encoders(self) -> None:
        """Keep one of the encoders that are equal."""
        known: dict[tuple[str, str], Encoder] = {}
        for predictor in self._all:
            for spec in predictor.model.encoders:
                encoder = predictor.encoders[spec.name]
                predictor.encoders[spec.name] = known.setdefault((spec.name, spec.fingerprint), encoder)


@dataclass
class _Memo:
    """The last features of each encoder, with the waveforms that they are of."""

    features: dict[int, tuple[list[NDArray[np.float32]], Features]] = field(default_factory=dict)

    def get(self, encoder: Encoder, waves: list[NDArray[np.float32]]) -> Features | None:
        """The features of the very same waveforms, or None."""
        known, features = self.features.get(id(encoder), ([], None))
        same = len(known) == len(waves) and all(a is b for a, b in zip(known, waves, strict=True))
        return features if same else None


@dataclass(kw_only=True)
class _SharedStream(ClipStream):
    """A stream that does not encode windows that another one has just encoded."""

    memo: _Memo

    def features(self, windows: Sequence[Window]) -> dict[str, Features]:
        """Features of windows by encoder."""
        waves = {name: [w.waves[encoder.sample_rate] for w in windows] for name, encoder in self.encoders.items()}
        found = {name: self.memo.get(encoder, waves[name]) for name, encoder in self.encoders.items()}
        new = {name: encoder for name, encoder in self.encoders.items() if found[name] is None}
        encoded = encode_windows(new, windows, self.dtype)
        for name, features in encoded.items():
            self.memo.features[id(self.encoders[name])] = waves[name], features
        return {name: known or encoded[name] for name, known in found.items()}


class _Model:
    """One of the models: its stream, and the clips that it has finished and others have not."""

    def __init__(self, stream: ClipStream, rates: Sequence[int]) -> None:
        self.stream, self.rates = stream, rates
        self.finished: list[PendingClip] = []
        self._windows = self._silent = 0  # of the clip in progress

    def begin(self, clip: Clip) -> None:
        """The next items are of this clip."""
        self.stream.waiting.append(PendingClip(clip))
        self._windows = self._silent = 0

    def take(self, item: Window | ClipReport) -> None:
        """Take in a window or a report, as if it had been cut for this model's sample rates alone."""
        own = self._own_report(item) if isinstance(item, ClipReport) else self._own_window(item)
        self.stream.take(self.stream.waiting[-1], own)

    def fail(self, error: AudioError) -> None:
        """The clip ends with an error."""
        self.stream.fail(self.stream.waiting[-1], error)

    def _own_window(self, window: Window) -> Window:
        waves = {rate: window.waves[rate] for rate in self.rates}
        silent = window.silent or is_silent(waves.values())
        self._windows += 1
        self._silent += silent
        warnings = {*window.warnings, "silent"} if silent else window.warnings
        return replace(window, waves=waves, silent=silent, warnings=tuple(sorted(warnings)))

    def _own_report(self, report: ClipReport) -> ClipReport:
        warnings = {*report.signal_warnings} - {"silent", "partly_silent"}
        warnings |= silence_warnings(self._silent, self._windows)
        return replace(report, signal_warnings=tuple(sorted(warnings)))


def _add(models: Sequence[_Model], clip: Clip, items: Iterator[Window | ClipReport]) -> None:
    """Give the windows of a clip to every model."""
    for model in models:
        model.begin(clip)
    try:
        for item in items:
            for model in models:
                model.take(item)
    except AudioError as error:
        for model in models:
            model.fail(error)
