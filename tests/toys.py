"""Encoders and models without a network: parts that tests pass in where the product has large ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmmos.encoders.base import Encoder, EncoderSpec
from mmmos.encoders.device import low_precision_instructions
from mmmos.hub.options import LoadOptions
from mmmos.model.info import ModelInfo
from mmmos.model.quality import ModelConfig, build_model
from mmmos.model.system import Member, ScoringModel
from mmmos.scores import Scale

CPU, TRUSTED = LoadOptions("cpu"), LoadOptions(trust_checkpoint=True)


class ToyEncoder(Encoder):
    """Log power of 10-ms frames along four directions: all that an encoder is, without a network."""

    name = "toy"
    sample_rate = 16_000
    dim = 4
    block_dims = (3, 1)
    rate_hz = 100.0
    min_samples = 160

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        directions = torch.randn(4, 160, generator=torch.Generator().manual_seed(0))
        self.directions = nn.Parameter(directions / directions.norm(dim=1, keepdim=True))
        self.drop = nn.Dropout(0.5)  # shows when the encoder is not in evaluation mode

    def settings(self) -> dict[str, float]:
        return {"gain": self.gain}

    def frames(self, waves: Tensor) -> Tensor:
        projected = self.drop(nn.functional.linear(waves.unfold(1, 160, 160), self.directions))
        return (self.gain * projected.square() + 1e-4).log()


class PartedToy(ToyEncoder):
    """A toy with a part that a back end can compile."""

    parts = ("project",)

    def frames(self, waves: Tensor) -> Tensor:
        return self.project(waves.unfold(1, 160, 160))

    def project(self, windows: Tensor) -> Tensor:
        """[B, T, 160] -> [B, T, 4]."""
        return nn.functional.linear(windows, self.directions).square().add(1e-4).log()


def is_rounded(precision: str) -> bool:
    """Whether this CPU rounds the outputs of a compiled part to a precision.

    Without the instructions, bfloat16 is computed in float32, and int8 may overflow, so that the part stays as it was.
    """
    ends = {"float32": (), "bfloat16": ("bf16",), "int8": ("vnni", "int8")}[precision]
    return any(name.endswith(ends) for name in low_precision_instructions().split())


class SlowToy(ToyEncoder):
    """A toy at 8 kHz and half the frame rate."""

    name = "slow"
    sample_rate = 8_000
    rate_hz = 50.0


def toy_config(**options: object) -> ModelConfig:
    """A model on `ToyEncoder`; `options` are other fields of its config."""
    return ModelConfig((EncoderSpec("toy", ToyEncoder.block_dims, ToyEncoder().fingerprint()),), **options)


def toy_member(seed: int, config: ModelConfig | None = None) -> Member:
    """A model of random weights with the scale 5 ± 1 on every axis."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # without the tracebacks of torch.manual_seed
        model = build_model(config or toy_config()).eval().requires_grad_(False)
    return Member(model, Scale((5.0,) * 4, (1.0,) * 4))


def toy_model(*members: Member, weights: NDArray[np.float64] | None = None) -> ScoringModel:
    """The members as an ensemble, all alike if no weights [M, A] are given."""
    if weights is None:
        weights = np.full((len(members), 4), 1 / len(members))
    return ScoringModel("toys", members, weights, ModelInfo(), "0" * 64)
