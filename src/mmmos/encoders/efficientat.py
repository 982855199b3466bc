"""EfficientAT (Schmid, Koutini and Widmer, ICASSP 2023): AudioSet's classes by a small MobileNetV3, full-band.

    wave 32 kHz ► log-mel [128, L], a frame every 10 ms ► convolution, stride 2 ► 15 inverted residual blocks
         ► 1×1 convolution ► map [C, 4, T], T = ceil(L / 32) ► mean over frequency ► C values, 3.125 per second
                                                            └► mean over both ► 527 class logits

Reads the checkpoints that github.com/fschmid56/EfficientAT releases (MIT) for its widths at the default strides, for
example mn04_as_mAP_432.pt, of width 0.4: C = 384. Batch norms are folded into the convolutions before them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmos.encoders.base import Encoder
from mmmos.encoders.mel import mel_filters
from mmmos.encoders.weights import fold_batch_norms, load_strictly, read_checkpoint
from mmmos.errors import ModelFormatError
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions

if TYPE_CHECKING:
    from typing import Self

RATE = 32_000  # Hz
WINDOW = 800  # samples, 25 ms
HOP = 320  # samples, 10 ms
FFT = 1024  # samples
MELS = 128
TOP_HZ = 15_000.0  # where the highest mel band ends
PRE_EMPHASIS = 0.97
FLOOR = 1e-5  # added to the power before the logarithm
STRIDE = 32  # log-mel frames per frame
CLASSES = 527
EPS = 1e-3  # of every batch norm

BLOCKS = (
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    (5, 120, 40, True, nn.ReLU, 1),
    (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2),
    (5, 960, 160, True, nn.Hardswish, 1),
    (5, 960, 160, True, nn.Hardswish, 1),
)
"""Kernel, channels inside and out at width 1, squeeze and excitation, activation, stride (MobileNetV3-Large)."""
FIRST, LAST, HIDDEN = 16, 6 * 160, 1280  # channels of the first and last convolution, and inside the classifier


class EfficientAT(Encoder):
    """Frames of the last map's mean over frequency; their mean over time is the published embedding.

    The maps have 128 / 32 = 4 frequencies, and padding at their edges as published, so that the first and the last
    frames depend on where a clip ends.
    """

    name = "efficientat"
    sample_rate = RATE
    rate_hz = RATE / HOP / STRIDE
    min_samples = RATE // 10
    window: Tensor
    filters: Tensor

    def __init__(self, width: float = 0.4) -> None:
        """With random weights, `width` times as wide as MobileNetV3-Large; `from_checkpoint` reads trained ones."""
        super().__init__()
        first, self.dim, hidden = scaled(FIRST, width), 6 * scaled(LAST // 6, width), scaled(HIDDEN, width)
        self.block_dims = (self.dim,)
        layers: list[nn.Module] = [_convolution(1, first, 3, nn.Hardswish, stride=2)]
        channels = first
        for kernel, inside, out, squeezes, activation, stride in BLOCKS:
            layers.append(
                _Block(channels, scaled(inside, width), scaled(out, width), kernel, squeezes, activation, stride)
            )
            channels = scaled(out, width)
        layers.append(_convolution(channels, self.dim, 1, nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(self.dim, hidden), nn.Hardswish(), nn.Linear(hidden, CLASSES))
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=False), persistent=False)
        filters = mel_filters(RATE, FFT, MELS, high_hz=TOP_HZ, htk=True, unit_area=False, linear_in_mel=True)
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.train()

    @classmethod
    def from_checkpoint(cls, path: Path, options: LoadOptions = DEFAULT_OPTIONS) -> Self:
        """Read a released .pt file, whose weights say its width. Raises `ModelNotFoundError`, `ModelFormatError`."""
        held = read_checkpoint(Path(path), options)
        state = _own(held, str(path))
        encoder = cls(state["features.16.0.bias"].numel() / LAST)
        load_strictly(encoder, state, str(path))
        return encoder

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> [B, T, D]."""
        return self.maps(waves).mean(dim=2).transpose(1, 2)

    def classify(self, waves: Tensor) -> Tensor:
        """Logits of AudioSet's classes, in its own order: [B, S] -> [B, 527]."""
        logits: Tensor = self.classifier(self.maps(waves).mean(dim=(2, 3)))
        return logits

    def maps(self, waves: Tensor) -> Tensor:
        """The last convolution's output, [B, S] -> [B, D, 4, T]."""
        log_mel = self.log_mel(waves)[:, None].to(next(self.parameters()).dtype)
        maps: Tensor = self.features(log_mel)
        return maps

    def log_mel(self, waves: Tensor) -> Tensor:
        """Scaled logarithm of the power in mel bands, [B, S] -> [B, 128, (S - 1) // 320 + 1], in float32."""
        with torch.autocast(waves.device.type, enabled=False):
            waves = waves.float()
            waves = waves[:, 1:] - PRE_EMPHASIS * waves[:, :-1]
            bins = torch.stft(waves, FFT, HOP, WINDOW, self.window, return_complex=True)
            power = self.filters @ torch.view_as_real(bins).square().sum(dim=-1)
            return ((power + FLOOR).log() + 4.5) / 5


