"""The published checkpoint of MuQ: its config.json, the keys that are ignored, and norms folded into convolutions."""

from __future__ import annotations

import json
import math
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmmos.errors import ModelFormatError

if TYPE_CHECKING:
    from pathlib import Path

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


def fold_norms(encoder: nn.Module) -> None:
    """Fold each BatchNorm into the convolution before it; at inference it only scales and shifts."""
    for name, norm in list(encoder.named_modules()):
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            before = name.replace(".bn", ".conv").replace(".batch_norm", ".depthwise_conv")
            conv: Any = encoder.get_submodule(before)
            encoder.set_submodule(before, fuse_conv_bn_eval(conv, norm))
            encoder.set_submodule(name, nn.Identity())
