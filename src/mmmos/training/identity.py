"""Hashes of configs that new versions do not change: later fields count only where they differ from their default.

When a setting is added or a field is renamed, a run of an earlier version keeps its name and its checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from mmmos.model.quality import STORED_NAMES

FIRST_FIELDS = {
    "Settings": (
        *("wavlm_output", "muq_sample_rate", "pad_mask", "train_crop", "eval_crop", "aggregator", "pool", "embed_norm"),
        *("frame_norm", "standardize", "align", "align_rate_hz", "blstm_hidden", "blstm_h_input", "head_layers"),
        *("head_hidden", "dropout", "loss", "ut_tau", "con_norm", "con_margin", "dcq_mse_weight", "dcq_rank"),
        *("ccc_moments", "other_loss", "lr", "weight_decay", "batch_size", "epochs", "early_stop_patience", "val_loss"),
        *("dev_target_stats", "offset_calibration", "clip_output", "precision"),
    ),
    "FusionConfig": (
        *("pool", "embed_norm", "standardize", "frame_norm", "align", "align_rate_hz", "blstm_hidden"),
        *("blstm_h_input", "wavlm_output"),
    ),
    "HeadConfig": ("head_layers", "head_hidden", "dropout", "layer_norm", "domains"),
    "ModelConfig": ("encoders", "aggregator", "fusion", "heads"),
    "EncoderSpec": ("name", "block_dims", "fingerprint", "options", "checkpoint"),
}
"""Fields of the first version by class, in its order. They are always hashed; do not add to them."""

RENAMED = ("EncoderSpec", "HeadConfig")
"""Classes with fields that had another name in the first version (`STORED_NAMES`)."""


def stable_dict(config: Any) -> Any:
    """A config as nested dicts, as `dataclasses.asdict` gave it in the first version."""
    if is_dataclass(config):
        return {name: stable_dict(value) for name, value in _items(config)}
    return tuple(map(stable_dict, config)) if isinstance(config, tuple) else config


def later_settings(settings: Any) -> dict[str, Any]:
    """Settings added after the first version that differ from their default."""
    return {name: value for name, value in _items(settings) if name not in FIRST_FIELDS["Settings"]}


def stable_repr(value: Any) -> str:
    """`repr` of a config, or of a tuple that contains configs, as the first version gave it."""
    if is_dataclass(value):
        return f"{type(value).__name__}({', '.join(f'{name}={stable_repr(item)}' for name, item in _items(value))})"
    if isinstance(value, tuple):
        return f"({', '.join(map(stable_repr, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def stable_hash(*parts: object) -> str:
    """sha256 of configs and plain values."""
    return hashlib.sha256(stable_repr(parts).encode()).hexdigest()


def _items(config: Any) -> Iterator[tuple[str, Any]]:
    kind = type(config).__name__
    first, names = FIRST_FIELDS[kind], STORED_NAMES if kind in RENAMED else {}
    for name in first:
        yield names.get(name, name), getattr(config, name)
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name not in first and value != _default(item):
            yield item.name, value


def _default(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()
