"""A bounded queue of clips, the threads that decode them, and the one thread that runs the model.

    requests ──► jobs ──┬─► thread ◄──► child process ──┐
                (bounded)└─► thread ◄──► child process ──┴─► windows ──► model ──► rows
                                                            (micro-batches of several clips)

Windows of the clips that are being decoded alternate: a clip of an hour takes one decoder, and the others pass it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import numpy as np

from mmmos.audio.isolated import IsolatedDecoder
from mmmos.audio.windows import ClipReport, Window
from mmmos.errors import AudioError
from mmmos.inference.doctor import CHECK_TOLERANCE
from mmmos.inference.predictor import Predictor
from mmmos.inference.selfcheck import check_clip
from mmmos.scores import ClipError, Scores
from mmmos.serve.jobs import Job
from mmmos.serve.limits import Limits
from mmmos.serve.metrics import Metrics

logger = logging.getLogger(__name__)

PREFETCH_WINDOWS = 2
"""Most windows per decoder that wait for the model; one at 16 and 24 kHz is 1.6 MB."""

LOW_PRECISION_TOLERANCE = 0.1
"""Points that the check clip may differ by in bfloat16; the samples differ by at most 0.031."""

Ended = ClipReport | ClipError
Item = tuple[Job, Window | Ended, threading.Semaphore]


class ScoringQueue:
    """Scores clips in the order of their arrival. `start` before the first `submit`, `close` after the last."""

    def __init__(self, predictor: Predictor, limits: Limits, metrics: Metrics, decoders: int = 4) -> None:
        self.predictor, self.limits, self.metrics = predictor, limits, metrics
        self._model_problem: str | None = "the model is being checked"
        self._decoder_problem: str | None = None
        self._decoders = [IsolatedDecoder(limits.decode_seconds) for _ in range(decoders)]
        self._stream = predictor.clip_stream()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._items: SimpleQueue[Item | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._accepted = 0
        self._recent_seconds = 1.0  # per clip, a moving average
        self._decoding = [threading.Thread(target=self._decode, args=(one,), daemon=True) for one in self._decoders]
        self._scoring = threading.Thread(target=self._score, daemon=True)

    def start(self) -> None:
        """Start the threads; the first thing that the model scores is its check clip, see `problem`."""
        for thread in (self._scoring, *self._decoding):
            thread.start()

    def close(self) -> None:
        """Score what was accepted, then end the threads and processes."""
        for _ in self._decoding:
            self._jobs.put(None)
        for thread in self._decoding:
            thread.join()
        self._items.put(None)
        self._scoring.join()
        for decoder in self._decoders:
            decoder.close()

    @property
    def problem(self) -> str | None:
        """Why it cannot score; None when it can."""
        return self._decoder_problem or self._model_problem

    @property
    def accepted(self) -> int:
        """Number of clips that hold a place: announced, waiting, or being scored."""
        return self._accepted

    def reserve(self, clips: int) -> bool:
        """Take places for clips, if there are enough. Every place is given back by `submit` or `release`."""
        with self._lock:
            fits = self._accepted + clips <= self.limits.queue
            self._accepted += clips * fits
        return fits

    def release(self, clips: int = 1) -> None:
        """Give places back."""
        with self._lock:
            self._accepted -= clips

    def retry_after(self) -> int:
        """Seconds after which a client that found the queue full should try again."""
        return min(60, max(1, round(self._accepted * self._recent_seconds / 2)))

    def submit(self, jobs: Iterable[Job]) -> None:
        """Score clips that have places."""
        for job in jobs:
            self._jobs.put(job)

    def _decode(self, decoder: IsolatedDecoder) -> None:
        """One thread: decode one clip after another."""
        room = threading.Semaphore(PREFETCH_WINDOWS)
        try:
            decoder.start()  # before its first clip, which would wait for it
        except OSError as error:
            logger.exception("the decoder's process cannot start")
            self._decoder_problem = f"the decoder's process cannot start: {error}"
        while (job := self._jobs.get()) is not None:
            began = time.monotonic()
            ended = self._decode_job(job, decoder, room)
            room.acquire()
            self._items.put((job, ended, room))
            self._recent_seconds += 0.1 * ((time.monotonic() - began) / len(self._decoders) - self._recent_seconds)

    def _decode_job(self, job: Job, decoder: IsolatedDecoder, room: threading.Semaphore) -> Ended:
        """Put the windows of a clip where the model takes them. Returns its report, or the error that ended it."""
        try:
            if job.cancelled:
                return ClipError("scoring_failed", "the client no longer waited")
            clip = job.pending.clip
            info = decoder.probe(clip)
            self.limits.check(info)
            job.duration = info.duration
            for item in decoder.cut(clip, self.predictor.rates, self.predictor.min_seconds):
                if isinstance(item, ClipReport):
                    return item
                self.limits.check_seconds(item.end_time)
                if job.cancelled or job.pending.error is not None:
                    break
                if job.outline is not None:
                    with np.errstate(all="ignore"):
                        job.outline.add(item)
                room.acquire()
                self._items.put((job, item, room))
            return job.pending.error or ClipError("scoring_failed", "the client no longer waited")
        except AudioError as error:
            return ClipError(error.code, str(error).replace(job.path, job.name))
        except Exception as error:
            logger.exception("the decoder failed")
            return ClipError("decode_failed", f"{type(error).__name__}: {error}".replace(job.path, job.name))

    def _score(self) -> None:
        """The model's thread."""
        self._verify()
        while (item := self._items.get()) is not None:
            ends = [self._take(item)]
            while len(self._stream.batch) < self.predictor.batch_size and not self._items.empty():
                following = self._items.get()  # at once: no other thread takes items
                if following is None:
                    self._items.put(None)
                    break
                ends.append(self._take(following))
            if self._stream.batch:
                self._score_batch()
            for end in ends:
                if end is not None:
                    self._finish(*end)

    def _take(self, item: Item) -> tuple[Job, Ended] | None:
        """Add a window to the batch. Returns the end of a clip, which waits until the batch has been scored."""
        job, what, room = item
        room.release()
        if not isinstance(what, Window):
            return job, what
        if what.silent:
            job.pending.add(what)
        elif not job.cancelled and job.pending.error is None:
            self._stream.batch.append((job.pending, what))
        return None

    def _score_batch(self) -> None:
        batch, began = list(self._stream.batch), time.monotonic()
        try:
            self._stream.score_batch()
        except Exception as error:
            logger.exception("scoring failed")
            self._stream.batch.clear()
            for pending, _ in batch:
                pending.error = ClipError("scoring_failed", f"{type(error).__name__}: {error}")
        self.metrics.scored(len(batch), time.monotonic() - began)

    def _finish(self, job: Job, ended: Ended) -> None:
        """Give a clip its row, and its place back."""
        if isinstance(ended, ClipReport):
            job.pending.report = ended
        else:
            job.pending.error = job.pending.error or ended
        self.release()
        if job.row.set_running_or_notify_cancel():
            row = self._row(job)
            self.metrics.finished(row)
            job.row.set_result(row)

    def _row(self, job: Job) -> dict[str, Any]:
        def shown(scores: Scores) -> dict[str, Any]:
            return replace(scores, path=None, file_bytes=job.size, file_mtime=None).row()

        by_model = self.predictor.model, self.predictor.provenance
        (whole,) = job.pending.finish(*by_model, segments=False)
        row = shown(whole)
        if job.segments:
            row["segments"] = [] if whole.error else [*map(shown, job.pending.finish(*by_model, segments=True))]
        if job.outline is not None:
            row["outline"] = None if whole.error else job.outline.row()
        return row

    def _verify(self) -> None:
        """Score the model's check clip, whose scores are in its config; it also warms up the networks."""
        samples, rate = check_clip()
        try:
            scores = self.predictor.score(samples, sample_rate=rate)
        except Exception as error:
            logger.exception("the check clip cannot be scored")
            self._model_problem = f"the check clip cannot be scored: {type(error).__name__}: {error}"
            return
        expected = self.predictor.model.info.check
        most = CHECK_TOLERANCE if self.predictor.provenance.dtype == "float32" else LOW_PRECISION_TOLERANCE
        off = {axis: scores[axis] - value for axis, value in expected.items() if not abs(scores[axis] - value) <= most}
        shown = ", ".join(f"{axis} by {value:+.3f}" for axis, value in off.items())
        self._model_problem = f"the check clip's scores are wrong, {shown}; run `mmmos doctor`" if off else None
