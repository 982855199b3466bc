"""The small, trained part of a system: an aggregator and four heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from mmmos.encoders.base import EncoderSpec, Features
from mmmos.errors import ModelFormatError
from mmmos.model.aggregators import AGGREGATORS, Aggregator
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig, Heads


@dataclass(frozen=True)
class ModelConfig:
    """Everything that determines the shape of a `QualityModel`."""

    encoders: tuple[EncoderSpec, ...]  # in the order of their features in the fused vector
    aggregator: str = "mlp"  # key in `AGGREGATORS`
    fusion: FusionConfig = field(default_factory=FusionConfig)
    heads: HeadConfig = field(default_factory=HeadConfig)

    def stored(self) -> dict[str, Any]:
        """The config by the keys of model folders and run hashes."""
        return asdict(self) | {"encoders": tuple(encoder.stored() for encoder in self.encoders)}


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

    def predict_with_domains(self, features: Mapping[str, Features]) -> tuple[Tensor, Tensor]:
        """Scores [B, A], and the probability of each of the heads' domains [B, domains]."""
        vectors = self.aggregator(features)
        return self.heads(vectors), self.heads.domain_probabilities(vectors)

    def from_reduced(self, reduced: Features) -> Tensor:
        """Scores [B, A] from `aggregator.reduce(features)`, which training computes once for each clip."""
        scores: Tensor = self.heads(self.aggregator.aggregate(reduced))
        return scores


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
