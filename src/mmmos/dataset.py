"""Clips encoded once, as the tensors that training runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmmos.aggregators import MlpAggregator
from mmmos.cache import FeatureCache, clip_key
from mmmos.decoder import IsolatedDecoder
from mmmos.encoders import Encoder, Features, wants
from mmmos.errors import AudioError
from mmmos.manifest import LabelledClip, label_array
from mmmos.windows import Window

Progress = Callable[[int, int], None]
"""Called with how many clips are done and how many there are."""


@dataclass(frozen=True)
class Table:
    """Rows ready for training.

    Shape:
        - inputs: [N, D], what `aggregator.reduce` makes of a clip's features
        - labels: [N, A] on each set's own scale, NaN where there is none
    """

    rows: tuple[LabelledClip, ...]
    inputs: Tensor
    labels: Tensor

    def take(self, rows: Sequence[LabelledClip]) -> Table:
        """The part of the table that holds these rows, in their order."""
        index = {id(row): i for i, row in enumerate(self.rows)}
        chosen = [index[id(row)] for row in rows]
        return Table(tuple(rows), self.inputs[chosen], self.labels[chosen])


def extract(
    rows: Sequence[LabelledClip],
    encoders: Mapping[str, Encoder],
    cache: FeatureCache,
    progress: Progress = lambda done, total: None,
) -> dict[str, str]:
    """Encode every clip that the cache does not hold yet, each once.

    Returns the clips that could not be decoded or are silent, by id, with the reason. They are left out
    of training, as scoring leaves silent windows out.
    """
    failed: dict[str, str] = {}
    prints = {name: encoder.fingerprint() for name, encoder in encoders.items()}
    rates, shortest = wants(encoders.values())
    with IsolatedDecoder() as decoder:
        for done, row in enumerate(rows, start=1):
            key = clip_key(row.clip)
            wanted = [name for name in encoders if not cache.path(key, prints[name]).is_file()]
            if wanted:
                try:
                    cut = decoder.cut(row.clip, rates, shortest)
                    windows = [item for item in cut if isinstance(item, Window) and not item.silent]
                except AudioError as error:
                    failed[row.clip.id] = f"{error.code}: {error}"
                else:
                    for name in wanted if windows else ():
                        cache.put(key, prints[name], _encode_clip(encoders[name], windows))
                    if not windows:
                        failed[row.clip.id] = "silent: there is nothing to learn from"
            progress(done, len(rows))
    return failed


def load_table(
    rows: Sequence[LabelledClip], encoders: Mapping[str, Encoder], cache: FeatureCache, aggregator: MlpAggregator
) -> Table:
    """The rows that the cache holds, reduced to what the aggregator trains on."""
    prints = {name: encoder.fingerprint() for name, encoder in encoders.items()}
    kept, inputs = [], []
    for row in rows:
        key = clip_key(row.clip)
        features = {name: cache.get(key, prints[name]) for name in encoders}
        complete = {name: found for name, found in features.items() if found is not None}
        if len(complete) == len(features):
            kept.append(row)
            inputs.append(aggregator.reduce(complete))
    labels = torch.from_numpy(label_array(kept)).float()
    return Table(tuple(kept), torch.cat(inputs) if inputs else torch.zeros(0, aggregator.output_dim), labels)


def _encode_clip(encoder: Encoder, windows: Sequence[Window]) -> Features:
    """Frames of all windows of a clip, one after another, on the CPU: [1, T, D]."""
    device = next(encoder.parameters()).device
    waves = [torch.from_numpy(window.waves[encoder.sample_rate]).unsqueeze(0).to(device) for window in windows]
    frames = torch.cat([encoder.encode(wave).frames for wave in waves], dim=1).cpu()
    return Features(frames, torch.ones(frames.shape[:2], dtype=torch.bool), encoder.rate_hz)
