"""The rows of a training set by dataset: their labels, in z units, and batches that never mix datasets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from mmmos.data.manifest import LabelledClip
from mmmos.scores import Scale
from mmmos.training.dataset import TrainingSet


def datasets_of(table: TrainingSet) -> list[str]:
    """The datasets of the rows, sorted."""
    return sorted({row.set for row in table.rows})


def indices_of(table: TrainingSet, name: str) -> list[int]:
    """The indices of the rows of one dataset."""
    return [i for i, row in enumerate(table.rows) if row.set == name]


def rows_of(table: TrainingSet, name: str) -> list[LabelledClip]:
    """The rows of one dataset."""
    return [row for row in table.rows if row.set == name]


def labels_of(table: TrainingSet, name: str) -> np.ndarray:
    """The labels [N, A] of the rows of one dataset."""
    return table.labels[indices_of(table, name)].double().numpy()


def z_scored(table: TrainingSet, scales: dict[str, Scale]) -> TrainingSet:
    """The table with labels in z units, by the scale of each row's set."""
    z = [scales[row.set].to_z(labels) for row, labels in zip(table.rows, table.labels.double().numpy(), strict=True)]
    return replace(table, labels=torch.from_numpy(np.stack(z)).float())


def shuffled_batches(table: TrainingSet, size: int) -> Iterator[list[int]]:
    """Shuffled batches of one set each; a single row that remains joins the batch before it."""
    batches: list[list[int]] = []
    for name in datasets_of(table):
        rows = indices_of(table, name)
        order = [rows[i] for i in torch.randperm(len(rows)).tolist()]
        cuts = list(range(0, len(order), size))
        if len(cuts) > 1 and len(order) - cuts[-1] == 1:
            cuts.pop()
        batches += [order[start:end] for start, end in zip(cuts, [*cuts[1:], len(order)], strict=True)]
    return (batches[i] for i in torch.randperm(len(batches)).tolist())
