"""Packages that read some formats, installed by those who have such files; and their errors."""

from __future__ import annotations

import importlib
from types import ModuleType

from uov_jax.errors import MissingPackageError


def required_package(name: str, extra: str, place: str) -> ModuleType:
    """A module of an optional package.

    Args:
        name: of the module.
        extra: of this package that brings it.
        place: the file that needs it, for the message.

    Raises:
        MissingPackageError: it is not installed; says how to install it.

    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or name).partition(".")[0]
        raise MissingPackageError(
            f"{place}: reading it needs the package {package!r}, which is not installed: "
            f"pip install 'uov-jax[{extra}]'"
        ) from error


def one_line(error: Exception) -> str:
    """What somebody else's error says, with its type, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
