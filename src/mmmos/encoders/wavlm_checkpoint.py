"""The two layouts of WavLM's published weights, with different names for the same settings and tensors.

    unilm   WavLM-Base+.pt, a pickle of {"cfg": settings, "model": tensors}
    hub     microsoft/wavlm-base-plus: config.json next to pytorch_model.bin or model.safetensors

Our code uses unilm's tensor names. Either layout may name the weight norm of the positional convolution in PyTorch's
older or newer way. WavLM Large is a different network (norms first, normalised waveforms) whose tensors have the same
names: its settings are refused.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mmmos.encoders.weights import load_strictly, read_checkpoint
from mmmos.errors import ModelFormatError, ModelNotFoundError
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class WavLMConfig:
    """Sizes of a network; the defaults are those of Base+. Raises ValueError for incompatible sizes."""

    convs: tuple[tuple[int, int, int], ...] = (*[(512, 10, 5)], *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)
    """(channels, kernel, stride) of each convolution."""
    width: int = 768  # of a state
    heads: int = 12
    hidden: int = 3072  # of a block's perceptron
    depth: int = 12  # blocks
    pos_conv_kernel: int = 128  # frames, of the positional convolution
    groups: int = 16  # of the positional convolution's channels
    buckets: int = 320  # of distances
    max_distance: int = 800  # frames; all larger distances are in one bucket
    eps: float = 1e-5  # of every LayerNorm

    def __post_init__(self) -> None:
        numbers = [self.hidden, self.depth, self.pos_conv_kernel, *(number for conv in self.convs for number in conv)]
        whole = self.heads > 0 < self.groups and self.width % self.heads == 0 == self.width % self.groups
        if not self.convs or min(numbers) < 1 or not whole or not 1 <= self.buckets // 4 < self.max_distance:
            raise ValueError(f"these sizes do not go together: {self}")


SIZES = {
    "width": ("encoder_embed_dim", "hidden_size"),
    "heads": ("encoder_attention_heads", "num_attention_heads"),
    "hidden": ("encoder_ffn_embed_dim", "intermediate_size"),
    "depth": ("encoder_layers", "num_hidden_layers"),
    "pos_conv_kernel": ("conv_pos", "num_conv_pos_embeddings"),
    "groups": ("conv_pos_groups", "num_conv_pos_embedding_groups"),
    "buckets": ("num_buckets", "num_buckets"),
    "max_distance": ("max_distance", "max_bucket_distance"),
}
"""Field of `WavLMConfig` -> its names in unilm's and the hub's layouts."""

UNILM_ONLY = {
    "extractor_mode": "default",
    "layer_norm_first": False,
    "normalize": False,
    "conv_bias": False,
    "activation_fn": "gelu",
    "relative_position_embedding": True,
    "gru_rel_pos": True,
}
"""Settings in unilm's layout that identify this network."""

HUB_ONLY = {
    "model_type": "wavlm",
    "feat_extract_norm": "group",
    "do_stable_layer_norm": False,
    "conv_bias": False,
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "add_adapter": False,
}
"""The same in the hub's layout."""

HUB_NAMES = (
    (r"^layer_norm", "feature_projection.layer_norm"),
    (r"^post_extract_proj", "feature_projection.projection"),
    (r"(conv_layers\.\d+)\.0\.", r"\1.conv."),
    (r"(conv_layers\.0)\.2\.", r"\1.layer_norm."),
    (r"pos_conv\.0\.", "pos_conv_embed.conv."),
    (r"self_attn_layer_norm", "layer_norm"),
    (r"self_attn\.", "attention."),
    (r"grep_linear", "gru_rel_pos_linear"),
    (r"grep_a", "gru_rel_pos_const"),
    (r"relative_attention_bias", "rel_attn_embed"),
    (r"fc1\.", "feed_forward.intermediate_dense."),
    (r"fc2\.", "feed_forward.output_dense."),
)
"""Replacements that turn unilm's tensor names into the hub's."""

NEW_NORM = ((r"weight_g$", "parametrizations.weight.original0"), (r"weight_v$", "parametrizations.weight.original1"))
"""Replacements that turn the older names of the weight norm into the newer ones."""

IGNORED = {"mask_emb", "masked_spec_embed"}  # replaces masked frames in pre-training


