"""Decoding ahead: several children cut the clips that follow while the model scores the present one.

    clips ──► orders ──┬─► thread ◄──► child ──► windows of clip 4, of clip 6 ┐
                       └─► thread ◄──► child ──► windows of clip 5 ───────────┴─► in the order of the clips

A thread waits for its child in the way of `IsolatedDecoder`: a child that hangs or dies costs the clip it is on.
What is cut and not yet taken is bounded for each child, whatever the clips' lengths.
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

ITEMS_AHEAD = 4
"""Windows, reports and errors of one child that wait to be taken; 4 windows at 16 and 24 kHz are 6.4 MB."""

Item = Window | ClipReport


class PrefetchingDecoder:
    """Cuts files into windows in several child processes at once, which are started when they are needed."""

    def __init__(self, decoders: int, deadline: float = DEADLINE_SECONDS, memory: int = MEMORY_BYTES) -> None:
        self.deadline, self.memory = deadline, memory  # s, bytes: of each child, as in `IsolatedDecoder`
        self.decoders = [IsolatedDecoder(deadline, memory) for _ in range(decoders)]
        self._in_use = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return PrefetchingDecoder, (len(self.decoders), self.deadline, self.memory)

    def cut(
        self, clips: Iterable[Clip], rates: Sequence[int], min_seconds: float
    ) -> Generator[tuple[Clip, Iterator[Item]], None, None]:
        """Each clip, in their order, with what `windows.cut` gives of it, errors too.

        A clip's windows are to be taken before the next clip is asked for; those left then are lost. `ITEMS_AHEAD`
        clips for each child are taken from `clips` ahead, in the caller's thread. Closing this iterator ends what is
        under way. Another one that begins meanwhile gets children of its own.
        """
        if not self._in_use.acquire(blocking=False):
            with PrefetchingDecoder(len(self.decoders), self.deadline, self.memory) as others:
                yield from others.cut(clips, rates, min_seconds)
            return
        crew = _Crew(self.decoders, rates, min_seconds)
        try:
            yield from crew.cut(clips)
        finally:
            crew.end()
            self._in_use.release()

    def peak_bytes(self) -> int:
        """Most memory that one of the children has had in use so far; 0 where the system does not tell."""
        return max((decoder.peak_bytes() for decoder in self.decoders), default=0)

    def close(self) -> None:
        """End the children. They start again if they are used again."""
        for decoder in self.decoders:
            decoder.close()

    def __enter__(self) -> PrefetchingDecoder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Order:
    """A clip, and what has come of it so far: windows, then a report or what is to be raised."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self._items: SimpleQueue[tuple[Item | BaseException, threading.Semaphore]] = SimpleQueue()
        self._over = False

    def put(self, item: Item | BaseException, room: threading.Semaphore) -> None:
        self._items.put((item, room))

    def take(self) -> Iterator[Item]:
        """What `windows.cut` gives, as it comes."""
        while not self._over:
            item = self._next()
            if isinstance(item, BaseException):
                raise item
            yield item

    def leave(self) -> None:
        """Wait for what has not been taken, and forget it."""
        while not self._over:
            self._next()

    def _next(self) -> Item | BaseException:
        item, room = self._items.get()
        room.release()  # there is room for one more of its child
        self._over = not isinstance(item, Window)
        return item


class _Crew:
    """The threads of one pass over clips, each with its child."""

    def __init__(self, decoders: Sequence[IsolatedDecoder], rates: Sequence[int], min_seconds: float) -> None:
        self._asked = tuple(rates), min_seconds
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._ended = threading.Event()
        self._members = [(decoder, threading.Semaphore(ITEMS_AHEAD)) for decoder in decoders]
        self._threads = [threading.Thread(target=self._work, args=member, daemon=True) for member in self._members]
        for thread in self._threads:
            thread.start()

    def cut(self, clips: Iterable[Clip]) -> Iterator[tuple[Clip, Iterator[Item]]]:
        """As `PrefetchingDecoder.cut`. What is wrong with the list of clips is raised after the clips before it."""
        most, waiting = ITEMS_AHEAD * len(self._members), deque[_Order]()
        source: Iterator[Clip] | None = iter(clips)
        failure: Exception | None = None
        while source or waiting:
            while source and len(waiting) < most:
                try:
                    waiting.append(_Order(next(source)))
                    self._orders.put(waiting[-1])
                except StopIteration:
                    source = None
                except (MmmosError, OSError, ValueError) as error:
                    source, failure = None, error
            if waiting:
                # Nothing that waits is of an earlier clip, so the child that this clip is with has room for it.
                order = waiting.popleft()
                yield order.clip, order.take()
                order.leave()
        if failure is not None:
            raise failure

    def end(self) -> None:
        """End the threads, whatever they wait for."""
        self._ended.set()
        for _, room in self._members:
            self._orders.put(None)
            room.release()
        for (decoder, _), thread in zip(self._members, self._threads, strict=True):
            thread.join(0.01)  # it has nothing to do, if all was taken
            while thread.is_alive():
                decoder.kill()  # again, should it only now have started one
                thread.join(0.05)

    def _work(self, decoder: IsolatedDecoder, room: threading.Semaphore) -> None:
        """One thread: order after order, no more than so many items ahead of who takes them."""
        while (order := self._orders.get()) is not None and not self._ended.is_set():
            # Samples in memory are decoded already; only files need a process that may be lost.
            function = decoder.cut if order.clip.samples is None else cut
            try:
                for item in function(order.clip, *self._asked):
                    room.acquire()
                    if self._ended.is_set():
                        return
                    order.put(item, room)
            except BaseException as error:  # raised where the clip's windows are taken
                room.acquire()
                order.put(error, room)
