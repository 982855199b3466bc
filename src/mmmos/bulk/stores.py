"""The folder of a run: on a disk, or at an address such as `s3://bucket/scores`.

Writes are atomic. Writing a shard twice gives the same rows, and on a CPU the same bytes. Where the bytes differ (on a
GPU, or with several windows at a time), a commit's sha256 identifies its part.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from mmmos.errors import BulkError, UsageError
from mmmos.io.atomic import is_partial, replacing, sync_folder
from mmmos.io.remote import READ_AHEAD, as_os_errors, filesystem, is_url

LOCK = "_run/lock"

PARTIAL = {"": ".part-*.part", "_run": ".*.part", "_run/commits": ".*.part", "_run/deaths": ".*.part"}
"""Patterns of temporary files by folder. A run removes no other files."""


class Store(Protocol):
    """A folder of files with atomic writes. Names are relative to it, with "/". Picklable.

    A file that cannot be read or written raises OSError.
    """

    @property
    def url(self) -> str:
        """Its path or address, for messages and for workers on other machines."""

    def publish(self, name: str, data: bytes) -> None:
        """Write a file atomically, even if the process or the machine crashes."""

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError."""

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file for random access. Raises FileNotFoundError."""

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files directly in a folder, without temporary ones; "" is the run's own folder."""

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""

    def lock(self) -> AbstractContextManager[None]:
        """Lock the folder against other runs on this machine. Raises `UsageError` if one holds the lock."""

    def remove_stale(self, lease_s: float) -> None:
        """Remove temporary files of killed processes that are older than `lease_s` seconds."""


@dataclass(frozen=True)
class LocalStore:
    """A folder on a local or shared disk."""

    url: str

    def publish(self, name: str, data: bytes) -> None:
        """Write and sync a temporary file, rename it, and sync the folder."""
        path = self._path(name)
        _make(path.parent)
        with replacing(path) as partial:
            partial.write_bytes(data)
        sync_folder(path.parent)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return self._path(name).read_bytes()

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Open a file for random access."""
        return open(self._path(name), "rb")

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files directly in a folder; none if it does not exist."""
        try:
            with os.scandir(self._path(folder)) as entries:
                return sorted(entry.name for entry in entries if entry.is_file() and not is_partial(entry.name))
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        self._path(name).unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The system releases the lock when the process ends for any reason."""
        path = self._path(LOCK)
        _make(path.parent)
        with open(path, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"{self.url}: another run uses this folder; name another one, or wait") from error
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                    raise  # some network disks have no locks; two runs there publish the same rows twice
            yield

    def remove_stale(self, lease_s: float) -> None:
        """Remove older temporary files."""
        for path in (path for folder, names in PARTIAL.items() for path in self._path(folder).glob(names)):
            try:
                if time.time() - path.stat().st_mtime > lease_s:
                    path.unlink()
            except FileNotFoundError:
                continue  # it was renamed just now

    def _path(self, name: str) -> Path:
        return Path(self.url, name)


def _make(folder: Path) -> None:
    """Make a folder and its parents, and sync each before anything is written into it."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


@dataclass(frozen=True)
class ObjectStore:
    """Objects below an address, through fsspec. Folders are only parts of their names."""

    url: str

    def publish(self, name: str, data: bytes) -> None:
        """One PUT request, which is atomic in an object store."""
        url = self._url(name)
        with as_os_errors(url):
            store, path = filesystem(url)
            store.pipe_file(path, data)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        url = self._url(name)
        with as_os_errors(url):
            store, path = filesystem(url)
            return cast(bytes, store.cat_file(path))

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file for random access, in blocks of `READ_AHEAD` bytes."""
        url = self._url(name)
        with as_os_errors(url):
            store, path = filesystem(url)
            with store.open(path, "rb", block_size=READ_AHEAD) as file:
                yield file

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files directly in a folder; none if it does not exist."""
        url = self._url(folder)
        with as_os_errors(url):
            store, path = filesystem(url)
            try:
                entries = store.ls(path, detail=True)
            except FileNotFoundError:
                return []
        files = (entry["name"].removeprefix(path).lstrip("/") for entry in entries if entry["type"] == "file")
        return sorted(name for name in files if name)  # there may be an object for the folder itself

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        url = self._url(name)
        with as_os_errors(url):
            store, path = filesystem(url)
            with suppress(FileNotFoundError):
                store.rm_file(path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """No lock: two runs at once publish the same rows twice."""
        yield

    def remove_stale(self, lease_s: float) -> None:
        """Nothing: objects have no temporary files."""

    def _url(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url


def open_store(url: str | Path) -> Store:
    """The store at a path or an address, which need not exist yet.

    Raises `MissingExtraError` and `UsageError` for an address as `remote.filesystem`.
    """
    text = str(url)
    if isinstance(url, Path) or not is_url(text):
        return LocalStore(os.path.abspath(text))
    if text.startswith("file://"):
        return LocalStore(os.path.abspath(text.removeprefix("file://")))
    filesystem(text)  # fails now rather than in the middle of a run
    return ObjectStore(text.rstrip("/"))


READERS = 16
"""Concurrent reads: an object store takes tens of milliseconds per file."""


def read_all(store: Store, folder: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of a folder, several read at a time."""
    names = [f"{folder}/{name}" for name in store.names(folder)]
    with ThreadPoolExecutor(READERS) as readers:
        yield from zip(names, readers.map(store.read, names), strict=True)


@contextmanager
def publishing(store: Store) -> Iterator[None]:
    """Turn an OSError of the store, as for a full disk or a lost connection, into a `BulkError`."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or "")
        where = where if where.startswith(store.url) else store.url
        raise BulkError(
            f"{where}: {error.strerror or error}; published parts stay, run the same command again to resume"
        ) from error
