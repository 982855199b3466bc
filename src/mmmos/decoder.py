"""Decoding in a child process, where a decoder that hangs or crashes takes only its own clip with it.

    this process                         child
    ─────────────                        ─────
    clip, rates ───────────────────────► open, decode, resample, cut
    Window, Window, ... ClipReport ◄──── (blocks until each is taken: a window ahead at most)

The child imports no torch. It lives as long as it answers, and ends when this process does.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import IO, Any

from mmmos.audio import AudioInfo
from mmmos.clips import Clip
from mmmos.errors import AudioError
from mmmos.scores import ClipError
from mmmos.windows import ClipReport, Window, cut, probe

BOOT = "import sys; sys.path[:] = sys.argv[2:]; from mmmos.decoder import serve; serve(int(sys.argv[1]))"
"""What the child runs: this process's path and no other, so that no file of the folder it is in is imported."""

DEADLINE_SECONDS = 60.0
"""Longest wait for the decoder's next window."""


class IsolatedDecoder:
    """Cuts files into windows in a child process, which is started at the first call and after a loss."""

    def __init__(self, deadline: float = DEADLINE_SECONDS) -> None:
        self.deadline = deadline  # s
        self.process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._in_use = threading.Lock()

    def cut(self, clip: Clip, rates: Sequence[int], min_seconds: float) -> Iterator[Window | ClipReport]:
        """As `windows.cut`. Raises `AudioError`, also "decode_timeout" and "decode_crashed".

        A cut that begins while another is under way, in this thread or another, gets a child of its own.
        """
        if not self._in_use.acquire(blocking=False):
            with IsolatedDecoder(self.deadline) as another:
                yield from another.cut(clip, rates, min_seconds)
            return
        try:
            yield from self._ask((clip, tuple(rates), min_seconds))
        finally:
            self._in_use.release()

    def probe(self, clip: Clip) -> AudioInfo:
        """What the header of a clip's file says, without decoding it. Raises `AudioError` as `cut`."""
        info: AudioInfo
        (info,) = self._ask((clip, (), 0.0))
        return info

    def _ask(self, question: tuple[Clip, tuple[int, ...], float]) -> Iterator[Any]:
        """The child's answers; without sample rates the only one is what `probe` says."""
        finished = False
        try:
            pipe = self.start()
            pipe.send(question)
            while not finished:
                if not pipe.poll(self.deadline):
                    raise AudioError("decode_timeout", f"the decoder gave nothing for {self.deadline:g} s")
                item = pipe.recv()
                finished = not isinstance(item, Window)
                if isinstance(item, ClipError):
                    raise AudioError(item.code, item.message)
                yield item
        except (EOFError, ConnectionError) as error:
            status = self.process.wait() if self.process else None
            raise AudioError("decode_crashed", f"the decoder's process died with status {status}") from error
        finally:
            if not finished:
                self.close()

    def start(self) -> Connection:
        """Start the child ahead of its first clip, so that it loads while this process does."""
        if self.process is not None and self.process.poll() is not None:
            self.close()  # it died between two clips, through the fault of neither
        if self._pipe is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", BOOT, str(theirs.fileno()), *filter(None, sys.path)],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            self._pipe = Connection(ours.detach())
        return self._pipe

    def close(self) -> None:
        """End the child, whatever it is doing."""
        if self._pipe is not None:
            self._pipe.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._pipe = self.process = None

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def serve(descriptor: int) -> None:
    """The child: answer clip after clip on the socket of that number until it closes."""
    pipe = Connection(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent; its pipe's end is for us
    threading.Thread(target=_end_with_parent, args=(pipe.fileno(),), daemon=True).start()
    with tempfile.TemporaryFile() as complaints:
        # mpg123 tells of damaged frames on stderr only.
        os.dup2(complaints.fileno(), 2)
        while True:
            try:
                clip, rates, min_seconds = pipe.recv()
            except (EOFError, ConnectionError):
                return
            complaints.seek(0)
            complaints.truncate()
            try:
                for item in cut(clip, rates, min_seconds) if rates else [probe(clip)]:
                    if isinstance(item, ClipReport) and _complained(complaints, clip):
                        item = replace(item, warnings=tuple(sorted({*item.warnings, "decode_warnings"})))
                    pipe.send(item)
            except AudioError as error:
                pipe.send(ClipError(error.code, str(error)))
            except ConnectionError:
                return
            except Exception as error:
                pipe.send(ClipError("decode_failed", f"{type(error).__name__}: {error}"))


def _end_with_parent(pipe: int) -> None:
    """Leave once the other end of the pipe is closed, even out of a decoder that hangs."""
    closed = select.poll()
    closed.register(pipe, 0)  # hang-up is told unasked
    closed.poll()
    os._exit(1)


def _complained(stderr: IO[bytes], clip: Clip) -> bool:
    """Whether the decoders wrote of damage. Bits missing just after a seek are none: they are not used."""
    stderr.seek(0)
    lines = stderr.read().splitlines()
    return any(not (clip.start_time and b"part2_3_length" in line) for line in lines)
