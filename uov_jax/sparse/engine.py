"""The compiled module of the CPU, and which of its inner kernels run."""

from __future__ import annotations

import functools
from types import ModuleType

import jax

from uov_jax import host, processors
from uov_jax.host import EngineMissingError
from uov_jax.sparse import kernels

AVAILABLE = "available"


@functools.cache
def load_engine() -> tuple[ModuleType | None, str]:
    """The compiled module, set up and with its handlers registered, or None and the reason."""
    try:
        _engine = host.engine()
    except EngineMissingError as error:
        return None, str(error)
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


def give_freed_memory_back() -> None:
    """Give freed memory to the system once, also what `keep_freed_memory` keeps.

    Between kinds of work: steps and evaluations in turn leave pieces that fit neither, so that what
    is kept grows by a third of a megabyte with each. Without glibc it does nothing.
    """
    module, _ = load_engine()
    if module is not None:
        module.give_freed_memory_back()
