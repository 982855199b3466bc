"""MuQ (Zhu et al., arXiv 2501.01108), the paper's music encoder: 12 conformer layers on a convolutional stem.

    wave 24 kHz ► log-mel, dB ► residual block ► residual block ► linear ► 12 layers ► norm ► 1024 values per frame,
                  128 × 100 Hz  512 × 64 × 50 Hz 512 × 32 × 25 Hz                               25 frames per second
    layer: + ½ feed-forward, + attention, + convolution over 31 frames, + ½ feed-forward, then a norm

The weights are on the hub as OpenMuQ/MuQ-large-msd-iter, config.json and a flat file of tensors, under CC BY-NC 4.0.
Keys are the published ones; parts that only training needs (IGNORED) are not built.

Two things are unusual and kept as published. Rotary position embeddings are applied to the attention input, not, as
usual, to queries and keys. And the published MMMOS system passed audio at 16 kHz to this 24 kHz network without
resampling, so speed and pitch were 1.5 times too high: `muq_sample_rate=16000` reproduces that. The paper says that all
audio is resampled to 16 kHz: `muq_via_16k` does so, and then resamples to 24 kHz, so speed and pitch are right.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmmos.encoders.base import Encoder
from mmmos.encoders.mel import mel_filters
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
STRIDES = {25: (2, 2), 50: (2, 1)}  # label_rate -> strides in time of the two residual blocks
FILES = ("model.safetensors", "pytorch_model.bin")  # with the weights; the first that exists is read

FIELDS = {
    "label_rate", "hop_length", "conv_dim", "encoder_dim", "encoder_depth", "stat", "w2v2_config",
    "n_mels", "features", "num_codebooks", "codebook_dim", "codebook_size", "mask_hop", "mask_prob", "is_flash",
    "use_rvq_target", "use_vq_target", "use_encodec_target", "rvq_ckpt_path", "rvq_n_codebooks", "rvq_multi_layer_num",
    "recon_loss_ratio", "resume_checkpoint",
}  # fmt: skip
"""All top-level keys of a published config.json; features depend on those of the first line only."""

IGNORED = (
    "model.conformer.embed_positions.inv_freq",  # follows from the config
    "model.conformer.pos_conv_embed.",  # not used by the published network either
    "model.linear.",  # token classifier
    "model.cls_token",
    "model.rvq.",
    "model.quantizer_",
    "model.recon_proj.",
)
"""Prefixes of published keys that the features do not depend on."""


@dataclass(frozen=True)
class MuQConfig:
    """Sizes and constants as config.json names them; the defaults are those of MuQ-large-msd-iter."""

    encoder_dim: int = 1024  # values per frame
    encoder_depth: int = 12  # conformer layers
    num_attention_heads: int = 16
    intermediate_size: int = 4096  # of a feed-forward network
    conv_depthwise_kernel_size: int = 31  # frames
    conv_dim: int = 512  # channels of the residual blocks
    hop_length: int = 240  # samples between spectra
    label_rate: int = 25  # frames per second at 24 kHz with a hop of 240
    rotary_embedding_base: float = 10_000.0  # the slowest pair of values rotates by a radian in about as many frames
    layer_norm_eps: float = 1e-5  # of the last norm; the others always have 1e-5
    melspec_2048_mean: float = 6.768444971712967  # dB, of the training spectra
    melspec_2048_std: float = 18.417922652295623  # dB

    def __post_init__(self) -> None:
        *sizes, base, eps, mean, std = astuple(self)
        whole = all(type(size) is int and size > 0 for size in sizes) and self.label_rate in STRIDES
        real = all(0 < number < math.inf for number in (base, eps, std)) and math.isfinite(mean)
        pairs = whole and self.encoder_dim % (2 * self.num_attention_heads) == 0
        if not (pairs and real and self.conv_depthwise_kernel_size % 2):
            raise ValueError(f"no network has such sizes or constants: {self}")


class MuQ(Encoder):
    """Frames of 1024 values, 25 per second: T = ceil(floor(S / 240) / 4) for S samples at 24 kHz.

    With `muq_via_16k` it takes waveforms at 16 kHz, without anything above 8 kHz, and resamples them to 24 kHz itself.

    The front end always computes in float32, whatever the network's dtype; frames have the dtype of the waveforms.
    """

    name = "muq"

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
        blocks = nn.Sequential(_Residual(1, channels, strides[0]), _Residual(channels, channels, strides[1]))
        self.rate_hz = muq_sample_rate / (config.hop_length * math.prod(strides))
        linear = nn.Linear(channels * MELS // 4, config.encoder_dim)
        layers = nn.ModuleList(_Layer(config) for _ in range(config.encoder_depth))
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
        _fold(encoder)
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
        stem, conformer = parts["conv"], parts["conformer"]
        spectra = self.front(waves).to(stem["linear"].weight.dtype)
        maps = stem["conv"](spectra[:, None])  # [B, channels, 32, T]
        x: Tensor = stem["linear"](maps.permute(0, 3, 1, 2).flatten(2))
        angles = turns(x.shape[1], self.config).to(x.device)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in conformer["layers"]:
            x = layer(x, cos, sin)
        return conformer["layer_norm"](x).to(waves.dtype)  # type: ignore[no-any-return]


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


class _Residual(nn.Module):
    """Convolutions over bands and time, two in parallel with one: [B, n, M, F] -> [B, m, M / 2, ceil(F / stride)]."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        # conv1 and conv3 could be one convolution of twice the channels. In float32 that took 10 % longer.
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride=(2, stride), padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(inputs, channels, 3, stride=(2, stride), padding=1)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.bn2(self.conv2(F.relu_(self.bn1(self.conv1(x)))))
        return F.relu_(inner.add_(self.bn3(self.conv3(x))))


