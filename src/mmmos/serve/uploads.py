"""The clips of a request: a raw body or the files of a form, each in a temporary file with a random name."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import IO, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from mmmos.inference.rows import encodable
from mmmos.wording import counted

NAME_LENGTH = 1000
"""Longest name of a clip."""

RAW_TYPES = ("audio/", "video/", "application/octet-stream", "application/ogg")
"""Starts of the content types of a body that is one clip."""


@dataclass(frozen=True)
class Upload:
    """The bytes of a clip."""

    name: str  # as the client gave it; never used as a path
    path: str  # of a temporary file
    size: int  # bytes


@asynccontextmanager
async def uploads(request: Request, name: str, most: int) -> AsyncIterator[list[Upload]]:
    """The clips of a request, from 1 to `most`; their files are removed at the end.

    Raises `HTTPException`: 400 for no body or a broken form, 413 for too many files, 415 for another content type,
    422 for a form without files.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    with ExitStack() as files:
        if kind == "multipart/form-data":
            async with request.form(max_files=most + 1, max_fields=1) as form:
                yield [await _stored(item, files) for item in _files_of(form.multi_items(), most)]
            return
        if kind and not kind.startswith(RAW_TYPES):
            reason = f"{kind} is not audio: send a form (multipart/form-data), or a file as application/octet-stream"
            raise HTTPException(415, reason)
        file = _new_file(files)
        size = 0
        async for chunk in request.stream():
            size += file.write(chunk)
        if not size and not kind:
            raise HTTPException(400, "the request has no body: send a file as the body, or files in a form")
        file.flush()
        yield [Upload(_clean(name), file.name, size)]


def _files_of(items: list[tuple[str, Any]], most: int) -> list[UploadFile]:
    for name, value in items:
        if name != "file" or not isinstance(value, UploadFile):
            raise HTTPException(
                422, f"the form has the field {name[:80]!r}; it may have files in the field 'file' only"
            )
    if not items:
        raise HTTPException(422, "the form has no file: send one or several in the field 'file'")
    if len(items) > most:
        raise HTTPException(413, f"the form has over {counted(most, 'file')}, the most of one request; send fewer")
    return [value for _, value in items]


async def _stored(upload: UploadFile, files: ExitStack) -> Upload:
    """A copy of a form's file that has a path, for the decoder's process."""
    file = _new_file(files)
    await asyncio.to_thread(shutil.copyfileobj, upload.file, file)
    file.flush()
    return Upload(_clean(upload.filename or ""), file.name, upload.size or 0)


def _new_file(files: ExitStack) -> IO[bytes]:
    return files.enter_context(tempfile.NamedTemporaryFile(prefix="mmmos-"))


def _clean(name: str) -> str:
    """A client's name for a clip, without what JSON cannot hold, at most `NAME_LENGTH` long."""
    return str(encodable(name))[:NAME_LENGTH] or "clip"
