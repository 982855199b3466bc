"""Gradient ascent on a reward: an equaliser that raises the Production Quality of a dull clip.

The reward is the mean PQ of all members of lite but one, the held-out member. The distance to the start is subtracted,
times a weight: it keeps the generator from exploiting the reward. A signal with a parameter per sample, which is free
to do so, is for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from mmmos.inference.predictor import Predictor
from mmmos.scores import AXES

BANDS = tuple(31.25 * 2**octave for octave in range(10))
"""Centre frequencies, Hz."""

DULL = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -6.0, -14.0, -22.0, -30.0)
"""Gains in dB that make a clip dull: the degradation."""

PQ = AXES.index("PQ")


class Equaliser(nn.Module):
    """A gain in dB per band, linear over log frequency between bands; zero phase.

    Shape:
        - wave: [S] at `rate`, Hz
        - returns: [S]
    """

    def __init__(self, gains: tuple[float, ...] = (0.0,) * len(BANDS)) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.tensor(gains))

    def forward(self, wave: Tensor, rate: int) -> Tensor:
        """The wave with these gains."""
        size = 2 * len(wave)  # room for the filter's tail
        octaves = torch.log2(torch.fft.rfftfreq(size, 1 / rate).clamp(min=1.0) / BANDS[0])
        octaves = octaves.clamp(0, len(BANDS) - 1)
        slopes = (1 - (octaves[:, None] - torch.arange(len(BANDS))).abs()).clamp(min=0)  # [F, bands], rows sum to 1
        response = 10 ** (slopes @ self.gains / 20)
        return torch.fft.irfft(torch.fft.rfft(wave, size) * response, size)[: len(wave)]

    def distance(self) -> Tensor:
        """Mean square of the gains, dB²: the distance to the start, at which all gains are zero."""
        return self.gains.square().mean()


class FreeSignal(nn.Module):
    """A signal that is added to the wave: every sample is a parameter."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.signal = nn.Parameter(torch.zeros(samples))

    def forward(self, wave: Tensor, rate: int) -> Tensor:
        """The sum, within full scale."""
        return (wave + self.signal).clamp(-1, 1)

    def distance(self) -> Tensor:
        """Mean square of the signal."""
        return self.signal.square().mean()


@dataclass(frozen=True)
class Step:
    """The state before one step of the ascent."""

    reward: float  # mean PQ of the members that are climbed, points
    held_out: float  # PQ of the member that is not, points
    start_distance: float  # square root of the generator's `distance`
    original_distance: float  # log-spectral distance to the original, dB
    other: float | None = None  # score by another predictor


def split(scorer: Predictor) -> tuple[Predictor, Predictor]:
    """The ensemble without its last member, and that member alone."""
    model = scorer.model
    weights = model.weights[:-1] / model.weights[:-1].sum(axis=0)
    parts = (
        replace(model, members=model.members[:-1], weights=weights),
        replace(model, members=model.members[-1:], weights=np.ones_like(weights[:1])),
    )
    climbed, held_out = (Predictor(replace(part, loaded=scorer.encoders)) for part in parts)
    return climbed, held_out


def ascend(
    scorer: Predictor,
    generator: Equaliser | FreeSignal,
    start: Tensor,
    original: Tensor,
    rate: int,
    *,
    steps: int,
    lr: float,
    distance_weight: float,
    other: Callable[[Tensor], float] | None = None,
) -> Iterator[Step]:
    """Climb PQ minus `distance_weight` times the distance to the start; yields the state before each step and after.

    `other` is a predictor that has no part in the reward.

    Shape:
        - start, original: [S] at `rate`, Hz
    """
    climbed, held_out = split(scorer)
    optimizer = torch.optim.Adam(generator.parameters(), lr=lr)
    for step in range(steps + 1):
        wave = generator(start, rate)
        reward = climbed.module(wave, sample_rate=rate)[0, PQ]
        yield Step(
            reward.item(),
            held_out.score(wave, sample_rate=rate).PQ,
            generator.distance().sqrt().item(),
            spectral_distance(wave.detach(), original),
            None if other is None else other(wave.detach()),
        )
        if step < steps:
            optimizer.zero_grad()
            (distance_weight * generator.distance() - reward).backward()
            optimizer.step()


def spectral_distance(wave: Tensor, original: Tensor) -> float:
    """Root mean square difference of two log power spectra, dB, above -80 dB of the original's maximum."""
    spectra = [
        torch.stft(item, 2048, window=torch.hann_window(2048), return_complex=True).abs().square() + 1e-12
        for item in (wave, original)
    ]
    floor = 1e-8 * spectra[1].max()
    levels = [10 * torch.log10(spectrum.clamp(min=floor)) for spectrum in spectra]
    return float((levels[0] - levels[1]).square().mean().sqrt())
