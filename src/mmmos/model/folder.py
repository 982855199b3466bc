"""A model as a folder: saved, loaded strictly, fetched from a hub.

    my-model/                       my-ensemble/
    ├── config.json                 ├── ensemble.json     members, a weight for each member and axis
    ├── model.safetensors           ├── member-0/         config.json, model.safetensors
    └── README.md                   ├── member-1/
                                    └── README.md

A folder holds the aggregator and the heads. Encoders are identified by name and fingerprint and never
copied. Nothing in a folder is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.weights import load_strictly
from mmmos.errors import ModelFormatError, ModelNotFoundError
from mmmos.io.atomic import replacing
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig
from mmmos.model.info import WRITTEN_LATER, ModelInfo, check_fields
from mmmos.model.quality import LATER_FIELDS, STORED_NAMES, ModelConfig, build_model, state_from_stored, stored_state
from mmmos.model.system import Member, ScoringModel
from mmmos.scores import AXES, Scale

FORMAT = 1
"""Version of the folder's layout."""

T = TypeVar("T")


def save_model(folder: Path, member: Member, info: ModelInfo, card: str) -> None:
    """Write one model as a folder; `config.json` is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "ensemble.json"):  # of an earlier model in this folder, which must not stay in part
        (folder / name).unlink(missing_ok=True)
    with replacing(folder / "model.safetensors") as partial:
        save_file(dict(sorted(stored_state(member.model).items())), partial)
    (folder / "README.md").write_text(card, encoding="utf-8")
    scale = {
        "mean": dict(zip(AXES, member.scale.mean, strict=True)),
        "std": dict(zip(AXES, member.scale.std, strict=True)),
    }
    model = member.model.config.stored()
    for spec in model["encoders"]:
        if spec["checkpoint"] and os.path.isabs(spec["checkpoint"]):
            spec["checkpoint"] = os.path.relpath(spec["checkpoint"], folder)
    config = {"format": FORMAT, "model": model, "scale": scale, "about": info.stored()}
    _write_json(folder / "config.json", config)


def save_ensemble(
    folder: Path, members: Sequence[Member], weights: NDArray[np.float64], info: ModelInfo, card: str
) -> None:
    """Write an ensemble as a folder of folders; `ensemble.json` is written last.

    Shape:
        - weights: [M, A], columns sum to 1
    """
    (folder / "ensemble.json").unlink(missing_ok=True)
    names = [f"member-{i}" for i in range(len(members))]
    for name, member in zip(names, members, strict=True):
        # A member scores the same axes on the same scale when it is loaded alone; the check scores are the ensemble's.
        own = replace(info, training={}, check={})
        save_model(folder / name, member, own, f"One member of {folder.name}.\n")
    (folder / "README.md").write_text(card, encoding="utf-8")
    table = [dict(zip(AXES, map(float, row), strict=True)) for row in weights]
    ensemble = {"format": FORMAT, "members": names, "weights": table, "about": info.stored()}
    _write_json(folder / "ensemble.json", ensemble)


def load_folder(name: str, folder: Path) -> ScoringModel:
    """A model or an ensemble from its folder. Raises `ModelNotFoundError`, `ModelFormatError`."""
    ensemble = folder / "ensemble.json"
    if not ensemble.is_file():
        member, info = _load_member(folder)
        return ScoringModel(name, (member,), np.ones((1, len(AXES))), info, _sha256(folder, [folder]))
    data = _read_json(ensemble, {"format", "members", "weights", "about"})
    try:
        folders = [folder / str(part) for part in data["members"]]
        weights = np.array([[row[axis] for axis in AXES] for row in data["weights"]], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{ensemble}: needs a list of members, and a number for each member and axis") from error
    if len(weights) != len(folders) or not len(folders) or not np.allclose(weights.sum(axis=0), 1):
        raise ModelFormatError(
            f"{ensemble}: weights [{len(weights)}] of {len(folders)} members must sum to 1 on each axis"
        )
    if any(part.resolve().parent != folder.resolve() for part in folders):
        raise ModelFormatError(f"{ensemble}: members must be folders next to it, not {', '.join(map(str, folders))}")
    members = tuple(_load_member(part)[0] for part in folders)
    info = _build_info(data["about"], ensemble)
    return ScoringModel(name, members, weights, info, _sha256(folder, [folder, *folders]))


def _load_member(folder: Path) -> tuple[Member, ModelInfo]:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelNotFoundError(f"{folder} is not a model folder: it has no config.json")
    data = _read_json(path, {"format", "model", "scale", "about"})
    try:
        model_data = dict(data["model"])
        specs = [_spec_fields(spec, folder) for spec in model_data["encoders"]]
        model_data["encoders"] = tuple(_build(EncoderSpec, spec, path) for spec in specs)
        model_data["fusion"] = _build(FusionConfig, model_data["fusion"], path)
        model_data["heads"] = _build(HeadConfig, model_data["heads"], path)
        config = _build(ModelConfig, model_data, path)
        scale = Scale(*(tuple(float(data["scale"][part][axis]) for axis in AXES) for part in ("mean", "std")))
        model = build_model(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{path}: {type(error).__name__}: {error}") from error
    weights = folder / "model.safetensors"
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise ModelFormatError(f"{weights} cannot be read: {error}") from error
    load_strictly(model, state_from_stored(state), str(weights))
    return Member(model.eval().requires_grad_(False), scale), _build_info(data["about"], path)


def _spec_fields(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The stored fields of an `EncoderSpec` as read from JSON; its checkpoint is relative to the model's folder."""
    read = spec | {"columns": tuple(spec["columns"])}
    if spec.get("checkpoint"):
        read["checkpoint"] = os.path.abspath(folder / spec["checkpoint"])  # keeps the links of a hub's cache
    return read


def _build_info(data: Any, path: Path) -> ModelInfo:
    try:
        return ModelInfo.from_stored(data)
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"{path}: about: {error}") from error


def _build(kind: type[T], data: Any, path: Path) -> T:
    """A dataclass from JSON with exactly its fields, by their stored names; later fields may be missing."""
    assert is_dataclass(kind)
    names = {STORED_NAMES.get(item.name, item.name): item.name for item in fields(kind)}
    try:
        check_fields(kind.__name__, set(data) if isinstance(data, dict) else set(), names.keys(), set(LATER_FIELDS))
    except ValueError as error:
        raise ModelFormatError(f"{path}: {error}") from error
    return kind(**{names[key]: value for key, value in data.items()})


def _read_json(path: Path, keys: set[str]) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} is not JSON: {error}") from error
    if isinstance(data, dict) and (form := data.get("format", FORMAT)) != FORMAT:
        later = f"; {WRITTEN_LATER}" if isinstance(form, int) and form > FORMAT else ""
        raise ModelFormatError(f"{path} has format {form!r}; this version of mmmos reads format {FORMAT}{later}")
    if not isinstance(data, dict) or set(data) != keys:
        raise ModelFormatError(f"{path} must have exactly the fields {', '.join(sorted(keys))}")
    return data


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _sha256(root: Path, folders: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for file in ("ensemble.json", "config.json", "model.safetensors"):
            path = folder / file
            if path.is_file():
                digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()