def read_published(path: Path, options: LoadOptions = DEFAULT_OPTIONS) -> tuple[WavLMConfig, Any, str]:
    """Sizes, tensors and file of a checkpoint: unilm's file, the hub's folder, or a file with config.json next to it.

    Raises `ModelNotFoundError`, `ModelFormatError`.
    """
    if path.is_dir():
        files = [path / name for name in ("model.safetensors", "pytorch_model.bin")]
        path = next((file for file in files if file.is_file()), path)
        if path not in files:
            raise ModelNotFoundError(f"{path} holds neither model.safetensors nor pytorch_model.bin")
    held = read_checkpoint(path, options)
    if isinstance(held, dict) and held.keys() == {"cfg", "model"}:
        return parse_unilm(held["cfg"], str(path)), held["model"], str(path)
    return parse_hub(path.parent / "config.json"), held, str(path)


def copy_weights(targets: Mapping[str, Tensor], state: Any, source: str) -> None:
    """Copy tensors of either layout to `targets`, which are named as in unilm's: all of them and no others.

    A parameter takes over a tensor of its own layout (`load_strictly` says why); other targets get a copy.

    Raises `ModelFormatError` that names `source` and the first keys at fault, as they are in `state`.
    """
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelFormatError(f"{source} holds no table of tensors")
    rules: list[tuple[str, str]] = []
    if any(key.startswith("feature_projection.") for key in state):
        rules += HUB_NAMES
    if any(".parametrizations." in key for key in state):
        rules += NEW_NORM
    wavlm, keys = WavLMCheckpoint(), {}
    for key, target in targets.items():
        keys[key] = key
        for pattern, replacement in rules:
            keys[key] = re.sub(pattern, replacement, keys[key])
        wavlm.add(keys[key], target)
    load_strictly(wavlm, {key: value for key, value in state.items() if key not in IGNORED}, source, share=True)
    for key, target in targets.items():
        if isinstance(target, nn.Parameter):
            target.data = wavlm.get_buffer(keys[key])
        else:
            target.copy_(wavlm.get_buffer(keys[key]))


class WavLMCheckpoint(nn.Module):
    """Tensors under dotted names."""

    def add(self, key: str, target: Tensor) -> None:
        """Expect a tensor like `target` under `key`."""
        module: nn.Module = self
        *path, leaf = key.split(".")
        for part in path:
            if part not in dict(module.named_children()):
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_buffer(leaf, target.detach())


def parse_unilm(cfg: Any, source: str) -> WavLMConfig:
    """Sizes from the settings in unilm's layout. Raises `ModelFormatError`."""
    try:
        _check_network(cfg, UNILM_ONLY, source)
        convs: list[tuple[int, int, int]] = []
        for term in cfg["conv_feature_layers"].split("+"):  # "[(512,10,5)] + [(512,3,2)] * 4 + ..."
            listed, _, times = term.partition("*")
            convs += [(int(m), int(k), int(s)) for m, k, s in ast.literal_eval(listed.strip())] * int(times or 1)
        return WavLMConfig(tuple(convs), **{ours: int(cfg[unilm]) for ours, (unilm, _) in SIZES.items()})
    except (AttributeError, KeyError, SyntaxError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{source} holds no cfg of WavLM ({type(error).__name__}: {error})") from error


def parse_hub(path: Path) -> WavLMConfig:
    """Sizes from the hub's config.json; missing sizes are those of Base+. Raises `ModelFormatError`."""
    if not path.is_file():
        raise ModelFormatError(f"{path} is missing: weights without a 'cfg' need their config.json next to them")
    base = WavLMConfig()
    try:
        config = json.loads(path.read_text())
        _check_network(HUB_ONLY | config, HUB_ONLY, str(path))
        sizes = {ours: int(config.get(hub, asdict(base)[ours])) for ours, (_, hub) in SIZES.items()}
        fields = zip(("conv_dim", "conv_kernel", "conv_stride"), zip(*base.convs, strict=True), strict=True)
        m, k, s = ([int(number) for number in config.get(field, column)] for field, column in fields)
        return WavLMConfig(tuple(zip(m, k, s, strict=True)), **sizes, eps=float(config.get("layer_norm_eps", base.eps)))
    except (OSError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{path} is not a config.json of WavLM ({type(error).__name__}: {error})") from error


def _check_network(found: Mapping[str, Any], expected: Mapping[str, Any], source: str) -> None:
    others = [
        f"{key} is {found.get(key)!r}, not {value!r}" for key, value in expected.items() if found.get(key) != value
    ]
    if others:
        raise ModelFormatError(f"{source} is of another network than WavLM Base+: {', '.join(others)}")
