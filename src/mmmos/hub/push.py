"""Upload of files to a repository of the hub, in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmmos.errors import UsageError
from mmmos.hub.fetch import reason


def upload(
    repository: str,
    files: Mapping[str, Path | bytes],
    *,
    message: str,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Commit files, by their paths in the repository, which is created if there is none. Returns the commit's address.

    Files that the repository has besides stay. Nothing is committed unless all files are uploaded.

    - private: whether a repository that is created is private
    - revision: an existing branch; by default main
    - token: by default the one that the hub's client has stored

    Raises `UsageError` if the hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is its HTTP library's
        HFValidationError,
        HTTPError,
        OfflineModeIsEnabled,
    )

    api = HfApi(token=token)
    operations = [CommitOperationAdd(name, file) for name, file in files.items()]
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.create_commit(repository, operations, commit_message=message, revision=revision)
    except OfflineModeIsEnabled as error:
        raise UsageError(f"{repository}: nothing was pushed: the environment has HF_HUB_OFFLINE=1") from error
    except (HTTPError, HFValidationError, OSError, ValueError, RuntimeError) as error:
        fix = "; log in with `hf auth login`, or give a token" if _is_access(error) else ""
        raise UsageError(f"{repository}: nothing was pushed: {reason(error)}{fix}") from error
    return str(done.commit_url)


def _is_access(error: Exception) -> bool:
    """Whether the hub refuses this user."""
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None) in (401, 403)
