"""Where the published encoders are, and fetching them: licence first, then the very bytes that the hub announced."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mmmos.errors import LicenseError, ModelNotFoundError
from mmmos.hub.fetch import _fetch, _find, _offline

CONSENT = "MMMOS_ACCEPT_LICENSE"
"""Environment variable with the names, comma-separated, of those whose licences the user accepts."""


@dataclass(frozen=True)
class Published:
    """One published checkpoint."""

    license: str  # what the user accepts before the first byte
    repository: str | None  # hub id; None: the user fetches it
    files: tuple[str, ...] = ()  # all of them needed
    revision: str | None = None  # the pinned commit, or the newest
    how: str = ""  # to get it, where no hub has it
    folder: str = ""  # of an unpacked release, where no hub has it


PUBLISHED = {
    "wavlm": Published(
        "MIT by its repository; its hub page points to CC BY-SA 3.0",
        "microsoft/wavlm-base-plus",
        ("config.json", "pytorch_model.bin"),
    ),
    "muq": Published(
        "CC BY-NC 4.0: non-commercial use",
        "OpenMuQ/MuQ-large-msd-iter",
        ("config.json", "model.safetensors"),
        "0562a57814f6f8bbd9fdea0a25921a2fce1a841a",
    ),
    "m2d": Published(
        "NTT's evaluation licence: non-commercial research, no redistribution",
        None,
        how="download m2d_clap_vit_base-80x1001p16x16-240128_AS-FT_enconly.zip from the releases of"
        " github.com/nttcslab/m2d (v0.3.0), unpack it, and give the .pth in its folder as the checkpoint",
        folder="m2d_clap_vit_base-80x1001p16x16-240128_AS-FT_enconly",
    ),
    "audiobox": Published(
        "CC BY 4.0",
        "facebook/audiobox-aesthetics",
        ("config.json", "model.safetensors"),
    ),
}
"""Name -> where its weights are."""


def has_published_weights(source: str) -> bool:
    """Whether an encoder, NAME or NAME=PATH, has the published weights: those of the hub, or a release's own folder.

    >>> has_published_weights("wavlm"), has_published_weights("wavlm=my.bin"), has_published_weights("spectrum")
    (True, False, False)
    """
    name, _, path = source.partition("=")
    published = PUBLISHED.get(name)
    return published is not None and (not path or (bool(published.folder) and published.folder in Path(path).parts))


def locate(
    name: str,
    *,
    accept: Collection[str] = (),
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> Path:
    """The folder with a published checkpoint's files, fetched if the hub's cache does not have them.

    A large file has the sha256 that the hub announced for it, whenever it was fetched. `accept`, or the environment's
    MMMOS_ACCEPT_LICENSE, names the licences that the user accepts; a copy in the cache needs no
    consent again. Raises `LicenseError` before anything is fetched, `ModelNotFoundError`, and
    `ModelFormatError` for bytes that are not what was announced.
    """
    published = PUBLISHED[name]
    if published.repository is None:
        raise ModelNotFoundError(f"{name} is on no hub and comes with no package: {published.how}")
    revision = revision or published.revision
    cached = _find(published.repository, published.files, revision, cache_dir)
    if cached is not None:
        return cached
    if not local_files_only and not _offline():
        _check_consent(name, published, accept)
        where = {"revision": revision, "cache_dir": cache_dir, "token": token}
        fetched = _fetch(published.repository, published.files, **where)
        if fetched is not None:
            return fetched
    wanted = f"{published.repository} {' '.join(published.files)}{f' --revision {revision}' if revision else ''}"
    raise ModelNotFoundError(
        f"the weights of {name} ({', '.join(published.files)} of {published.repository}) are not here, and the hub"
        f" cannot be asked; where it can: hf download {wanted}"
    )


def _check_consent(name: str, published: Published, accept: Collection[str]) -> None:
    consented = {*accept, *os.environ.get(CONSENT, "").replace(" ", "").split(",")}
    if name not in consented:
        raise LicenseError(
            f"the weights of {name} are under {published.license}. To accept and fetch them: --accept-license {name},"
            f" or {CONSENT}={name}. `mmmos licenses` lists all licences."
        )
