"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """A path beside `path` to write to; when all went well, what is there takes the place of `path`.

    So the process may end at any moment. If `durable`, so may the machine: the bytes are on the disk before they
    have that name, which takes a while for many of them. Folders are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Drawn, not counted: processes of two machines that share a folder may have one number.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield partial
        if durable:
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


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
