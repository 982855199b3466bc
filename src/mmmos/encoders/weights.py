"""Finding an encoder's weights and loading them strictly."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from mmmos.errors import ModelFormatError, ModelNotFoundError

if TYPE_CHECKING:
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


def load_strictly(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Put `state` into `module`: every key mapped, none missing, none unexplained, shapes equal.

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
    module.load_state_dict(state)
