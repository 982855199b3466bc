"""What lies behind an address (`s3://bucket/clip.wav`) in place of a path.

fsspec knows the schemes and its own configuration the servers; neither is imported until there is an address.
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
"""What to install for a scheme."""

_TELLING = {"etag", "last-modified", "lastmodified", "last_modified", "mtime", "updated", "created"}
"""What stores say of a file that is another when it was written anew."""

READ_AHEAD = 2**20
"""Bytes that are fetched at a time of what is read in pieces."""


def is_url(path: str) -> bool:
    """Whether it is an address rather than a path.

    >>> is_url("s3://bucket/clip.wav"), is_url("/data/clip.wav")
    (True, False)
    """
    return _SCHEME.match(path) is not None


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The store of an address, and the path in it.

    Raises `MissingExtraError` where the package for its scheme is not installed, `UsageError` for a scheme that there
    is not.
    """
    import fsspec

    scheme = url.partition("://")[0]
    try:
        found, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        package = PACKAGES.get(scheme.lower())
        how = f"pip install '{package}'" if package else str(error)
        raise MissingExtraError(f"{url} needs a package that is not installed: {how}") from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from error
    return found, str(path)


@contextmanager
def open_text(url: str) -> Iterator[TextIO]:
    """A file of UTF-8 text, unpacked if it is called `.gz`, fetched as it is read. Raises OSError."""
    with as_os_errors(url):
        store, path = filesystem(url)
        packed = "gzip" if path.lower().endswith(".gz") else None
        with (
            store.open(path, "rb", block_size=READ_AHEAD, compression=packed) as file,
            io.TextIOWrapper(file, encoding="utf-8-sig") as text,
        ):
            yield text


def list_files(url: str) -> Iterator[str]:
    """The addresses of a folder's files, in the order of names; of a file its own. Raises OSError."""
    with as_os_errors(url):
        store, path = filesystem(url)
        yield from (_address(url, path, name) for name in _below(store, path))


def matching(url: str) -> list[str]:
    """The addresses that a pattern matches, in the order of names. Raises `UsageError`, OSError."""
    with as_os_errors(url):
        store, path = filesystem(url)
        try:
            return sorted(_address(url, path, name) for name in store.glob(path))
        except ValueError as error:  # `**` in the middle of a name
            raise UsageError(f"{url}: {error}") from error


class Copies:
    """Copies on this machine of files at addresses.

    A copy has no name in any folder, so nothing is left of it however this process ends.
    """

    def __init__(self) -> None:
        self.keep = False  # the last copy, for the next stretch of that file; for one thread alone
        self._last: _Copy | None = None

    @contextmanager
    def fetch(self, url: str) -> Iterator[Path]:
        """A copy of a file. Raises `AudioError`: "not_found", "fetch_failed"."""
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
        """The last copy, if it is of this file as it is now, else another."""
        last, self._last = self._last, None
        with ExitStack() as unused:
            if last is not None:
                unused.enter_context(last.file)
            store, there = filesystem(url)
            # Asked from the second time on: most files are fetched once, and cost no question.
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
    """A file without a name that holds the bytes of another."""

    url: str
    state: dict[str, Any]  # of the file that it is of, where it is known
    file: IO[bytes]

    @property
    def path(self) -> Path:
        return Path(f"/dev/fd/{self.file.fileno()}")


COPIES = Copies()
"""Of this process."""


def _state(store: AbstractFileSystem, path: str) -> dict[str, Any]:
    """What tells whether a file was written anew; nothing where its store does not say."""
    try:
        found = store.info(path)
    except _failures():  # an address may be signed for fetching alone
        return {}
    told = {name: value for name, value in found.items() if name.lower() in _TELLING}
    return told | {"size": found.get("size")} if told else {}


def _address(url: str, path: str, name: str) -> str:
    """What a store calls `name`, as an address like `url`, which the store calls `path`."""
    return url.rstrip("/").removesuffix(path.strip("/")) + name.lstrip("/")


def _below(store: AbstractFileSystem, path: str) -> Iterator[str]:
    found = sorted(store.ls(path, detail=True), key=itemgetter("name"))
    yield from (entry["name"] for entry in found if entry["type"] == "file")
    for entry in found:
        if entry["type"] == "directory":
            yield from _below(store, entry["name"])


@contextmanager
def as_os_errors(url: str) -> Iterator[None]:
    """Have OSError, with the address, in place of what the clients of servers raise of their own."""
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
