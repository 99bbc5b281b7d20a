"""Which implementation of the sparse ops runs: the compiled one or `jax.numpy` alone."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from types import ModuleType

import jax

_AVAILABLE = "available"
_forced: str | None = None


@functools.cache
def _load_engine() -> tuple[ModuleType | None, str]:
    """The compiled module with its handlers registered, or None and the reason."""
    try:
        import uov_jax._engine as _engine
    except ImportError as error:
        return None, f"the extension uov_jax._engine is not built ({error}): run `pip install .`"
    for name, handler in _engine.handlers().items():
        jax.ffi.register_ffi_target(name, handler, platform="cpu")
    return _engine, _AVAILABLE


def engine() -> ModuleType:
    """The compiled module, for host functions.

    Raises:
        RuntimeError: the extension is not built.

    """
    module, status = _load_engine()
    if module is None:
        raise RuntimeError(status)
    return module


def backends() -> dict[str, str]:
    """State of each backend: "available", with what runs, or the reason why it is not."""
    module, status = _load_engine()
    cpu = f"{status} ({module.instruction_set()} kernels)" if module is not None else status
    return {
        "cpu": cpu,
        "cuda": "not available: this version has no CUDA kernels",
        "xla": f"{_AVAILABLE} (jax.numpy, any platform)",
    }


def current_backend() -> str:
    """The backend that an op traced now will use.

    Compiled kernels where JAX's default platform is the CPU and the extension is built, else `xla`.
    """
    if _forced is not None:
        return _forced
    return "cpu" if jax.default_backend() == "cpu" and _load_engine()[0] is not None else "xla"


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force a backend for the ops *traced* inside the block.

    Raises:
        ValueError: unknown or unavailable backend.

    """
    global _forced
    status = backends().get(name)
    if status is None or not status.startswith(_AVAILABLE):
        known = ", ".join(f"{key}: {value}" for key, value in backends().items())
        raise ValueError(f"sparse backend {name!r} cannot be used; {known}")
    previous, _forced = _forced, name
    try:
        yield
    finally:
        _forced = previous
