"""The choice of the device that networks run on."""

from __future__ import annotations

import os

import torch

from mmmos.errors import UsageError


def pick_device(device: str) -> torch.device:
    """The device of that name; "auto" is the first GPU, else the CPU. Raises `UsageError`."""
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"no device {device!r}: {str(error).splitlines()[0]}") from error
    if resolved.type not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r}: mmmos runs on cpu, cuda or cuda:N")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {device!r}: there is no such GPU")
    return resolved


LOW_PRECISION = ("amx_bf16", "amx_int8", "avx512_bf16", "avx512_vnni", "avx_vnni")
"""Instructions for products of bfloat16 and 8-bit numbers, as torch names them."""


def low_precision_instructions() -> str:
    """Those of `LOW_PRECISION` that this CPU has, with spaces between them; "" where torch does not say.

    Without them bfloat16 is computed in float32, and sums of 8-bit products may overflow: the same network has other
    outputs.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", dict[str, object])()
    return " ".join(name for name in LOW_PRECISION if capabilities.get(name))


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16; others convert every number, and are slower for it."""
    return any(name.endswith("bf16") for name in low_precision_instructions().split())


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named[:count] if len(named) >= count else [str(number) for number in range(count)]
