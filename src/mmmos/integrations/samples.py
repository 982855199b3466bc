"""Scores of samples that a model generates now and then while it is trained, for the callbacks of trainers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmos.inference.predictor import Predictor, load
from mmmos.integrations.statistics import Sums, statistics, sums_of_batch

Generate = Callable[[Any], Tensor | tuple[Tensor, Tensor | Sequence[int]]]
"""From the model that is trained to waves [S], [B, S] or [B, C, S], or to waves and their lengths."""


class SampleScores:
    """Generates samples and scores them.

    - generate: called with the model, without gradients, in every process
    - sample_rate: Hz of the waves
    - scorer: a model's name, folder or hub id, which is loaded when it is needed, to the model's device; or a predictor
    - strict: whether a clip that cannot be scored stops the training; otherwise it is counted as "failed"
    - prefix: of the names
    """

    def __init__(
        self, generate: Generate, sample_rate: float, scorer: Predictor | str | Path, strict: bool, prefix: str
    ) -> None:
        self.generate, self.sample_rate, self.scorer = generate, sample_rate, scorer
        self.strict, self.prefix = strict, prefix

    def measure(self, model: Any, device: torch.device) -> dict[str, float]:
        """Mean and standard deviation by axis, and the numbers of scored, silent and failed clips, of all processes.

        Raises as `mmmos.Metric.update`.
        """
        if not isinstance(self.scorer, Predictor):
            self.scorer = load(self.scorer, device=str(device))
        with torch.no_grad():
            found = self.generate(model)
        waves, lengths = found if isinstance(found, tuple) else (found, None)
        sums = sums_of_batch(self.scorer, waves, lengths, self.sample_rate, self.strict)
        values = statistics(all_reduced(sums, device), self.scorer.model.domains)
        shown = (name for name in values if "/" not in name and not name.endswith("_count"))
        return {f"{self.prefix}{name}": values[name].item() for name in shown}


def all_reduced(sums: Sums, device: torch.device) -> Sums:
    """The sums over the clips of all processes, if there are several. They pass `device`, as their group demands it."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return sums
    parts = [part.to(device) for part in sums]
    for part in parts:
        torch.distributed.all_reduce(part)
    return Sums(*(part.cpu() for part in parts))
