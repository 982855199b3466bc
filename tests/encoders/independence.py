"""A clip's features do not depend on the clips in its batch, nor on padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmmos.encoders.base import Encoder


def assert_independent(encoder: Encoder, clips: Sequence[Tensor]) -> None:
    """Clips [S] in one batch, with loud padding, have the features that each has alone."""
    waves = torch.full((len(clips), max(map(len, clips)) + 777), 0.5)  # padding that would change the features
    for row, clip in zip(waves, clips, strict=True):
        row[: len(clip)] = clip
    together = encoder.encode(waves, torch.tensor([len(clip) for clip in clips]))
    for frames, mask, clip in zip(together.frames, together.mask, clips, strict=True):
        torch.testing.assert_close(frames[mask], encoder.encode(clip[None]).frames[0], rtol=1e-4, atol=1e-4)
        assert (frames[~mask] == 0).all()
