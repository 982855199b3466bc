"""The encoder interface, and the features that an encoder returns.

An encoder is frozen: evaluation mode, no gradient to its weights, one sample rate. A clip's features
depend only on that clip's own samples. The base class ensures this: clips of equal length go through
the network together, clips of different lengths separately, so no clip is ever padded.
"""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmmos.audio.windows import MIN_SECONDS, Window
from mmmos.errors import AudioError, SampleRateError, UsageError


@dataclass(frozen=True)
class Features:
    """Frames of a batch of clips at one rate.

    Shape:
        - frames: [B, T, D], zero where `mask` is False
        - mask: [B, T] bool, True where a frame is valid
    """

    frames: Tensor
    mask: Tensor
    rate_hz: float

    def __post_init__(self) -> None:
        if self.frames.ndim != 3 or self.mask.shape != self.frames.shape[:2]:
            raise ValueError(f"frames {tuple(self.frames.shape)} and mask {tuple(self.mask.shape)} do not match")


class Encoder(nn.Module, ABC):
    """A frozen network from waveform to frames. Subclasses define `frames` for clips of equal length.

    One without weights registers the constants that determine its features as a buffer: they enter the fingerprint.
    """

    name: str
    """Key in `ENCODERS`."""
    sample_rate: int
    """Hz, of the waveforms that it accepts."""
    dim: int
    """D, values per frame."""
    block_dims: tuple[int, ...]
    """Width of each block of a frame's values, sum D: for example a layer's values and the network's own score."""
    rate_hz: float
    """Nominal frames per second."""
    min_samples: int
    """Shortest clip it can encode, in samples at `sample_rate`."""
    parts: tuple[str, ...] = ()
    """Methods from tensors to one tensor, without state, with most of the arithmetic: what `compiled` compiles."""

    @classmethod
    def from_checkpoint(cls, path: Path, *args: Any, **settings: Any) -> Encoder:
        """An encoder with published weights from a file or folder.

        The other arguments are a `LoadOptions`, which says whether to read a pickle, and settings of the class.

        Raises `ModelNotFoundError`, `ModelFormatError`, and `UsageError` for one that comes with the package.
        """
        raise UsageError(f"the encoder {cls.name} comes with the package and takes no checkpoint")

    @abstractmethod
    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] of equal length, in [-1, 1] -> frames [B, T, D]. Differentiable."""

    @property
    def device(self) -> torch.device:
        """The device of its weights, or of its buffers if it has no weights. Raises TypeError if it has neither."""
        tensor = next(itertools.chain(self.parameters(), self.buffers()), None)
        if tensor is None:
            raise TypeError(f"the encoder {self.name} has no weights and no buffer: register its constants as a buffer")
        return tensor.device

    def settings(self) -> dict[str, Any]:
        """Options that change the features; part of the fingerprint and of a model's config."""
        return {}

    def forward(self, waves: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Features:
        """Features of a padded batch, differentiable with respect to `waves`.

        Shape:
            - waves: [B, S] mono, in [-1, 1], at `sample_rate`
            - lengths: [B] number of valid samples in each row; all samples by default

        Raises `AudioError` ("too_short") for a row under `min_samples`, ValueError for any other layout.
        """
        if waves.ndim != 2 or not waves.is_floating_point():
            raise ValueError(f"waves must be floating point [B, S], not {waves.dtype} {tuple(waves.shape)}")
        sizes = [waves.shape[1]] * len(waves) if lengths is None else [int(n) for n in lengths]
        if len(sizes) != len(waves) or any(size > waves.shape[1] for size in sizes):
            raise ValueError(f"lengths {sizes} do not fit waves {tuple(waves.shape)}")
        if sizes and min(sizes) < self.min_samples:
            raise AudioError(
                "too_short", f"{self.name} needs {self.min_samples / self.sample_rate:.3f} s of audio at least"
            )
        clips = waves.unbind()
        by_clip: dict[int, Tensor] = {}
        for size in sorted(set(sizes)):
            alike = [i for i, other in enumerate(sizes) if other == size]
            # A CPU is faster with one clip at a time: the activations stay in its cache.
            step = 1 if waves.device.type == "cpu" else len(alike)
            for rows in (alike[i : i + step] for i in range(0, len(alike), step)):
                by_clip |= zip(rows, self.frames(torch.stack([clips[i][:size] for i in rows])), strict=True)
        return _pad([by_clip[i] for i in range(len(sizes))], self.dim, self.rate_hz)

    @torch.no_grad()
    def encode(
        self, waves: Tensor, lengths: Tensor | Sequence[int] | None = None, sample_rate: int | None = None
    ) -> Features:
        """`forward` without gradients. `sample_rate`, if given, must be the encoder's own."""
        if sample_rate not in (None, self.sample_rate):
            raise SampleRateError(f"{self.name} takes audio at {self.sample_rate} Hz, not at {sample_rate} Hz")
        features: Features = self(waves, lengths)
        return features

    def train(self, mode: bool = True) -> Encoder:
        """Always in evaluation mode; `mode` is ignored: the encoders are frozen (paper, section III)."""
        super().train(False)
        return self.requires_grad_()

    def requires_grad_(self, requires_grad: bool = True) -> Encoder:
        """Always without gradients for its weights; `requires_grad` is ignored."""
        super().requires_grad_(False)
        return self

    def fingerprint_key(self, key: str) -> str:
        """The name of a tensor in the fingerprint, which stays the same when an attribute is renamed."""
        return key

    def fingerprint(self) -> str:
        """sha256 of name, settings and weights: equal fingerprints give equal features."""
        digest = hashlib.sha256(f"{self.name} {sorted(self.settings().items())}".encode())
        state = {self.fingerprint_key(key): value for key, value in self.state_dict().items()}
        for key, value in sorted(state.items()):
            digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def required_rates(encoders: Iterable[Encoder]) -> list[int]:
    """The sample rates (Hz) of the encoders, without duplicates, in ascending order."""
    return sorted({encoder.sample_rate for encoder in encoders})


def min_duration(encoders: Iterable[Encoder]) -> float:
    """Duration (s) of the shortest clip that all the encoders accept, at least `MIN_SECONDS`."""
    return max([MIN_SECONDS, *(encoder.min_samples / encoder.sample_rate for encoder in encoders)])


def encode_windows(
    encoders: Mapping[str, Encoder], windows: Sequence[Window], dtype: torch.dtype = torch.float32
) -> dict[str, Features]:
    """Features of windows by encoder. Each encoder runs once, on its own device.

    `dtype` is the precision of its arithmetic where that is safe; features are float32.
    """
    features = {}
    for name, encoder in encoders.items():
        device = encoder.device
        waves = [torch.from_numpy(window.waves[encoder.sample_rate]) for window in windows]
        lengths = [len(wave) for wave in waves]
        padded = nn.utils.rnn.pad_sequence(waves, batch_first=True).to(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            encoded = encoder.encode(padded, lengths, encoder.sample_rate)
        features[name] = replace(encoded, frames=encoded.frames.float())
    return features


def _pad(clips: list[Tensor], dim: int, rate_hz: float) -> Features:
    longest = max((len(clip) for clip in clips), default=0)
    if not clips:
        return Features(torch.zeros(0, 0, dim), torch.zeros(0, 0, dtype=torch.bool), rate_hz)
    frames = torch.stack([nn.functional.pad(clip, (0, 0, 0, longest - len(clip))) for clip in clips])
    lengths = torch.tensor([len(clip) for clip in clips], device=frames.device)
    return Features(frames, torch.arange(longest, device=frames.device) < lengths[:, None], rate_hz)


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder that a model was trained on, with all that is needed to load the same one again."""

    name: str  # key in `ENCODERS`
    block_dims: tuple[int, ...]  # width of each block of its frames, sum D
    fingerprint: str  # `Encoder.fingerprint()`: a different one would give different scores
    options: dict[str, Any] = field(default_factory=dict)  # arguments of `load_encoder`
    checkpoint: str | None = None  # path of its weights, if one was given; relative to the model's folder
