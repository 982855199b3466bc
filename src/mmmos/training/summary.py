"""Summary of a training run: for its caller, for the user, and for the model's card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mmmos.scores import AXES, Scale
from mmmos.training.dataset import TrainingSet
from mmmos.training.ridge import agreement

Fit = Literal["closed_form", "gradient"]
Figures = dict[str, dict[str, float | None]]

HARDLY_VARIES = 0.2
"""Predictions with less than this fraction of the labels' standard deviation hardly vary."""


@dataclass(frozen=True)
class Fitted:
    """Summary of a training run."""

    folder: str
    fit: Fit
    scale: str  # of labels and scores, "1-5"
    train_clips: int
    dev_clips: int
    left_out: list[str]  # paths of missing clips, names of those that are silent or could not be decoded
    epochs: int | None = None  # of the gradient fit; None in closed form
    best_epoch: int | None = None
    dev_srcc: dict[str, float | None] = field(
        default_factory=dict
    )  # by axis, on the primary dataset, at the best epoch
    agreement: Figures = field(default_factory=dict)  # by axis: `ridge.agreement`, on held-out clips
    agreement_on: str = ""  # which clips these are


def rated_axes(table: TrainingSet) -> tuple[str, ...]:
    """The axes for which a table has labels."""
    return tuple(axis for axis, known in zip(AXES, table.labels.isfinite().any(dim=0).tolist(), strict=True) if known)


def count_sets(table: TrainingSet) -> dict[str, Any]:
    """The number of clips by set, and of labels by axis."""
    clips = Counter(row.set for row in table.rows)
    labels = {axis: int(table.labels[:, i].isfinite().sum()) for i, axis in enumerate(AXES)}
    return {"clips": dict(sorted(clips.items())), "labels": labels}


def figures_of(scores: NDArray[np.floating], train: TrainingSet, dev: TrainingSet, primary_dataset: str) -> Figures:
    """Agreement of scores [N, A] with the labels of `dev`, by axis, and that of the mean label of `train`."""
    labels = dev.labels.double().numpy()
    mean = Scale.fit(train.labels.double().numpy()[[row.set == primary_dataset for row in train.rows]]).mean
    known = np.isfinite(labels) & np.array([row.set == primary_dataset for row in dev.rows])[:, None]
    parts = ((axis, scores[known[:, i], i], labels[known[:, i], i], mean[i]) for i, axis in enumerate(AXES))
    return {axis: agreement(p, t, np.array(constant)) for axis, p, t, constant in parts if len(t)}


def agreement_lines(result: Fitted) -> Iterator[str]:
    """One line per axis for the user, and a warning where predictions hardly vary."""
    for axis, figures in result.agreement.items():
        shown = {name: "undefined" if value is None else f"{value:.2f}" for name, value in figures.items()}
        yield (
            f"{axis} on {figures['n']:.0f} {result.agreement_on}: SRCC {shown['SRCC']}, LCC {shown['LCC']},"
            f" MSE {shown['MSE']} (a constant: {shown['constant_MSE']})"
        )
    for axis in hardly_varying(result.agreement):
        std, label_std = result.agreement[axis]["std"], result.agreement[axis]["label_std"]
        fix = "" if result.fit == "closed_form" else ", or --fit closed_form"
        yield (
            f"warning: predictions of {axis} hardly vary: their standard deviation is {std:.2f}, that of the labels"
            f" {label_std:.2f}. Scores of {axis} are hardly informative; use more rated clips{fix}"
        )


def hardly_varying(figures: Figures) -> list[str]:
    """The axes whose predictions are almost constant."""
    return [
        axis
        for axis, found in figures.items()
        if (found["std"] or 0.0) <= HARDLY_VARIES * (found["label_std"] or 0.0) or not found["label_std"]
    ]


def card(name: str, result: Fitted, training: dict[str, Any]) -> str:
    """The model's README.md."""
    labels = ", ".join(f"{count} {axis}" for axis, count in training["train"]["labels"].items() if count)
    lines = [f"- {line}." for line in agreement_lines(result)]
    if result.fit == "gradient":
        lines.append(
            f"- Stopped on {result.dev_clips} other clips, at epoch {result.best_epoch} of {result.epochs}: their"
            " figures are optimistic, because these clips chose the epoch."
        )
    else:
        lines.append("- Heads in closed form (ridge regression); the regularisation was chosen on held-out groups.")
    return (
        f"# {name}\n\nA model of MMMOS: production quality (PQ) and complexity (PC), content enjoyment (CE) and\n"
        f"usefulness (CU) of audio, on the scale {result.scale}.\n\n"
        f"- Trained on {result.train_clips} clips with {labels} labels.\n" + "\n".join(lines) + "\n"
        "- Not calibrated. Check the licences of your data and of the encoders before any commercial use.\n"
    )
