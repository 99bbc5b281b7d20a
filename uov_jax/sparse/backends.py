"""The backends of the sparse ops, and which of them runs.

A backend is a file of functions, those of `signatures.py` by their names: `cpu.py`, `cuda.py`,
`xla.py`. What an op is lowered for decides between them, when it is compiled: the kernels made for
that platform where they are built, else `xla`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax

from uov_jax.sparse import cpu, cuda, engine, xla, xla_parallel
from uov_jax.sparse.engine import AVAILABLE


@dataclasses.dataclass(frozen=True)
class Backend:
    """One implementation of the sparse ops.

    Attributes:
        functions: for a platform that is lowered for ("cpu", "cuda", "tpu" and so on) modules or
            objects with functions; the first that has one of a name gives it.
        state: "available", with what runs, or the reason why it is not.
        platforms: what is lowered for these takes this backend where it is available; those that
            are registered first come first.

    """

    functions: Callable[[str], tuple[Any, ...]]
    state: Callable[[], str]
    platforms: tuple[str, ...] = ()

    @property
    def available(self) -> bool:
        """Whether it runs here."""
        return self.state().startswith(AVAILABLE)


_BACKENDS: dict[str, Backend] = {}
# None, or the name of a backend: part of the key of every compiled program.
_forced = jax.make_user_context(default_value=None)


def register_backend(name: str, backend: Backend) -> None:
    """Add a backend, or put another in its place."""
    _BACKENDS[name] = backend


register_backend("cpu", Backend(lambda _: (cpu.CPU,), engine.status, ("cpu",)))
register_backend("cuda", Backend(lambda _: (cuda.CUDA,), cuda.CUDA.status, ("cuda",)))
register_backend(
    "xla",
    Backend(
        lambda platform: (xla,) if platform == "cpu" else (xla_parallel, xla),
        lambda: f"{AVAILABLE} (jax.numpy, any platform)",
    ),
)


def registered() -> dict[str, Backend]:
    """All backends by name."""
    return dict(_BACKENDS)


def backends() -> dict[str, str]:
    """State of each backend: "available", with what runs, or the reason why it is not."""
    return {name: backend.state() for name, backend in _BACKENDS.items()}


@contextlib.contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force a backend for the ops that run inside the block; functions are compiled anew for it.

    Raises:
        ValueError: unknown or unavailable backend.

    """
    if name not in _BACKENDS or not _BACKENDS[name].available:
        known = ", ".join(f"{key}: {value}" for key, value in backends().items())
        raise ValueError(f"sparse backend {name!r} cannot be used; {known}")
    with _forced(name):
        yield


def defers_plans() -> bool:
    """Whether the backend in force builds plans faster than the host can send them to it."""
    _, functions = chosen_backend(default_platform(), forced_backend())
    return bool(getattr(functions[0], "DEFERS_PLANS", False))


class FaultError(ValueError):
    """Kernels of a GPU were given a bad map, index or coordinate; what they computed is void."""


def raise_fault() -> None:
    """Raise what a GPU could not, if there was anything; ask when results have arrived.

    Every backend is asked that has run here, whatever the default platform is.

    Raises:
        FaultError: the first that went wrong since this was asked last.

    """
    said = []
    for backend in _BACKENDS.values():
        for functions in backend.functions(backend.platforms[0] if backend.platforms else ""):
            ask = getattr(functions, "fault", None)
            if ask is not None and (text := ask()) is not None:
                said.append(text)
    if said:
        raise FaultError(said[0])


PRECISIONS = ("float32", "tf32", "bfloat16")
_precision = jax.make_user_context(default_value="float32")


@contextlib.contextmanager
def use_precision(name: str) -> Iterator[None]:
    """What products of float32 rows may round their factors to, on what multiplies those faster.

    "tf32" and "bfloat16" are for GPUs and TPUs; a CPU multiplies float32 numbers. Sums are float32.

    Raises:
        ValueError: no precision of this name.

    """
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}, expected one of {', '.join(PRECISIONS)}")
    with _precision(name):
        yield


def current_precision() -> str:
    """The name that `use_precision` gave."""
    name: str = _precision.value
    return name


def forced_backend() -> str | None:
    """The name that `use_backend` gave."""
    name: str | None = _forced.value
    return name


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Settings:
    """What `use_backend` and `use_precision` gave, to be given again: static in transformations."""

    forced: str | None
    precision: str

    @classmethod
    def current(cls) -> Settings:
        """Those in force."""
        return cls(forced_backend(), current_precision())

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """For the ops that run inside the block."""
        with _forced(self.forced), _precision(self.precision):
            yield


def chosen_backend(platform: str, forced: str | None) -> tuple[str, tuple[Any, ...]]:
    """The backend of what is lowered for a platform: its name and its functions.

    On a CPU or GPU whose kernels are not built it warns, once: `xla` is many times slower there.
    """
    name = forced
    for candidate, backend in _BACKENDS.items():
        if name is None and platform in backend.platforms:
            if backend.available:
                name = candidate
            else:
                _warn_of_slow_path(backend.state())
    name = name or "xla"
    return name, _BACKENDS[name].functions(platform)


def scheduling_backend() -> tuple[str, Any] | None:
    """The backend that maps are scheduled for, by name, and its functions; None if none wants it.

    That of the default platform, if it wants schedules, else the first that does: what it made is
    nothing where another platform is lowered for, but nobody knows yet that it will be.
    """
    names = [name for name, backend in _BACKENDS.items() if backend.platforms and backend.available]
    chosen, _ = chosen_backend(default_platform(), forced_backend())
    for name in [chosen] if forced_backend() is not None else [chosen, *names]:
        platforms = _BACKENDS[name].platforms or (default_platform(),)
        functions = _BACKENDS[name].functions(platforms[0])[0]
        if hasattr(functions, "schedule_shapes"):
            return name, functions
    return None


def lowered_backend(platform: str, forced: str | None) -> tuple[str, tuple[Any, ...]]:
    """`chosen_backend` of what is being lowered.

    Raises:
        ValueError: a backend is forced that has no kernels for the platform.

    """
    platforms = _BACKENDS[forced].platforms if forced is not None else ()
    if platforms and platform not in platforms:
        raise ValueError(
            f"sparse backend {forced!r} is forced, which runs on {' or '.join(platforms)}; "
            f"this program is lowered for {platform}: leave out use_backend, or move its arguments"
        )
    return chosen_backend(platform, forced)


@functools.cache
def _warn_of_slow_path(state: str) -> None:
    warnings.warn(f"sparse ops run in jax.numpy, slowly: {state}", RuntimeWarning, stacklevel=3)


def default_platform() -> str:
    """What JAX lowers for unless told otherwise, by the names that lowering uses."""
    name = jax.default_backend()
    return "cuda" if name == "gpu" else name


def current_backend() -> str:
    """The backend of ops on JAX's default platform."""
    return chosen_backend(default_platform(), forced_backend())[0]


def current_kernels() -> str:
    """Which kernels an op runs: one of `kernels.NAMES` on the `cpu` backend, else its name."""
    name = current_backend()
    return engine.engine().instruction_set() if name == "cpu" else name


def use_kernels(name: str) -> bool:
    """Let the compiled ops run these kernels from now on, if the backend and processor have them.

    It waits for ops that run. Programs need not be compiled again.

    Returns:
        Whether they run now.

    """
    if current_backend() != "cpu" or name not in engine.engine().runnable_kernels():
        return False
    engine.engine().use_kernels(name)
    return True
