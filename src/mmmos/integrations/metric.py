"""`mmmos.Metric`: the four scores of generated audio as a metric of torchmetrics (extra `metrics`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mmmos.inference.predictor import Predictor, load
from mmmos.integrations.metric_plot import Result, plot_results
from mmmos.integrations.optional import optional_base
from mmmos.integrations.statistics import Sums, no_sums, statistics, sums_of_batch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Base = optional_base(("torchmetrics",), "Metric", "pip install 'mmmos[metrics]'")


class Metric(_Base):  # type: ignore[misc, valid-type, unused-ignore]
    """Mean, standard deviation and count of the four scores, over all clips and over those of each domain.

    Each clip counts once, whatever its length. Its scores are those of `mmmos score`. Memory does not grow with the
    number of clips. Moving the metric to a device moves the scorer's networks, too.

    - scorer: a model's name, folder or hub id, or a predictor
    - sample_rate: Hz of the waves of every batch that does not give its own
    - strict: whether a clip that cannot be scored (NaN, too short) is an error; otherwise it is counted as "failed"
    - options: those of `torchmetrics.Metric`, as `sync_on_compute`

    Raises `MissingExtraError` without torchmetrics, and the errors of `load`.
    """

    is_differentiable = False  # `Predictor.module` is
    higher_is_better = True  # PQ, CE and CU; PC, the complexity, has no better end
    full_state_update = False

    totals: Tensor
    squares: Tensor
    counts: Tensor
    clips: Tensor

    def __init__(
        self,
        scorer: Predictor | str | Path = "lite",
        *,
        sample_rate: float | None = None,
        strict: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.scorer = scorer if isinstance(scorer, Predictor) else load(scorer, device="cpu")
        self.sample_rate, self.strict = sample_rate, strict
        for name, zeros in no_sums(self.scorer.model.domains)._asdict().items():
            self.add_state(name, zeros, dist_reduce_fx="sum")
        self.to(self.scorer.device)

    def update(
        self, waves: Tensor, lengths: Tensor | Sequence[int] | None = None, sample_rate: float | None = None
    ) -> None:
        """Add the clips of a batch; an empty one adds nothing.

        Silent clips are counted as "silent" and have no scores. Raises TypeError and ValueError for another layout,
        `SampleRateError` without a rate, and `AudioError` for a clip that cannot be scored; then nothing is added.

        Shape:
            - waves: [S], [B, S] or [B, C, S], floating point in [-1, 1] or integers, on any device
            - lengths: B integers, the number of valid samples; all samples by default
        """
        rate = self.sample_rate if sample_rate is None else sample_rate
        found = sums_of_batch(self.scorer, waves, lengths, rate, self.strict)
        for name, part in found._asdict().items():
            setattr(self, name, getattr(self, name) + part.to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Scalars by name, as `mmmos.integrations.statistics.statistics`: "PQ_mean", "music/PQ_std", "clips", ..."""
        return statistics(Sums(self.totals, self.squares, self.counts, self.clips), self.scorer.model.domains)

    def plot(self, val: Result | Sequence[Result] | None = None, ax: Axes | None = None) -> tuple[Any, Axes]:
        """Figure and axes of a result, by default the present one, or of a sequence of results as curves."""
        results: Any = self.compute() if val is None else val
        return plot_results(
            [results] if isinstance(results, Mapping) else list(results), ax, self.scorer.model.info.label_range
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **options: Any) -> Any:
        result = super()._apply(fn, *args, **options)
        if self.scorer.device != self.device:
            self.scorer.module.to(self.device)
        return result
