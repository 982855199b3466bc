"""Write the full system with random weights: eight models over WavLM Base+, MuQ and M2D of full size.

    python -m recipes.paper.random_weights DIR [--members 8] [--seed 0] [--tiny]

    DIR/ensemble.json, member-0/, ...                    what `mmmos score --model DIR` reads
    DIR/encoders/wavlm/, muq/, m2d_...-80x1001p16x16-.../  each as published, its tensors in safetensors

Its scores mean nothing. It has the sizes, files and costs of the real one, so it shows what that takes: one encoding
pass for all members, seconds a clip, memory. 2.0 GB on disk; with --tiny, the same of toy sizes.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmmos.encoders.base import EncoderSpec
from mmmos.encoders.m2d import M2D
from mmmos.encoders.m2d_checkpoint import M2DConfig
from mmmos.encoders.muq import MuQ
from mmmos.encoders.muq_checkpoint import FIELDS, MuQConfig
from mmmos.encoders.table import load_encoder
from mmmos.encoders.wavlm import GATES, WavLM
from mmmos.encoders.wavlm_checkpoint import HUB_NAMES, HUB_ONLY, SIZES, WavLMConfig
from mmmos.io.atomic import replacing
from mmmos.model.folder import save_ensemble
from mmmos.model.info import ModelInfo
from mmmos.model.quality import ModelConfig, build_model
from mmmos.model.system import Member
from mmmos.scores import AXES, Scale

TINY_WAVLM = WavLMConfig(
    ((32, 10, 5), *[(32, 3, 2)] * 4, *[(32, 2, 2)] * 2), 48, 4, hidden=80, depth=3, pos_conv_kernel=16, groups=4
)
TINY_MUQ = MuQConfig(32, 2, 4, intermediate_size=48, conv_depthwise_kernel_size=7, conv_dim=6)
TINY_M2D = M2DConfig((32, 1001), (16, 16), width=64, depth=2, hidden=96)
SCALE = Scale((5.0, 5.2, 4.0, 6.0), (1.5, 1.6, 1.8, 1.4))
"""Close to that of the AES labels."""
TOKEN_STD = 0.02  # of M2D's class token and positions, as vision transformers begin
CARD = "# Random\n\nThe full system of MMMOS with random weights. Its scores mean nothing.\n"


def write_model(folder: Path, members: int = 8, seed: int = 0, tiny: bool = False) -> None:
    """The whole folder; the same seed gives the same bytes."""
    torch.manual_seed(seed)
    specs = tuple(_spec(name, path, folder) for name, path in _write_encoders(folder / "encoders", tiny))
    config = ModelConfig(specs)
    weights = np.full((members, len(AXES)), 1 / members)
    info = ModelInfo.of_training({"weights": "random", "seed": seed})
    save_ensemble(folder, [_member(config) for _ in range(members)], weights, info, CARD)


def _write_encoders(folder: Path, tiny: bool) -> Iterator[tuple[str, Path]]:
    yield "wavlm", write_wavlm(WavLM(TINY_WAVLM if tiny else None), folder)
    yield "muq", write_muq(MuQ(TINY_MUQ if tiny else None), folder)
    yield "m2d", write_m2d(M2D(TINY_M2D if tiny else None), folder)


def _spec(name: str, path: Path, folder: Path) -> EncoderSpec:
    """The encoder as it comes back from its files, at a path from a member's folder."""
    encoder = load_encoder(name, path)
    place = Path("..") / path.relative_to(folder)
    return EncoderSpec(name, encoder.block_dims, encoder.fingerprint(), encoder.settings(), place.as_posix())


def _member(config: ModelConfig) -> Member:
    """Linear heads whose z-scores have the deviation 1 over members: each encoder's vector has length 1."""
    model = build_model(config)
    for layer in model.heads.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=len(config.encoders) ** -0.5)
            nn.init.zeros_(layer.bias)
    return Member(model.eval().requires_grad_(False), SCALE)


