"""Loads a model by its name: the bundled one, the published baseline, a folder, or a hub repository."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from mmmos.encoders.base import Encoder
from mmmos.encoders.table import open_encoder
from mmmos.encoders.torch_settings import building
from mmmos.errors import ModelFormatError, ModelNotFoundError
from mmmos.hub.fetch import fetch_folder
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions
from mmmos.hub.published import PUBLISHED, locate
from mmmos.model.audiobox import is_audiobox, load_audiobox
from mmmos.model.folder import load_folder
from mmmos.model.info import ModelInfo
from mmmos.model.system import ScoringModel

MODELS = ("lite", "audiobox")
"""Names that are never read as folders: lite is in the package, audiobox on the hub."""


def load_model(name: str | Path, options: LoadOptions = DEFAULT_OPTIONS) -> ScoringModel:
    """`lite`, `audiobox`, a folder, a published checkpoint of Audiobox Aesthetics, or a hub model's id.

    Raises `ModelNotFoundError` if there is no such model (there is no fallback), `ModelFormatError` if it is
    incomplete or not trusted, `LicenseError`.
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"a model is named by a str or a path, not {type(name).__name__}")
    if str(name) == "lite":
        with as_file(files("mmmos") / "bundled" / "lite") as folder, building():
            return load_folder("lite", folder)
    if str(name) == "audiobox":
        folder = locate("audiobox", options)
        info = ModelInfo.of_checkpoint(PUBLISHED["audiobox"].repository, official=True)
        with building():
            return load_audiobox("audiobox", folder, options, info)
    if not str(name):
        raise ModelNotFoundError(f"the name of the model is empty; give {', '.join(MODELS)}, a folder or a hub id")
    path = Path(name)
    if is_audiobox(path):
        with building():
            return load_audiobox(str(name), path, options)
    if path.is_dir():
        with building():
            return load_folder(str(name), path)
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")) or path.exists():
        raise ModelNotFoundError(f"no model {str(name)!r}: not a folder, and not one of {', '.join(MODELS)}")
    folder = fetch_folder(str(name), options)
    with building():
        return load_folder(str(name), folder)


def load_encoders(model: ScoringModel, options: LoadOptions = DEFAULT_OPTIONS) -> dict[str, Encoder]:
    """The encoders that a model was trained on, by name, on the CPU.

    `options.revision` does not apply to them: it is a revision of the model's repository.
    Raises `ModelFormatError` for encoders with a different fingerprint, and the errors of `load_encoder`.
    """
    options = replace(options, revision=None)
    found = dict(model.loaded)
    for spec in model.encoders:
        if spec.name in found:
            continue
        try:
            encoder = open_encoder(spec.name, spec.checkpoint, options, **spec.options)
        except TypeError as error:
            raise ModelFormatError(f"{model.name}: the encoder {spec.name} takes no options {spec.options}") from error
        if encoder.fingerprint() != spec.fingerprint:
            raise ModelFormatError(f"{model.name} was trained on another version of the encoder {spec.name}")
        found[spec.name] = encoder
    return found
