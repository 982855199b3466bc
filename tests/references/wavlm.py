"""WavLM as published, twice with random weights: the network of UniLM and that of `transformers`."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmmos.encoders.wavlm_checkpoint import WavLMConfig


def unilm_settings(config: WavLMConfig) -> dict[str, Any]:
    """As the published file holds them."""
    first, middle, end = config.convs[0], config.convs[1], config.convs[-1]
    return {
        "extractor_mode": "default",
        "encoder_layers": config.depth,
        "encoder_embed_dim": config.width,
        "encoder_ffn_embed_dim": config.hidden,
        "encoder_attention_heads": config.heads,
        "activation_fn": "gelu",
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "encoder_layerdrop": 0.05,
        "dropout_input": 0.1,
        "dropout_features": 0.1,
        "layer_norm_first": False,
        "conv_feature_layers": f"[{first}] + [{middle}] * 4 + [{end}] * 2",
        "conv_bias": False,
        "feature_grad_mult": 0.1,
        "mask_length": 10,
        "mask_prob": 0.8,
        "mask_selection": "static",
        "mask_other": 0.0,
        "no_mask_overlap": False,
        "mask_min_space": 1,
        "mask_channel_length": 10,
        "mask_channel_prob": 0.0,
        "mask_channel_selection": "static",
        "mask_channel_other": 0.0,
        "no_mask_channel_overlap": False,
        "mask_channel_min_space": 1,
        "conv_pos": config.pos_conv_kernel,
        "conv_pos_groups": config.groups,
        "relative_position_embedding": True,
        "num_buckets": config.buckets,
        "max_distance": config.max_distance,
        "gru_rel_pos": True,
        "normalize": False,
    }


def shaken(network: nn.Module) -> nn.Module:
    """Numbers that no term can hide behind: biases, gates and scales that are neither 0 nor 1."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "rel_attn_embed" in name or "relative_attention_bias" in name:
                value.copy_(torch.randn_like(value))
            elif value.numel() == max(value.shape):
                value.add_(0.3 * torch.randn_like(value))
    return network.eval().requires_grad_(False)


def unilm_network(config: WavLMConfig) -> nn.Module:
    module = pytest.importorskip("audiobox_aesthetics.model.wavlm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the older weight norm
        return shaken(module.WavLM(module.WavLMConfig(unilm_settings(config))))


def unilm_states(network: nn.Module, waves: Tensor, padding: Tensor | None = None) -> list[Tensor]:
    depth = len(network.encoder.layers) + 1
    (_, results), _ = network.extract_features(waves, padding, output_layer=depth, ret_layer_results=True)
    return [state.transpose(0, 1) for state, _ in results]


def hub_network(config: WavLMConfig) -> nn.Module:
    pytest.importorskip("transformers")
    from transformers.models.wavlm.configuration_wavlm import WavLMConfig as HubConfig
    from transformers.models.wavlm.modeling_wavlm import WavLMModel

    channels, kernels, strides = zip(*config.convs, strict=True)
    settings = HubConfig(
        conv_dim=channels,
        conv_kernel=kernels,
        conv_stride=strides,
        hidden_size=config.width,
        num_attention_heads=config.heads,
        intermediate_size=config.hidden,
        num_hidden_layers=config.depth,
        num_conv_pos_embeddings=config.pos_conv_kernel,
        num_conv_pos_embedding_groups=config.groups,
        num_buckets=config.buckets,
        max_bucket_distance=config.max_distance,
    )
    return shaken(WavLMModel(settings))


def hub_states(network: nn.Module, waves: Tensor) -> list[Tensor]:
    return list(network(waves, output_hidden_states=True).hidden_states)
