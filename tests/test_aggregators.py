"""Fusing against NumPy, and what standardising does to the rows it was fitted on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmmos.aggregators import AGGREGATORS, FusionConfig, MlpAggregator, Standardizer, fuse, pool
from mmmos.encoders import Features

FUSIONS = [
    FusionConfig(how, norm, standardize)
    for how in ("mean", "mean_std")
    for norm in ("l2", "none", "layernorm")
    for standardize in (False, True)
]


def features(clips: int, dim: int, seed: int = 0, level: float = 1.0) -> Features:
    """Frames of clips of 1 to 9 frames; what stands in the padding must not be heard."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 10, (clips,), generator=draw)
    frames = level * torch.randn(clips, 9, dim, generator=draw)
    return Features(frames, torch.arange(9) < lengths[:, None], 50.0)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 999), st.sampled_from([1e-3, 1.0, 1e3]))
@settings(max_examples=40, deadline=None)
def test_pooling_equals_numpy_on_the_real_frames(clips: int, dim: int, seed: int, level: float) -> None:
    given_features = features(clips, dim, seed, level)
    pooled = pool(given_features, "mean_std")
    for vector, frames, mask in zip(pooled, given_features.frames, given_features.mask, strict=True):
        real = frames[mask].double().numpy()
        expected = np.concatenate([real.mean(axis=0), real.std(axis=0)])
        np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=2e-6 * max(level, 1))
    assert torch.equal(pool(given_features, "mean"), pooled[:, :dim])


def test_encoders_stand_in_the_order_of_the_config() -> None:
    parts = {"b": features(3, 2, seed=1), "a": features(3, 5, seed=2)}
    fused = fuse(parts, ("a", "b"), FusionConfig("mean", "none"))
    assert torch.equal(fused, torch.cat([pool(parts["a"], "mean"), pool(parts["b"], "mean")], dim=1))


@pytest.mark.parametrize("how", ["mean", "mean_std"])
def test_each_encoders_vector_is_normalised_by_itself(how: str) -> None:
    parts = {"loud": features(3, 4, level=1e3), "quiet": features(3, 6, level=1e-3)}
    width = 4 if how == "mean" else 8
    l2 = fuse(parts, ("loud", "quiet"), FusionConfig(how, "l2"))
    for block in (l2[:, :width], l2[:, width:]):
        np.testing.assert_allclose(np.linalg.norm(block.numpy(), axis=1), 1, rtol=1e-5)
    parts["quiet"] = features(3, 6, level=10.0)  # where the eps of the variance does not show
    layernorm = fuse(parts, ("loud", "quiet"), FusionConfig(how, "layernorm"))
    for block in (layernorm[:, :width], layernorm[:, width:]):
        np.testing.assert_allclose(block.mean(dim=1), 0, atol=1e-5)
        np.testing.assert_allclose(block.std(dim=1, correction=0), 1, rtol=1e-3)


def test_gradient_is_finite_where_a_feature_does_not_vary() -> None:
    frames = torch.ones(1, 4, 3, requires_grad=True)
    one_frame = torch.tensor([[True, False, False, False]])
    for mask in (torch.ones(1, 4, dtype=torch.bool), one_frame):
        pool(Features(frames, mask, 50.0), "mean_std").sum().backward()
        assert frames.grad.isfinite().all()


def test_silent_vector_is_normalised_to_zero_with_a_finite_gradient() -> None:
    frames = torch.zeros(1, 4, 3, requires_grad=True)
    fused = fuse({"a": Features(frames, torch.ones(1, 4, dtype=torch.bool), 50.0)}, ("a",), FusionConfig())
    fused.sum().backward()
    assert not fused.any()
    assert frames.grad.isfinite().all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_output_is_as_wide_as_declared_and_batches_change_nothing(fusion: FusionConfig) -> None:
    aggregator = MlpAggregator({"a": (3, 1), "b": (5,)}, fusion)
    parts = {"a": features(6, 4, seed=1), "b": features(6, 5, seed=2)}
    aggregator.fit(aggregator.reduce(parts))
    together = aggregator(parts)
    assert together.shape == (6, aggregator.output_dim)
    assert torch.equal(together, aggregator.aggregate(aggregator.reduce(parts)))
    for i in range(6):
        alone = {name: Features(part.frames[i : i + 1], part.mask[i : i + 1], 50.0) for name, part in parts.items()}
        torch.testing.assert_close(aggregator(alone), together[i : i + 1])


def test_mlp_has_nothing_to_learn() -> None:
    for fusion in FUSIONS:
        assert not list(AGGREGATORS["mlp"]({"a": (3, 1)}, fusion).parameters())


def test_training_rows_get_mean_0_and_deviation_1() -> None:
    rows = np.random.default_rng(0).normal([5.0, -2.0, 0.0], [0.1, 30.0, 1.0], (200, 3)).astype(np.float32)
    standardizer = Standardizer(torch.ones(3))
    standardizer.fit(torch.from_numpy(rows))
    z = standardizer(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(z, (rows - rows.mean(axis=0)) / rows.std(axis=0), atol=1e-4)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 1e-5, 0.7, -300.0])
def test_constant_columns_are_left_out_for_good(constant: float) -> None:
    rows = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    rows[:, 1] = constant
    rows[::2, 1] *= 1 + 5e-5  # what rounding does is no variation
    standardizer = Standardizer(torch.ones(2))
    standardizer.fit(rows)
    unlike = standardizer(torch.tensor([[0.0, constant + 1000.0]]))
    assert unlike[0, 1] == 0
    assert standardizer(rows)[:, 0].std() > 0.9


def test_values_are_clipped_at_six_deviations() -> None:
    standardizer = Standardizer(torch.tensor([1.0, 0.5]))
    standardizer.fit(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    far = standardizer(torch.tensor([[5.9, 5.9], [6.1, 6.1], [-1e6, -1e6]]))
    torch.testing.assert_close(far, torch.tensor([[5.9, 2.95], [6.0, 3.0], [-6.0, -3.0]]))


@pytest.mark.parametrize("how", ["mean", "mean_std"])
def test_every_block_of_columns_has_the_same_say(how: str) -> None:
    parts = {"a": features(300, 8, seed=1), "b": features(300, 3, seed=2)}
    aggregator = MlpAggregator({"a": (7, 1), "b": (3,)}, FusionConfig(how, "none", standardize=True))
    reduced = aggregator.reduce(parts)
    aggregator.fit(reduced)
    power = aggregator.aggregate(reduced).square().mean(dim=0)
    blocks = (7, 1, 3) if how == "mean" else (7, 1, 7, 1, 3, 3)
    expected = 1.0 if how == "mean" else 0.5
    assert [block.sum().item() for block in power.split(blocks)] == pytest.approx([expected] * len(blocks), rel=0.02)


def test_fitted_statistics_are_part_of_the_state() -> None:
    fusion = FusionConfig("mean", "none", standardize=True)
    fitted, fresh = (MlpAggregator({"a": (4,)}, fusion) for _ in range(2))
    parts = {"a": features(20, 4)}
    fitted.fit(fitted.reduce(parts))
    assert not torch.equal(fitted(parts), fresh(parts))
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fitted(parts), fresh(parts))


@pytest.mark.parametrize("wrong", [{"pool": "median"}, {"embed_norm": "L2"}])
def test_unknown_ways_to_fuse_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong.values()))):
        FusionConfig(**wrong)
