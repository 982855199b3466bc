"""The layers of MuQ: residual blocks of the stem, a conformer layer, and the angles of its rotary positions."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from mmmos.encoders.muq_checkpoint import MuQConfig


class Residual(nn.Module):
    """Convolutions over bands and time, two in parallel with one."""

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        # conv1 and conv3 could be one convolution of twice the channels. In float32 that took 10 % longer.
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride=(2, stride), padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv3 = nn.Conv2d(inputs, channels, 3, stride=(2, stride), padding=1)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(channels) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """[B, n, M, F] -> [B, m, M / 2, ceil(F / stride)]."""
        inner: Tensor = self.bn2(self.conv2(F.relu_(self.bn1(self.conv1(x)))))
        return F.relu_(inner.add_(self.bn3(self.conv3(x))))


class ConformerLayer(nn.Module):
    """Feed-forward, attention, convolution and feed-forward, each added to its input, then a norm."""

    def __init__(self, config: MuQConfig) -> None:
        super().__init__()
        width = config.encoder_dim
        self.ffn1_layer_norm, self.ffn2_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attn_layer_norm, self.final_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ffn1, self.ffn2 = _feed_forward(config), _feed_forward(config)
        self.self_attn = _Attention(config)
        self.conv_module = _Convolution(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, T, width] -> the same; cosines and sines of the rotations [T, 1, width / heads / 2]."""
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

    >>> from mmmos.encoders.muq_checkpoint import MuQConfig
    >>> turns(3, MuQConfig(encoder_dim=8, num_attention_heads=2, rotary_embedding_base=100.0))[2]
    tensor([[2.0000, 0.2000]])
    """
    size = config.encoder_dim // config.num_attention_heads
    rates = 1 / config.rotary_embedding_base ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    return torch.outer(torch.arange(frames), rates)[:, None]
