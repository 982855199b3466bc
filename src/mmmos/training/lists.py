"""The lists of a training run: read, and divided into training and held-out clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmmos.data.corpora import read_reported
from mmmos.data.manifest import LabelledClip
from mmmos.data.splits import split_groups, split_stratified, stratum_columns
from mmmos.data.trainable import choose_range, find_primary_dataset
from mmmos.errors import UsageError
from mmmos.scores import LabelRange
from mmmos.training.method import choose_fit
from mmmos.training.settings import Settings

DEV_FRACTION = 0.2
"""The fraction of the clips that the gradient fit holds out if the user does not say."""


@dataclass(frozen=True)
class HoldOut:
    """The clips to hold out: those of another list, or a fraction of the list's groups."""

    dev: Path | None = None
    fraction: float | None = None
    stratify: str | None = None  # column: hold out the fraction of each of its values

    def __post_init__(self) -> None:
        if self.dev and (self.fraction or self.stratify):
            raise UsageError("--dev names the clips to hold out: leave out --dev-share and --stratify")


@dataclass(frozen=True)
class TrainingLists:
    """The clips of a training run."""

    train: list[LabelledClip]
    dev: list[LabelledClip]
    primary_dataset: str  # whose rating scale the model outputs
    label_range: LabelRange  # of the primary dataset
    reports: list[dict[str, Any]]  # rows that each list leaves out


def read_training_lists(
    manifest: Path,
    hold_out: HoldOut,
    settings: Settings,
    *,
    fit: Literal["auto", "closed_form", "gradient"] = "auto",
    folder: Path | None = None,
    primary_dataset: str = "",
    scale: LabelRange | None = None,
    seed: int = 42,
    strict: bool = False,
    data_root: Path | None = None,
) -> TrainingLists:
    """Read the list, and the other one if there is one, and hold clips out.

    `fit` and `folder` are as in `choose_fit`: the gradient fit needs held-out clips. A bad row is left out, logged and
    counted, or refused if `strict`. Raises `ManifestError` and `UsageError`.
    """
    columns = stratum_columns(hold_out.stratify) if hold_out.stratify else {}
    rows, report = read_reported(manifest, strict, data_root, columns=columns)
    dev: list[LabelledClip] = []
    reports = [report]
    if hold_out.dev:
        dev, report = read_reported(hold_out.dev, strict, data_root)
        reports.append(report)
    primary = find_primary_dataset([*rows, *dev], primary_dataset)
    label_range = choose_range([row for row in (*rows, *dev) if row.set == primary], scale)
    method = choose_fit(fit, settings, len(rows) + len(dev), folder)
    fraction = hold_out.fraction or (DEV_FRACTION if method == "gradient" else None)
    if hold_out.stratify and fraction is None:
        raise UsageError("--stratify divides held-out clips and the closed form has none: add --dev-share")
    if not hold_out.dev and fraction is not None:
        rows, dev = _split(rows, fraction, seed, hold_out.stratify)
    return TrainingLists(rows, dev, primary, label_range, reports)


def _split(
    rows: Sequence[LabelledClip], fraction: float, seed: int, stratify: str | None
) -> tuple[list[LabelledClip], list[LabelledClip]]:
    if stratify:
        return split_stratified(rows, fraction, seed, stratify)
    return split_groups(rows, fraction, seed)
