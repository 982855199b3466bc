"""Pooling and alignment against NumPy, and what a clip's neighbours and its padding may not change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmmos.encoders.base import Features
from mmmos.model.fusion import FusionConfig, align_weights, fuse_aligned, fuse_pooled, pool

ALIGN = ("pool_lowest", "interp_linear", "repeat")
TEN_SECONDS = {"wavlm": (499, 50.0), "muq": (250, 25.0), "m2d": (62, 6.25)}  # frames, Hz


def features(clips: int, dim: int, seed: int = 0, level: float = 1.0) -> Features:
    """Frames of clips of 1 to 9 frames; what is in the padding must not change the result."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 10, (clips,), generator=draw)
    frames = level * torch.randn(clips, 9, dim, generator=draw)
    return Features(frames, torch.arange(9) < lengths[:, None], 50.0)


def stream(counts: Sequence[int], dim: int, rate_hz: float, seed: int = 0) -> Features:
    """Clips of so many frames each, NaN in the padding."""
    frames = torch.randn(len(counts), max(counts), dim, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    return Features(frames.masked_fill(~mask[..., None], torch.nan), mask, rate_hz)


def fuse(parts: Mapping[str, Features], config: FusionConfig) -> torch.Tensor:
    """The pooled vectors [B, D] of all parts."""
    fused = fuse_pooled({name: pool(part) for name, part in parts.items()}, tuple(parts), config)
    assert fused.mask.shape == (len(fused.frames), 1)
    assert fused.mask.all()
    return fused.frames[:, 0]


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 999), st.sampled_from([1e-3, 1.0, 1e3]))
def test_pooling_equals_numpy_on_the_real_frames(clips: int, dim: int, seed: int, level: float) -> None:
    given_features = features(clips, dim, seed, level)
    means, deviations = pool(given_features)
    for mean, std, frames, mask in zip(means, deviations, given_features.frames, given_features.mask, strict=True):
        real = frames[mask].double().numpy()
        np.testing.assert_allclose(mean, real.mean(axis=0), rtol=1e-4, atol=2e-6 * max(level, 1))
        np.testing.assert_allclose(std, real.std(axis=0), rtol=1e-4, atol=2e-6 * max(level, 1))


def test_encoders_stand_in_the_order_that_is_asked_for() -> None:
    stats = {"b": pool(features(3, 2, seed=1)), "a": pool(features(3, 5, seed=2))}
    fused = fuse_pooled(stats, ("a", "b"), FusionConfig("mean_std", "none"))
    assert torch.equal(fused.frames[:, 0], torch.cat([*stats["a"], *stats["b"]], dim=1))
    only_means = fuse_pooled(stats, ("b", "a"), FusionConfig("mean", "none"))
    assert torch.equal(only_means.frames[:, 0], torch.cat([stats["b"][0], stats["a"][0]], dim=1))


@pytest.mark.parametrize("pooling", ["mean", "mean_std"])
def test_each_encoders_vector_is_normalised_by_itself(pooling: str) -> None:
    parts = {"loud": features(3, 4, level=1e3), "quiet": features(3, 6, level=1e-3)}
    width = 4 if pooling == "mean" else 8
    l2 = fuse(parts, FusionConfig(pooling, "l2"))
    for block in (l2[:, :width], l2[:, width:]):
        np.testing.assert_allclose(np.linalg.norm(block.numpy(), axis=1), 1, rtol=1e-5)
    parts["quiet"] = features(3, 6, level=10.0)  # where the eps of the variance does not show
    layernorm = fuse(parts, FusionConfig(pooling, "layernorm"))
    for block in (layernorm[:, :width], layernorm[:, width:]):
        np.testing.assert_allclose(block.mean(dim=1), 0, atol=1e-5)
        np.testing.assert_allclose(block.std(dim=1, correction=0), 1, rtol=1e-3)


