"""Audiobox Aesthetics (Tjandra et al. 2025), the AudioMOS 2025 Track 2 baseline, from its published checkpoint.

    WavLM, 13 states ─ mean over time ─┬─ CE: weighted sum ─ length 1 ─ layers ─► × std + mean ─► CE
                                       ├─ CU: ...
                                       └─ ...

It is represented as one of our models: WavLM with all its states, heads that weight them, and a scale. As published,
windows under 10 s are padded with zeros, which attention and pooling skip and the first GroupNorm does not.

    folder      config.json, model.safetensors (hub facebook/audiobox-aesthetics)
    file        checkpoint.pt, a pickle of {"state_dict", "model_cfg", "target_transform"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mmmos.audio.windows import WINDOW_SECONDS
from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.wavlm import WavLM
from mmmos.encoders.weights import load_strictly, read_checkpoint
from mmmos.errors import ModelFormatError
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions
from mmmos.io.atomic import hash_file
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig
from mmmos.model.info import ModelInfo
from mmmos.model.quality import ModelConfig, QualityModel, build_model
from mmmos.model.system import Member, ScoringModel
from mmmos.scores import AXES, Scale

STATES = 13
"""Hidden states of WavLM: the input of its first block and the output of each of the twelve."""

SHAPING = {"proj_num_layer": int, "proj_ln": bool, "normalize_embed": bool}
"""Settings that determine the computation, with their types."""
FIXED = {"proj_act_fn": "gelu", "nth_layer": STATES, "use_weighted_layer_sum": True, "output_dim": 1}
"""Settings that have these values in all published checkpoints."""
WITHOUT_EFFECT = {"proj_dropout", "precision", "freeze_encoder"}
"""Settings of training, and a precision that the package does not use."""


def is_audiobox(path: Path) -> bool:
    """Whether a path is an Audiobox Aesthetics checkpoint: a .pt file, or a folder whose config has its settings."""
    config = path / "config.json"
    if config.is_file():
        try:
            found = json.loads(config.read_text())
        except ValueError:
            return False
        return isinstance(found, dict) and "target_transform" in found
    return path.is_file() and path.suffix == ".pt"


def load_audiobox(
    name: str, path: Path, options: LoadOptions = DEFAULT_OPTIONS, info: ModelInfo | None = None
) -> ScoringModel:
    """The baseline from its folder or file, loaded strictly.

    `info` describes its training, which a file does not. Raises `ModelNotFoundError`, `ModelFormatError`.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    settings, target, state = _read(file, options)
    heads = HeadConfig(head_layers=settings["proj_num_layer"], layer_norm=settings["proj_ln"])
    norm: Literal["l2", "none"] = "l2" if settings["normalize_embed"] else "none"
    fusion = FusionConfig("mean", norm, wavlm_output="weighted_per_axis")
    with torch.device("meta"):  # avoids drawing 94 million random numbers
        encoder = WavLM(layers="all", pad_seconds=WINDOW_SECONDS)
    encoder.to_empty(device="cpu")
    prefix = "wavlm_model."
    speech = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    encoder.load(speech, str(file))
    spec = EncoderSpec("wavlm", encoder.block_dims, encoder.fingerprint(), encoder.settings())
    model = build_model(ModelConfig((spec,), fusion=fusion, heads=heads))
    rest = {key: value for key, value in state.items() if not key.startswith(prefix)}
    load_strictly(model, _own_keys(rest, model), str(file))
    try:
        scale = Scale(*(tuple(float(target[axis][part]) for axis in AXES) for part in ("mean", "std")))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{file}: target_transform needs a mean and a std for each axis") from error
    info = info or ModelInfo.of_checkpoint(str(path))
    member = Member(model.eval().requires_grad_(False), scale)
    config = file.with_name("config.json").read_bytes() if file.suffix == ".safetensors" else b""
    return ScoringModel(name, (member,), np.ones((1, len(AXES))), info, hash_file(file, config), {"wavlm": encoder})


def _read(file: Path, options: LoadOptions) -> tuple[dict[str, Any], Mapping[str, Any], dict[str, Tensor]]:
    """Settings, target transform and tensors."""
    held = read_checkpoint(file, options)
    if file.suffix == ".safetensors":
        config = _read_config(file.with_name("config.json"))
        return _settings(config, file), config["target_transform"], held
    parts = ("state_dict", "model_cfg", "target_transform")
    if not isinstance(held, dict) or not all(isinstance(held.get(part), dict) for part in parts):
        raise ModelFormatError(f"{file} is not a checkpoint of Audiobox Aesthetics: it has no {', '.join(parts)}")
    state = {str(key).removeprefix("model."): value for key, value in held["state_dict"].items()}
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelFormatError(f"{file} holds no table of tensors")
    return _settings(held["model_cfg"], file), held["target_transform"], state


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = dict(json.loads(path.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{path} cannot be read: {error}") from error
    unknown = set(config) - set(SHAPING) - set(FIXED) - WITHOUT_EFFECT - {"target_transform"}
    if unknown or "target_transform" not in config:
        raise ModelFormatError(f"{path} has unknown settings {sorted(unknown)} or no target_transform")
    return config


def _settings(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The settings that shape the heads; raises `ModelFormatError` for unsupported ones."""
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise ModelFormatError(f"{file}: {name} is {config[name]!r}; only {value!r} is built here")
    wrong = [f"{name} ({kind.__name__})" for name, kind in SHAPING.items() if type(config.get(name)) is not kind]
    if wrong or config["proj_num_layer"] < 1:
        raise ModelFormatError(f"{file}: its settings lack {', '.join(wrong) or 'a layer'}")
    return {name: config[name] for name in SHAPING}


def _own_keys(state: Mapping[str, Tensor], model: QualityModel) -> dict[str, Tensor]:
    """The tensors by our names instead of the published ones.

    Both number the layers of a head in order; layers without tensors have no keys.
    """
    renamed = {}
    for axis in AXES:
        own = sorted({int(key.split(".")[0]) for key in model.heads.axes[axis].state_dict()})
        prefix = f"proj_layer.{axis}."
        theirs = sorted({int(found[1]) for key in state if (found := re.match(rf"{prefix}(\d+)\.", key))})
        for old, new in zip(theirs, own, strict=False):
            for part in ("weight", "bias"):
                if f"{prefix}{old}.{part}" in state:
                    renamed[f"{prefix}{old}.{part}"] = f"heads.axes.{axis}.{new}.{part}"
        renamed[f"layer_weights.{axis}"] = f"aggregator.states.weights.{axis}"
    return {renamed.get(key, key): value for key, value in state.items()}
