"""Fetches files from the hub, and verifies them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmmos.errors import ModelFormatError, ModelNotFoundError
from mmmos.io.atomic import hash_file


def fetch_folder(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Path:
    """The local copy of a hub model's folder; nothing but the files of such a folder is fetched.

    Raises `ModelNotFoundError`, and `ModelFormatError` for weights that are not what the hub announced.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is its HTTP library's
        HFValidationError,
        HTTPError,
    )

    where: dict[str, Any] = {"cache_dir": cache_dir, "local_files_only": local_files_only, "token": token}
    try:
        patterns = ["*.json", "*.safetensors", "README.md"]
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=patterns, **where))
    except (HTTPError, HFValidationError, OSError) as error:
        why = f" at {revision}: {reason(error)}" if revision else f": {reason(error)}"
        raise ModelNotFoundError(f"no model {name!r}: not a folder, and the hub does not give it{why}") from error
    for path in folder.rglob("*.safetensors"):
        verify(path)
    return folder


def _find(repository: str, files: Sequence[str], revision: str | None, cache_dir: str | Path | None) -> Path | None:
    """The folder in the hub's cache with all the files, each checked, or None; no network for it."""
    from huggingface_hub import try_to_load_from_cache

    # Not hf_hub_download(local_files_only=True): it may still ask the hub for a list of its own.
    found = [try_to_load_from_cache(repository, file, cache_dir, revision) for file in files]
    paths = [Path(path) for path in found if isinstance(path, str)]
    if len(paths) < len(files):
        return None
    for path in paths:
        verify(path)
    return paths[0].parent


def _fetch(repository: str, files: Sequence[str], **where: Any) -> Path | None:
    """The folder with all the files, each checked, or None where the hub cannot be asked."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is its HTTP library's
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    at = f" at {where['revision']}" if where["revision"] else ""
    paths = []
    for file in files:
        try:
            path = Path(hf_hub_download(repository, file, **where))
        except (LocalEntryNotFoundError, OfflineModeIsEnabled):
            return None
        except (HTTPError, OSError) as error:
            raise ModelNotFoundError(f"the hub does not give {file} of {repository}{at}: {reason(error)}") from error
        verify(path)
        paths.append(path)
    return paths[0].parent


def reason(error: Exception) -> str:
    """Why the hub gives nothing, in a line: the client's own words begin with a request's number."""
    words = {
        "GatedRepoError": "its owner has not let you in",
        "RepositoryNotFoundError": "there is no such repository, or not for you",
        "RevisionNotFoundError": "it has no such revision",
        "EntryNotFoundError": "it has no such file",
    }
    kind = type(error).__name__
    return words.get(kind.removeprefix("Remote")) or " ".join(str(error).split()) or kind


def verify(path: Path) -> None:
    """Refuse and remove a file whose bytes are not those announced; the cache names large files by their sha256.

    A snapshot's file is a link to that name, which may be one to a store that cached repositories share.
    """
    blob = path.parent / os.readlink(path) if path.is_symlink() else path
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) and hash_file(blob) != blob.name:
        for part in (path.resolve(), blob, path):
            part.unlink(missing_ok=True)
        raise ModelFormatError(f"{path.name} was damaged on its way (sha256 is not {blob.name[:12]}...); try again")


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