def test_gradient_is_finite_where_a_feature_does_not_vary() -> None:
    frames = torch.ones(1, 4, 3, requires_grad=True)
    one_frame = torch.tensor([[True, False, False, False]])
    for mask in (torch.ones(1, 4, dtype=torch.bool), one_frame):
        sum(map(torch.sum, pool(Features(frames, mask, 50.0)))).backward()
        assert frames.grad.isfinite().all()


def test_silent_vector_normalises_to_zero_with_finite_gradient() -> None:
    frames = torch.zeros(1, 4, 3, requires_grad=True)
    fused = fuse({"a": Features(frames, torch.ones(1, 4, dtype=torch.bool), 50.0)}, FusionConfig())
    fused.sum().backward()
    assert not fused.any()
    assert frames.grad.isfinite().all()


def aligned_by_numpy(
    align: str, frames: NDArray[np.float64], wanted: int, rate: float, wanted_rate: float
) -> NDArray[np.float64]:
    """The definitions written out: [T, D] -> [wanted, D]."""
    count = len(frames)
    if align == "pool_lowest":  # time in as many parts as both sequences divide
        return np.repeat(frames, wanted, axis=0).reshape(wanted, count, -1).mean(axis=1)
    wanted_times = (np.arange(wanted) + 0.5) / wanted_rate
    if align == "repeat":
        ends = (np.arange(count) + 1) / rate
        return frames[np.minimum(np.searchsorted(ends, wanted_times, side="right"), count - 1)]
    times = (np.arange(count) + 0.5) / rate
    return np.stack([np.interp(wanted_times, times, column) for column in frames.T], axis=1)


@pytest.mark.slow
@given(st.sampled_from(ALIGN), st.integers(1, 60), st.integers(1, 60), st.sampled_from([0.125, 0.3, 0.5, 1, 2.3, 8]))
@settings(max_examples=150)
def test_alignment_equals_numpy(align: str, wanted: int, count: int, step: float) -> None:
    frames = np.random.default_rng(wanted + 100 * count).normal(size=(count, 3))
    found = align_weights(align, wanted, count, step).numpy() @ frames
    np.testing.assert_allclose(found, aligned_by_numpy(align, frames, wanted, step * 6.25, 6.25), atol=1e-12)


@pytest.mark.slow
@given(st.sampled_from(ALIGN), st.integers(1, 70), st.integers(1, 70), st.floats(0.05, 20))
@settings(max_examples=150)
def test_aligned_frames_are_means_of_frames(align: str, wanted: int, count: int, step: float) -> None:
    weights = align_weights(align, wanted, count, step)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(dim=1), 1, atol=1e-12)  # so what is constant stays constant
    if align == "pool_lowest":
        np.testing.assert_allclose(weights.mean(dim=0), 1 / count, atol=1e-12)  # and the mean stays the mean
    assert torch.equal(align_weights(align, count, count, 1.0), torch.eye(count, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "frames", "rate_hz"),
    [
        ({}, 62, 6.25),
        ({"align_rate_hz": 12.5}, 124, 12.5),
        ({"align_rate_hz": 0.01}, 1, 0.01),
        ({"align": "interp_linear"}, 499, 50.0),
        ({"align": "interp_linear", "align_rate_hz": 25.0}, 250, 25.0),
        ({"align": "repeat"}, 499, 50.0),
        ({"align": "repeat", "align_rate_hz": 6.25}, 62, 6.25),
    ],
)
def test_ten_seconds_of_the_papers_encoders(options: dict[str, Any], frames: int, rate_hz: float) -> None:
    parts = {name: stream([count], 2, rate, seed=count) for name, (count, rate) in TEN_SECONDS.items()}
    config = FusionConfig(frame_norm="none", **options)
    fused = fuse_aligned(parts, ("m2d", "wavlm", "muq"), config)
    assert fused.frames.shape == (1, frames, 6)
    assert fused.rate_hz == rate_hz
    assert fused.mask.all()
    for i, name in enumerate(("m2d", "wavlm", "muq")):
        expected = aligned_by_numpy(
            config.align, parts[name].frames[0].double().numpy(), frames, parts[name].rate_hz, rate_hz
        )
        np.testing.assert_allclose(fused.frames[0, :, 2 * i : 2 * i + 2], expected, atol=1e-5)


