"""A model as a folder: saved, loaded strictly, fetched from a hub.

    my-model/                       my-ensemble/
    ├── config.json                 ├── ensemble.json     members, a weight for each member and axis
    ├── model.safetensors           ├── member-0/         config.json, model.safetensors
    └── README.md                   ├── member-1/
                                    └── README.md

A folder holds the aggregator and the heads. Encoders are named with their fingerprints and never
copied. Nothing in it is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mmmos.encoders.base import Encoder
from mmmos.encoders.weights import load_strictly
from mmmos.errors import ModelFormatError, ModelNotFoundError, UsageError
from mmmos.hub.published import reason, verify
from mmmos.io.atomic import replacing
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig
from mmmos.model.quality import EncoderSpec, ModelConfig, QualityModel
from mmmos.scores import AXES, LABEL_RANGE, LabelRange, Scale, scale_name

FORMAT = 1
"""Version of the folder's layout."""

T = TypeVar("T")


@dataclass(frozen=True)
class About:
    """What a user must know of a model besides its numbers; stands in its config."""

    calibrated: bool = False  # whether its scores were checked against raters outside its training data
    commercial_use: bool = False  # whether the licences of weights and training data allow it
    training: dict[str, Any] = field(default_factory=dict)  # data, settings, result on the development set
    rated: tuple[str, ...] = AXES  # axes that training had labels of; the others get no score
    clip_output: bool = False  # whether scores are brought into the range of the labels
    basis: dict[str, dict[str, str]] = field(default_factory=dict)  # domain -> axis -> what its score rests on
    check: dict[str, float] = field(default_factory=dict)  # scores of `selfcheck.check_clip()`
    label_range: LabelRange = LABEL_RANGE  # lowest and highest rating on the scale of the labels, and so of the scores
    trained_on: tuple[str, ...] = ()  # training files, by `cache.file_digests`

    def __post_init__(self) -> None:
        low, high = map(float, self.label_range)  # JSON has lists
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"label_range is {low:g} to {high:g}; it must be two numbers, the lower first")
        object.__setattr__(self, "label_range", (low, high))
        object.__setattr__(self, "rated", tuple(self.rated))
        object.__setattr__(self, "trained_on", tuple(self.trained_on))

    @property
    def scale(self) -> str:
        """The name of the rating scale, "0-10"."""
        return scale_name(self.label_range)


_LATER_FIELDS = ("label_range", "trained_on")
"""Fields of `About` that folders of earlier versions do not have; they take their defaults."""


def combined_about(members: Sequence[About], training: Mapping[str, Any]) -> About:
    """What holds for an ensemble of these members: the axes that all were rated on, and the files that any has seen.

    It is not calibrated: that would have to be checked of the ensemble. Raises `UsageError` for members on different
    scales, and for some whose output is clipped among others.
    """
    first, *others = members
    for what in ("scale", "clip_output"):
        found = sorted({str(getattr(member, what)) for member in members})
        if len(found) > 1:
            raise UsageError(f"members of an ensemble differ in {what}: {' and '.join(found)}; combine like ones")
    return About(
        commercial_use=all(member.commercial_use for member in members),
        training=dict(training),
        rated=tuple(axis for axis in AXES if all(axis in member.rated for member in members)),
        clip_output=first.clip_output,
        basis=first.basis if all(other.basis == first.basis for other in others) else {},
        label_range=first.label_range,
        trained_on=tuple(sorted({digest for member in members for digest in member.trained_on})),
    )


@dataclass(frozen=True)
class Member:
    """One trained model with the scale it was trained on."""

    model: QualityModel
    scale: Scale


@dataclass(frozen=True)
class ScoringModel:
    """One model or an ensemble, ready for a `Predictor`.

    Shape:
        - weights: [M, A], columns sum to 1
    """

    name: str
    members: tuple[Member, ...]
    weights: NDArray[np.float64]
    about: About
    sha256: str  # of every file that decides a score
    loaded: Mapping[str, Encoder] = field(default_factory=dict)  # encoders that came in the model's own file

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains that the members tell apart, all of them alike; none if they do not."""
        found = {member.model.config.heads.domains for member in self.members}
        return next(iter(found)) if len(found) == 1 else ()

    @property
    def encoders(self) -> tuple[EncoderSpec, ...]:
        """The encoders of all members, each once."""
        found: dict[str, EncoderSpec] = {}
        for member in self.members:
            for spec in member.model.config.encoders:
                if found.setdefault(spec.name, spec) != spec:
                    raise ModelFormatError(f"{self.name}: its members disagree on the encoder {spec.name}")
        return tuple(found.values())


def save_model(folder: Path, member: Member, about: About, card: str) -> None:
    """Write one model as a folder; `config.json` is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)  # of a model that was here before: it is whole or no more
    with replacing(folder / "model.safetensors") as partial:
        save_file(dict(sorted(member.model.state_dict().items())), partial)
    (folder / "README.md").write_text(card, encoding="utf-8")
    scale = {
        "mean": dict(zip(AXES, member.scale.mean, strict=True)),
        "std": dict(zip(AXES, member.scale.std, strict=True)),
    }
    model = asdict(member.model.config)
    for spec in model["encoders"]:
        if spec["checkpoint"] and os.path.isabs(spec["checkpoint"]):
            spec["checkpoint"] = os.path.relpath(spec["checkpoint"], folder)
    config = {"format": FORMAT, "model": model, "scale": scale, "about": asdict(about)}
    _write_json(folder / "config.json", config)


