"""A callback of Lightning that logs the scores of generated samples after each validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmmos.inference.predictor import Predictor
from mmmos.integrations.optional import optional_base
from mmmos.integrations.samples import Generate, SampleScores

_Base = optional_base(("lightning.pytorch", "pytorch_lightning"), "Callback", "pip install lightning")


class ScoreCallback(_Base):  # type: ignore[misc, valid-type, unused-ignore]
    """Logs "mmmos/PQ_mean", "mmmos/PQ_std", the same of the other axes, and the numbers of clips, as "mmmos/clips".

    - generate: from the LightningModule to waves [S], [B, S] or [B, C, S], or to waves and lengths; in every process
    - sample_rate: Hz
    - every: validations from one measurement to the next; the sanity check is not one
    - scorer, strict, prefix: those of `SampleScores`

    Raises `MissingExtraError` without Lightning.
    """

    def __init__(
        self,
        generate: Generate,
        sample_rate: float,
        scorer: Predictor | str | Path = "lite",
        *,
        every: int = 1,
        strict: bool = False,
        prefix: str = "mmmos/",
    ) -> None:
        super().__init__()
        self.samples = SampleScores(generate, sample_rate, scorer, strict, prefix)
        self.every, self.validations = every, 0

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Generate, score and log."""
        if trainer.sanity_checking:
            return
        self.validations += 1
        if (self.validations - 1) % self.every == 0:
            pl_module.log_dict(self.samples.measure(pl_module, pl_module.device))
