"""The published weights: their locations, and the licences that users accept before a download."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from mmmos.errors import LicenseError, ModelNotFoundError
from mmmos.hub.fetch import fetch_files, find_cached, is_offline
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions

CONSENT = "MMMOS_ACCEPT_LICENSE"
"""Environment variable with the comma-separated names of the weights whose licences the user accepts."""


@dataclass(frozen=True)
class Published:
    """One published checkpoint."""

    license: str  # that the user accepts before the download
    repository: str | None  # hub id; None: not on a hub, so the user fetches it
    files: tuple[str, ...] = ()  # all of them are needed
    revision: str | None = None  # the pinned commit; None: the newest
    instructions: str = ""  # for getting weights that are not on a hub
    folder: str = ""  # of the unpacked release, for weights that are not on a hub


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
        instructions="download m2d_clap_vit_base-80x1001p16x16-240128_AS-FT_enconly.zip from the releases of"
        " github.com/nttcslab/m2d (v0.3.0), unpack it, and give the .pth in its folder as the checkpoint",
        folder="m2d_clap_vit_base-80x1001p16x16-240128_AS-FT_enconly",
    ),
    "efficientat": Published(
        "MIT",
        None,
        instructions="download mn04_as_mAP_432.pt from the releases of github.com/fschmid56/EfficientAT (v0.0.1) and"
        " give it as the checkpoint",
    ),
    "nisqa": Published(
        "CC BY-NC-SA 4.0: non-commercial use, share alike",
        None,
        instructions="download weights/nisqa.tar of github.com/gabrielmittag/NISQA and give it as the checkpoint",
    ),
    "audiobox": Published(
        "CC BY 4.0",
        "facebook/audiobox-aesthetics",
        ("config.json", "model.safetensors"),
    ),
}
"""Name -> its published weights."""


def has_published_weights(source: str) -> bool:
    """Whether an encoder, NAME or NAME=PATH, has published weights: the hub's, or those in a release's own folder.

    >>> has_published_weights("wavlm"), has_published_weights("wavlm=my.bin"), has_published_weights("spectrum")
    (True, False, False)
    """
    name, _, path = source.partition("=")
    published = PUBLISHED.get(name)
    return published is not None and (not path or (bool(published.folder) and published.folder in Path(path).parts))


def locate(name: str, options: LoadOptions = DEFAULT_OPTIONS) -> Path:
    """The folder with the files of a published checkpoint, fetched if the hub's cache does not have them.

    The sha256 of a large file is the one that the hub announced, whenever it was fetched. `options.accept_licenses` and
    the environment's MMMOS_ACCEPT_LICENSE name the accepted licences; a cached copy needs no consent again.

    Raises `LicenseError` before anything is fetched, `ModelNotFoundError`, and `ModelFormatError` for damaged files.
    """
    published = PUBLISHED[name]
    repository, files = published.repository, published.files
    if repository is None:
        raise ModelNotFoundError(f"{name} is neither on a hub nor in a package: {published.instructions}")
    options = replace(options, revision=options.revision or published.revision)
    cached = find_cached(repository, files, options)
    if cached is not None:
        return cached
    if not is_offline(options):
        _check_consent(name, published, options.accept_licenses)
        fetched = fetch_files(repository, files, options)
        if fetched is not None:
            return fetched
    command = (
        f"hf download {repository} {' '.join(files)}{f' --revision {options.revision}' if options.revision else ''}"
    )
    raise ModelNotFoundError(
        f"the weights of {name} ({', '.join(files)} of {repository}) are not in the hub's cache, and"
        f" the hub cannot be reached; with a connection, run: {command}"
    )


def _check_consent(name: str, published: Published, accepted: Collection[str]) -> None:
    consented = {*accepted, *os.environ.get(CONSENT, "").replace(" ", "").split(",")}
    if name not in consented:
        raise LicenseError(
            f"the weights of {name} are under {published.license}. To accept and fetch them: --accept-license {name},"
            f" or {CONSENT}={name}. `mmmos licenses` lists all licences."
        )