@pytest.mark.slow
@given(
    st.sampled_from(ALIGN),
    st.sampled_from(["l2", "none", "layernorm"]),
    st.sampled_from([None, 2.0, 11.0]),
    st.lists(st.floats(0.2, 4.0), min_size=1, max_size=5),
)
def test_an_aligned_clip_does_not_depend_on_its_neighbours(
    align: str, norm: str, rate_hz: float | None, seconds: list[float]
) -> None:
    rates = {"fast": (10.0, 5), "slow": (2.5, 3)}
    parts = {
        name: stream([max(1, int(s * rate)) for s in seconds], dim, rate, seed=dim)
        for name, (rate, dim) in rates.items()
    }
    config = FusionConfig(frame_norm=norm, align=align, align_rate_hz=rate_hz)
    together = fuse_aligned(parts, ("fast", "slow"), config)
    assert together.frames.shape[1] == together.mask.sum(dim=1).max()
    assert not together.frames[~together.mask].any()
    for i in range(len(seconds)):
        one = {
            name: Features(part.frames[i : i + 1, part.mask[i]], part.mask[i : i + 1, part.mask[i]], part.rate_hz)
            for name, part in parts.items()
        }
        alone = fuse_aligned(one, ("fast", "slow"), config)
        torch.testing.assert_close(together.frames[i, together.mask[i]], alone.frames[0], rtol=0, atol=1e-6)


def test_each_encoders_block_is_normalised_after_alignment() -> None:
    parts = {"a": stream([8, 4], 5, 50.0), "b": stream([4, 2], 3, 25.0)}
    plain, l2, layernorm = (
        fuse_aligned(parts, ("a", "b"), FusionConfig(frame_norm=norm)) for norm in ("none", "l2", "layernorm")
    )
    for columns in (slice(0, 5), slice(5, 8)):
        raw = plain.frames[plain.mask][:, columns].numpy()
        expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        np.testing.assert_allclose(l2.frames[l2.mask][:, columns], expected, atol=1e-6)
        expected = (raw - raw.mean(axis=1, keepdims=True)) / np.sqrt(raw.var(axis=1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(layernorm.frames[l2.mask][:, columns], expected, atol=1e-5)


def test_states_that_are_yet_to_be_summed_are_not_normalised() -> None:
    parts = {"wavlm": stream([6, 3], 6, 50.0), "b": stream([6, 3], 4, 50.0)}
    stats = {name: pool(Features(part.frames.nan_to_num(), part.mask, 50.0)) for name, part in parts.items()}
    raw = FusionConfig(embed_norm="none", frame_norm="none")
    for output in ("weighted_shared", "weighted_per_axis"):
        summed = FusionConfig(wavlm_output=output)
        for fused, plain in (
            (fuse_pooled(stats, tuple(stats), summed), fuse_pooled(stats, tuple(stats), raw)),
            (fuse_aligned(parts, tuple(parts), summed), fuse_aligned(parts, tuple(parts), raw)),
        ):
            assert torch.equal(fused.frames[..., :6], plain.frames[..., :6])
            np.testing.assert_allclose(fused.frames[fused.mask][:, 6:].norm(dim=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pool": "median"},
        {"embed_norm": "L2"},
        {"frame_norm": "batch"},
        {"align": "truncate"},
        {"align_rate_hz": 0.0},
        {"align_rate_hz": float("inf")},
        {"align_rate_hz": float("nan")},
        {"blstm_hidden": 0},
        {"blstm_hidden": 2.5},
        {"blstm_h_input": "frames"},
        {"wavlm_output": "first"},
        {"wavlm_output": "weighted_shared", "pool": "mean_std"},
    ],
)
def test_unknown_ways_to_fuse_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        FusionConfig(**wrong)
