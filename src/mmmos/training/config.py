"""The configuration of a fit, and the string that identifies a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mmmos.model.quality import ModelConfig
from mmmos.training.dataset import TrainingSet
from mmmos.training.identity import later_settings, stable_dict
from mmmos.training.settings import Settings


@dataclass(frozen=True)
class TrainConfig:
    """The configuration of a fit: the settings, the seed and the primary dataset."""

    settings: Settings
    seed: int = 42
    primary_dataset: str = ""  # the dataset whose rating scale the model outputs

    @property
    def batch_size(self) -> int:
        """Rows per batch; without a setting 32 or 16, depending on the aggregator, as in the paper."""
        return self.settings.batch_size or (32 if self.settings.aggregator == "mlp" else 16)

    def stored(self) -> dict[str, Any]:
        """The settings as a model folder has them."""
        return asdict(self.settings) | {"seed": self.seed, "main_set": self.primary_dataset}

    def stable_dict(self) -> dict[str, Any]:
        """All that determines the fit, for `run_id`, with the names and order of the first version."""
        settings = self.settings
        first = {
            "loss": settings.loss,
            "loss_options": settings.loss_options(settings.loss),
            "other_loss": settings.other_loss,
            "other_options": settings.loss_options(settings.other_loss),
            "main_set": self.primary_dataset,
            "lr": settings.lr,
            "weight_decay": settings.weight_decay,
            "batch_size": self.batch_size,
            "epochs": settings.epochs,
            "patience": settings.early_stop_patience,
            **{name: getattr(settings, name) for name in ("val_loss", "dev_target_stats", "offset_calibration")},
            "precision": settings.precision,
            "seed": self.seed,
        }
        return first | later_settings(settings)


def run_id(config: ModelConfig, train: TrainingSet, dev: TrainingSet | None, settings: object) -> str:
    """A string of all that determines a run: runs with the same string give the same model."""
    rows = [
        [
            (row.clip.id, row.clip.start_time, row.clip.end_time, row.labels, row.set, crops)
            for row, crops in zip(table.rows, table.crops, strict=True)
        ]
        for table in (train, dev)
        if table is not None
    ]
    return repr((stable_dict(config), settings, train.content, dev and dev.content, rows))
