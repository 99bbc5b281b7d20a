"""Which implementation of the sparse ops runs: the compiled one or `jax.numpy` alone."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from uov_jax import processors
from uov_jax.sparse import kernels

_AVAILABLE = "available"
_forced: str | None = None


class EngineMissingError(RuntimeError):
    """The compiled extension is not built; the message says how to build it."""


@functools.cache
def _load_engine() -> tuple[ModuleType | None, str]:
    """The compiled module, set up and with its handlers registered, or None and the reason."""
    try:
        import uov_jax._engine as _engine
    except ImportError as error:
        return None, f"the extension uov_jax._engine is not built ({error}): run `pip install .`"
    for name, handler in _engine.handlers().items():
        jax.ffi.register_ffi_target(name, handler, platform="cpu")
    _engine.use_processors(processors.available())
    processor = kernels.Processor(*_engine.processor())
    left_out = _engine.kernels_left_out().split()
    _engine.use_kernels(kernels.chosen(processor, _engine.runnable_kernels(), left_out))
    return _engine, _AVAILABLE


def engine() -> ModuleType:
    """The compiled module, for host functions.

    Raises:
        EngineMissingError: the extension is not built.

    """
    module, status = _load_engine()
    if module is None:
        raise EngineMissingError(status)
    return module


def compiled_call(op: str, results: Any, *operands: jax.Array, **attributes: bool | int) -> Any:
    """The result or results of a compiled op: one of those in `csrc/ffi/handlers.h`.

    Args:
        op: its name there.
        results: shapes and dtypes, as `jax.ffi.ffi_call` takes them.
        operands: what the handler binds as arguments.
        attributes: what it binds as attributes.

    Raises:
        EngineMissingError: the extension is not built.

    """
    engine()  # registers the handlers
    call = jax.ffi.ffi_call(f"uov_{op}", results, vmap_method="sequential")
    return call(*operands, **attributes)


def backends() -> dict[str, str]:
    """State of each backend: "available", with what runs, or the reason why it is not."""
    module, status = _load_engine()
    return {
        "cpu": status if module is None else f"{status} ({_kernels(module)})",
        "cuda": "not available: this version has no CUDA kernels",
        "xla": f"{_AVAILABLE} (jax.numpy, any platform)",
    }


def _kernels(module: ModuleType) -> str:
    """Which inner kernels run, and which of this kind of processor could not be built."""
    left_out = ", ".join(module.kernels_left_out().split())
    missing = f"; without {left_out}, which its compiler could not make" if left_out else ""
    return f"{module.instruction_set()} kernels{missing}"


def pool_threads() -> int:
    """How many threads the compiled ops of one device share.

    Raises:
        EngineMissingError: the extension is not built.

    """
    return int(compiled_call("pool_threads", jax.ShapeDtypeStruct((), jnp.int32)))


def current_backend() -> str:
    """The backend that an op traced now will use.

    Compiled kernels where JAX's default platform is the CPU and the extension is built, else `xla`.
    On a CPU without the extension it warns, once: `xla` is many times slower there.
    """
    name, missing = _current_backend()
    if missing is not None:
        _warn_of_slow_path(missing)
    return name


def _current_backend() -> tuple[str, str | None]:
    """The backend, and on a CPU why it is not the compiled one."""
    if _forced is not None:
        return _forced, None
    if jax.default_backend() != "cpu":
        return "xla", None
    module, status = _load_engine()
    return ("xla", status) if module is None else ("cpu", None)


def current_kernels() -> str:
    """Which kernels an op traced now will run: one of `kernels.NAMES`, or "xla" for `jax.numpy`."""
    name, _ = _current_backend()
    return engine().instruction_set() if name == "cpu" else name


def use_kernels(name: str) -> bool:
    """Let the compiled ops run these kernels from now on, if the backend and processor have them.

    It waits for ops that run. Programs need not be compiled again.

    Returns:
        Whether they run now.

    """
    if _current_backend()[0] != "cpu" or name not in engine().runnable_kernels():
        return False
    engine().use_kernels(name)
    return True


@functools.cache
def _warn_of_slow_path(status: str) -> None:
    warnings.warn(f"sparse ops run in jax.numpy, slowly: {status}", RuntimeWarning, stacklevel=3)


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next allocations.

    A training step frees and allocates gigabytes; by default the C library gives them back to the
    system, which clears them again: a third of a step's time on Linux. Call it early, before other
    threads allocate.

    Returns:
        Whether it was done: False without the extension, or with a C library other than glibc.

    """
    module, _ = _load_engine()
    return module is not None and module.keep_freed_memory()


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
