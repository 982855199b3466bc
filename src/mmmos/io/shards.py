"""Files in tar archives, such as the shards of WebDataset: `shard-0000.tar::clip.flac` names a member."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mmmos.errors import AudioError, ManifestError
from mmmos.io.remote import COPIES, READ_AHEAD, as_os_errors, filesystem, is_url

SUFFIX = ".tar"


def is_shard(path: str) -> bool:
    """Whether a path or URL is that of a tar archive, by its suffix."""
    return path.lower().endswith(SUFFIX)


def split_member(path: str) -> tuple[str, str] | None:
    """The archive and the name of a member; None for any other path.

    >>> split_member("data/shard-0.tar::a/b.wav")
    ('data/shard-0.tar', 'a/b.wav')
    >>> split_member("data/shard-0.tar")
    """
    archive, separator, name = path.partition(f"{SUFFIX}::")
    return (archive + SUFFIX, name) if separator and name and not os.path.exists(path) else None


def member_path(archive: str, name: str) -> str:
    """The path of a member."""
    return f"{archive}::{name}"


def list_members(archive: str) -> Iterator[str]:
    """The names of the regular files in an archive at a path or URL, in order; memory does not grow with them.

    Raises `ManifestError` if it cannot be read, or where it is damaged.
    """
    name = ""
    try:
        with ExitStack() as stack:
            if is_url(archive):
                stack.enter_context(as_os_errors(archive))
                store, path = filesystem(archive)
                opened = stack.enter_context(store.open(path, "rb", block_size=READ_AHEAD))
            else:
                opened = stack.enter_context(open(archive, "rb"))
            tar = stack.enter_context(tarfile.open(fileobj=opened, mode="r:"))
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # else it keeps all of them
                name = member.name
                if member.isreg() and not member.issparse():
                    yield name
    except tarfile.TarError as error:
        where = f"damaged after {name}" if name else "not a tar archive (a compressed one is to be unpacked)"
        raise ManifestError(f"{archive} is {where}: {error}") from error
    except OSError as error:
        raise ManifestError(f"{archive} cannot be read: {error.strerror or error}") from error


class Members:
    """Copies of members of archives. Keeps the index of the last archive, as lists go through one after the other."""

    def __init__(self) -> None:
        self._state: tuple[int, ...] = ()
        self._index: dict[str, tuple[int, int]] = {}  # name -> first byte and size

    @contextmanager
    def copy(self, archive: str, name: str) -> Iterator[Path]:
        """A temporary file with the bytes of a member. An archive at a URL is fetched as a whole.

        Raises `AudioError`: "not_found", "fetch_failed", "not_readable", "decode_failed".
        """
        with ExitStack() as stack:
            local = stack.enter_context(COPIES.fetch(archive)) if is_url(archive) else Path(archive)
            try:
                start, size = self._place(local, archive, name)
                copy = stack.enter_context(tempfile.TemporaryFile())
                with open(local, "rb") as file:
                    file.seek(start)
                    while size and (chunk := file.read(min(size, READ_AHEAD))):
                        copy.write(chunk)
                        size -= len(chunk)
                copy.flush()
            except FileNotFoundError as error:
                raise AudioError("not_found", f"no such file: {archive}") from error
            except PermissionError as error:
                raise AudioError("not_readable", f"{archive} cannot be opened: {error.strerror}") from error
            except (OSError, tarfile.TarError) as error:
                raise AudioError("decode_failed", f"{archive} cannot be read: {error}") from error
            yield Path(f"/dev/fd/{copy.fileno()}")

    def _place(self, local: Path, archive: str, name: str) -> tuple[int, int]:
        found = os.stat(local)
        state = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
        if state != self._state:
            with tarfile.open(local, "r:") as tar:
                self._index = {member.name: (member.offset_data, member.size) for member in tar if member.isreg()}
            self._state = state
        if name not in self._index:
            raise AudioError("not_found", f"{archive} has no member {name}")
        return self._index[name]


MEMBERS = Members()
"""The members copied in this process."""
