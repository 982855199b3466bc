"""From waveform to scores with gradients: a reward or a loss for a model that generates audio."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as recomputed

from mmmos.audio.clip import whole_rate
from mmmos.audio.limits import MAX_RATE, MIN_RATE, off_scale
from mmmos.encoders.base import Encoder, min_duration
from mmmos.encoders.torch_settings import running
from mmmos.errors import AudioError, LevelError, SampleRateError
from mmmos.inference.wave_windows import WaveWindow, cut_waves, waves_of, window_peaks
from mmmos.model.system import ScoringModel
from mmmos.scores import AXES, LabelRange

MAX_PEAK = 8.0
"""Twice that of files: noise of variance 1, from which generators start, peaks at 4 to 6."""

SOFTNESS = 1 / 50
"""Width of the bend at either end of the scale, as a fraction of its length."""


class DifferentiableScorer(nn.Module):
    """Scores on the model's label scale, the mean over windows of 10 s as of files. Its weights stay frozen.

    The networks are those of the predictor that created it. They are not registered: whatever a parent module does to
    its parameters (`half`, `apply`, `to_empty`, `state_dict`, an optimizer), they do not change. Only a move to another
    device moves them, and the predictor's with them.

    `torch.compile` skips it: it also runs uncompiled in compiled models.
    """

    def __init__(self, model: ScoringModel, encoders: Mapping[str, Encoder]) -> None:
        super().__init__()
        self._encoders = dict(encoders)
        self._members = tuple(member.model for member in model.members)
        self._range, self._lowest = model.info.source_range, model.info.label_range[0]
        self._calibration, self._domains = model.info.calibration, model.domains
        self._unrated = torch.tensor([axis not in model.info.rated for axis in AXES])
        self.sample_rate = max(encoder.sample_rate for encoder in encoders.values())  # Hz, the default rate of waves
        self._min_seconds = min_duration(encoders.values())
        scales = [(member.scale.mean, member.scale.std) for member in model.members]
        parts = model.weights, *zip(*scales, strict=True)
        self._weights, self._mean, self._std = (
            torch.from_numpy(np.array(part, np.float32)) for part in parts
        )  # [M, A]

    @property
    def device(self) -> torch.device:
        """The device that it runs on and returns scores on."""
        return next(iter(self._encoders.values())).device

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(
        self,
        waves: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        sample_rate: float | None = None,
        bounded: bool = True,
        checkpoint: bool | None = None,
    ) -> Tensor:
        """Scores of a batch, in float32.

        A clip's scores and gradients do not depend on the rest of the batch. Resampling is differentiable; it changes
        scores by about a hundredth of a point compared with that of files. A silent clip (no sample above -80 dBFS) has
        the lowest score of the scale and no gradient. An axis that the model was not trained on is NaN.

        - sample_rate: Hz of the waves; by default the highest rate of an encoder (`sample_rate`)
        - bounded: whether scores are limited to the scale by `bound`; otherwise they may lie outside
        - checkpoint: whether activations are kept for one window at a time, and computed a second time in the backward
          pass; by default if a clip has more than one window

        Raises TypeError and ValueError for any other layout, `SampleRateError`, `AudioError`: "too_short",
        "non_finite_audio", and `LevelError`, a ValueError, for a clip with a peak above 8.

        Shape:
            - waves: [S], [B, S] or [B, 1, S] floating point in [-1, 1]
            - lengths: B integers, the number of valid samples; all samples by default
            - returns: [B, A] in the order of `AXES`; [1, A] for a single clip
        """
        rate = self.sample_rate if sample_rate is None else whole_rate(sample_rate)
        if not MIN_RATE <= rate <= MAX_RATE:
            raise SampleRateError(f"waves are at {MIN_RATE} to {MAX_RATE} Hz, not at {rate} Hz: resample them first")
        with running(self.device):
            waves = _batch(waves).to(self.device)
            sizes = batch_sizes(len(waves), waves.shape[1], lengths)
            self._check_sizes(sizes, rate)
            # The resampling filter must not mix samples after a clip's end into the clip.
            real = torch.arange(waves.shape[1], device=waves.device) < torch.tensor(sizes, device=waves.device)[:, None]
            waves = torch.where(real, waves, 0)
            peaks = window_peaks(waves, rate)
            _check_levels(peaks)
            windows = cut_waves(sizes, peaks, rate, self._min_seconds)
            scores = self._lowest + 0 * waves[:, :1].expand(-1, len(AXES))
            if windows:
                loud = sorted({item.row for item in windows})
                raw, probabilities = self._raw(windows, waves, rate, checkpoint)[loud].tensor_split((len(AXES),), dim=1)
                found = bound(raw, self._range) if bounded else raw
                if self._calibration is not None:
                    found = self._calibration.apply_tensor(found, self._most_probable(probabilities))
                scores = scores.index_copy(0, torch.tensor(loud, device=scores.device), found)
            return scores.masked_fill(self._unrated.to(scores.device), torch.nan)

    def _raw(self, windows: Sequence[WaveWindow], waves: Tensor, rate: int, checkpoint: bool | None) -> Tensor:
        """Scores before they are bounded, and domain probabilities, of clips with windows: [B, A + domains]; else 0."""
        rates = {encoder.sample_rate for encoder in self._encoders.values()}
        cut = {own: waves_of(windows, waves, rate, own) for own in rates}
        if checkpoint or (checkpoint is None and any(item.index for item in windows)):
            alone = (
                {own: (pieces[i : i + 1, : sizes[i]], sizes[i : i + 1]) for own, (pieces, sizes) in cut.items()}
                for i in range(len(windows))
            )
            found = torch.cat([recomputed(self._predict, part, use_reentrant=False) for part in alone])
        else:
            found = self._predict(cut)
        weights = found.new_tensor([item.weight for item in windows]).unsqueeze(1)
        rows = torch.tensor([item.row for item in windows], device=found.device)
        return found.new_zeros(len(waves), found.shape[1]).index_add(0, rows, weights * found)

    def _predict(self, windows: Mapping[int, tuple[Tensor, list[int]]]) -> Tensor:
        """Scores and domain probabilities [W, A + domains] of windows: waves [W, S] and sizes at each rate."""
        with running(self.device):  # again, as the backward pass may call this, too
            features = {name: encoder(*windows[encoder.sample_rate]) for name, encoder in self._encoders.items()}
            found = [member.predict(features) for member in self._members]
            z = torch.stack([prediction.scores for prediction in found])
            labels = z * self._std.unsqueeze(1) + self._mean.unsqueeze(1)
            domains = [prediction.domains[:, : len(self._domains)].detach() for prediction in found]
            probabilities = torch.stack(domains).mean(0)
            return torch.cat([torch.einsum("mba,ma->ba", labels, self._weights), probabilities], dim=1)

    def _most_probable(self, probabilities: Tensor) -> list[str | None]:
        """The most probable domain of each clip [B, domains]; None without domains."""
        if not self._domains:
            return [None] * len(probabilities)
        return [self._domains[i] for i in probabilities.argmax(dim=1).tolist()]

    def _check_sizes(self, sizes: Sequence[int], rate: int) -> None:
        own = max(encoder.sample_rate for encoder in self._encoders.values())
        needed = -(-round(self._min_seconds * own) * rate // own)
        for row, size in enumerate(sizes):
            if size < needed:
                raise AudioError(
                    "too_short",
                    f"clip {row} has {size} samples; at {rate} Hz at least {needed} are needed"
                    f" ({1000 * self._min_seconds:.0f} ms)",
                )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Follow a parent module to its device; dtypes and values do not change."""
        device = fn(torch.empty(0, device=self.device)).device
        if device.type != "meta":
            with torch.inference_mode(False):
                for network in (*self._encoders.values(), *self._members):
                    network.to(device)
                for name in ("_weights", "_mean", "_std"):
                    setattr(self, name, getattr(self, name).to(device))
        return self