class _Block(nn.Module):
    """Expand, filter each channel, weigh the channels, project; with the input added where shapes allow."""

    def __init__(
        self,
        channels: int,
        inside: int,
        out: int,
        kernel: int,
        squeezes: bool,
        activation: type[nn.Module],
        stride: int,
    ) -> None:
        super().__init__()
        self.adds = stride == 1 and channels == out
        parts: list[nn.Module] = [] if inside == channels else [_convolution(channels, inside, 1, activation)]
        parts.append(_convolution(inside, inside, kernel, activation, stride, groups=inside))
        if squeezes:
            parts.append(_Squeeze(inside))
        self.block = nn.Sequential(*parts, _convolution(inside, out, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out + x if self.adds else out


class _Squeeze(nn.Module):
    """Channels weighed by a perceptron on their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, scaled(channels // 4, 1))
        self.fc2 = nn.Linear(scaled(channels // 4, 1), channels)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3))))))
        return x * weights[:, :, None, None]


def scaled(channels: int, width: float) -> int:
    """Channels at a width: the nearest multiple of 8, but no more than a tenth below.

    >>> [scaled(channels, 0.4) for channels in (16, 64, 112, 960)]
    [8, 24, 48, 384]
    """
    wanted = channels * width
    near = max(8, int(wanted + 4) // 8 * 8)
    return near + 8 if near < 0.9 * wanted else near


def _convolution(
    channels: int, out: int, kernel: int, activation: type[nn.Module] | None = None, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution with the bias of its batch norm, then the activation."""
    conv = nn.Conv2d(channels, out, kernel, stride, (kernel - 1) // 2, groups=groups)
    return nn.Sequential(conv, activation()) if activation else nn.Sequential(conv)


def _own(held: Any, source: str) -> dict[str, Tensor]:
    """Weights by our keys, with batch norms folded."""
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise ModelFormatError(f"{source} holds no table of tensors")
    if "features.16.1.weight" not in held:
        raise ModelFormatError(f"{source} does not fit EfficientAT: missing features.16.1.weight")
    norms = {re.sub(r"running_\w+$", "", key) for key in held if ".running_" in key}
    state = fold_batch_norms(held, {norm: re.sub(r"1\.$", "0.", norm) for norm in norms}, EPS, source)
    renames = (
        (r"\.conc_se_layers\.0\.", "."),
        (r"^classifier\.2\.", "classifier.0."),
        (r"^classifier\.5\.", "classifier.2."),
    )
    for pattern, replacement in renames:
        state = {re.sub(pattern, replacement, key): value for key, value in state.items()}
    return state
