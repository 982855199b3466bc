"""Reads an encoder's weights and loads them strictly."""

from __future__ import annotations

import pickle
import zipfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mmmos.errors import ModelFormatError, ModelNotFoundError
from mmmos.hub.options import DEFAULT_OPTIONS, LoadOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn


def bundled_state(name: str) -> dict[str, Tensor]:
    """Weights that ship inside the package as `bundled/NAME.safetensors`, in float32.

    They are stored in float16 to keep the wheel small. Raises `ModelNotFoundError`.
    """
    with as_file(files("mmmos") / "bundled" / f"{name}.safetensors") as path:
        if not path.is_file():
            raise ModelNotFoundError(f"the bundled weights of {name} are missing: {path}")
        state = load_file(path)
    return {key: value.to(torch.float32) for key, value in state.items()}


def load_strictly(module: nn.Module, state: dict[str, Tensor], source: str, share: bool = False) -> None:
    """Load `state` into `module`: no key may be missing or unknown, and shapes must be equal.

    With `share` the module takes over tensors of its own dtype and layout instead of copying them, so that tensors
    that `read_checkpoint` has mapped from a file are in memory once for all processes of a machine. The file must then
    not be modified; replacing it by a new file is safe.

    Raises `ModelFormatError` that names `source` and the first keys at fault.
    """
    own = module.state_dict()
    missing = sorted(own.keys() - state.keys())
    unknown = sorted(state.keys() - own.keys())
    reshaped = sorted(key for key in own.keys() & state.keys() if own[key].shape != state[key].shape)
    faults = [
        f"{kind} {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}"
        for kind, keys in (("missing", missing), ("unknown", unknown), ("of another shape:", reshaped))
        if keys
    ]
    if faults:
        raise ModelFormatError(f"{source} does not fit {type(module).__name__}: {'; '.join(faults)}")
    if share:
        state = {key: value if _alike(value, own[key]) else _copy(value, own[key]) for key, value in state.items()}
    module.load_state_dict(state, assign=share)


def _alike(value: Tensor, own: Tensor) -> bool:
    return (value.dtype, value.device, value.stride()) == (own.dtype, own.device, own.stride())


def _copy(value: Tensor, own: Tensor) -> Tensor:
    return torch.empty_like(own).copy_(value)


def fold_batch_norms(
    state: Mapping[str, Tensor], convs: Mapping[str, str], eps: float, source: str
) -> dict[str, Tensor]:
    """Weights with each batch norm multiplied into the convolution before it, which has a bias then.

    `convs` maps the prefix of each norm's keys to that of its convolution. The arithmetic is in float64.

    Raises `ModelFormatError` that names `source` and missing keys.
    """
    state = dict(state)
    for norm, conv in convs.items():
        keys = [norm + part for part in ("weight", "bias", "running_mean", "running_var")]
        missing = [key for key in (*keys, f"{conv}weight") if key not in state]
        if missing:
            raise ModelFormatError(f"{source} holds no whole batch norm: missing {', '.join(missing)}")
        weight, bias, mean, variance = (state.pop(key).double() for key in keys)
        state.pop(f"{norm}num_batches_tracked", None)
        kernel, own_bias = state[f"{conv}weight"], state.get(f"{conv}bias")
        if len(kernel) != len(weight):
            raise ModelFormatError(f"{source} has {len(weight)} values in {norm}weight, not {len(kernel)}")
        own_bias = None if own_bias is None else own_bias.double()
        folded = fuse_conv_bn_weights(kernel.double(), own_bias, mean, variance, eps, weight, bias)
        state |= {
            conv + part: value.detach().to(kernel.dtype) for part, value in zip(("weight", "bias"), folded, strict=True)
        }
    return state


def read_checkpoint(path: Path, options: LoadOptions = DEFAULT_OPTIONS) -> Any:
    """The content of a checkpoint file, on the CPU: safetensors, or a pickle of tensors and plain values.

    Tensors are memory-mapped and read on first use, except for pickles from before PyTorch 1.6.

    A pickle is read only if `options` trust it: the user does, or it has the sha256 that a hub announced. Even then
    only tensors and plain values are created. Raises `ModelNotFoundError`, `ModelFormatError`.
    """
    if not path.is_file():
        raise ModelNotFoundError(f"no such checkpoint: {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if not options.trust_checkpoint:
            raise ModelFormatError(
                f"{path} is a pickle of unknown origin; --trust-checkpoint (trust_checkpoint=True) reads its tensors"
            )
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelFormatError(f"{path} cannot be read: {reason}") from error
