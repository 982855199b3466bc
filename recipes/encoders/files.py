"""Wheels in, safetensors out: what the conversions of all encoders have in common."""

from __future__ import annotations

import argparse
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


def parse_arguments(description: str | None, sha256: str) -> argparse.Namespace:
    """The paths `wheel`, `out` and `golden` from the command line of a conversion; the wheel is checked."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("wheel", "out", "golden"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    check_wheel(args.wheel, sha256)
    return args


def pack(weights: Mapping[str, Array], source: Mapping[str, Any], **metadata: str) -> bytes:
    """Kernels and matrices, which are called weight, in float16, vectors in float32; where they come from as metadata.

    The same weights give the same bytes: the random order in which safetensors writes metadata is undone.
    """
    from safetensors.numpy import save

    tensors = {
        name: np.ascontiguousarray(array, dtype=np.float16 if name.endswith("weight") else np.float32)
        for name, array in sorted(weights.items())
    }
    notes = {"source": json.dumps(dict(source), sort_keys=True)} | metadata
    packed = save(tensors, metadata=notes)
    size = int.from_bytes(packed[:8], "little")
    header = json.loads(packed[8 : 8 + size]) | {"__metadata__": notes}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return packed[:8] + text.ljust(size) + packed[8 + size :]


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
