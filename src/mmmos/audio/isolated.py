"""Decoding in a child process: a decoder that hangs or crashes affects only its own clip.

    this process                         child
    ─────────────                        ─────
    clip, rates ───────────────────────► open, decode, resample, cut
    Window, Window, ... ClipReport ◄──── (blocks until each is taken: at most one is prefetched)

The child does not import torch. It serves many clips until it fails, and ends when this process ends. Its memory is
limited: a file that needs more, often because of a few bytes in its header, fails alone.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection
from types import TracebackType
from typing import IO, Any

from mmmos.audio.clip import Clip
from mmmos.audio.source import AudioInfo
from mmmos.audio.windows import ClipReport, Window, cut, probe
from mmmos.errors import AudioError
from mmmos.io.remote import COPIES
from mmmos.processes import peak_bytes_of
from mmmos.scores import ClipError

BOOT = "import sys; sys.path[:] = sys.argv[3:]; from mmmos.audio.isolated import serve; serve(*map(int, sys.argv[1:3]))"
"""The program of the child. It uses only this process's `sys.path`: files of the working folder are not imported."""

DEADLINE_SECONDS = 60.0
"""Longest wait for the decoder's next window."""

MEMORY_BYTES = 1 << 30
"""Memory limit of a child for decoding, on top of its own code. Sample files need 0.04 of it."""


class IsolatedDecoder:
    """Cuts files into windows in a child process, which starts at the first call and again after a failure."""

    def __init__(self, deadline: float = DEADLINE_SECONDS, memory: int = MEMORY_BYTES) -> None:
        self.deadline = deadline  # s
        self.memory = memory  # bytes
        self.process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._in_use = threading.Lock()
        self._peak_bytes = 0

    def cut(self, clip: Clip, rates: Sequence[int], min_seconds: float) -> Iterator[Window | ClipReport]:
        """As `windows.cut`. Raises `AudioError`, also "decode_timeout" and "decode_crashed".

        A cut that begins while another one is running, in any thread, gets its own child. The bytes of a clip without
        a path are decoded from a temporary file.
        """
        if clip.data is not None:
            yield from self._cut_data(clip, clip.data, rates, min_seconds)
            return
        if clip.path is not None and clip.path.endswith("|") and not os.path.exists(clip.path):
            raise AudioError(
                "not_found", f"a command is never run; write its output to a file and list that: {clip.path}"
            )
        if not self._in_use.acquire(blocking=False):
            with IsolatedDecoder(self.deadline, self.memory) as another:
                yield from another.cut(clip, rates, min_seconds)
            return
        try:
            yield from self._request((clip, tuple(rates), min_seconds))
        finally:
            self._in_use.release()

    def _cut_data(
        self, clip: Clip, data: bytes, rates: Sequence[int], min_seconds: float
    ) -> Iterator[Window | ClipReport]:
        with ExitStack() as stack:
            try:
                file = stack.enter_context(tempfile.NamedTemporaryFile())
                file.write(data)
                file.flush()
            except OSError as error:
                reason = f"cannot write the {len(data)} bytes of {clip.id} to a temporary file (see TMPDIR): {error}"
                raise AudioError("decode_failed", reason) from error
            try:
                yield from self.cut(replace(clip, path=file.name, data=None), rates, min_seconds)
            except AudioError as error:
                raise AudioError(error.code, str(error).replace(file.name, clip.id)) from error

    def probe(self, clip: Clip) -> AudioInfo:
        """Read the header of a clip's file without decoding it. Raises `AudioError` as `cut`."""
        info: AudioInfo
        (info,) = self._request((clip, (), 0.0))
        return info

    def _request(self, request: tuple[Clip, tuple[int, ...], float]) -> Iterator[Any]:
        """The child's replies; without sample rates, the only one is the result of `probe`."""
        finished = False
        try:
            pipe = self.start()
            pipe.send(request)
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
        """Start the child before its first clip, so that it loads while this process does."""
        if self.process is not None and self.process.poll() is not None:
            self.close()  # it died between clips, or belongs to the process that forked this one
        if self._pipe is None:
            ours, theirs = socket.socketpair()
            for end in (ours, theirs):
                end.setblocking(True)  # regardless of socket.setdefaulttimeout
            with ours, theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", BOOT, str(theirs.fileno()), str(self.memory), *filter(None, sys.path)],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
                self._pipe = Connection(ours.detach())
        return self._pipe

    def peak_bytes(self) -> int:
        """Peak memory of any child of this decoder so far; 0 if the system does not report it.

        The peak of a child that crashed is unknown. `RUSAGE_CHILDREN` is not used: on Linux a new process starts
        with the peak of its parent.
        """
        process = self.process  # another thread may end it meanwhile
        if process is not None:
            self._peak_bytes = max(self._peak_bytes, peak_bytes_of(process.pid))
        return self._peak_bytes

    def kill(self) -> None:
        """Kill the child, from any thread; a running `cut` raises "decode_crashed"."""
        process = self.process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Kill the child, even during a cut."""
        self.peak_bytes()
        self._end()

    def _end(self) -> None:
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
        self._end()


def serve(descriptor: int, memory: int) -> None:
    """Main function of the child: cut clips from the socket `descriptor` until it closes, in `memory` bytes."""
    pipe = Connection(descriptor)
    _limit_memory(memory)
    COPIES.keep = True  # lists often have many segments of one file
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C; the child ends when the pipe closes
    threading.Thread(target=_end_with_parent, args=(pipe.fileno(),), daemon=True).start()
    with _memory_file() as stderr:
        # mpg123 reports damaged frames only on stderr, also for files that FFmpeg then decodes.
        os.dup2(stderr.fileno(), 2)
        while True:
            try:
                clip, rates, min_seconds = pipe.recv()
            except (EOFError, ConnectionError):
                return
            stderr.seek(0)
            stderr.truncate()
            try:
                for item in cut(clip, rates, min_seconds) if rates else [probe(clip)]:
                    if isinstance(item, ClipReport) and item.info.decoder != "ffmpeg" and _is_damaged(stderr, clip):
                        found = tuple(sorted({*item.file_warnings, "decode_warnings"}))
                        item = replace(item, file_warnings=found)
                    pipe.send(item)
            except AudioError as error:
                pipe.send(ClipError(error.code, str(error)))
            except ConnectionError:
                return
            except MemoryError:
                message = f"the file makes its decoder take more than {memory >> 20} MiB of memory"
                pipe.send(ClipError("decode_failed", message))
            except Exception as error:
                pipe.send(ClipError("decode_failed", f"{type(error).__name__}: {error}"))


def _memory_file() -> IO[bytes]:
    """A file for the stderr of decoders, in memory if the system supports it: no writable folder is needed then."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("stderr"), "w+b")
    return tempfile.TemporaryFile()


def _end_with_parent(pipe: int) -> None:
    """Exit when the other end of the pipe closes, even while a decoder hangs."""
    closed = select.poll()
    closed.register(pipe, 0)  # a hang-up is always reported
    closed.poll()
    os._exit(1)


def _limit_memory(size: int) -> None:
    """Limit this process to `size` bytes more than it uses now; beyond that, decoders fail or crash.

    The limit is on writable memory: mapped libraries and files do not count.
    """
    taken = 0
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[5]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = taken + size if most == resource.RLIM_INFINITY else min(taken + size, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _is_damaged(stderr: IO[bytes], clip: Clip) -> bool:
    """Whether the decoders reported damage. Bits missing just after a seek do not count: they are not used."""
    stderr.seek(0)
    lines = stderr.read().splitlines()
    return any(not (clip.start_time and b"part2_3_length" in line) for line in lines)
