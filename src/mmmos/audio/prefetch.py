"""Prefetching: several child processes cut the next clips while the model scores the current one.

    clips ──► jobs ────┬─► thread ◄──► child ──► windows of clip 4, of clip 6 ┐
                       └─► thread ◄──► child ──► windows of clip 5 ───────────┴─► in the order of the clips

Each thread uses an `IsolatedDecoder`: a child that hangs or crashes affects only its current clip.
The number of windows that wait to be consumed is bounded per child, for any length of clips.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

from mmmos.audio.clip import Clip
from mmmos.audio.isolated import DEADLINE_SECONDS, MEMORY_BYTES, IsolatedDecoder
from mmmos.audio.windows import ClipReport, Window, cut
from mmmos.errors import MmmosError

PREFETCH_ITEMS = 4
"""Most windows, reports and errors per child that wait to be consumed; 4 windows at 16 and 24 kHz are 6.4 MB."""

Item = Window | ClipReport


class PrefetchingDecoder:
    """Cuts files into windows in several child processes in parallel, which start on first use."""

    def __init__(self, decoders: int, deadline: float = DEADLINE_SECONDS, memory: int = MEMORY_BYTES) -> None:
        self.deadline, self.memory = deadline, memory  # s, bytes: of each child, as in `IsolatedDecoder`
        self.decoders = [IsolatedDecoder(deadline, memory) for _ in range(decoders)]
        self._in_use = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return PrefetchingDecoder, (len(self.decoders), self.deadline, self.memory)

    def cut(
        self, clips: Iterable[Clip], rates: Sequence[int], min_seconds: float
    ) -> Generator[tuple[Clip, Iterator[Item]], None, None]:
        """Each clip, in order, with an iterator over the items of `windows.cut`, which also raises its errors.

        Consume the windows of a clip before the next clip; the rest of them is lost. `PREFETCH_ITEMS` clips per child
        are read from `clips` in advance, in the caller's thread. Closing this iterator cancels running cuts. A second
        iterator that starts in the meantime gets its own children.
        """
        if not self._in_use.acquire(blocking=False):
            with PrefetchingDecoder(len(self.decoders), self.deadline, self.memory) as others:
                yield from others.cut(clips, rates, min_seconds)
            return
        workers = _Workers(self.decoders, rates, min_seconds)
        try:
            yield from workers.cut(clips)
        finally:
            workers.end()
            self._in_use.release()

    def peak_bytes(self) -> int:
        """Peak memory of any one of the children so far; 0 if the system does not report it."""
        return max((decoder.peak_bytes() for decoder in self.decoders), default=0)

    def close(self) -> None:
        """End the children. The next use starts them again."""
        for decoder in self.decoders:
            decoder.close()

    def __enter__(self) -> PrefetchingDecoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Job:
    """A clip and its results so far: windows, then a report or an exception."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self._items: SimpleQueue[tuple[Item | BaseException, threading.Semaphore]] = SimpleQueue()
        self._finished = False

    def put(self, item: Item | BaseException, room: threading.Semaphore) -> None:
        self._items.put((item, room))

    def take(self) -> Iterator[Item]:
        """The items of `windows.cut` as they arrive."""
        while not self._finished:
            item = self._next()
            if isinstance(item, BaseException):
                raise item
            yield item

    def discard(self) -> None:
        """Wait for the remaining items and discard them."""
        while not self._finished:
            self._next()

    def _next(self) -> Item | BaseException:
        item, room = self._items.get()
        room.release()  # its child may produce one more item
        self._finished = not isinstance(item, Window)
        return item


class _Workers:
    """The threads of one pass over the clips, each with its child process."""

    def __init__(self, decoders: Sequence[IsolatedDecoder], rates: Sequence[int], min_seconds: float) -> None:
        self._options = tuple(rates), min_seconds
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._ended = threading.Event()
        self._workers = [(decoder, threading.Semaphore(PREFETCH_ITEMS)) for decoder in decoders]
        self._threads = [threading.Thread(target=self._work, args=worker, daemon=True) for worker in self._workers]
        for thread in self._threads:
            thread.start()

    def cut(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, Iterator[Item]]]:
        """As `PrefetchingDecoder.cut`. An error of the list of clips is raised after the clips before it."""
        most, waiting = PREFETCH_ITEMS * len(self._workers), deque[_Job]()
        source: Iterator[Clip] | None = iter(clips)
        failure: Exception | None = None
        while source or waiting:
            while source and len(waiting) < most:
                try:
                    waiting.append(_Job(next(source)))
                    self._jobs.put(waiting[-1])
                except StopIteration:
                    source = None
                except (MmmosError, OSError, ValueError) as error:
                    source, failure = None, error
            if waiting:
                # No item of an earlier clip is waiting, so the child of this clip can proceed.
                job = waiting.popleft()
                yield job.clip, job.take()
                job.discard()
        if failure is not None:
            raise failure

    def end(self) -> None:
        """End the threads, even if they are waiting."""
        self._ended.set()
        for _, room in self._workers:
            self._jobs.put(None)
            room.release()
        for (decoder, _), thread in zip(self._workers, self._threads, strict=True):
            thread.join(0.01)  # it is idle if everything was consumed
            while thread.is_alive():
                decoder.kill()  # repeated, as the thread may have just started a child
                thread.join(0.05)

    def _work(self, decoder: IsolatedDecoder, room: threading.Semaphore) -> None:
        """One thread: cut one clip after another, with at most `PREFETCH_ITEMS` items not consumed."""
        while (job := self._jobs.get()) is not None and not self._ended.is_set():
            # Samples in memory are already decoded; only files need an isolated process.
            function = decoder.cut if job.clip.samples is None else cut
            try:
                for item in function(job.clip, *self._options):
                    room.acquire()
                    if self._ended.is_set():
                        return
                    job.put(item, room)
            except BaseException as error:  # raised where the windows of the clip are consumed
                room.acquire()
                job.put(error, room)
