"""A callback of the Trainer of Hugging Face that logs the scores of generated samples after each evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmmos.inference.predictor import Predictor
from mmmos.integrations.optional import optional_base
from mmmos.integrations.samples import Generate, SampleScores

_Base = optional_base(("transformers",), "TrainerCallback", "pip install transformers accelerate")


class ScoreCallback(_Base):  # type: ignore[misc, valid-type, unused-ignore]
    """Logs "eval_mmmos_PQ_mean", "eval_mmmos_PQ_std", the same of the other axes, and the numbers of clips.

    They are also among the metrics of the evaluation: `metric_for_best_model="mmmos_PQ_mean"` chooses by them.

    - trainer: the one that it is added to, which logs
    - generate: from the model to waves [S], [B, S] or [B, C, S], or to waves and lengths; in every process
    - sample_rate: Hz
    - scorer, strict, prefix: those of `SampleScores`

    Raises `MissingExtraError` without transformers.
    """

    def __init__(
        self,
        trainer: Any,
        generate: Generate,
        sample_rate: float,
        scorer: Predictor | str | Path = "lite",
        *,
        strict: bool = False,
        prefix: str = "eval_mmmos_",
    ) -> None:
        super().__init__()
        self.trainer = trainer
        self.samples = SampleScores(generate, sample_rate, scorer, strict, prefix)

    def on_evaluate(self, args: Any, state: Any, control: Any, **options: Any) -> None:
        """Generate, score and log."""
        values = self.samples.measure(options["model"], args.device)
        options["metrics"].update(values)
        self.trainer.log(values)
