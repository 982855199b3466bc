"""The hub client: finds files in the hub's cache, fetches them, and verifies each one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmmos.errors import ModelFormatError, ModelNotFoundError
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions
from mmmos.io.atomic import hash_file

FOLDER_FILES = ("*.json", "*.safetensors", "README.md")
"""Patterns of the files of a model folder; nothing else of a repository is fetched."""


def fetch_folder(repository: str, options: LoadOptions = DEFAULT_OPTIONS) -> Path:
    """The local copy of a hub model's folder, with only the files of `FOLDER_FILES`.

    Raises `ModelNotFoundError`, and `ModelFormatError` for weights whose sha256 differs from the announced one.
    """
    from huggingface_hub import snapshot_download

    where: dict[str, Any] = {"local_files_only": options.local_files_only, "allow_patterns": list(FOLDER_FILES)}
    at = f" at {options.revision}" if options.revision else ""
    with _hub_errors(f"no model {repository!r}: not a folder, and the hub does not give it{at}"):
        folder = Path(snapshot_download(repository, **_arguments(options), **where))
    for path in folder.rglob("*.safetensors"):
        verify(path)
    return folder


def fetch_files(repository: str, files: Sequence[str], options: LoadOptions = DEFAULT_OPTIONS) -> Path | None:
    """The folder with all the files, each verified, or None if the hub cannot be reached. Raises as `fetch_folder`."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    at = f" at {options.revision}" if options.revision else ""
    paths = []
    for file in files:
        with _hub_errors(f"the hub does not give {file} of {repository}{at}"):
            try:
                path = Path(hf_hub_download(repository, file, **_arguments(options)))
            except (LocalEntryNotFoundError, OfflineModeIsEnabled):
                return None
        verify(path)
        paths.append(path)
    return paths[0].parent


def find_cached(repository: str, files: Sequence[str], options: LoadOptions = DEFAULT_OPTIONS) -> Path | None:
    """The folder in the hub's cache with all the files, each verified, or None; does not use the network."""
    from huggingface_hub import try_to_load_from_cache

    # Not hf_hub_download(local_files_only=True): it may still send requests to the hub.
    found = [try_to_load_from_cache(repository, file, options.cache_dir, options.revision) for file in files]
    paths = [Path(path) for path in found if isinstance(path, str)]
    if len(paths) < len(files):
        return None
    for path in paths:
        verify(path)
    return paths[0].parent


def is_offline(options: LoadOptions = DEFAULT_OPTIONS) -> bool:
    """Whether the options or the environment (HF_HUB_OFFLINE) forbid the network."""
    from huggingface_hub import constants

    return options.local_files_only or bool(constants.HF_HUB_OFFLINE)


def verify(path: Path) -> None:
    """Refuse and remove a file whose sha256 differs from the announced one, which names large files in the hub's cache.

    A snapshot's file is a link to that name, which may be a link to a store that several cached repositories use.
    """
    blob = path.parent / os.readlink(path) if path.is_symlink() else path
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) and hash_file(blob) != blob.name:
        for part in (path.resolve(), blob, path):
            part.unlink(missing_ok=True)
        raise ModelFormatError(f"{path.name} was damaged on its way (sha256 is not {blob.name[:12]}...); try again")


def reason(error: Exception) -> str:
    """The reason for a hub error, in one line: the client's own messages begin with the id of a request."""
    known = {
        "GatedRepoError": "its owner has not let you in",
        "RepositoryNotFoundError": "there is no such repository, or not for you",
        "RevisionNotFoundError": "it has no such revision",
        "EntryNotFoundError": "it has no such file",
    }
    kind = type(error).__name__
    text = " ".join(str(error).split()) or kind
    if kind == "LocalEntryNotFoundError" and "outgoing traffic has been disabled" in text:
        return "it is not in the cache, and the network is not used (HF_HUB_OFFLINE=1, or only local files)"
    if kind in ("ConnectError", "ConnectTimeout", "LocalEntryNotFoundError"):
        cached = ", and it is not in the cache" if kind == "LocalEntryNotFoundError" else ""
        return f"the hub cannot be reached{cached}; check the network, and HF_ENDPOINT if it is set"
    return known.get(kind.removeprefix("Remote")) or text


def _arguments(options: LoadOptions) -> dict[str, Any]:
    return {"revision": options.revision, "cache_dir": options.cache_dir, "token": options.token}


@contextmanager
def _hub_errors(message: str) -> Iterator[None]:
    """Convert the errors of the hub's client to `ModelNotFoundError`: the message and the reason."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is its HTTP library's
        HFValidationError,
        HTTPError,
    )

    try:
        yield
    except (HTTPError, HFValidationError, OSError) as error:
        raise ModelNotFoundError(f"{message}: {reason(error)}") from error
