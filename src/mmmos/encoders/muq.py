"""MuQ (Zhu et al., arXiv 2501.01108), the paper's music encoder: 12 conformer layers on a convolutional stem.

    wave 24 kHz ► log-mel, dB ► residual block ► residual block ► linear ► 12 layers ► norm ► 1024 values per frame,
                  128 × 100 Hz  512 × 64 × 50 Hz 512 × 32 × 25 Hz                               25 frames per second
    layer: + ½ feed-forward, + attention, + convolution over 31 frames, + ½ feed-forward, then a norm

The weights are on the hub as OpenMuQ/MuQ-large-msd-iter, config.json and a flat file of tensors, under CC BY-NC 4.0.
Keys are the published ones; parts that only training needs are not built (muq_checkpoint.py).

Two things are unusual and kept as published. Rotary position embeddings are applied to the attention input, not, as
usual, to queries and keys. And the published MMMOS system passed audio at 16 kHz to this 24 kHz network without
resampling, so speed and pitch were 1.5 times too high: `muq_sample_rate=16000` reproduces that. The paper says that all
audio is resampled to 16 kHz: `muq_via_16k` does so, and then resamples to 24 kHz, so speed and pitch are right.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmmos.encoders.base import Encoder
from mmmos.encoders.mel import mel_filters
from mmmos.encoders.muq_checkpoint import FILES, IGNORED, STRIDES, MuQConfig, fold_norms, read_config
from mmmos.encoders.muq_layers import ConformerLayer, Residual, turns
from mmmos.encoders.resample import resample
from mmmos.encoders.weights import load_strictly, read_checkpoint
from mmmos.errors import ModelFormatError, UsageError
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

RATE = 24_000  # Hz, of the network's training audio
LOW_RATE = 16_000  # Hz, of the paper's audio
RATES = (RATE, LOW_RATE)  # Hz, of the sound that it can be given
FFT = 2048  # samples, and as long a window
MELS = 128
FLOOR = 1e-10  # weakest power in a band, -100 dB


class MuQ(Encoder):
    """Frames of 1024 values, 25 per second: T = ceil(floor(S / 240) / 4) for S samples at 24 kHz.

    With `muq_via_16k` it takes waveforms at 16 kHz, without anything above 8 kHz, and resamples them to 24 kHz itself.

    The front end always computes in float32, whatever the network's dtype; frames have the dtype of the waveforms.
    """

    name = "muq"
    parts = ("convolve", "conform")

    def __init__(self, config: MuQConfig | None = None, muq_sample_rate: int = RATE, muq_via_16k: bool = False) -> None:
        """With random weights; `from_checkpoint` reads trained ones."""
        if muq_sample_rate not in RATES:
            raise UsageError(f"muq_sample_rate is one of {RATES}, not {muq_sample_rate!r}")
        if muq_via_16k and muq_sample_rate != RATE:
            raise UsageError(f"muq_via_16k is for muq_sample_rate {RATE}, not {muq_sample_rate}")
        super().__init__()
        self.config = config = config or MuQConfig()
        self.via_16k = muq_via_16k
        self.sample_rate = LOW_RATE if muq_via_16k else muq_sample_rate
        self.min_samples = self.sample_rate // 10  # 0.1 s; reflection at the edges needs more than half a window
        self.dim, self.block_dims = config.encoder_dim, (config.encoder_dim,)
        self.front = _LogMel(config, LOW_RATE if muq_via_16k else RATE)
        channels, strides = config.conv_dim, STRIDES[config.label_rate]
        blocks = nn.Sequential(Residual(1, channels, strides[0]), Residual(channels, channels, strides[1]))
        self.rate_hz = muq_sample_rate / (config.hop_length * math.prod(strides))
        linear = nn.Linear(channels * MELS // 4, config.encoder_dim)
        layers = nn.ModuleList(ConformerLayer(config) for _ in range(config.encoder_depth))
        norm = nn.LayerNorm(config.encoder_dim, config.layer_norm_eps)
        stem = nn.ModuleDict({"conv": blocks, "linear": linear})
        self.model = nn.ModuleDict({"conv": stem, "conformer": nn.ModuleDict({"layers": layers, "layer_norm": norm})})
        self.train()

    @classmethod
    def from_checkpoint(
        cls,
        path: Path,
        options: LoadOptions = DEFAULT_OPTIONS,
        *,
        muq_sample_rate: int = RATE,
        muq_via_16k: bool = False,
    ) -> Self:
        """Read the published folder: config.json and model.safetensors or, without it, pytorch_model.bin.

        Raises `ModelNotFoundError`, `ModelFormatError`.
        """
        weights = Path(path, next((name for name in FILES if Path(path, name).is_file()), FILES[0]))
        held = read_checkpoint(weights, options)
        if not (isinstance(held, dict) and all(isinstance(k, str) and isinstance(held[k], Tensor) for k in held)):
            raise ModelFormatError(f"{weights} holds no flat table of tensors")
        with torch.device("meta"):  # all weights are replaced below
            encoder = cls(read_config(Path(path, "config.json")), muq_sample_rate, muq_via_16k)
        encoder.to_empty(device="cpu")
        own = {key: held[key] for key in held if not key.startswith(IGNORED)}
        load_strictly(encoder, own, str(weights), share=True)
        fold_norms(encoder)
        return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def settings(self) -> dict[str, Any]:
        """Options that neither weights nor config determine; arguments of `from_checkpoint`."""
        # An option that is off is left out: older models and caches, without this option, keep their fingerprint.
        return {"muq_sample_rate": RATE, "muq_via_16k": True} if self.via_16k else {"muq_sample_rate": self.sample_rate}

    def fingerprint(self) -> str:
        """Covers the config, too: weights do not determine the number of heads, the rotation, or mean and std."""
        return hashlib.sha256(f"{super().fingerprint()} {self.config}".encode()).hexdigest()

    def frames(self, waves: Tensor) -> Tensor:
        """Waveforms [B, S] in [-1, 1] -> [B, T, 1024]."""
        parts: Any = self.model
        x = self.convolve(self.front(waves).to(parts["conv"]["linear"].weight.dtype))
        angles = turns(x.shape[1], self.config).to(x.device)
        return self.conform(x, angles.cos().to(x.dtype), angles.sin().to(x.dtype)).to(waves.dtype)

    def convolve(self, spectra: Tensor) -> Tensor:
        """The stem: normalised spectra [B, 128, F] -> [B, T, 1024]."""
        stem: Any = self.model["conv"]
        maps = stem["conv"](spectra[:, None])  # [B, channels, 32, T]
        out: Tensor = stem["linear"](maps.permute(0, 3, 1, 2).flatten(2))
        return out

    def conform(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """The conformer: [B, T, 1024], cosines and sines of `turns` -> [B, T, 1024]."""
        conformer: Any = self.model["conformer"]
        for layer in conformer["layers"]:
            x = layer(x, cos, sin)
        out: Tensor = conformer["layer_norm"](x)
        return out


class _LogMel(nn.Module):
    """Normalised power in mel bands, in dB: waveforms [B, S] -> [B, 128, S // hop], always in float32.

    Waveforms at another `rate` (Hz) than 24 kHz are resampled to it.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: MuQConfig, rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.hop, self.mean, self.std = config.hop_length, config.melspec_2048_mean, config.melspec_2048_std
        filters = mel_filters(RATE, FFT, MELS, htk=True, unit_area=False)
        self.register_buffer("window", torch.hann_window(FFT, device="cpu"), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        with torch.autocast(waves.device.type, enabled=False):
            waves = resample(waves.float(), self.rate, RATE)
            spectrum = torch.stft(waves, FFT, self.hop, window=self.window, return_complex=True)
            power = self.filters @ torch.view_as_real(spectrum[..., :-1]).square().sum(-1)
            return (10 * power.clamp(min=FLOOR).log10() - self.mean) / self.std

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """`.to(torch.bfloat16)` and similar calls move these tensors to the device and leave them float32."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), recurse)  # type: ignore
