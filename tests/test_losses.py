"""The losses against worked vectors, an independent CCC, autograd's own check, and what must hold for any batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor
from torchmetrics.functional import concordance_corrcoef

from mmmos.losses import LOSSES, ccc, contrastive, dcq, utmos

VECTORS = {
    "V1": ([0, 0.5, 1, -1], [0.2, 0.4, 1.6, -0.35]),
    "V2": ([0.1, 0.1, 0.85], [0.5, 0.5, 0.3]),  # a tie in both
    "V3": ([1, -1], [-0.5, 0.75]),
    "V4": ([0.3, -0.8, 1.7, 0.05, -1.2, 0.6], [0.1, -1.13, 1.15, 0.45, -1.6, -0.2]),
}

# name, options; then the loss on V1 to V4 and its gradient on V1 and V2 (central differences, float64)
WORKED = [
    (
        ("con", {}),
        [0.350000, 0.566667, 3.150000, 0.376667],
        [0.166667, 0.5, -0.333333, -0.333333],
        [-0.333333, -0.333333, 0.666667],
    ),
    (
        ("con", {"con_norm": "utmos22"}),
        [0.131250, 0.188889, 0.787500, 0.156944],
        [0.0625, 0.1875, -0.125, -0.125],
        [-0.111111, -0.111111, 0.222222],
    ),
    (
        ("ut", {"ut_tau": 0.5}),
        [0.370625, 0.384167, 4.231250, 0.345417],
        [0.083333, 0.25, -0.466667, -0.491667],
        [-0.166667, -0.166667, 0.7],
    ),
    (
        ("ut", {}),
        [0.370625, 0.490833, 4.231250, 0.416900],
        [0.083333, 0.25, -0.466667, -0.491667],
        [-0.433333, -0.433333, 0.7],
    ),
    (
        ("ut", {"con_norm": "utmos22"}),
        [0.261250, 0.301944, 3.050000, 0.307039],
        [0.03125, 0.09375, -0.3625, -0.3875],
        [-0.322222, -0.322222, 0.477778],
    ),
    (
        ("dcq", {}),
        [-0.624062, 0.734444, 6.281250, -0.656444],
        [0.2625, 0.3125, -0.6375, 0.0625],
        [-0.644444, -0.644444, 1.288889],
    ),
    (
        ("dcq", {"dcq_mse_weight": 1.0}),
        [-0.415937, 0.941944, 8.937500, -0.421211],
        [0.1625, 0.3625, -0.9375, -0.2625],
        [-0.911111, -0.911111, 1.655556],
    ),
    (
        ("dcq", {"dcq_rank": "hinge"}),
        [0.188438, 0.734444, 6.281250, 0.335222],
        [0.1375, 0.4375, -0.2625, -0.3125],
        [-0.644444, -0.644444, 1.288889],
    ),
    (
        ("ccc", {"ccc_moments": "mixed"}),
        [0.368292, 1.320854, 1.446927, 0.266129],
        [-0.018432, 0.054373, -0.202051, -0.114659],
        [0.257939, 0.257939, -0.258510],
    ),
    (
        ("ccc", {}),
        [0.178266, 1.473369, 1.888888, 0.127143],
        [-0.050343, 0.039964, -0.297995, -0.166717],
        [0.431349, 0.431349, -0.302502],
    ),
]

CONFIGS = [name_and_options for name_and_options, *_ in WORKED]
every_config = pytest.mark.parametrize(("name", "options"), CONFIGS, ids=[f"{n}-{o}" for n, o in CONFIGS])
BLIND_TO_OFFSETS = [(name, o) for name, o in CONFIGS if name == "con" or (name == "dcq" and "dcq_mse_weight" not in o)]

PRINTED = 1.1e-6  # the vectors have six decimals, a gradient's last one also has the difference quotient's error


def vector(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gradient(loss: Tensor, prediction: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(loss, prediction)
    return result


def value_and_gradient(name: str, options: dict, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    prediction = prediction.clone().requires_grad_()
    loss = LOSSES[name](prediction, target, **options)
    return loss.detach(), gradient(loss, prediction)


# Values on a grid of 1/32, so that sums and shifts of them are exact and a clip never crosses a threshold by rounding.
grid = st.integers(-128, 127).map(lambda k: k / 32)


@st.composite
def batches(draw: st.DrawFn, min_clips: int = 1, missing: bool = False) -> tuple[Tensor, Tensor]:
    """Predictions and targets [B, 4] on the grid, float64; with `missing`, about a quarter of the targets are NaN."""
    size = 4 * draw(st.integers(min_clips, 7))
    prediction, target = (  # bytes: one draw for all values
        torch.from_numpy(np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.int8) / 32).view(-1, 4)
        for _ in range(2)
    )
    return prediction, torch.where(target < -2, math.nan, target) if missing else target


# --- worked values


@pytest.mark.parametrize(
    ("config", "values", "gradient_1", "gradient_2"), WORKED, ids=[f"{name}-{options}" for name, options in CONFIGS]
)
def test_worked_vectors(config, values, gradient_1, gradient_2):
    name, options = config
    results = [value_and_gradient(name, options, vector(p), vector(t)) for p, t in VECTORS.values()]
    assert [loss.item() for loss, _ in results] == pytest.approx(values, abs=PRINTED)
    assert results[0][1].tolist() == pytest.approx(gradient_1, abs=PRINTED)
    assert results[1][1].tolist() == pytest.approx(gradient_2, abs=PRINTED)


def test_names():
    assert list(LOSSES.items()) == [("con", contrastive), ("ut", utmos), ("dcq", dcq), ("ccc", ccc)]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("con", {}, 0.0),
        ("con", {"con_norm": "utmos22"}, 0.0),
        ("ut", {}, 0.36),
        ("ut", {"ut_tau": 0.6 + 1e-9}, 0.0),
        ("dcq", {}, 0.0),
        ("dcq", {"dcq_rank": "hinge"}, 0.0),
        ("dcq", {"dcq_mse_weight": 1.0}, 0.36),
        ("ccc", {}, 1.0),
        ("ccc", {"ccc_moments": "mixed"}, 1.0),
    ],
)
def test_a_batch_of_one(name, options, expected):
    loss, slope = value_and_gradient(name, options, vector([0.4]), vector([1.0]))
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert slope.tolist() == pytest.approx([-1.2 if expected == 0.36 else 0.0])


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("con", {}, 0.0),
        ("ut", {}, 0.0),
        ("dcq", {}, -0.968750),
        ("dcq", {"dcq_rank": "hinge"}, 0.0),
        ("ccc", {}, 0.000001),
        ("ccc", {"ccc_moments": "mixed"}, 0.250000),
    ],
)
def test_a_perfect_prediction(name, options, expected):
    p = vector([0.3, -0.8, 1.7, 0.05])
    assert round(LOSSES[name](p, p, **options).item(), 6) == expected  # distinguishes an eps of 1e-6 from 1e-7


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("con", {}, 1.433333),
        ("ut", {"ut_tau": 0.5}, 1.6),
        ("dcq", {}, 1.773333),
        ("ccc", {}, 1.0),
        ("ccc", {"ccc_moments": "mixed"}, 1.0),
    ],
)
def test_a_constant_prediction(name, options, expected):
    loss, slope = value_and_gradient(name, options, vector([0.2, 0.2, 0.2]), vector([-1, 0, 1.3]))
    assert loss.item() == pytest.approx(expected, abs=PRINTED)
    assert slope.isfinite().all()


@pytest.mark.parametrize("moments", ["population", "mixed"])
def test_ccc_of_two_constants_is_one(moments):
    loss, slope = value_and_gradient("ccc", {"ccc_moments": moments}, torch.ones(3, 4), torch.ones(3, 4))
    assert loss.item() == 1.0
    assert not slope.any()


def test_an_error_of_exactly_tau_is_forgiven():
    p, t = vector([0.5, 0]), vector([0, 0])
    assert utmos(p, t, ut_tau=0.5).item() == pytest.approx(0.2)
    assert utmos(p, t, ut_tau=0.25).item() == pytest.approx(0.325)
    assert utmos(p, t, ut_tau=0.0).item() == pytest.approx(0.325)


def test_margin():
    p, t = vector([0.5, 0]), vector([0, 0])
    assert contrastive(p, t, con_margin=0.0).item() == pytest.approx(0.5)
    assert contrastive(p, t, con_margin=0.5).item() == 0.0
    assert utmos(p, t, con_margin=0.5, ut_tau=1.0).item() == 0.0


def test_ties_of_targets_have_no_order():
    p, t = vector([1, -1]), vector([0.5, 0.5])
    assert dcq(p, t).item() == dcq(p, t, dcq_rank="hinge").item() == pytest.approx(2.0)  # all of it (dp - 0)^2


def test_dcq_is_lowest_at_the_target_plus_its_centred_rank():
    t = vector([0.3, -0.8, 1.7, 0.05])
    best = t + (t[:, None] - t).sign().mean(dim=1) / 2
    loss, slope = value_and_gradient("dcq", {}, best, t)
    assert loss < dcq(t, t) < 0
    assert slope.abs().max() < 1e-12


@pytest.mark.parametrize(("rank", "spread"), [("linear", 1 + 1 / (2 * math.sqrt(math.pi))), ("hinge", 1.0)])
def test_dcq_linear_widens_gaussian_predictions_unlike_hinge(rank, spread):
    t = torch.from_numpy(norm.ppf((np.arange(1000) + 0.5) / 1000))
    scale = torch.tensor(spread, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(dcq(scale * t, t, dcq_rank=rank), scale)
    assert slope.item() == pytest.approx(0, abs=5e-3)
    narrow, wide = (dcq((spread + step) * t, t, dcq_rank=rank) for step in (-0.1, 0.1))
    assert min(narrow, wide) > dcq(spread * t, t, dcq_rank=rank) + 0.01


@pytest.mark.parametrize("offset", [0.0, 0.4, -2.0])
def test_ccc_against_torchmetrics(offset):
    generator = torch.Generator().manual_seed(1)
    t = torch.randn(40, 4, generator=generator, dtype=torch.float64)
    p = 0.7 * t + 0.5 * torch.randn(40, 4, generator=generator, dtype=torch.float64) + offset
    # torchmetrics divides variances and covariance by n - 1. That is ours times n / (n - 1), and so the same
    # coefficient once the squared distance of the means is stretched as much.
    gap = p.mean(0) - t.mean(0)
    stretched = p - gap + gap * math.sqrt(40 / 39)
    expected = 1 - concordance_corrcoef(stretched, t).mean()
    torch.testing.assert_close(ccc(p, t), expected, atol=3e-6, rtol=0)


# --- autograd


@every_config
def test_gradcheck(name, options):
    # far from every kink: no error difference near the margin, no error near tau, no tie
    p = vector(VECTORS["V4"][0] + VECTORS["V1"][0][:2]).view(4, 2).requires_grad_()
    t = vector([0.1, -1.13, 1.15, 0.45, -1.6, -0.2, math.nan, 0.41]).view(4, 2)
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, t, **options), (p,))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), BLIND_TO_OFFSETS)
@given(batch=batches(), shift=grid)
def test_an_offset_goes_unseen(name, options, batch, shift):
    p, t = batch
    loss, slope = value_and_gradient(name, options, p, t)
    torch.testing.assert_close(LOSSES[name](p + shift, t, **options), loss)
    torch.testing.assert_close(slope.sum(0), torch.zeros(4, dtype=p.dtype), atol=1e-12, rtol=0)


# --- what holds for any batch


@pytest.mark.slow
@every_config
@settings(max_examples=5)
@given(batch=batches(missing=True), data=st.data())
def test_order_of_clips_does_not_matter(name, options, batch, data):
    p, t = batch
    order = data.draw(st.permutations(range(len(p))))
    loss, slope = value_and_gradient(name, options, p, t)
    shuffled, shuffled_slope = value_and_gradient(name, options, p[order], t[order])
    torch.testing.assert_close(shuffled, loss)
    torch.testing.assert_close(shuffled_slope, slope[order])


@every_config
@settings(max_examples=5)
@given(batch=batches(missing=True))
def test_a_clip_without_a_label_is_as_if_it_were_not_there(name, options, batch):
    p, t = batch
    loss, slope = value_and_gradient(name, options, p, t)
    labelled = [axis for axis in range(4) if not t[:, axis].isnan().all()]
    expected = torch.zeros_like(p)
    values = []
    for axis in labelled:
        rows = ~t[:, axis].isnan()
        value, expected[rows, axis] = value_and_gradient(name, options, p[rows, axis], t[rows, axis])
        values.append(value)
    torch.testing.assert_close(loss, torch.stack(values).mean() if values else torch.zeros_like(loss))
    torch.testing.assert_close(slope, expected / max(len(labelled), 1))


@every_config
def test_a_prediction_that_nobody_rated_may_be_anything(name, options):
    p = vector([math.nan, 0.3, 1.0, math.inf, -0.4, 0.2, 0.5, 0.1]).view(4, 2)
    t = vector([math.nan, 0.1, 0.6, math.nan, -0.2, 0.9, -0.5, 0.7]).view(4, 2)
    loss, slope = value_and_gradient(name, options, p, t)
    assert loss.isfinite()
    assert slope.isfinite().all()
    assert slope[0, 0] == slope[1, 1] == 0


@every_config
def test_a_prediction_that_broke_is_not_hidden(name, options):
    p = vector([math.nan, 0.3, 1.0])
    assert LOSSES[name](p, vector([0.0, 0.1, 0.2]), **options).isnan()


@every_config
def test_no_label_at_all_gives_a_zero_that_can_be_backpropagated(name, options):
    for shape in [(3, 4), (1, 4), (3,), (0, 4), (0,)]:
        loss, slope = value_and_gradient(name, options, torch.ones(shape), torch.full(shape, math.nan))
        assert loss.shape == ()
        assert loss == 0
        assert slope.shape == shape
        assert not slope.any()


@every_config
@settings(max_examples=5)
@given(batch=batches())
def test_axes_are_averaged(name, options, batch):
    p, t = batch
    loss = LOSSES[name](p, t, **options)
    each = [LOSSES[name](p[:, axis], t[:, axis], **options) for axis in range(4)]
    torch.testing.assert_close(loss, torch.stack(each).mean())
    twice = LOSSES[name](p[:, [0, 0]], t[:, [0, 0]], **options)
    torch.testing.assert_close(twice, each[0])
    torch.testing.assert_close(LOSSES[name](p[:, :1], t[:, :1], **options), each[0])


@pytest.mark.slow
@given(batch=batches(min_clips=2))
def test_zero_at_a_perfect_prediction(batch):
    _, t = batch
    assert contrastive(t, t) == utmos(t, t) == dcq(t, t, dcq_rank="hinge") == 0
    assume((t.var(dim=0) > 0.01).all())
    assert 0 <= ccc(t, t) < 1e-4
    n = len(t)
    assert ccc(t, t, ccc_moments="mixed").item() == pytest.approx(1 / n, abs=1e-4)


@pytest.mark.slow
@given(batch=batches())
def test_ranges(batch):
    p, t = batch
    for moments in ("population", "mixed"):
        assert 0 <= ccc(p, t, ccc_moments=moments) <= 2
    assert contrastive(p, t) >= 0
    assert utmos(p, t) >= contrastive(p, t) / 2
    assert dcq(p, t, dcq_rank="hinge") >= 0


@pytest.mark.slow
@every_config
@settings(max_examples=5)
@given(batch=batches(min_clips=2))
def test_float32_agrees_and_keeps_its_dtype(name, options, batch):
    p, t = batch
    assume(((p - p.mean(0)).abs().amax(0) > 0.1).all())  # eps under two constants is a kink of its own
    loss, slope = value_and_gradient(name, options, p, t)
    # a target comes in float64 from a table of labels; the prediction's precision is the one that counts
    loss_32, slope_32 = value_and_gradient(name, options, p.float(), t)
    assert loss_32.dtype == slope_32.dtype == torch.float32
    torch.testing.assert_close(loss_32, loss.float(), atol=1e-4, rtol=1e-5)
    smooth = name == "ccc" or (name == "dcq" and options.get("dcq_rank") != "hinge")
    if smooth:  # elsewhere 0.1 rounded to float32 may fall on the other side of a kink
        torch.testing.assert_close(slope_32, slope.float(), atol=1e-4, rtol=1e-4)


# --- what is refused


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("con", {"con_norm": "mean"}),
        ("ut", {"con_norm": "mean"}),
        ("dcq", {"dcq_rank": "relu"}),
        ("ccc", {"ccc_moments": "sample"}),
        ("con", {"con_margin": -0.1}),
        ("ut", {"con_margin": math.nan}),
        ("ut", {"ut_tau": -1.0}),
        ("dcq", {"dcq_mse_weight": math.inf}),
    ],
)
def test_a_bad_option_is_named(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LOSSES[name](torch.zeros(2, 4), torch.zeros(2, 4), **options)


@pytest.mark.parametrize(
    ("name", "option"), [("con", "ut_tau"), ("ut", "dcq_rank"), ("dcq", "con_margin"), ("ccc", "con_norm")]
)
def test_another_loss_s_option_is_refused(name, option):
    with pytest.raises(TypeError, match=option):
        LOSSES[name](torch.zeros(2, 4), torch.zeros(2, 4), **{option: 0.1})


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_are_never_broadcast(name):
    for prediction, target in [((3,), (3, 1)), ((3, 1), (3,)), ((3, 4), (3, 1)), ((2, 3, 4), (2, 3, 4)), ((), ())]:
        with pytest.raises(ValueError, match="prediction and target"):
            LOSSES[name](torch.zeros(prediction), torch.zeros(target))


@pytest.mark.parametrize("name", LOSSES)
def test_whole_numbers_cannot_be_trained(name):
    with pytest.raises(TypeError, match="floating point"):
        LOSSES[name](torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 4))
