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


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 (AVX-512 BF16 or AMX); others convert every number, and are slower for it.

    False where torch does not say.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", dict[str, object])()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, named as in CUDA_VISIBLE_DEVICES."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named[:count] if len(named) >= count else [str(number) for number in range(count)]
