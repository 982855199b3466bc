"""Isolation from the caller's torch settings: networks are built and run alike, and the settings stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import numpy as np
import torch

_BUILDING = threading.RLock()


@contextmanager
def building() -> Iterator[None]:
    """For code that builds networks: float32 on the CPU, outside inference mode, the caller's random state unchanged.

    torch has one default dtype for all threads, so only one thread at a time may be in here.
    """
    with _BUILDING:
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            with torch.inference_mode(False), _on_cpu(), torch.random.fork_rng(devices=[]):
                yield
        finally:
            torch.set_default_dtype(dtype)


@contextmanager
def running(device: torch.device) -> Iterator[None]:
    """For code that runs networks: no autocast on `device`, new tensors on the CPU, no NumPy floating-point errors."""
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(np.errstate(all="ignore"))
        stack.enter_context(_on_cpu())
        yield


def _on_cpu() -> AbstractContextManager[object]:
    """New tensors on the CPU. The device's context slows every call of torch down, so only where it is needed."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
