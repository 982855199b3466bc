"""The trained half of a system, put together from its config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from mmmos.encoders.base import EncoderSpec, Features
from mmmos.errors import ModelFormatError
from mmmos.model.aggregators import AGGREGATORS, Aggregator
from mmmos.model.fusion import FusionConfig
from mmmos.model.heads import HeadConfig, Heads
from mmmos.model.quality import (
    STORED_KEYS,
    STORED_NAMES,
    ModelConfig,
    QualityModel,
    build_model,
    state_from_stored,
    stored_state,
)
from mmmos.scores import AXES
from tests.toys import ToyEncoder, toy_config

CONFIG = ModelConfig(
    (EncoderSpec("a", (3, 1), ""), EncoderSpec("b", (5,), "")),
    fusion=FusionConfig("mean_std", "none", standardize=True),
    heads=HeadConfig(head_layers=2, head_hidden=3),
)
CONFIGS = [
    CONFIG,
    replace(CONFIG, aggregator="blstm_h"),
    replace(CONFIG, aggregator="blstm_h", fusion=FusionConfig(blstm_hidden=3, blstm_h_input="tokens")),
    replace(CONFIG, aggregator="blstm_t", fusion=FusionConfig(blstm_hidden=3, align="repeat", align_rate_hz=25.0)),
    replace(
        CONFIG,
        encoders=(EncoderSpec("b", (5,), ""), EncoderSpec("wavlm", (2, 2), "")),
        fusion=FusionConfig(wavlm_output="weighted_per_axis"),
    ),
]


def features(clips: int) -> dict[str, Features]:
    mask = torch.arange(6) < torch.arange(1, clips + 1)[:, None]
    dims = {"b": 5, "a": 4, "wavlm": 4}
    return {name: Features(torch.randn(clips, 6, dim) * mask[..., None], mask, 50.0) for name, dim in dims.items()}


class Doubled(Aggregator):
    """A toy part: the first two values of each encoder's first frame, twice as large."""

    kind = "pooled"
    output_dim = 2

    def reduce(self, features: Mapping[str, Features]) -> Features:
        (only,) = features.values()
        return Features(2 * only.frames[:, :1, :2], only.mask[:, :1], 0.0)

    def aggregate(self, reduced: Features) -> torch.Tensor:
        return reduced.frames[:, 0]


def test_model_is_made_of_the_parts_it_receives() -> None:
    heads, batch = Heads(2, HeadConfig()), {"a": features(3)["a"]}
    model = QualityModel(CONFIG, Doubled({"a": (4,)}, FusionConfig()), heads)
    assert model.heads is heads
    assert torch.equal(model(batch), heads(2 * batch["a"].frames[:, 0, :2]))


@pytest.mark.parametrize("config", CONFIGS)
def test_scores_are_the_heads_of_the_aggregated_features(config: ModelConfig) -> None:
    model, batch = build_model(config).eval(), features(5)
    reduced = model.aggregator.reduce(batch)
    model.aggregator.fit(reduced.frames[reduced.mask])
    scores = model(batch)
    assert scores.shape == (5, 4)
    assert torch.equal(scores, model.heads(model.aggregator.aggregate(reduced)))
    assert torch.equal(scores, model.from_reduced(reduced))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_clips_scores_do_not_depend_on_the_batch(config: ModelConfig) -> None:
    model, batch = build_model(config).eval(), features(5)
    together = model(batch)
    for i in range(5):
        real = {
            name: Features(part.frames[i : i + 1, : i + 1], part.mask[i : i + 1, : i + 1], 50.0)
            for name, part in batch.items()
        }
        torch.testing.assert_close(model(real), together[i : i + 1], rtol=1e-5, atol=1e-5)


def test_order_of_encoders_is_the_configs() -> None:
    batch = features(3)
    torch.manual_seed(0)
    model = build_model(CONFIG).eval()
    torch.manual_seed(0)
    turned = build_model(replace(CONFIG, encoders=CONFIG.encoders[::-1])).eval()
    assert torch.equal(model(batch), model(dict(reversed(batch.items()))))
    assert not torch.allclose(model(batch), turned(batch))


