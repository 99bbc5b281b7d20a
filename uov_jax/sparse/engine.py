"""The compiled module of the CPU, and which of its inner kernels run."""

from __future__ import annotations

import functools
from types import ModuleType

import jax

from uov_jax import processors
from uov_jax.sparse import kernels

AVAILABLE = "available"


class EngineMissingError(RuntimeError):
    """The compiled extension is not built; the message says how to build it."""


@functools.cache
def load_engine() -> tuple[ModuleType | None, str]:
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
    return _engine, AVAILABLE


def engine() -> ModuleType:
    """The compiled module, for host functions.

    Raises:
        EngineMissingError: the extension is not built.

    """
    module, status = load_engine()
    if module is None:
        raise EngineMissingError(status)
    return module


def status() -> str:
    """Whether the module is there and which kernels run, or why it is not."""
    module, reason = load_engine()
    if module is None:
        return reason
    left_out = ", ".join(module.kernels_left_out().split())
    missing = f"; without {left_out}, which its compiler could not make" if left_out else ""
    return f"{reason} ({module.instruction_set()} kernels{missing})"


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next allocations.

    A training step frees and allocates gigabytes; by default the C library gives them back to the
    system, which clears them again: a third of a step's time on Linux. Call it early, before other
    threads allocate.

    Returns:
        Whether it was done: False without the extension, or with a C library other than glibc.

    """
    module, _ = load_engine()
    return module is not None and module.keep_freed_memory()