def write_wavlm(encoder: WavLM, folder: Path) -> Path:
    """As the hub has it: config.json next to the tensors."""
    for conv in encoder.convs:
        nn.init.kaiming_normal_(conv.get_parameter("weight"))  # keeps the level through six of them
    config = asdict(encoder.config)
    sizes = {hub: config[ours] for ours, (_, hub) in SIZES.items()}
    fields = zip(("conv_dim", "conv_kernel", "conv_stride"), zip(*config["convs"], strict=True), strict=True)
    settings = HUB_ONLY | sizes | dict(fields) | {"layer_norm_eps": config["eps"]}
    state = {}
    for key, tensor in unilm_state(encoder).items():
        for pattern, replacement in HUB_NAMES:
            key = re.sub(pattern, replacement, key)
        state[key] = tensor
    return _write(folder / "wavlm", state, settings)


def unilm_state(encoder: WavLM) -> dict[str, Tensor]:
    """The inverse of `WavLM.load`: tensors by unilm's names from which the same network comes back."""
    convs, near = encoder.convs, encoder.pos_conv
    state = {
        "feature_extractor.conv_layers.0.0.weight": encoder.conv0.weight.T[:, None],
        "feature_extractor.conv_layers.0.2.weight": encoder.conv0.scale,
        "feature_extractor.conv_layers.0.2.bias": encoder.conv0.shift,
        "encoder.layers.0.self_attn.relative_attention_bias.weight": encoder.bias,
        "encoder.pos_conv.0.weight_g": near.weight.norm(dim=(0, 1), keepdim=True),
        "encoder.pos_conv.0.weight_v": near.weight,
        "encoder.pos_conv.0.bias": near.get_parameter("bias"),
    }
    for i, conv in enumerate(convs, 1):
        state[f"feature_extractor.conv_layers.{i}.0.weight"] = conv.get_parameter("weight").squeeze(2)
    parts = {
        "layer_norm": encoder.norm,
        "post_extract_proj": encoder.project,
        "encoder.layer_norm": encoder.pos_conv_norm,
    }
    for name, module in parts.items():
        state |= {f"{name}.{part}": tensor for part, tensor in module.state_dict().items()}
    for i, block in enumerate(encoder.blocks):
        layer: Any = block
        state |= {f"encoder.layers.{i}.{key}": tensor for key, tensor in layer.targets().items()}
        # Published are eight values of which sums of four and four are used.
        shared = {part: tensor / (GATES // 2) for part, tensor in layer.gate.state_dict().items()}
        for part, tensor in shared.items():
            name = f"encoder.layers.{i}.self_attn.grep_linear.{part}"
            state[name] = tensor.repeat_interleave(GATES // 2, dim=0)
    return state


def write_muq(encoder: MuQ, folder: Path) -> Path:
    """As the hub has it; our keys are the published ones."""
    config = asdict(encoder.config)
    outer = {key: value for key, value in config.items() if key in FIELDS}
    stat = {key: value for key, value in config.items() if key.startswith("melspec")}
    inner = {key: value for key, value in config.items() if key not in outer and key not in stat}
    inner |= {"hidden_act": "swish", "position_embeddings_type": "rotary"}
    return _write(folder / "muq", encoder.state_dict(), outer | {"stat": stat, "w2v2_config": inner})


def write_m2d(encoder: M2D, folder: Path) -> Path:
    """As released, in a folder whose name says the sizes."""
    for tokens in (encoder.cls_token, encoder.pos_embed):
        nn.init.normal_(tokens, std=TOKEN_STD)
    (mels, frames), (high, wide) = encoder.config.input_size, encoder.config.patch_size
    name = f"m2d_random_vit-{mels}x{frames}p{high}x{wide}-000000"
    state = {key.removeprefix("front."): tensor for key, tensor in encoder.state_dict().items()}
    return _write(folder / name, state)


def _write(folder: Path, state: dict[str, Tensor], config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: tensor.detach().contiguous() for key, tensor in sorted(state.items())}
    tensors = {key: tensor.clone() if tensor._base is not None else tensor for key, tensor in tensors.items()}
    with replacing(folder / "model.safetensors") as partial:
        save_file(tensors, partial)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    return folder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="toy sizes, for tests")
    options = parser.parse_args()
    write_model(options.folder, options.members, options.seed, options.tiny)


if __name__ == "__main__":
    main()
