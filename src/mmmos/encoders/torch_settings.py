"""Isolation from the caller's torch settings: networks are built and run alike, and the settings stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

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
            with torch.inference_mode(False), torch.device("cpu"), torch.random.fork_rng(devices=[]):
                yield
        finally:
            torch.set_default_dtype(dtype)


@contextmanager
def running(device: torch.device) -> Iterator[None]:
    """For code that runs networks: no autocast on `device`, new tensors on the CPU, no NumPy floating-point errors."""
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(np.errstate(all="ignore"))
        if torch.get_default_device().type != "cpu":  # it slows every call of torch down a little
            stack.enter_context(torch.device("cpu"))
        yield
