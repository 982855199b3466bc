"""NISQA v2 as published, by its published names: batch norms and PyTorch's multi-head attention, in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.references.mel import mel_spectrogram

ARGS = {
    "name": "NISQAv2", "model": "NISQA_DIM", "dim": True, "double_ended": False, "ms_sr": None, "ms_fmax": 20000,
    "ms_n_fft": 4096, "ms_hop_length": 0.01, "ms_win_length": 0.02, "ms_n_mels": 48, "ms_seg_length": 15,
    "ms_seg_hop_length": 4, "ms_max_segments": 1300, "cnn_model": "adapt", "cnn_c_out_1": 16, "cnn_c_out_2": 32,
    "cnn_c_out_3": 64, "cnn_kernel_size": (3, 3), "cnn_dropout": 0.2, "cnn_fc_out_h": None, "cnn_pool_1": [24, 7],
    "cnn_pool_2": [12, 5], "cnn_pool_3": [6, 3], "td": "self_att", "td_sa_d_model": 64, "td_sa_nhead": 1,
    "td_sa_pool_size": None, "td_sa_pos_enc": False, "td_sa_num_layers": 2, "td_sa_h": 64, "td_sa_dropout": 0.1,
    "td_2": "skip", "pool": "att", "pool_att_h": 128, "pool_att_dropout": 0,
}  # fmt: skip
"""Settings as in the released file."""


class Reference(nn.Module):
    """Random weights, of which none does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn, self.time_dependency = nn.Module(), nn.Module()
        self.cnn.model, model = nn.Module(), nn.Module()
        for i, (n, m) in enumerate(zip((1, 16, 32, 64, 64, 64), (16, 32, 64, 64, 64, 64), strict=True), start=1):
            self.cnn.model.add_module(f"conv{i}", nn.Conv2d(n, m, 3, padding=(1, 0) if i == 6 else 1))
            self.cnn.model.add_module(f"bn{i}", nn.BatchNorm2d(m))
        model.norm1, model.linear = nn.LayerNorm(64), nn.Linear(384, 64)
        model.layers = nn.ModuleList()
        for _ in range(2):
            layer = nn.Module()
            layer.self_attn = nn.MultiheadAttention(64, 1)
            layer.linear1, layer.linear2 = nn.Linear(64, 64), nn.Linear(64, 64)
            layer.norm1, layer.norm2 = nn.LayerNorm(64), nn.LayerNorm(64)
            model.layers.append(layer)
        self.time_dependency.model = model
        self.pool_layers = nn.ModuleList(nn.Module() for _ in range(5))
        for pool in self.pool_layers:
            pool.model = nn.Module()
            pool.model.linear1, pool.model.linear2 = nn.Linear(64, 128), nn.Linear(128, 1)
            pool.model.linear3 = nn.Linear(64, 1)
        for name, values in self.state_dict().items():
            if values.ndim == 1:
                values.normal_() if "var" not in name else values.uniform_(0.5, 1.5)
            elif values.ndim:
                values.normal_(0, 1.5 * values[0].numel() ** -0.5)
        self.double().eval().requires_grad_(False)

    def log_mel(self, clip: Tensor) -> Tensor:
        wave = clip.double().numpy()
        mel = mel_spectrogram(wave, rate=48_000, fft=4096, hop=480, window=960, bands=48, high_hz=20_000, power=1.0)
        level = 20 * np.log10(mel.clip(min=1e-4))
        return torch.from_numpy(level.clip(min=level.max() - 80))

    def hidden(self, clip: Tensor) -> Tensor:
        """One clip [S] -> [T, 64]."""
        mel, cnn, model = self.log_mel(clip), self.cnn.model, self.time_dependency.model
        x = torch.stack([mel[:, i : i + 15] for i in range(0, mel.shape[1] - 14, 4)])[:, None]
        for i, pool in enumerate(((24, 7), (12, 5), None, (6, 3), None, None), start=1):
            x = getattr(cnn, f"bn{i}")(getattr(cnn, f"conv{i}")(x)).relu()
            x = x if pool is None else F.adaptive_max_pool2d(x, pool)
        x = model.norm1(model.linear(x.view(len(x), 384)))
        for layer in model.layers:
            x = layer.norm1(x + layer.self_attn(x[:, None], x[:, None], x[:, None])[0][:, 0])
            x = layer.norm2(x + layer.linear2(layer.linear1(x).relu()))
        return x

    def scores(self, hidden: Tensor) -> Tensor:
        """[T, 64] -> [5]."""
        parts = []
        for pool in self.pool_layers:
            weights = pool.model.linear2(pool.model.linear1(hidden).relu()).softmax(0)
            parts.append(pool.model.linear3((weights * hidden).sum(0)))
        return torch.cat(parts)
