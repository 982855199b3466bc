"""From waveform to scores with gradients: a reward or a loss for a model that makes audio."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mmmos.encoders import Encoder
from mmmos.hub import ScoringModel
from mmmos.resample import resample


class DifferentiableScorer(nn.Module):
    """Scores on the label scale, one window a clip. Its own weights stay frozen.

    `sample_rate` is the highest that an encoder hears; for the others it is resampled, differentiably, which
    differs from files' resampling by about a hundredth of a point.

    Shape:
        - waves: [B, S] mono in [-1, 1] at `sample_rate`
        - lengths: [B] samples, all of them when left out
        - returns: [B, A] in the order of `AXES`
    """

    weights: Tensor  # [M, A]
    mean: Tensor  # [M, A]
    std: Tensor  # [M, A]

    def __init__(self, model: ScoringModel, encoders: Mapping[str, Encoder]) -> None:
        super().__init__()
        self._rates = {name: encoder.sample_rate for name, encoder in encoders.items()}
        self.sample_rate = max(self._rates.values())
        self.encoders = nn.ModuleDict(dict(encoders))
        self.members = nn.ModuleList(member.model for member in model.members)
        scales = [(member.scale.mean, member.scale.std) for member in model.members]
        for name, values in zip(("weights", "mean", "std"), (model.weights, *zip(*scales, strict=True)), strict=True):
            self.register_buffer(name, torch.as_tensor(np.asarray(values), dtype=torch.float32))
        self.train()

    def train(self, mode: bool = True) -> DifferentiableScorer:
        """Stays in evaluation mode, whatever is asked: also as part of a model that is being trained."""
        super().train(False)
        return self.requires_grad_()

    def requires_grad_(self, requires_grad: bool = True) -> DifferentiableScorer:
        """Stays without gradient to its weights, whatever is asked."""
        super().requires_grad_(False)
        return self

    def forward(self, waves: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, S] -> [B, A]."""
        if lengths is not None:  # a filter must not carry what is behind the end into the clip
            waves = waves * (torch.arange(waves.shape[1], device=waves.device) < lengths.to(waves.device)[:, None])
        features = {}
        for name, encoder in self.encoders.items():
            rate = self._rates[name]
            heard = None if lengths is None else (lengths * (rate / self.sample_rate)).ceil().long()
            features[name] = encoder(resample(waves, self.sample_rate, rate), heard)
        z = torch.stack([member(features) for member in self.members])
        labels = z * self.std.unsqueeze(1) + self.mean.unsqueeze(1)
        return torch.einsum("mba,ma->ba", labels, self.weights)
