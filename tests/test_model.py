"""The trained half of a system, put together from its config."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from conftest import toy_config
from mmmos.aggregators import FusionConfig
from mmmos.encoders import Features
from mmmos.errors import ModelFormatError
from mmmos.heads import HeadConfig
from mmmos.model import EncoderSpec, ModelConfig, QualityModel

CONFIG = ModelConfig(
    (EncoderSpec("a", (3, 1), ""), EncoderSpec("b", (5,), "")),
    fusion=FusionConfig("mean_std", "none", standardize=True),
    heads=HeadConfig(layers=2, hidden=3),
)


def features(clips: int) -> dict[str, Features]:
    mask = torch.arange(6) < torch.arange(1, clips + 1)[:, None]
    return {
        name: Features(torch.randn(clips, 6, dim) * mask[..., None], mask, 50.0) for name, dim in (("b", 5), ("a", 4))
    }


def test_scores_are_the_heads_of_the_aggregated_features() -> None:
    model, batch = QualityModel(CONFIG).eval(), features(5)
    reduced = model.aggregator.reduce(batch)
    model.aggregator.fit(reduced)
    scores = model(batch)
    assert scores.shape == (5, 4)
    assert torch.equal(scores, model.heads(model.aggregator.aggregate(reduced)))
    assert torch.equal(scores, model.from_reduced(reduced))


def test_a_clips_scores_do_not_depend_on_the_batch() -> None:
    model, batch = QualityModel(CONFIG).eval(), features(5)
    together = model(batch)
    for i in range(5):
        real = {
            name: Features(part.frames[i : i + 1, : i + 1], part.mask[i : i + 1, : i + 1], 50.0)
            for name, part in batch.items()
        }
        torch.testing.assert_close(model(real), together[i : i + 1], rtol=1e-5, atol=1e-5)


def test_order_of_the_config_decides_and_that_of_the_features_does_not() -> None:
    batch = features(3)
    torch.manual_seed(0)
    model = QualityModel(CONFIG).eval()
    torch.manual_seed(0)
    turned = QualityModel(replace(CONFIG, encoders=CONFIG.encoders[::-1])).eval()
    assert torch.equal(model(batch), model(dict(reversed(batch.items()))))
    assert not torch.allclose(model(batch), turned(batch))


def test_published_shape_is_one_linear_map_an_axis() -> None:
    assert sum(p.numel() for p in QualityModel(toy_config()).parameters()) == 4 * (4 + 1)


def test_unknown_aggregator_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ModelFormatError, match=r"'lstm'.*mlp"):
        QualityModel(toy_config(aggregator="lstm"))
