"""Encoders whose heavy parts a compiled back end runs. Front ends, and all of the weights, stay those of the encoder.

A part is a method from tensors to a tensor. It is traced and compiled once, and then replaces the method.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mmmos.encoders.base import Encoder

Part = Callable[..., Tensor]
"""A method of `Encoder.parts`, or what replaces it."""

Inputs = tuple[Tensor, ...]

SECONDS = ((1, 2.0), (2, 2.0), (1, 9.7))
"""Clips in a batch and their length in s: shapes that differ between these differ between clips."""


def with_parts(encoder: Encoder, replace: Callable[[str, Part], Part]) -> Encoder:
    """A copy of an encoder with the same weights in memory, each part replaced by `replace(name, part)`."""
    changed = copy.copy(encoder)
    changed._modules = {
        name: with_parts(child, replace) if isinstance(child, Encoder) else child
        for name, child in encoder._modules.items()
    }
    for name in encoder.parts:
        setattr(changed, name, replace(name, getattr(encoder, name)))
    return changed


def part_names(encoder: Encoder) -> list[str]:
    """Names of an encoder's parts, also of the encoder in a `Padded`."""
    found: list[str] = []

    def note(name: str, part: Part) -> Part:
        found.append(name)
        return part

    with_parts(encoder, note)
    return found


def recorded(encoder: Encoder, waves: Iterable[Tensor]) -> tuple[dict[str, Part], dict[str, list[Inputs]]]:
    """The parts, and the inputs of each call of each while the encoder runs on waveforms [B, S]."""
    parts: dict[str, Part] = {}
    inputs: dict[str, list[Inputs]] = defaultdict(list)

    def recording(name: str, part: Part) -> Part:
        parts[name] = part

        def call(*tensors: Tensor) -> Tensor:
            inputs[name].append(tuple(tensor.detach().float().clone() for tensor in tensors))
            return part(*tensors)

        return call

    recorder = with_parts(encoder, recording)
    with torch.no_grad():
        for batch in waves:
            recorder.frames(batch)
    return parts, inputs


def noise(encoder: Encoder, clips: int, seconds: float) -> Tensor:
    """White noise at -20 dB of full scale, the same in every run, [B, S]."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(clips, round(seconds * encoder.sample_rate), generator=generator)


def dynamic_shapes(calls: Sequence[Inputs]) -> list[list[int]]:
    """The shape of each input of a part, -1 for every dimension that differs between calls.

    >>> short, long = torch.zeros(1, 20, 8), torch.zeros(1, 30, 8)
    >>> dynamic_shapes([(short,), (long,)])
    [[1, -1, 8]]
    """
    shapes = [[tensor.shape for tensor in inputs] for inputs in zip(*calls, strict=True)]
    return [[sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*group, strict=True)] for group in shapes]
