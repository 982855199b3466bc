"""Options for loading weights: their source, trust, device and precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from mmmos.errors import UsageError

DType = Literal["auto", "float32", "bfloat16", "int8"]
"""Precision of the encoders; "auto" is float32. int8 needs the back end OpenVINO, and `mmmos doctor --precision`."""

Precision = Literal["float32", "bfloat16", "int8"]

Backend = Literal["auto", "torch", "openvino"]
"""What runs the encoders; "auto" is torch, and OpenVINO for int8, so that an installed extra alone changes no score."""


@dataclass(frozen=True)
class LoadOptions:
    """A user's options for loading models and encoders, as one object.

    Raises `UsageError` for an unknown precision or back end, and for int8 in torch.
    """

    device: str = "auto"  # "cpu", "cuda" or "cuda:N"; "auto" is the first GPU, else the CPU
    dtype: DType = "auto"
    trust_checkpoint: bool = False  # whether a pickle of unknown origin is read, tensors only
    accept_licenses: tuple[str, ...] = ()  # names of weights whose licence the user accepts
    revision: str | None = None  # of a hub repository, as the next three fields; None: the pinned one or the newest
    cache_dir: str | Path | None = None  # None: the hub client's own
    local_files_only: bool = False  # whether the network must not be used
    backend: Backend = "auto"
    token: str | None = field(default=None, repr=False)  # None: the one that the hub client has stored

    def __post_init__(self) -> None:
        if self.dtype not in get_args(DType):
            raise UsageError(f"no precision is called {self.dtype!r}; there are {', '.join(get_args(DType))}")
        if self.backend not in get_args(Backend):
            raise UsageError(f"no back end is called {self.backend!r}; there are {', '.join(get_args(Backend))}")
        if self.dtype == "int8" and self.backend == "torch":
            raise UsageError("int8 needs the openvino back end: use --backend openvino, or --dtype bfloat16")

    @property
    def precision(self) -> Precision:
        """The precision that `dtype` stands for."""
        return "float32" if self.dtype == "auto" else self.dtype

    @property
    def running_backend(self) -> Literal["torch", "openvino"]:
        """The back end that `backend` stands for."""
        if self.backend == "auto":
            return "openvino" if self.dtype == "int8" else "torch"
        return self.backend


DEFAULT_OPTIONS = LoadOptions()
"""The options by default."""
