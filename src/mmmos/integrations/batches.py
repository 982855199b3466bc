"""Scores of a batch of waveforms, as training loops have them: the same scores as those of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mmmos.audio.clip import to_clip
from mmmos.inference.differentiable import batch_sizes
from mmmos.inference.predictor import Predictor
from mmmos.scores import Scores

if TYPE_CHECKING:
    from torch import Tensor


def score_batch(
    scorer: Predictor, waves: Tensor, lengths: Tensor | Sequence[int] | None, sample_rate: float | None
) -> list[Scores]:
    """Scores of each clip, without gradients, equal to `scorer.score` of the clip alone.

    A clip that cannot be scored has `error`; a silent one has the warning `silent` and NaN on every axis. The ids are
    "clip 0", "clip 1", ...

    - sample_rate: Hz

    Raises TypeError and ValueError for any other layout or lengths, `SampleRateError` for another or a missing rate.

    Shape:
        - waves: [S], [B, S] or [B, C, S], floating point in [-1, 1] or integers, on any device
        - lengths: B integers, the number of valid samples; all samples by default
    """
    batch: Any = waves.detach().cpu() if hasattr(waves, "detach") else waves
    if not hasattr(batch, "shape") or len(batch.shape) not in (1, 2, 3):
        shape = tuple(batch.shape) if hasattr(batch, "shape") else type(waves).__name__
        raise TypeError(f"waves are a tensor [S], [B, S] or [B, C, S], not {shape}")
    if batch.ndim == 1:
        batch = batch[None]
    sizes = batch_sizes(len(batch), batch.shape[-1], lengths)
    clips = (to_clip(wave[..., :size], sample_rate) for wave, size in zip(batch, sizes, strict=True))
    return list(scorer.stream(replace(clip, id=f"clip {row}") for row, clip in enumerate(clips)))
