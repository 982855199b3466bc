"""Where a run's folder lies: on a disk, or below an address such as `s3://bucket/scores`.

A file there is whole or not there. Whoever publishes one twice publishes the same rows, and on a CPU the same bytes;
where the bytes differ (a GPU, more than one window at a time), a commit's sha256 says of which part it is.
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
"""By folder what its temporary files are called. What else lies in a run's folder is not the run's to remove."""


class Store(Protocol):
    """A folder of files that are published whole. Names are relative to it, with "/"; picklable.

    What cannot be read or written raises OSError.
    """

    @property
    def url(self) -> str:
        """Where it lies, for messages and for workers elsewhere."""

    def publish(self, name: str, data: bytes) -> None:
        """Write a file that is there at once or, whatever ends the process or the machine, not at all."""

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError."""

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file to read pieces of. Raises FileNotFoundError."""

    def names(self, folder: str) -> list[str]:
        """The sorted names of the files directly below a folder; temporary ones are left out. "" is the run's own."""

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""

    def lock(self) -> AbstractContextManager[None]:
        """Keep other runs on this machine out of the folder. Raises `UsageError` if one is at work there."""

    def sweep(self, lease_s: float) -> None:
        """Remove what processes that were killed left half written more than `lease_s` seconds ago."""


@dataclass(frozen=True)
class LocalStore:
    """A folder on a disk, or on one that several machines share."""

    url: str

    def publish(self, name: str, data: bytes) -> None:
        """Under a temporary name, to the disk, then the name, and that to the disk."""
        path = self._path(name)
        _make(path.parent)
        with replacing(path) as partial:
            partial.write_bytes(data)
        sync_folder(path.parent)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return self._path(name).read_bytes()

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file to read pieces of."""
        return open(self._path(name), "rb")

    def names(self, folder: str) -> list[str]:
        """The sorted names of the files directly below a folder; none if there is no such folder."""
        try:
            with os.scandir(self._path(folder)) as found:
                return sorted(entry.name for entry in found if entry.is_file() and not is_partial(entry.name))
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        self._path(name).unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """The system gives the lock back when the process ends, however it ends."""
        path = self._path(LOCK)
        _make(path.parent)
        with open(path, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(f"{self.url}: another run is at work in this folder") from error
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                    raise  # some network disks know no locks; two runs there work twice and publish the same
            yield

    def sweep(self, lease_s: float) -> None:
        """Remove temporary files that are older."""
        for path in (path for folder, names in PARTIAL.items() for path in self._path(folder).glob(names)):
            try:
                if time.time() - path.stat().st_mtime > lease_s:
                    path.unlink()
            except FileNotFoundError:
                continue  # it got its name just now

    def _path(self, name: str) -> Path:
        return Path(self.url, name)


def _make(folder: Path) -> None:
    """Make a folder and those above it, each on the disk before something is put into it."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


@dataclass(frozen=True)
class ObjectStore:
    """Objects below an address, through fsspec. Their names may look like folders, but there are none to make."""

    url: str

    def publish(self, name: str, data: bytes) -> None:
        """One PUT, which a store of objects makes visible when it is complete."""
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
        """A file to read pieces of, `READ_AHEAD` bytes at a time."""
        url = self._url(name)
        with as_os_errors(url):
            store, path = filesystem(url)
            with store.open(path, "rb", block_size=READ_AHEAD) as file:
                yield file

    def names(self, folder: str) -> list[str]:
        """The sorted names of the files directly below a folder; none if there is no such folder."""
        url = self._url(folder)
        with as_os_errors(url):
            store, path = filesystem(url)
            try:
                found = store.ls(path, detail=True)
            except FileNotFoundError:
                return []
        files = (entry["name"].removeprefix(path).lstrip("/") for entry in found if entry["type"] == "file")
        return sorted(name for name in files if name)  # an object may stand for the folder itself

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        url = self._url(name)
        with as_os_errors(url):
            store, path = filesystem(url)
            with suppress(FileNotFoundError):
                store.rm_file(path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """No lock: two runs work twice, and publish the same rows."""
        yield

    def sweep(self, lease_s: float) -> None:
        """Nothing is half written."""

    def _url(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url


def open_store(url: str | Path) -> Store:
    """The folder at a path or an address; neither need be there yet.

    Raises `MissingExtraError` and `UsageError` for an address as `remote.filesystem`.
    """
    text = str(url)
    if isinstance(url, Path) or not is_url(text):
        return LocalStore(os.path.abspath(text))
    if text.startswith("file://"):
        return LocalStore(os.path.abspath(text.removeprefix("file://")))
    filesystem(text)  # now rather than in the middle of a run
    return ObjectStore(text.rstrip("/"))


READERS = 16
"""Files that are read at a time: an object store answers each in tens of milliseconds."""


def read_all(store: Store, folder: str) -> Iterator[tuple[str, bytes]]:
    """The files of a folder, several read at a time."""
    names = [f"{folder}/{name}" for name in store.names(folder)]
    with ThreadPoolExecutor(READERS) as readers:
        yield from zip(names, readers.map(store.read, names), strict=True)


@contextmanager
def publishing(store: Store) -> Iterator[None]:
    """Where the place itself fails, a full disk or a lost connection: a `BulkError` that says so."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or "")
        where = where if where.startswith(store.url) else store.url
        raise BulkError(
            f"{where}: {error.strerror or error}; what is published stays, run the same command again to go on"
        ) from error
