"""EfficientAT as published, by its published names: MobileNetV3-Large with batch norms, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

# Kernel, channels inside, channels out, squeeze, hard swish, stride: Table 1 of Howard et al. (2019).
TABLE = """3 16 16 - - 1; 3 64 24 - - 2; 3 72 24 - - 1; 5 72 40 y - 2; 5 120 40 y - 1; 5 120 40 y - 1; 3 240 80 - y 2;
3 200 80 - y 1; 3 184 80 - y 1; 3 184 80 - y 1; 3 480 112 y y 1; 3 672 112 y y 1; 5 672 160 y y 2; 5 960 160 y y 1;
5 960 160 y y 1"""


def rounded(channels: float) -> int:
    near = max(8, 8 * int(channels / 8 + 0.5))
    return near if near >= 0.9 * channels else near + 8


def unit(n: int, m: int, kernel: int, act: nn.Module | None = None, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(n, m, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(m, eps=0.001), *([act] if act else []))


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = nn.Module()
        inner.fc1 = nn.Linear(channels, rounded(channels // 4))
        inner.fc2 = nn.Linear(rounded(channels // 4), channels)
        self.conc_se_layers = nn.ModuleList([inner])

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conc_se_layers[0]
        scale = inner.fc2(inner.fc1(x.flatten(2).mean(2)).clamp(min=0)).sigmoid()
        return torch.einsum("bcft,bc->bcft", x, scale)


class Residual(nn.Module):
    def __init__(self, n: int, width: float, row: str) -> None:
        super().__init__()
        kernel, inside, out, squeezes, swish, stride = row.split()
        hidden, self.out = rounded(int(inside) * width), rounded(int(out) * width)
        act = nn.Hardswish() if swish == "y" else nn.ReLU()
        parts = [unit(n, hidden, 1, act)] if hidden != n else []
        parts.append(unit(hidden, hidden, int(kernel), act, int(stride), hidden))
        parts += [Squeeze(hidden)] if squeezes == "y" else []
        self.block = nn.Sequential(*parts, unit(hidden, self.out, 1))
        self.same = n == self.out and stride == "1"

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + x if self.same else self.block(x)


class Reference(nn.Module):
    """Random weights of a width, of which none does nothing."""

    def __init__(self, width: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [unit(1, rounded(16 * width), 3, nn.Hardswish(), 2)]
        channels = rounded(16 * width)
        for row in TABLE.split(";"):
            layers.append(Residual(channels, width, row))
            channels = layers[-1].out
        layers.append(unit(channels, 6 * channels, 1, nn.Hardswish()))
        self.features = nn.Sequential(*layers)
        hidden = rounded(1280 * width)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6 * channels, hidden), nn.Hardswish(), nn.Dropout(0.2),
            nn.Linear(hidden, 527),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values, low in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -0.5)):
                    values.data.uniform_(low, low + 1)
                module.running_mean.normal_()
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in")
        self.double().eval().requires_grad_(False)

    def log_mel(self, clip: Tensor) -> Tensor:
        audio_utils = pytest.importorskip("transformers.audio_utils")
        x = np.convolve(clip.double().numpy(), [1, -0.97], "valid")
        window = np.pad(np.hanning(800), 112)
        power = audio_utils.spectrogram(x, window, 1024, 320, 1024, power=2.0, dtype=np.float64)
        banks = audio_utils.mel_filter_bank(
            513, 128, 0, 15_000, 32_000, mel_scale="kaldi", triangularize_in_mel_space=True
        )
        return torch.from_numpy((np.log(banks.T @ power + 1e-5) + 4.5) / 5)

    def maps(self, clip: Tensor) -> Tensor:
        """One clip [S] -> [D, 4, T]."""
        return self.features(self.log_mel(clip)[None, None])[0]
