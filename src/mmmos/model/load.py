"""A model by its name: bundled, the published baseline, a folder, or on a hub."""

from __future__ import annotations

import os
from collections.abc import Collection
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from mmmos.encoders.base import Encoder
from mmmos.encoders.table import load_encoder
from mmmos.encoders.torch_settings import building
from mmmos.errors import ModelFormatError, ModelNotFoundError
from mmmos.hub.fetch import fetch_folder
from mmmos.hub.published import PUBLISHED, locate
from mmmos.model.audiobox import is_audiobox, load_audiobox
from mmmos.model.folder import load_folder
from mmmos.model.system import ModelInfo, ScoringModel

MODELS = ("lite", "audiobox")
"""Names that are never taken for folders: lite is in the package, audiobox on a hub."""


def load_model(
    name: str | Path,
    *,
    trust_checkpoint: bool = False,
    accept_licenses: Collection[str] = (),
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | None = None,
) -> ScoringModel:
    """`lite`, `audiobox`, a folder, a published checkpoint of Audiobox Aesthetics, or a hub model's id.

    Raises `ModelNotFoundError` if there is none (another model is never taken in its place),
    `ModelFormatError` if it is not whole or not trusted, `LicenseError`.
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"a model is named by a str or a path, not {type(name).__name__}")
    where: dict[str, Any] = {
        "revision": revision,
        "cache_dir": cache_dir,
        "local_files_only": local_files_only,
        "token": token,
    }
    if str(name) == "lite":
        with as_file(files("mmmos") / "bundled" / "lite") as folder, building():
            return load_folder("lite", folder)
    if str(name) == "audiobox":
        folder = locate("audiobox", accept=accept_licenses, **where)
        info = ModelInfo(calibrated=True, commercial_use=True, training={"source": PUBLISHED["audiobox"].repository})
        with building():
            return load_audiobox("audiobox", folder, trust_checkpoint, info)
    if not str(name):
        raise ModelNotFoundError(f"a model has a name; there are {', '.join(MODELS)}, folders and hub ids")
    path = Path(name)
    if is_audiobox(path):
        with building():
            return load_audiobox(str(name), path, trust_checkpoint)
    if path.is_dir():
        with building():
            return load_folder(str(name), path)
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")) or path.exists():
        raise ModelNotFoundError(f"no model {str(name)!r}: not a folder, and not one of {', '.join(MODELS)}")
    folder = fetch_folder(str(name), **where)
    with building():
        return load_folder(str(name), folder)


def load_encoders(
    model: ScoringModel, trust_checkpoint: bool = False, accept_licenses: Collection[str] = ()
) -> dict[str, Encoder]:
    """The very encoders that a model was trained on, by name.

    Raises `ModelFormatError` where another version is found, and what `load_encoder` raises.
    """
    found = dict(model.loaded)
    for spec in model.encoders:
        if spec.name in found:
            continue
        try:
            encoder = load_encoder(spec.name, spec.checkpoint, trust_checkpoint, accept_licenses, **spec.options)
        except TypeError as error:
            raise ModelFormatError(f"{model.name}: the encoder {spec.name} takes no options {spec.options}") from error
        if encoder.fingerprint() != spec.fingerprint:
            raise ModelFormatError(f"{model.name} was trained on another version of the encoder {spec.name}")
        found[spec.name] = encoder
    return found
