"""Scores a stream of clips, window by window; a batch of windows may belong to several clips."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from mmmos.audio.clip import Clip
from mmmos.audio.windows import ClipReport, Window
from mmmos.encoders.base import Encoder, Features, encode_windows
from mmmos.encoders.torch_settings import running
from mmmos.errors import AudioError
from mmmos.inference.clip_scores import PendingClip, WindowResult
from mmmos.model.system import ScoringModel
from mmmos.progress import Progress
from mmmos.scores import AXES, ClipError, Provenance, Scores


@dataclass
class ClipStream:
    """Clips on their way from windows to scores. Memory does not grow with the number of clips or their length."""

    model: ScoringModel
    encoders: Mapping[str, Encoder]
    dtype: torch.dtype  # of the encoders
    batch_size: int  # windows
    provenance: Provenance
    progress: Progress
    waiting: list[PendingClip] = field(default_factory=list)  # clips not yet yielded, oldest first
    batch: list[tuple[PendingClip, Window]] = field(default_factory=list)  # windows to score

    def scores(
        self, cuts: Iterable[tuple[Clip, Iterator[Window | ClipReport]]], segments: bool = False
    ) -> Iterator[Scores]:
        """Yields each clip's scores, or with `segments` those of its windows, as soon as they are available.

        A clip that cannot be scored gives one `Scores` with `error`.
        """
        for pending in self.clips(cuts):
            yield from pending.finish(self.model, self.provenance, segments)

    def clips(self, cuts: Iterable[tuple[Clip, Iterator[Window | ClipReport]]]) -> Iterator[PendingClip]:
        """Yields each clip with its predictions, as soon as all its windows are scored."""
        for clip, items in cuts:
            self._add(PendingClip(clip), items)
            yield from self.finished()
        yield from self.finished(at_end=True)

    def _add(self, pending: PendingClip, items: Iterator[Window | ClipReport]) -> None:
        """Take in a clip's windows, and score every full batch."""
        self.waiting.append(pending)
        try:
            for item in items:
                self.take(pending, item)
        except AudioError as error:
            self.fail(pending, error)

    def take(self, pending: PendingClip, item: Window | ClipReport) -> None:
        """Take in a window or the report of a clip that is waiting, and score the batch if it is full."""
        if isinstance(item, ClipReport):
            pending.report = item
        elif item.silent:
            pending.add(item)
            self.progress.windows()
        else:
            self.batch.append((pending, item))
            if len(self.batch) == self.batch_size:
                self.score_batch()

    def fail(self, pending: PendingClip, error: AudioError) -> None:
        """End a clip that is waiting with an error."""
        pending.error = ClipError(error.code, str(error))
        self.batch = [(other, window) for other, window in self.batch if other is not pending]

    def finished(self, at_end: bool = False) -> Iterator[PendingClip]:
        """Remove and yield the oldest clips, as far as all their windows are scored; `at_end` scores the batch first.

        Call it when a clip has its last item.
        """
        if at_end:
            self.score_batch()
        while self.waiting and not any(other is self.waiting[0] for other, _ in self.batch):
            yield self.waiting.pop(0)
            self.progress.advance()

    def features(self, windows: Sequence[Window]) -> dict[str, Features]:
        """Features of windows by encoder."""
        return encode_windows(self.encoders, windows, self.dtype)

    def score_batch(self) -> None:
        """Score the windows of the batch, add each result to its clip, and empty the batch."""
        if not self.batch:
            return
        predictions, probabilities, novelty = [], [], []
        with torch.inference_mode(), running(next(iter(self.encoders.values())).device):
            features = self.features([window for _, window in self.batch])
            for member in self.model.members:
                z, domains, far = (part.double().cpu().numpy() for part in member.model.predict(features))
                predictions.append(member.scale.to_labels(z))
                probabilities.append(domains[:, : len(self.model.domains)])
                novelty.append(far)
        rated = [axis in self.model.info.rated for axis in AXES]
        for i, (pending, window) in enumerate(self.batch):
            prediction = np.stack(predictions)[:, i]
            if not np.isfinite(prediction[:, rated]).all():
                pending.error = ClipError("scoring_failed", "the model's score of the clip is not a finite number")
            found = WindowResult(prediction, np.mean(probabilities, axis=0)[i], float(np.mean(novelty, axis=0)[i]))
            pending.add(window, found)
        self.progress.windows(len(self.batch))
        self.batch.clear()


def checked_clips(clips: Iterable[Clip]) -> Iterator[Clip]:
    """The clips, one by one. Raises TypeError for anything else."""
    for clip in clips:
        if not isinstance(clip, Clip):
            raise TypeError(
                f"stream takes mmmos.Clip objects, not {type(clip).__name__}; score takes files and samples"
            )
        yield clip
