"""Options for loading weights: their source, trust, device and precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from mmmos.errors import UsageError

DType = Literal["auto", "float32", "bfloat16"]
"""Precision of the encoders; "auto" is float32."""


@dataclass(frozen=True)
class LoadOptions:
    """A user's options for loading models and encoders, as one object. Raises `UsageError` for an unknown precision."""

    device: str = "auto"  # "cpu", "cuda" or "cuda:N"; "auto" is the first GPU, else the CPU
    dtype: DType = "auto"
    trust_checkpoint: bool = False  # whether a pickle of unknown origin is read, tensors only
    accept_licenses: tuple[str, ...] = ()  # names of weights whose licence the user accepts
    revision: str | None = None  # of a hub repository, as the next three fields; None: the pinned one or the newest
    cache_dir: str | Path | None = None  # None: the hub client's own
    local_files_only: bool = False  # whether the network must not be used
    token: str | None = field(default=None, repr=False)  # None: the one that the hub client has stored

    def __post_init__(self) -> None:
        if self.dtype not in get_args(DType):
            raise UsageError(f"no precision is called {self.dtype!r}; there are {', '.join(get_args(DType))}")

    @property
    def precision(self) -> Literal["float32", "bfloat16"]:
        """The precision that `dtype` stands for."""
        return "float32" if self.dtype == "auto" else self.dtype


DEFAULT_OPTIONS = LoadOptions()
"""The options by default."""
