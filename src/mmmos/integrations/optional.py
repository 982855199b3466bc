"""Base classes of optional packages, or stand-ins that report what to install when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NoReturn

from mmmos.errors import MissingExtraError


def optional_base(modules: tuple[str, ...], name: str, fix: str) -> Any:
    """The class `name` of the first of these modules that is installed.

    If none is, a class whose construction raises `MissingExtraError` with the command `fix`: a module that extends it
    can be imported without the package.
    """
    for module in modules:
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name != module.split(".")[0]:  # the package is installed and lacks something else
                raise

    class Missing:
        def __init__(self, *_: Any, **__: Any) -> None:
            _refuse(type(self).__name__, modules[0].split(".")[0], fix)

    return Missing


def _refuse(what: str, package: str, fix: str) -> NoReturn:
    raise MissingExtraError(f"{what} needs {package}: {fix}")
