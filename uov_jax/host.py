"""The compiled module for its functions on numpy arrays; what imports this needs no JAX."""

from __future__ import annotations

import functools
from types import ModuleType


class EngineMissingError(RuntimeError):
    """The compiled extension is not built; the message says how to build it."""


@functools.cache
def engine() -> ModuleType:
    """The compiled module.

    Raises:
        EngineMissingError: the extension is not built.

    """
    try:
        import uov_jax._engine as _engine
    except ImportError as error:
        raise EngineMissingError(
            f"the extension uov_jax._engine is not built ({error}): run `pip install .`"
        ) from error
    return _engine