def bound(scores: Tensor, label_range: LabelRange) -> Tensor:
    """Scores limited to the scale by a map that is increasing everywhere and linear in the middle.

    With s = (high - low) / 50 the result is low + s log(1 + exp((x - low) / s)) in the lower half, and the mirror image
    in the upper one. On a scale from 0 to 10 it is within .001 of x from 1.1 to 8.9, at most .14 from x on the scale,
    and the slope is .99 at .9, .5 at 0 and .007 at -1 and 11.

    >>> bound(torch.tensor([0.0, 1.0, 5.0, 9.0, 14.0]), (0.0, 10.0))
    tensor([ 0.1386,  1.0013,  5.0000,  8.9987, 10.0000])
    """
    low, high = label_range
    width = SOFTNESS * (high - low)
    from_low = low + width * F.softplus((scores - low) / width)
    from_high = high - width * F.softplus((high - scores) / width)
    return torch.where(scores < (low + high) / 2, from_low, from_high)


def _batch(waves: Any) -> Tensor:
    """Waves of any supported layout as float32 [B, S]."""
    if not isinstance(waves, Tensor) or not waves.is_floating_point():
        kind = waves.dtype if isinstance(waves, Tensor) else type(waves).__name__
        raise TypeError(f"waves are a floating-point tensor in [-1, 1], not {kind}")
    if waves.ndim == 1:
        waves = waves[None]
    elif waves.ndim == 3 and waves.shape[1] == 1:
        waves = waves[:, 0]
    if waves.ndim != 2:
        raise ValueError(
            f"waves are [S], [B, S] or [B, 1, S], mono, not {tuple(waves.shape)}; waves.mean(1) is a downmix"
        )
    floats: Tensor = waves.float()
    return floats


def batch_sizes(count: int, samples: int, lengths: Any) -> list[int]:
    """Number of valid samples of each of `count` clips of `samples`. Raises TypeError and ValueError for others."""
    if lengths is None:
        return [samples] * count
    try:
        sizes = [operator.index(size) for size in (lengths.tolist() if hasattr(lengths, "tolist") else lengths)]
    except TypeError as error:
        raise TypeError(f"lengths are {count} whole numbers of samples, not {lengths!r}") from error
    if len(sizes) != count or not all(0 <= size <= samples for size in sizes):
        raise ValueError(f"lengths are {count} numbers of samples from 0 to {samples}, not {sizes}")
    return sizes


def _check_levels(peaks: Sequence[Sequence[float]]) -> None:
    for row, own in enumerate(peaks):
        peak = next((peak for peak in own if not math.isfinite(peak)), max(own, default=0.0))
        if not math.isfinite(peak):
            raise AudioError("non_finite_audio", f"clip {row} holds NaN or infinity")
        if peak > MAX_PEAK:
            raise LevelError(f"clip {row}: {off_scale(peak)}")
