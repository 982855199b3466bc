"""Exports of a package that are imported when they are first used (PEP 562): `import mmmos` does not wait for torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, homes: Mapping[str, str], modules: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package.

    - homes: name -> the module of the package that defines it, as "module" or, under another name, "module:name"
    - modules: names of modules that are exports themselves
    """

    def get(name: str) -> Any:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = homes[name].partition(":")
        return getattr(import_module(f"{package}.{module}"), attribute or name)

    def names() -> list[str]:
        return sorted({*homes, *modules})

    return get, names
