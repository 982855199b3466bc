"""The training losses, each a function of predictions and targets in z units.

    name  function     penalises                                sees an offset  at a perfect prediction
    con   contrastive  errors that differ between two clips     no              0
    ut    utmos        con, and every clip's own large error    yes             0
    dcq   dcq          as con, squared; rewards right order     with its MSE    below 0
    ccc   ccc          distance from the line y = x             yes             0

A loss that does not see an offset leaves it to the initial bias: shift such a model's predictions by
a constant and the loss stays the same.

A loss is computed for each axis by itself and averaged over the axes (MMMOS paper, section III.C). A
NaN target says that nobody rated the clip on that axis: the clip and its pairs are left out of it, and
an axis without any label does not count. Below, p and t are one axis of the clips that are left,
e = p - t, and n is their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

from torch import Tensor, stack

LossName = Literal["ut", "con", "dcq", "ccc"]
ConNorm = Literal["offdiag", "utmos22"]
DcqRank = Literal["linear", "hinge"]
CccMoments = Literal["population", "mixed"]

EPS = 1e-6
"""Keeps CCC defined where predictions and targets are one and the same constant."""

UT_CONTRAST_WEIGHT = 0.5
"""Weight of the contrastive term in the UTMOS loss."""


def contrastive(
    prediction: Tensor, target: Tensor, *, con_norm: ConNorm = "offdiag", con_margin: float = 0.1
) -> Tensor:
    """Contrastive loss of UTMOS (Saeki et al. 2022): two clips should differ by as much as their targets do.

        sum over pairs i, j of max(0, |(p_i - p_j) - (t_i - t_j)| - con_margin), divided by
            n (n - 1)   con_norm="offdiag": the mean over pairs of two clips
            2 n^2       con_norm="utmos22": as published, half the mean over all pairs, i = j included

    A single clip has no pair: 0.

    Shape:
        - prediction: [B, A], or [B] for one axis
        - target: as prediction, NaN where there is no label
        - returns: []

    >>> import torch
    >>> p, t = torch.tensor([1.0, -1.0]), torch.tensor([-0.5, 0.75])
    >>> round(contrastive(p, t).item(), 6), round(contrastive(p, t, con_norm="utmos22").item(), 6)
    (3.15, 0.7875)
    """
    _check_choice("con_norm", con_norm, ConNorm)
    _check_size("con_margin", con_margin)
    return _mean_over_axes(partial(_contrastive, norm=con_norm, margin=con_margin), prediction, target)


def utmos(
    prediction: Tensor,
    target: Tensor,
    *,
    ut_tau: float = 0.25,
    con_norm: ConNorm = "offdiag",
    con_margin: float = 0.1,
) -> Tensor:
    """Clipped squared error and contrastive loss, the objective of UTMOS (Saeki et al. 2022).

        mean(e_i^2 where |e_i| > ut_tau, else 0) + 0.5 contrastive

    An error of exactly `ut_tau` is forgiven; one just above it counts in full, nothing is subtracted.
    UTMOS takes the first term frame by frame on scores in [-1, 1]; here it is per clip and in z units.

    Shape:
        - prediction: [B, A], or [B] for one axis
        - target: as prediction, NaN where there is no label
        - returns: []

    >>> import torch
    >>> p, t = torch.tensor([0.5, 0.0]), torch.zeros(2)
    >>> round(utmos(p, t).item(), 6), round(utmos(p, t, ut_tau=0.5).item(), 6)
    (0.325, 0.2)
    """
    _check_choice("con_norm", con_norm, ConNorm)
    _check_size("con_margin", con_margin)
    _check_size("ut_tau", ut_tau)
    return _mean_over_axes(partial(_utmos, tau=ut_tau, norm=con_norm, margin=con_margin), prediction, target)


def dcq(prediction: Tensor, target: Tensor, *, dcq_mse_weight: float = 0.0, dcq_rank: DcqRank = "linear") -> Tensor:
    """DCQ loss as the MMMOS paper's authors train with it: right differences, in the right order.

        mean over all n^2 pairs i, j of (dp - dt)^2 + rank, plus dcq_mse_weight * mean(e_i^2), where
            dp = p_i - p_j,  dt = t_i - t_j, and rank is
            -dp sign(dt)           dcq_rank="linear"
            max(0, -dp sign(dt))   dcq_rank="hinge": what the paper's words say, only inversions cost

    The linear term rewards the right order without limit: the best prediction is each target plus its
    centred rank in (-0.5, 0.5), hence spread too widely (1.28 times for Gaussian targets), and the loss there
    is below 0. It is the default because the paper's numbers look like it (docs/SETTINGS.md). A weight of 1
    adds the squared error (MSE) that an offset shows in.

    Shape:
        - prediction: [B, A], or [B] for one axis
        - target: as prediction, NaN where there is no label
        - returns: []

    >>> import torch
    >>> p, t = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])
    >>> dcq(p, t).item(), dcq(p, t, dcq_rank="hinge").item(), dcq(p + 1, t, dcq_mse_weight=1.0).item()
    (-0.5, 0.0, 0.5)
    """
    _check_choice("dcq_rank", dcq_rank, DcqRank)
    _check_size("dcq_mse_weight", dcq_mse_weight)
    return _mean_over_axes(partial(_dcq, mse_weight=dcq_mse_weight, rank=dcq_rank), prediction, target)


def ccc(prediction: Tensor, target: Tensor, *, ccc_moments: CccMoments = "population") -> Tensor:
    """One minus the concordance correlation coefficient (Lin 1989), eps added below.

        1 - 2 cov(p, t) / (var(p) + var(t) + (mean(p) - mean(t))^2 + 1e-6)

    `ccc_moments="population"` divides every moment by n. "mixed" divides the variances by n - 1 and the
    covariance by n, as the MMMOS paper's authors do: a perfect prediction then costs 1 / n.

    Where predictions or targets are constant, a single clip among them, the loss is 1 either way.

    Shape:
        - prediction: [B, A], or [B] for one axis
        - target: as prediction, NaN where there is no label
        - returns: []

    >>> import torch
    >>> p = torch.tensor([1.0, 2.0, 3.0, 6.0])
    >>> [round(ccc(p, p, ccc_moments=moments).item(), 5) for moments in ("population", "mixed")]
    [0.0, 0.25]
    >>> round(ccc(p + 1, p).item(), 5)  # variance 3.5: 1 - 7 / (7 + 1)
    0.125
    """
    _check_choice("ccc_moments", ccc_moments, CccMoments)
    return _mean_over_axes(partial(_ccc, moments=ccc_moments), prediction, target)


def _contrastive(p: Tensor, t: Tensor, norm: str, margin: float) -> Tensor:
    n = len(p)
    excess = (_pairs(p - t).abs() - margin).relu()  # [n, n], 0 on the diagonal
    count = n * (n - 1) if norm == "offdiag" else 2 * n * n
    return excess.sum() / max(count, 1)


def _utmos(p: Tensor, t: Tensor, tau: float, norm: str, margin: float) -> Tensor:
    error = p - t
    clipped = error.square() * (error.abs() > tau)
    return clipped.mean() + UT_CONTRAST_WEIGHT * _contrastive(p, t, norm, margin)


def _dcq(p: Tensor, t: Tensor, mse_weight: float, rank: str) -> Tensor:
    inversion = -_pairs(p) * _pairs(t).sign()  # [n, n], above 0 where the order is wrong, 0 for tied targets
    if rank == "hinge":
        inversion = inversion.relu()
    return (_pairs(p - t).square() + inversion).mean() + mse_weight * (p - t).square().mean()


def _ccc(p: Tensor, t: Tensor, moments: str) -> Tensor:
    n, bias = len(p), p.mean() - t.mean()
    p, t = p - p.mean(), t - t.mean()
    # One clip has no unbiased variance; its sum of squares is 0, so any divisor says 0 where 0 / 0 says NaN.
    dof = n if moments == "population" else max(n - 1, 1)
    variances = (p.square().sum() + t.square().sum()) / dof
    return 1 - 2 * (p * t).mean() / (variances + bias.square() + EPS)


def _pairs(x: Tensor) -> Tensor:
    """[n] -> [n, n] of x_i - x_j."""
    return x[:, None] - x[None, :]


def _mean_over_axes(loss: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> Tensor:
    """Mean of `loss` over the axes that have labels; zero, with a zero gradient, where none has."""
    if prediction.shape != target.shape or prediction.ndim not in (1, 2):
        # Never broadcast: [B, 1] against [B] would quietly compare every clip with every other.
        shapes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
        raise ValueError(f"prediction and target must both be [B, A] or both [B], not {shapes}")
    if not prediction.is_floating_point():
        raise TypeError(f"prediction must be floating point, not {prediction.dtype}")
    if prediction.ndim == 1:
        prediction, target = prediction[:, None], target[:, None]
    target = target.to(prediction.dtype)
    known = ~target.isnan()
    # Rows are taken out before any arithmetic: masked afterwards, a NaN comes back as 0 * NaN in the gradient.
    axes = zip(prediction.unbind(1), target.unbind(1), known.unbind(1), strict=True)
    losses = [loss(p[rated], t[rated]) for p, t, rated in axes if rated.any()]
    return stack(losses).mean() if losses else prediction[known].sum()


def _check_choice(name: str, value: str, kind: object) -> None:
    if value not in (choices := get_args(kind)):
        raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, not {value!r}")


def _check_size(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number, 0 or more, not {value!r}")


LOSSES: dict[LossName, Callable[..., Tensor]] = {"con": contrastive, "ut": utmos, "dcq": dcq, "ccc": ccc}
"""The losses by the names that settings use."""
