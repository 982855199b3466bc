"""Options for loading weights: their source, trust, device and precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DType = Literal["auto", "float32", "bfloat16"]
"""Precision of the encoders; "auto" is float32."""


@dataclass(frozen=True)
class LoadOptions:
    """A user's options for loading models and encoders, as one object."""

    device: str = "auto"  # "cpu", "cuda" or "cuda:N"; "auto" is the first GPU, else the CPU
    dtype: DType = "auto"
    trust_checkpoint: bool = False  # whether a pickle of unknown origin is read, tensors only
    accept_licenses: tuple[str, ...] = ()  # names of weights whose licence the user accepts
    revision: str | None = None  # of a hub repository, as the next three fields; None: the pinned one or the newest
    cache_dir: str | Path | None = None  # None: the hub client's own
    local_files_only: bool = False  # whether the network must not be used
    token: str | None = None  # None: the one that the hub client has stored


DEFAULT_OPTIONS = LoadOptions()
"""The options by default."""
