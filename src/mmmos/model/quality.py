"""The small, trained part of a system: an aggregator and four heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn

from mmmos.encoders.base import EncoderSpec, Features
from mmmos.errors import ModelFormatError
from mmmos.model.aggregators import AGGREGATORS, Aggregator
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig, Heads

STORED_NAMES = {"block_dims": "columns", "head_layers": "layers", "head_hidden": "hidden"}
"""Fields that have another name in model folders and run hashes, which keep those of the first version."""

LATER_FIELDS = ("severity", "support", "support_inputs")
"""Fields that folders and hashes of earlier versions do not have; they are stored unless they are false or 0."""

STORED_KEYS = {
    "aggregator.standardizer.mean": "aggregator.standardizer.center",
    "aggregator.standardizer.scale": "aggregator.standardizer.factor",
    "aggregator.blstm.weight_ih": "aggregator.blstm.read.weight",
    "aggregator.blstm.bias": "aggregator.blstm.read.bias",
    "aggregator.blstm.weight_hh": "aggregator.blstm.recur",
}
"""Weights that have another name in model folders and checkpoints, which keep those of the first version."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything that determines the shape of a `QualityModel`."""

    encoders: tuple[EncoderSpec, ...]  # in the order of their features in the fused vector
    aggregator: str = "mlp"  # key in `AGGREGATORS`
    fusion: FusionConfig = field(default_factory=FusionConfig)
    heads: HeadConfig = field(default_factory=HeadConfig)

    def stored(self) -> dict[str, Any]:
        """The config by the keys of model folders and run hashes; a later field only where it has a value."""

        def named(items: list[tuple[str, Any]]) -> dict[str, Any]:
            return {STORED_NAMES.get(name, name): value for name, value in items if value or name not in LATER_FIELDS}

        return asdict(self, dict_factory=named)


class Prediction(NamedTuple):
    """What a model says about a batch."""

    scores: Tensor  # [B, A] in z units
    domains: Tensor  # [B, domains], probabilities
    novelty: Tensor  # [B], above 1 for clips that are not similar to rated ones


class QualityModel(nn.Module):
    """Features in, scores in z units out; `Scale` puts them on the label scale.

    `config` describes the parts and is saved with their weights; `build_model` makes the parts from it.

    Shape:
        - features[name].frames: [B, T, D] for every encoder of the config
        - returns: [B, A] in the order of `AXES`
    """

    def __init__(self, config: ModelConfig, aggregator: Aggregator, heads: Heads) -> None:
        super().__init__()
        self.config = config
        self.aggregator = aggregator
        self.heads = heads

    def forward(self, features: Mapping[str, Features]) -> Tensor:
        """Features of a batch -> [B, A]."""
        return self.from_reduced(self.aggregator.reduce(features))

    def predict(self, features: Mapping[str, Features]) -> Prediction:
        """Scores with the domain probabilities and the novelty."""
        vectors = self.aggregator(features)
        return Prediction(self.heads(vectors), self.heads.domain_probabilities(vectors), self.heads.novelty(vectors))

    def from_reduced(self, reduced: Features) -> Tensor:
        """Scores [B, A] from `aggregator.reduce(features)`, which training computes once for each clip."""
        scores: Tensor = self.heads(self.aggregator.aggregate(reduced))
        return scores


def stored_state(model: QualityModel) -> dict[str, Tensor]:
    """The weights by the keys of model folders and checkpoints."""
    return {STORED_KEYS.get(key, key): value for key, value in model.state_dict().items()}


def state_from_stored(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model folder or a checkpoint by the keys of `QualityModel`."""
    keys = {old: new for new, old in STORED_KEYS.items()}
    return {keys.get(key, key): value for key, value in stored.items()}


def build_aggregator(config: ModelConfig) -> Aggregator:
    """The aggregator of a config, untrained. Raises `ModelFormatError` for an unknown name."""
    if config.aggregator not in AGGREGATORS:
        raise ModelFormatError(f"no aggregator is called {config.aggregator!r}; there are {', '.join(AGGREGATORS)}")
    block_dims = {encoder.name: encoder.block_dims for encoder in config.encoders}
    return AGGREGATORS[config.aggregator](block_dims, config.fusion)


def build_model(config: ModelConfig) -> QualityModel:
    """The untrained model of a config. Raises `ModelFormatError` or, for values that do not fit, ValueError."""
    aggregator = build_aggregator(config)
    return QualityModel(config, aggregator, Heads(aggregator.output_dim, config.heads))
