"""The frozen encoders: base, table, device, weights, then one module each.

`ENCODERS` and `load_encoder` are in `table`, `Encoder` and `Features` in `base`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmmos.encoders.base import Encoder, Features
    from mmmos.encoders.table import ENCODERS, load_encoder

__all__ = ["ENCODERS", "Encoder", "Features", "load_encoder"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module 'mmmos.encoders' has no attribute {name!r}")
    return getattr(
        import_module("mmmos.encoders." + ("table" if name in ("ENCODERS", "load_encoder") else "base")), name
    )