class _Layer(nn.Module):
    """Conformer layer, given cosines and sines of the rotations: [B, T, width] -> the same."""

    def __init__(self, config: MuQConfig) -> None:
        super().__init__()
        width = config.encoder_dim
        self.ffn1_layer_norm, self.ffn2_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ffn1, self.ffn2 = _feed_forward(config), _feed_forward(config)
        self.self_attn = _Attention(config)
        self.conv_module = _Convolution(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x.add(self.ffn1(self.ffn1_layer_norm(x)), alpha=0.5)
        x = x + self.self_attn(self.self_attn_layer_norm(x), cos, sin)
        x = x + self.conv_module(x)
        out: Tensor = self.final_layer_norm(x.add(self.ffn2(self.ffn2_layer_norm(x)), alpha=0.5))
        return out


def _feed_forward(config: MuQConfig) -> nn.Sequential:
    up = nn.Linear(config.encoder_dim, config.intermediate_size)
    down = nn.Linear(config.intermediate_size, config.encoder_dim)
    return nn.Sequential(OrderedDict(intermediate_dense=up, swish=nn.SiLU(), output_dense=down))


class _Attention(nn.Module):
    def __init__(self, config: MuQConfig) -> None:
        super().__init__()
        width, self.heads = config.encoder_dim, config.num_attention_heads
        self.linear_q, self.linear_k = nn.Linear(width, width), nn.Linear(width, width)
        self.linear_v, self.linear_out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        # A head's values of x are complex numbers a + ib, all the a before all the b.
        a, b = x.view(*x.shape[:2], self.heads, 2, -1).unbind(-2)
        rotated = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-2).flatten(2)
        products = self.linear_q(rotated), self.linear_k(rotated), self.linear_v(x)
        q, k, v = (product.unflatten(-1, (self.heads, -1)).transpose(1, 2) for product in products)
        out: Tensor = self.linear_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class _Convolution(nn.Module):
    def __init__(self, config: MuQConfig) -> None:
        super().__init__()
        width, kernel = config.encoder_dim, config.conv_depthwise_kernel_size
        self.layer_norm = nn.LayerNorm(width)
        self.pointwise_conv1 = nn.Conv1d(width, 2 * width, 1, bias=False)
        self.depthwise_conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.batch_norm = nn.BatchNorm1d(width)
        self.pointwise_conv2 = nn.Conv1d(width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(F.linear(self.layer_norm(x), self.pointwise_conv1.weight.squeeze(2)))
        # As a map of height 1, [B, T, width] in memory is "channels last" already: nothing is copied.
        conv, maps = self.depthwise_conv, x.transpose(1, 2).unsqueeze(2)
        maps = F.conv2d(maps, conv.weight.unsqueeze(2), conv.bias, padding=(0, *conv.padding), groups=conv.groups)
        x = F.silu(self.batch_norm(maps.squeeze(2)).transpose(1, 2))
        return F.linear(x, self.pointwise_conv2.weight.squeeze(2))


def turns(frames: int, config: MuQConfig) -> Tensor:
    """Rotation angle of each frame and each pair of a head's values, [T, 1, width / heads / 2], float32 as published.

    >>> turns(3, MuQConfig(encoder_dim=8, num_attention_heads=2, rotary_embedding_base=100.0))[2]
    tensor([[2.0000, 0.2000]])
    """
    size = config.encoder_dim // config.num_attention_heads
    rates = 1 / config.rotary_embedding_base ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    return torch.outer(torch.arange(frames), rates)[:, None]


def read_config(path: Path) -> MuQConfig:
    """The config of a published config.json. Raises `ModelFormatError`."""
    try:
        outer = json.loads(path.read_text(encoding="utf-8"))
        if unknown := sorted(outer.keys() - FIELDS):
            raise ValueError(f"unknown {', '.join(unknown[:3])}")
        inner = outer["w2v2_config"] | outer["stat"]
        kind = inner["hidden_act"], inner["position_embeddings_type"]
        if kind not in (("swish", "rotary"), ("silu", "rotary")):
            raise ValueError(f"hidden_act and position_embeddings_type are {kind}, not ('swish', 'rotary')")
        # Fields at the top level have the published code's defaults, the inner ones none.
        names = {field.name: field.default for field in fields(MuQConfig)}
        return MuQConfig(**{name: outer.get(name, names[name]) if name in FIELDS else inner[name] for name in names})
    except KeyError as error:
        raise ModelFormatError(f"{path} does not say {error}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelFormatError(f"{path} does not fit MuQ: {error}") from error


def _fold(encoder: MuQ) -> None:
    """Fold each BatchNorm into the convolution before it; at inference it only scales and shifts."""
    for name, norm in list(encoder.named_modules()):
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            before = name.replace(".bn", ".conv").replace(".batch_norm", ".depthwise_conv")
            conv: Any = encoder.get_submodule(before)
            encoder.set_submodule(before, fuse_conv_bn_eval(conv, norm))
            encoder.set_submodule(name, nn.Identity())
