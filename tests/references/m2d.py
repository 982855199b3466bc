"""M2D as published, with the same weights as ours: patch by patch, in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmos.encoders.m2d_checkpoint import M2DConfig
from tests.references.mel import mel_spectrogram


class Reference:
    """The published computation in float64, patch by patch, on PyTorch's layers and librosa's mels."""

    def __init__(self, state: dict[str, Tensor], config: M2DConfig) -> None:
        self.state, self.config = {key: value.double() for key, value in state.items()}, config
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width, config.width // 64, config.hidden, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
            )
            for _ in range(config.depth)
        )
        self.layers.double().eval().requires_grad_(False)
        theirs = {"attn.qkv.": "self_attn.in_proj_", "attn.proj.": "self_attn.out_proj."}
        theirs |= {"mlp.fc1.": "linear1.", "mlp.fc2.": "linear2.", "norm1.": "norm1.", "norm2.": "norm2."}
        for i, layer in enumerate(self.layers):
            weights = {(a, b): self.state[f"blocks.{i}.{a}{b}"] for a in theirs for b in ("weight", "bias")}
            layer.load_state_dict({theirs[a] + b: value for (a, b), value in weights.items()})

    def log_mel(self, clip: Tensor) -> Tensor:
        rate = self.config.sample_rate
        power = mel_spectrogram(
            clip.double().numpy(),
            rate=rate,
            fft={16_000: 400, 32_000: 800}[rate],
            hop={16_000: 160, 32_000: 320}[rate],
            bands=self.config.input_size[0],
            low_hz=50,
            high_hz={16_000: 8_000, 32_000: 16_000}[rate],
        )
        mean, deviation = self.state["norm_stats"]
        return (torch.from_numpy(np.log(power + 1.1920929e-07)) - mean) / deviation

    def frames(self, clip: Tensor) -> Tensor:
        """One clip [S] -> [T, D]."""
        x, (_, unit) = self.log_mel(clip), self.config.input_size
        starts = range(0, x.shape[1], unit)
        x = F.pad(x, (0, -(x.shape[1] % unit) % self.config.patch_size[1]))
        return torch.cat([self.chunk(x[:, start : start + unit]) for start in starts])

    def chunk(self, x: Tensor) -> Tensor:
        (bands, most), (high, wide) = self.config.grid, self.config.patch_size
        steps, state = x.shape[1] // wide, self.state
        kernel = state["patch_embed.proj.weight"].flatten(1)
        tokens = [state["cls_token"][0, 0] + state["pos_embed"][0, 0]]
        for f in range(bands):
            for t in range(steps):
                patch = x[f * high : (f + 1) * high, t * wide : (t + 1) * wide].flatten()
                place = state["pos_embed"][0, 1 + f * most + t]
                tokens.append(kernel @ patch + state["patch_embed.proj.bias"] + place)
        hidden = torch.stack(tokens)[None]
        for layer in self.layers:
            hidden = layer(hidden)
        hidden = F.layer_norm(hidden[0], [self.config.width], state["norm.weight"], state["norm.bias"], 1e-6)
        return torch.stack([torch.cat([hidden[1 + f * steps + t] for f in range(bands)]) for t in range(steps)])
