"""The choice of the device that networks run on."""

from __future__ import annotations

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