def test_published_shape_is_one_linear_map_an_axis() -> None:
    assert sum(p.numel() for p in build_model(toy_config()).parameters()) == 4 * (4 + 1)


def test_unknown_aggregator_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ModelFormatError, match=r"'lstm'.*mlp"):
        build_model(toy_config(aggregator="lstm"))


@pytest.mark.parametrize("config", CONFIGS)
def test_config_from_json_builds_a_model_for_the_weights(config: ModelConfig) -> None:
    saved = json.loads(json.dumps(config.stored()))
    names = {old: new for new, old in STORED_NAMES.items()}
    fusion = FusionConfig(**saved["fusion"])
    heads = HeadConfig(**{names.get(key, key): value for key, value in saved["heads"].items()})
    again = build_model(ModelConfig(config.encoders, saved["aggregator"], fusion, heads)).eval()
    assert again.config == config
    model, batch = build_model(config).eval(), features(3)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(batch), model(batch))


@pytest.mark.parametrize("name", AGGREGATORS)
def test_gradient_flows_from_the_scores_to_the_waveforms(toy_encoder: ToyEncoder, name: str) -> None:
    model = build_model(toy_config(aggregator=name, fusion=FusionConfig(blstm_hidden=3))).eval().requires_grad_(False)
    waves = torch.randn(2, 1000, requires_grad=True)
    model({"toy": toy_encoder(waves, torch.tensor([1000, 400]))}).sum().backward()
    assert waves.grad.isfinite().all()
    assert waves.grad[0, :960].count_nonzero() > 950
    assert waves.grad[1, :320].count_nonzero() > 310
    assert not waves.grad[1, 320:].any()


def test_stored_config_is_that_of_earlier_versions() -> None:
    """Hashes of training runs are of this text: a half-finished run of an earlier version must find itself again."""
    assert repr(ModelConfig((EncoderSpec("toy", (3, 1), "ab", {"gain": 2.0}),)).stored()) == (
        "{'encoders': ({'name': 'toy', 'columns': (3, 1), 'fingerprint': 'ab', 'options': {'gain': 2.0},"
        " 'checkpoint': None},), 'aggregator': 'mlp', 'fusion': {'pool': 'mean', 'embed_norm': 'l2',"
        " 'standardize': False, 'frame_norm': 'l2', 'align': 'pool_lowest', 'align_rate_hz': None, 'blstm_hidden': 256,"
        " 'blstm_h_input': 'vector', 'wavlm_output': 'last'}, 'heads': {'layers': 1, 'hidden': None, 'dropout': 0.0,"
        " 'layer_norm': False, 'domains': ()}}"
    )


def test_stored_state_has_the_keys_and_order_of_577577c() -> None:
    """An optimizer's state in a checkpoint belongs to parameters by their order."""
    model = build_model(replace(CONFIGS[3], fusion=FusionConfig(blstm_hidden=3, standardize=True), heads=HeadConfig()))
    stored = stored_state(model)
    assert sorted(stored) == [
        *("aggregator.blstm.read.bias", "aggregator.blstm.read.weight", "aggregator.blstm.recur"),
        *("aggregator.standardizer.center", "aggregator.standardizer.factor"),
        *(f"heads.axes.{axis}.1.{part}" for axis in AXES for part in ("bias", "weight")),
    ]
    assert [name for name, _ in model.named_parameters()][:3] == [
        f"aggregator.blstm.{name}" for name in ("weight_hh", "weight_ih", "bias")
    ]
    assert stored["aggregator.blstm.recur"].shape == (2, 3, 12)
    found = state_from_stored(stored)
    assert found.keys() == model.state_dict().keys()
    assert all(found[key] is stored[STORED_KEYS.get(key, key)] for key in found)
