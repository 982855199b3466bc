"""Access to files by URL (`s3://bucket/clip.wav`) instead of a path.

fsspec implements the schemes, and its configuration gives the servers. It is imported only when a URL is used.
"""

from __future__ import annotations

import errno
import io
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO

from mmmos.errors import AudioError, MissingExtraError, UsageError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

PACKAGES = {
    **dict.fromkeys(("http", "https"), "mmmos[http]"),
    **dict.fromkeys(("s3", "s3a"), "mmmos[s3]"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs"), "adlfs"),
}
"""The package or extra to install for each scheme."""

_VERSION_KEYS = {"etag", "last-modified", "lastmodified", "last_modified", "mtime", "updated", "created"}
"""Fields of a store's file metadata that change when the file is written again."""

READ_AHEAD = 2**20
"""Bytes per request for files that are read in pieces."""


def is_url(path: str) -> bool:
    """Whether the text is a URL rather than a path.

    >>> is_url("s3://bucket/clip.wav"), is_url("/data/clip.wav")
    (True, False)
    """
    return _SCHEME.match(path) is not None


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL, and the path in it.

    Raises `MissingExtraError` if the package for its scheme is not installed, `UsageError` for an unknown scheme.
    """
    import fsspec

    scheme = url.partition("://")[0]
    try:
        found, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        package = PACKAGES.get(scheme.lower())
        fix = f"pip install '{package}'" if package else str(error)
        raise MissingExtraError(f"{url} needs a package that is not installed: {fix}") from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from error
    return found, str(path)


@contextmanager
def open_text(url: str) -> Iterator[TextIO]:
    """A UTF-8 text file, fetched as it is read and decompressed if its name ends with `.gz`. Raises OSError."""
    with as_os_errors(url):
        store, path = filesystem(url)
        packed = "gzip" if path.lower().endswith(".gz") else None
        with (
            store.open(path, "rb", block_size=READ_AHEAD, compression=packed) as file,
            io.TextIOWrapper(file, encoding="utf-8-sig") as text,
        ):
            yield text


def list_files(url: str) -> Iterator[str]:
    """URLs of all files below a folder in order of name, or the URL itself if it is a file. Raises OSError."""
    with as_os_errors(url):
        store, path = filesystem(url)
        yield from (_address(url, path, name) for name in _below(store, path))


def glob_urls(url: str) -> list[str]:
    """The URLs that match a pattern, in order of name. Raises `UsageError`, OSError."""
    with as_os_errors(url):
        store, path = filesystem(url)
        try:
            return sorted(_address(url, path, name) for name in store.glob(path))
        except ValueError as error:  # `**` in the middle of a name
            raise UsageError(f"{url}: {error}") from error


class Copies:
    """Local copies of files at URLs.

    A copy is an unnamed temporary file, so it is freed however this process ends.
    """

    def __init__(self) -> None:
        self.keep = False  # whether to keep the last copy for the next segment of that file; for one thread only
        self._last: _Copy | None = None

    @contextmanager
    def fetch(self, url: str) -> Iterator[Path]:
        """The path of a local copy of a file. Raises `AudioError`: "not_found", "fetch_failed"."""
        try:
            with as_os_errors(url):
                copy = self._take(url)
        except FileNotFoundError as error:
            raise AudioError("not_found", f"no such file: {url}") from error
        except (OSError, UsageError) as error:
            raise AudioError("fetch_failed", str(error)) from error
        try:
            yield copy.path
        finally:
            if self.keep:
                self._last = copy
            else:
                copy.file.close()

    def _take(self, url: str) -> _Copy:
        """The last copy if it is of this file and up to date, else a new one."""
        last, self._last = self._last, None
        with ExitStack() as unused:
            if last is not None:
                unused.enter_context(last.file)
            store, there = filesystem(url)
            # Only from the second time on: most files are fetched once, which saves a request for each.
            state = _state(store, there) if last is not None and last.url == url else {}
            if last is not None and state and state == last.state:
                unused.pop_all()
                return last
        with ExitStack() as failed:
            copy = _Copy(url, state, failed.enter_context(tempfile.TemporaryFile()))
            store.get_file(there, str(copy.path))
            failed.pop_all()
        return copy


@dataclass(frozen=True)
class _Copy:
    """An unnamed temporary file with the bytes of a file at a URL."""

    url: str
    state: dict[str, Any]  # version of the file at the URL; empty if unknown
    file: IO[bytes]

    @property
    def path(self) -> Path:
        return Path(f"/dev/fd/{self.file.fileno()}")


COPIES = Copies()
"""The copies of this process."""


def _state(store: AbstractFileSystem, path: str) -> dict[str, Any]:
    """The fields that identify a file's version; empty if its store does not report any."""
    try:
        found = store.info(path)
    except _failures():  # a signed URL may allow only fetching
        return {}
    state = {name: value for name, value in found.items() if name.lower() in _VERSION_KEYS}
    return state | {"size": found.get("size")} if state else {}


def _address(url: str, path: str, name: str) -> str:
    """The URL of the store's path `name`, by analogy with `url`, whose path in the store is `path`."""
    return url.rstrip("/").removesuffix(path.strip("/")) + name.lstrip("/")


def _below(store: AbstractFileSystem, path: str) -> Iterator[str]:
    found = sorted(store.ls(path, detail=True), key=itemgetter("name"))
    yield from (entry["name"] for entry in found if entry["type"] == "file")
    for entry in found:
        if entry["type"] == "directory":
            yield from _below(store, entry["name"])


@contextmanager
def as_os_errors(url: str) -> Iterator[None]:
    """Convert the exceptions of storage clients to OSError that names the URL."""
    try:
        yield
    except FileNotFoundError as error:
        why = "no such object" if str(error) in url else str(error)
        raise FileNotFoundError(errno.ENOENT, error.strerror or why, url) from error
    except _failures() as error:
        raise OSError(f"{url}: {error}") from error


def _failures() -> tuple[type[Exception], ...]:
    botocore, aiohttp = map(sys.modules.get, ("botocore.exceptions", "aiohttp"))
    found: list[type[Exception]] = [OSError]
    if botocore:
        found += [botocore.BotoCoreError, botocore.ClientError]
    if aiohttp:
        found.append(aiohttp.ClientError)
    return tuple(found)
