"""Atomic file writes, file locks and checksums."""

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
"""Errors of network disks that do not support locks."""


def check_parent(path: Path) -> None:
    """Raise `UsageError` if the folder of a file that is to be written does not exist."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path next to `path` to write to; it replaces `path` when the block ends without an error.

    Readers therefore never see half a file, even if the process is killed. If `durable`, this also holds for a power
    failure: the bytes are synced to the disk before the rename, which takes a while for large files. Missing folders
    are created. The file gets the mode of a new file by the umask, as some writers make files private to their owner.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Random rather than the process number: processes of two machines that write to one folder may have the same.
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
    """The mode of a new file at `path`, which does not exist: from the umask, or from its folder's default ACL."""
    with open(path, "xb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    path.unlink()
    return mode


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, by a lock file next to it that is removed at the end.

    The lock is released when its process ends, even if it is killed. Devices, pipes and files on disks without locks
    are not locked. Raises `UsageError` if another process holds the lock.
    """
    if path.exists() and not path.is_file():
        yield
        return
    path = path.resolve()  # links to one file use one lock
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
    """Whether `path` still names this open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically. Devices and pipes are written to directly; a symbolic link stays a link."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    with replacing(path.resolve()) as partial:
        partial.write_text(text, encoding="utf-8")


def is_partial(name: str) -> bool:
    """Whether a file name is a temporary one of `replacing`; its leading dot hides it from readers of folders."""
    return name.startswith(".") and name.endswith(".part")


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to the disk, so that a file renamed into it survives a power failure."""
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
