"""Aggregators against torch's LSTM cell and sums written out, and what standardising does to the rows it saw."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmmos.encoders.base import Features
from mmmos.model import aggregators
from mmmos.model.aggregators import AGGREGATORS, Aggregator, BlstmH, BlstmT, MlpAggregator
from mmmos.model.fusion import FusionConfig, Reduction, fuse_pooled, pool
from mmmos.model.layers import Standardizer, WeightedLayerSum
from tests.references.lstm_cell import step_by_step

COLUMNS = {"wavlm": (2, 2, 2), "muq": (3,), "m2d": (4, 1)}
RATES = {"wavlm": 20.0, "muq": 10.0, "m2d": 2.5}
SUMS = ("last", "weighted_shared", "weighted_per_axis")


def features(seconds: list[float], seed: int = 0, level: float = 1.0) -> dict[str, Features]:
    """What the encoders of `COLUMNS` would give of clips of so many seconds."""
    draw = torch.Generator().manual_seed(seed)
    parts = {}
    for name, widths in COLUMNS.items():
        lengths = torch.tensor([max(1, int(s * RATES[name])) for s in seconds])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        frames = level * torch.randn(*mask.shape, sum(widths), generator=draw)
        parts[name] = Features(frames * mask[..., None], mask, RATES[name])
    return parts


def alone(parts: dict[str, Features], clip: int) -> dict[str, Features]:
    """One clip without its neighbours and its padding."""
    return {
        name: Features(part.frames[clip : clip + 1, part.mask[clip]], part.mask[clip : clip + 1, part.mask[clip]], rate)
        for (name, part), rate in zip(parts.items(), RATES.values(), strict=True)
    }


def build(name: str, columns: dict[str, tuple[int, ...]] = COLUMNS, **options: Any) -> Aggregator:
    return AGGREGATORS[name](columns, FusionConfig(**{"blstm_hidden": 3} | options))


def every_kind() -> list[Aggregator]:
    """Aggregators of all configs that differ in what is computed, with weights that no term can hide behind."""
    wide = [
        build(
            name, blstm_h_input=tokens, wavlm_output=output, standardize=standardize, embed_norm=norm, frame_norm=norm
        )
        for name, tokens, output, standardize, norm in product(
            AGGREGATORS, ("vector", "tokens"), SUMS, (False, True), ("l2", "none")
        )
        if (output != "weighted_per_axis" or name == "mlp") and (tokens == "vector" or name == "blstm_h")
    ]
    wide += [build("blstm_t", align=align) for align in ("interp_linear", "repeat")]
    wide += [build(name, pool="mean_std", standardize=True) for name in AGGREGATORS]
    for aggregator in wide:
        for name, parameter in aggregator.named_parameters():
            nn.init.normal_(parameter, std=2.0 if "states" in name else 0.7)
    return wide


@pytest.mark.slow
def test_output_has_declared_shape_and_clips_are_independent() -> None:
    parts = features([1.0, 0.2, 2.0, 1.3])
    for aggregator in every_kind():
        reduced = aggregator.reduce(parts)
        assert reduced.frames.shape[2] == aggregator.input_dim
        aggregator.fit(reduced.frames[reduced.mask])
        together = aggregator(parts)
        axes = (4,) if aggregator.config.wavlm_output == "weighted_per_axis" else ()
        assert together.shape == (4, *axes, aggregator.output_dim)
        assert torch.equal(together, aggregator.aggregate(aggregator.reduce(parts)))
        assert torch.pdist(together.flatten(1)).min() > 1e-3
        for clip in range(4):
            torch.testing.assert_close(aggregator(alone(parts, clip))[0], together[clip], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_table_may_keep_reduced_clips_in_half_precision() -> None:
    parts = features([1.0, 0.5])
    for aggregator in every_kind():
        reduced = aggregator.reduce(parts)
        aggregator.fit(reduced.frames[reduced.mask].half())
        half = aggregator.aggregate(replace(reduced, frames=reduced.frames.half()))
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, aggregator.aggregate(reduced), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_what_is_learned_is_what_the_config_names(name: str) -> None:
    blstm = 2 * 4 * 3 * (14 + 1 + 3)  # 14 values, a bias, and 3 units that feed back
    expected = {"mlp": 0, "blstm_h": blstm, "blstm_t": blstm}[name]
    assert sum(p.numel() for p in build(name).parameters()) == expected
    summed = build(name, wavlm_output="weighted_shared")
    assert sum(p.numel() for p in summed.parameters()) == expected - (2 * 4 * 3 * 4 if expected else 0) + 3
    assert sum(p.numel() for p in build("mlp", wavlm_output="weighted_per_axis").parameters()) == 4 * 3
    widths = sum((w + 1) * 6 for w in (6, 3, 5))
    tokens = build("blstm_h", blstm_h_input="tokens")
    assert sum(p.numel() for p in tokens.parameters()) == widths + 2 * 4 * 3 * (6 + 1 + 3)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_gradient_reaches_real_frames_and_every_weight(name: str) -> None:
    parts = features([1.0, 0.2])
    for part in parts.values():
        part.frames.requires_grad_()
    aggregator = build(name, wavlm_output="weighted_shared", standardize=True)
    vectors = aggregator(parts)
    (vectors * torch.randn_like(vectors)).sum().backward()
    for part in parts.values():
        assert part.frames.grad.isfinite().all()
        assert part.frames.grad[part.mask].any(dim=-1).all()
        assert not part.frames.grad[~part.mask].any()
    idle = {name for name, p in aggregator.named_parameters() if not p.grad.any()}
    assert idle == ({"blstm.weight_hh"} if name == "blstm_h" else set())  # one step, from a state of zero


def test_two_runs_give_the_same_bits() -> None:
    parts = features([1.0, 0.4, 0.4])
    grads = []
    for _ in range(2):
        torch.manual_seed(0)
        aggregator = build("blstm_t")
        aggregator(parts).square().sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in aggregator.parameters()]))
    assert torch.equal(*grads)


def test_blstm_h_is_a_gated_layer_of_the_pooled_vector() -> None:
    aggregator, parts = build("blstm_h"), features([1.0, 0.3])
    assert isinstance(aggregator, BlstmH)
    vectors = aggregator.reduce(parts).frames[:, 0].numpy()
    gates = vectors @ aggregator.blstm.weight_ih.detach().numpy().T + aggregator.blstm.bias.detach().numpy()
    expected = []
    for half in (gates[:, :12], gates[:, 12:]):
        input_gate, _, output_gate, candidate = np.split(half, 4, axis=1)
        cell = 1 / (1 + np.exp(-input_gate)) * np.tanh(candidate)
        expected.append(1 / (1 + np.exp(-output_gate)) * np.tanh(cell))
    np.testing.assert_allclose(aggregator(parts).detach(), np.concatenate(expected, axis=1), atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "mean_std"])
def test_blstm_h_on_tokens_reads_the_encoders_one_after_another(pooling: str) -> None:
    aggregator, parts = build("blstm_h", blstm_h_input="tokens", pool=pooling), features([1.0, 0.3])
    widths = [6, 3, 5] if pooling == "mean" else [12, 6, 10]
    pieces = [vector.split(widths) for vector in aggregator.reduce(parts).frames[:, 0]]
    for clip, own in zip(pieces, aggregator(parts), strict=True):
        tokens = torch.stack([project(piece) for project, piece in zip(aggregator.tokens, clip, strict=True)])
        states = step_by_step(aggregator.blstm, tokens)
        torch.testing.assert_close(own, torch.cat([states[-1, :3], states[0, 3:]]))


def test_blstm_t_is_the_mean_over_the_aligned_frames() -> None:
    aggregator, parts = build("blstm_t", align="repeat", align_rate_hz=10.0), features([1.0, 0.3])
    assert isinstance(aggregator, BlstmT)
    reduced = aggregator.reduce(parts)
    assert reduced.mask.sum(dim=1).tolist() == [10, 3]
    for frames, mask, own in zip(reduced.frames, reduced.mask, aggregator(parts), strict=True):
        torch.testing.assert_close(own, step_by_step(aggregator.blstm, frames[mask]).mean(dim=0), rtol=1e-5, atol=1e-6)


def test_mlp_is_the_fused_vector_and_has_nothing_to_learn() -> None:
    parts = features([1.0, 0.3])
    for pooling, norm in product(("mean", "mean_std"), ("l2", "none", "layernorm")):
        aggregator = build("mlp", pool=pooling, embed_norm=norm)
        stats = {name: pool(part) for name, part in parts.items()}
        expected = fuse_pooled(stats, tuple(COLUMNS), aggregator.config).frames[:, 0]
        assert torch.equal(aggregator(parts), expected)
        assert not list(aggregator.parameters())


def summed_raw(parts: dict[str, Features], weights: Tensor) -> dict[str, Features]:
    """The same clips with the first encoder's states summed frame by frame."""
    states = parts["wavlm"].frames.unflatten(-1, (3, 2)).double()
    mixed = sum(weight * states[..., i, :] for i, weight in enumerate(torch.softmax(weights.detach().double(), dim=0)))
    return parts | {"wavlm": replace(parts["wavlm"], frames=mixed.float())}