def save_ensemble(
    folder: Path, members: Sequence[Member], weights: NDArray[np.float64], about: About, card: str
) -> None:
    """Write an ensemble as a folder of folders; `ensemble.json` is written last.

    Shape:
        - weights: [M, A], columns sum to 1
    """
    (folder / "ensemble.json").unlink(missing_ok=True)
    names = [f"member-{i}" for i in range(len(members))]
    for name, member in zip(names, members, strict=True):
        # A member scores the same axes on the same scale when it is loaded alone; the check is of the ensemble.
        own = replace(about, training={}, check={})
        save_model(folder / name, member, own, f"One member of {folder.name}.\n")
    (folder / "README.md").write_text(card, encoding="utf-8")
    table = [dict(zip(AXES, map(float, row), strict=True)) for row in weights]
    ensemble = {"format": FORMAT, "members": names, "weights": table, "about": asdict(about)}
    _write_json(folder / "ensemble.json", ensemble)


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


def load_folder(name: str, folder: Path) -> ScoringModel:
    """A model or an ensemble from its folder. Raises `ModelNotFoundError`, `ModelFormatError`."""
    ensemble = folder / "ensemble.json"
    if not ensemble.is_file():
        member, about = _load_member(folder)
        return ScoringModel(name, (member,), np.ones((1, len(AXES))), about, _sha256(folder, [folder]))
    data = _read_json(ensemble, {"format", "members", "weights", "about"})
    try:
        folders = [folder / str(part) for part in data["members"]]
        weights = np.array([[row[axis] for axis in AXES] for row in data["weights"]], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(
            f"{ensemble}: there must be a list of members, and a number for each member and axis"
        ) from error
    if len(weights) != len(folders) or not len(folders) or not np.allclose(weights.sum(axis=0), 1):
        raise ModelFormatError(
            f"{ensemble}: weights [{len(weights)}] of {len(folders)} members must sum to 1 on each axis"
        )
    if any(part.resolve().parent != folder.resolve() for part in folders):
        raise ModelFormatError(
            f"{ensemble}: members are folders beside it, none of them elsewhere: {', '.join(map(str, folders))}"
        )
    members = tuple(_load_member(part)[0] for part in folders)
    about = _build_about(data["about"], ensemble)
    return ScoringModel(name, members, weights, about, _sha256(folder, [folder, *folders]))


def _load_member(folder: Path) -> tuple[Member, About]:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelNotFoundError(f"{folder} is no model folder: it has no config.json")
    data = _read_json(path, {"format", "model", "scale", "about"})
    try:
        model_data = dict(data["model"])
        specs = [_spec_fields(spec, folder) for spec in model_data["encoders"]]
        model_data["encoders"] = tuple(_build(EncoderSpec, spec, path) for spec in specs)
        model_data["fusion"] = _build(FusionConfig, model_data["fusion"], path)
        model_data["heads"] = _build(HeadConfig, model_data["heads"], path)
        config = _build(ModelConfig, model_data, path)
        scale = Scale(*(tuple(float(data["scale"][part][axis]) for axis in AXES) for part in ("mean", "std")))
        model = QualityModel(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{path}: {type(error).__name__}: {error}") from error
    weights = folder / "model.safetensors"
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise ModelFormatError(f"{weights} cannot be read: {error}") from error
    load_strictly(model, state, str(weights))
    return Member(model.eval().requires_grad_(False), scale), _build_about(data["about"], path)


def _spec_fields(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fields of an `EncoderSpec`; a path in it begins at the model's folder."""
    fields_ = {**spec, "columns": tuple(spec["columns"])}
    if spec.get("checkpoint"):
        fields_["checkpoint"] = os.path.abspath(folder / spec["checkpoint"])  # a hub's links are not followed
    return fields_


def _build_about(data: Any, path: Path) -> About:
    """`About` from JSON; fields that are younger than the folder may be missing."""
    if isinstance(data, dict):
        data = {item.name: item.default for item in fields(About) if item.name in _LATER_FIELDS} | data
    try:
        return _build(About, data, path)
    except (TypeError, ValueError) as error:
        raise ModelFormatError(f"{path}: about: {error}") from error


def _build(kind: type[T], data: Any, path: Path) -> T:
    """A dataclass from JSON with exactly its fields."""
    assert is_dataclass(kind)
    names = {item.name for item in fields(kind)}
    given = set(data) if isinstance(data, dict) else set()
    if given != names:
        wrong = ", ".join(sorted(given ^ names))
        raise ModelFormatError(f"{path}: {kind.__name__} has missing or unknown fields: {wrong}")
    return kind(**data)


def _read_json(path: Path, keys: set[str]) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"{path} is not JSON: {error}") from error
    if isinstance(data, dict) and data.get("format", FORMAT) != FORMAT:
        raise ModelFormatError(f"{path} has format {data['format']!r}; this version of mmmos reads format {FORMAT}")
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
