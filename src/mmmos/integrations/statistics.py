"""Mean, spread and number of scores, by axis and domain, from sums that add up over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmmos.errors import AudioError
from mmmos.inference.predictor import Predictor, load
from mmmos.integrations.batches import score_batch
from mmmos.scores import AXES, Scores

PARTS = ("mean", "std", "count")
"""What is computed of each axis: mean and sample standard deviation in points, and the number of scores."""


class Sums(NamedTuple):
    """Sums over clips; those of two sets of clips add up to those of both.

    Shape:
        - totals, squares: [D, A], of scores in points and of their squares, by domain, float64
        - counts: [D, A], number of scores, int64
        - clips: [3], number of scored, of silent and of failed clips, int64
    """

    totals: Tensor
    squares: Tensor
    counts: Tensor
    clips: Tensor


def no_sums(domains: Sequence[str]) -> Sums:
    """The sums over no clips. A model without domains has one row."""
    shape = max(len(domains), 1), len(AXES)
    zeros = torch.zeros(shape, dtype=torch.float64)
    return Sums(zeros, zeros.clone(), torch.zeros(shape, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))


def sums_of_batch(
    scorer: Predictor,
    waves: Tensor,
    lengths: Tensor | Sequence[int] | None,
    sample_rate: float | None,
    strict: bool,
) -> Sums:
    """The sums over the clips of a batch. Raises as `score_batch`, and with `strict` for clips without a score."""
    return _sums_of(score_batch(scorer, waves, lengths, sample_rate), scorer.model.domains, strict)


def _sums_of(scores: Sequence[Scores], domains: Sequence[str], strict: bool) -> Sums:
    """The sums over these clips. With `strict`, raises `AudioError` for the first clip that could not be scored."""
    result = no_sums(domains)
    for item in scores:
        if item.error is not None and strict:
            raise AudioError(item.error.code, f"{item.id}: {item.error.message}")
        values = np.array([item[axis] for axis in AXES])
        known = np.isfinite(values)
        result.clips[2 if item.error is not None else 0 if known.any() else 1] += 1
        row = domains.index(item.domain) if item.domain in domains else 0
        values = np.where(known, values, 0.0)
        result.totals[row] += torch.from_numpy(values)
        result.squares[row] += torch.from_numpy(values**2)
        result.counts[row] += torch.from_numpy(known.astype(np.int64))
    return result


def statistics(sums: Sums, domains: Sequence[str]) -> dict[str, Tensor]:
    """Scalars by name: "PQ_mean", "PQ_std", "PQ_count", the same of each domain as "music/PQ_mean", and "clips".

    "clips", "silent" and "failed" are the number of scored, silent and failed clips. A mean without scores and a
    standard deviation of fewer than two are NaN.
    """
    found = _by_axis("", *(part.sum(dim=0) for part in sums[:3]))
    for row, domain in enumerate(domains):
        found |= _by_axis(f"{domain}/", *(part[row] for part in sums[:3]))
    return found | dict(zip(("clips", "silent", "failed"), sums.clips, strict=True))


def _by_axis(prefix: str, totals: Tensor, squares: Tensor, counts: Tensor) -> dict[str, Tensor]:
    mean = totals / counts  # 0 / 0 is NaN
    variance = (squares - totals * mean).clamp(min=0) / (counts - 1).clamp(min=0)
    std = variance.masked_fill(counts < 2, torch.nan).sqrt()
    parts = {"mean": mean, "std": std, "count": counts}
    return {f"{prefix}{axis}_{part}": parts[part][i] for i, axis in enumerate(AXES) for part in PARTS}


def audio_quality(
    waves: Tensor,
    lengths: Tensor | Sequence[int] | None = None,
    sample_rate: float | None = None,
    scorer: Predictor | str | Path = "lite",
    *,
    strict: bool = True,
) -> dict[str, Tensor]:
    """`mmmos.Metric` of one batch, as a function; it does not need torchmetrics. Raises as `Metric.update`.

    A model's name or folder is loaded in each call: pass a predictor to call it often.
    """
    predictor = scorer if isinstance(scorer, Predictor) else load(scorer)
    return statistics(sums_of_batch(predictor, waves, lengths, sample_rate, strict), predictor.model.domains)