@pytest.mark.parametrize("name", AGGREGATORS)
@pytest.mark.parametrize("norm", ["l2", "none", "layernorm"])
def test_states_summed_after_reducing_equal_states_summed_before(name: str, norm: str) -> None:
    parts = features([1.0, 0.2, 2.0], level=5.0)
    aggregator = build(name, wavlm_output="weighted_shared", embed_norm=norm, frame_norm=norm)
    plain = build(name, COLUMNS | {"wavlm": (2,)}, embed_norm=norm, frame_norm=norm)
    nn.init.normal_(aggregator.states.weights["all"])
    plain.load_state_dict({k: v for k, v in aggregator.state_dict().items() if not k.startswith("states.")})
    expected = plain(summed_raw(parts, aggregator.states.weights["all"]))
    torch.testing.assert_close(aggregator(parts), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", ["l2", "none"])
def test_each_axis_takes_its_own_sum_of_the_states(norm: str) -> None:
    parts = features([1.0, 0.2, 2.0], level=5.0)
    aggregator = build("mlp", wavlm_output="weighted_per_axis", embed_norm=norm)
    plain = build("mlp", COLUMNS | {"wavlm": (2,)}, embed_norm=norm)
    for weights in aggregator.states.weights.values():
        nn.init.normal_(weights)
    found = aggregator(parts)
    for own, weights in zip(found.unbind(dim=1), aggregator.states.weights.values(), strict=True):
        torch.testing.assert_close(own, plain(summed_raw(parts, weights)), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[:, 0], found[:, 1], atol=1e-3)


@pytest.mark.parametrize("by_axis", [False, True])
def test_states_have_equal_weights_before_training(by_axis: bool) -> None:
    sums, states = WeightedLayerSum(13, by_axis), torch.randn(5, 13, 4)
    mixed = sums(states.flatten(1))
    assert mixed.shape == (5, 4 if by_axis else 1, 4)
    torch.testing.assert_close(mixed, states.mean(dim=1, keepdim=True).expand_as(mixed))


@pytest.mark.parametrize(
    ("name", "columns", "output", "words"),
    [
        ("blstm_h", COLUMNS, "weighted_per_axis", "only mlp"),
        ("blstm_t", COLUMNS, "weighted_per_axis", "only mlp"),
        ("mlp", {"muq": (3,)}, "weighted_shared", "wavlm with layers='all'"),
        ("mlp", {"wavlm": (6,)}, "weighted_shared", "wavlm with layers='all'"),
        ("mlp", {"wavlm": (3, 2, 1)}, "weighted_per_axis", "wavlm with layers='all'"),
    ],
)
def test_sums_of_states_that_cannot_be_are_refused(
    name: str, columns: dict[str, tuple[int, ...]], output: str, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        build(name, columns, wavlm_output=output)


def test_equal_reductions_ignore_unused_fields() -> None:
    vector, tokens = build("blstm_h", blstm_hidden=5), build("blstm_h", blstm_h_input="tokens", standardize=True)
    mlp = build("mlp", align="repeat", frame_norm="none")
    assert (
        mlp.reduction == vector.reduction == tokens.reduction == Reduction(tuple(COLUMNS), "pooled", "l2", pool="mean")
    )
    assert build("blstm_t", pool="mean_std", embed_norm="none").reduction == build("blstm_t", blstm_hidden=9).reduction
    shared, by_axis = (build("mlp", wavlm_output=output).reduction for output in SUMS[1:])
    assert shared == by_axis
    assert len({hash(aggregator.reduction) for aggregator in (mlp, vector, tokens)}) == 1


def test_reductions_that_differ_are_distinguished() -> None:
    different = [
        build("mlp"),
        build("blstm_t"),
        build("mlp", embed_norm="none"),
        build("mlp", pool="mean_std"),
        build("mlp", wavlm_output="weighted_shared"),
        build("mlp", dict(reversed(COLUMNS.items()))),
        build("mlp", {"wavlm": COLUMNS["wavlm"]}),
        build("blstm_t", frame_norm="none"),
        build("blstm_t", align="repeat"),
        build("blstm_t", align_rate_hz=5.0),
        build("blstm_t", wavlm_output="weighted_shared"),
    ]
    assert len({repr(aggregator.reduction) for aggregator in different}) == len(different)
    assert repr(build("blstm_t").reduction) == (
        "Reduction(encoders=('wavlm', 'muq', 'm2d'), kind='aligned', norm='l2', summed=None, pool=None,"
        " align='pool_lowest', align_rate_hz=None)"
    )


def test_training_rows_get_mean_0_and_deviation_1() -> None:
    rows = np.random.default_rng(0).normal([5.0, -2.0, 0.0], [0.1, 30.0, 1.0], (200, 3)).astype(np.float32)
    for parts in (1, 3, 200):
        standardizer = Standardizer(torch.ones(3))
        standardizer.fit(torch.from_numpy(rows).tensor_split(parts))
        z = standardizer(torch.from_numpy(rows)).numpy()
        np.testing.assert_allclose(z, (rows - rows.mean(axis=0)) / rows.std(axis=0), atol=1e-4)
        np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("name", AGGREGATORS)
@pytest.mark.parametrize("output", SUMS[:2])
def test_statistics_are_those_of_all_frames_with_states_summed(
    name: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregators, "FIT_ROWS", 7)
    aggregator = build(name, wavlm_output=output, standardize=True, embed_norm="none", frame_norm="none")
    reduced = aggregator.reduce(features([4.0] * 40, level=10.0))
    rows = reduced.frames[reduced.mask]
    aggregator.fit(rows)
    if output != "last":
        rows = torch.cat([rows[:, :6].unflatten(1, (3, 2)).mean(dim=1), rows[:, 6:]], dim=1)
    torch.testing.assert_close(aggregator.standardizer.mean, rows.mean(dim=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(1 / aggregator.standardizer.scale, rows.std(dim=0, correction=0), rtol=1e-4, atol=1e-4)
    prepared = aggregator.prepare(reduced.frames)[reduced.mask]
    blocks = (2, 3, 4, 1) if output != "last" else (2, 2, 2, 3, 4, 1)
    power = [block.square().mean(dim=0).sum().item() for block in prepared.split(blocks, dim=1)]
    assert power == pytest.approx([1.0] * len(blocks), rel=0.02)  # every block of columns has the same say


def test_statistics_of_every_axis_are_those_of_equal_weights() -> None:
    aggregator = build("mlp", wavlm_output="weighted_per_axis", standardize=True, embed_norm="none")
    shared = build("mlp", wavlm_output="weighted_shared", standardize=True, embed_norm="none")
    rows = aggregator.reduce(features([2.0] * 30)).frames[:, 0]
    aggregator.fit(rows)
    shared.fit(rows)
    torch.testing.assert_close(aggregator.standardizer.state_dict(), shared.standardizer.state_dict())


@pytest.mark.parametrize("constant", [0.0, 1e-5, 0.7, -300.0])
def test_constant_columns_are_left_out_for_good(constant: float) -> None:
    rows = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    rows[:, 1] = constant
    rows[::2, 1] *= 1 + 5e-5  # rounding errors are not variation
    standardizer = Standardizer(torch.ones(2))
    standardizer.fit([rows])
    unlike = standardizer(torch.tensor([[0.0, constant + 1000.0]]))
    assert unlike[0, 1] == 0
    assert standardizer(rows)[:, 0].std() > 0.9


def test_values_are_clipped_at_six_deviations() -> None:
    standardizer = Standardizer(torch.tensor([1.0, 0.5]))
    standardizer.fit([torch.tensor([[-1.0, -1.0], [1.0, 1.0]])])
    far = standardizer(torch.tensor([[5.9, 5.9], [6.1, 6.1], [-1e6, -1e6]]))
    torch.testing.assert_close(far, torch.tensor([[5.9, 2.95], [6.0, 3.0], [-6.0, -3.0]]))


def test_mean_and_deviation_of_a_block_share_its_say() -> None:
    aggregator = build("mlp", {"muq": (7, 1), "m2d": (3,)}, pool="mean_std", embed_norm="none", standardize=True)
    assert isinstance(aggregator, MlpAggregator)
    rows = torch.randn(300, aggregator.input_dim)
    aggregator.fit(rows)
    power = aggregator.prepare(rows).square().mean(dim=0)
    assert [block.sum().item() for block in power.split((7, 1, 7, 1, 3, 3))] == pytest.approx([0.5] * 6, rel=0.02)


@pytest.mark.slow
def test_state_and_config_make_the_same_aggregator_again() -> None:
    parts = features([1.0, 0.5, 1.5])
    for fitted in every_kind():
        reduced = fitted.reduce(parts)
        fitted.fit(reduced.frames[reduced.mask])
        again = type(fitted)(COLUMNS, FusionConfig(**asdict(fitted.config)))
        again.load_state_dict(fitted.state_dict())
        assert again.reduction == fitted.reduction
        assert torch.equal(again(parts), fitted(parts))
