"""MuQ as published: its keys on the conformer of `transformers`, and its front end on the mel filters there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.references.mel import spectrogram

RATE = 24_000  # Hz
STAT = {"melspec_2048_cnt": 14282760192, "melspec_2048_mean": 6.768444971712967, "melspec_2048_std": 18.417922652295623}


class Block(nn.Module):
    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        for i, n in enumerate((inputs, channels, inputs), 1):
            step = 1 if i == 2 else (2, stride)
            self.add_module(f"conv{i}", nn.Conv2d(n, channels, 3, step, padding=1))
            self.add_module(f"bn{i}", nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.bn3(self.conv3(x)))


class Published(nn.Module):
    """The published network's keys, and what it computes from normalised spectra [B, 128, F]."""

    def __init__(self, outer: dict[str, Any]) -> None:
        super().__init__()
        hub = pytest.importorskip("transformers.models.wav2vec2_conformer")
        networks = pytest.importorskip("transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer")
        channels, width = outer["conv_dim"], outer["encoder_dim"]
        inner = {key: value for key, value in outer["w2v2_config"].items() if key not in ("model_type", "torch_dtype")}
        inner |= {"hidden_size": width, "num_hidden_layers": outer["encoder_depth"]}
        config = hub.Wav2Vec2ConformerConfig(**inner)
        config._attn_implementation = "eager"
        late = {25: 2, 50: 1}[outer["label_rate"]]
        conv, self.model = nn.Module(), nn.Module()
        conv.conv = nn.Sequential(Block(1, channels, 2), Block(channels, channels, late))
        conv.linear = nn.Linear(channels * 32, width)
        self.model.conv = conv
        self.model.conformer = networks.Wav2Vec2ConformerEncoder(config)
        self.model.linear = nn.Linear(width, outer["codebook_size"])
        self.model.cls_token = nn.Parameter(torch.randn(width))
        self.eval().requires_grad_(False)
        for name, module in self.named_modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.3, 2)
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.2)
            if name.endswith(("linear_q", "linear_k")):
                module.weight.mul_(3)  # attention that chooses

    @torch.no_grad()
    def forward(self, spectra: Tensor) -> Tensor:
        maps = self.model.conv.conv(spectra[:, None])  # [B, channels, bands, T]
        values = torch.stack([maps[..., t].flatten(1) for t in range(maps.shape[3])], dim=1)
        return self.model.conformer(self.model.conv.linear(values)).last_hidden_state


def spectra(clip: Tensor, stat: dict[str, float] = STAT, hop: int = 240) -> Tensor:
    """The published front end in float64 on transformers' filters: [1, S] -> [1, 128, S // hop]."""
    audio_utils = pytest.importorskip("transformers.audio_utils")
    filters = audio_utils.mel_filter_bank(1025, 128, 0, 12_000, RATE, norm=None, mel_scale="htk").T
    power = spectrogram(clip[0].double().numpy(), 2048, hop)[:, : clip.shape[1] // hop] ** 2
    decibels = 10 * np.log10(np.maximum(filters @ power, 1e-10))
    return torch.from_numpy((decibels - stat["melspec_2048_mean"]) / stat["melspec_2048_std"]).float()[None]
