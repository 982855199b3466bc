"""Files that are whole or not there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmmos.errors import UsageError

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of network disks that know no locks."""


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A path beside `path` to write to; when all went well, what is there takes the place of `path`.

    So the process may end at any moment. If `durable`, so may the machine: the bytes are on the disk before they
    have that name, which takes a while for many of them. Folders are made. The file has the mode that the umask gives
    to new files, whoever wrote it: some writers leave it to its owner alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Drawn, not counted: processes of two machines that share a folder may have one number.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    mode = _new_mode(partial)
    try:
        yield partial
        if stat.S_IMODE(partial.stat().st_mode) != mode:
            partial.chmod(mode)
        if durable:
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _new_mode(path: Path) -> int:
    """The mode of a new file at `path`, where there is none: by the umask, or by what its folder says of new files."""
    with open(path, "xb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    path.unlink()
    return mode


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes that lock `path` away from it, with a file next to it that is removed at the end.

    A lock ends with its process, however that ends. Devices and pipes are not locked, and disks without locks lock
    nothing. Raises `UsageError` where another process has the lock.
    """
    if path.exists() and not path.is_file():
        yield
        return
    path = path.resolve()  # a link is another name of the same file
    name = path.with_name(f".{path.name}.lock")
    while True:
        with open(name, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"{path} is being written by another run; wait for it, or name another file"
                ) from error
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            if not _is_at(file.fileno(), name):
                continue  # its last owner removed it between our open and our lock
            try:
                yield
            finally:
                name.unlink(missing_ok=True)
            return


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; a device or a pipe is written to as it is, a link to a file stays a link."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    with replacing(path.resolve()) as partial:
        partial.write_text(text, encoding="utf-8")


def is_partial(name: str) -> bool:
    """Whether a file's name is one that `replacing` writes to; with a dot in front, readers of folders leave it out."""
    return name.startswith(".") and name.endswith(".part")


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk, so that a file put there is there after the machine has lost its power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_file(path: str | Path, prefix: bytes = b"") -> str:
    """sha256 of `prefix` and a file's bytes, read a mebibyte at a time."""
    digest = hashlib.sha256(prefix)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
