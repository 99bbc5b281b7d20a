"""Functions with a gradient of their own, whose rules run under the settings of their call.

JAX traces such rules when a transformation gets to them, which may be long after the `with` block
of `use_backend` or `use_precision` around the call has ended: inside `jit`, `checkpoint` and `scan`
the rule of the forward pass too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

import jax

from uov_jax.sparse.backends import Settings

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class FunctionWithGradient(Generic[Arguments, Result]):
    """As `jax.custom_vjp` makes them; the settings are one more argument, without a gradient."""

    def __init__(
        self, function: Callable[Arguments, Result], nondiff_argnums: tuple[int, ...]
    ) -> None:
        """Without a gradient until `defvjp`."""
        functools.update_wrapper(self, function)
        self._signature = inspect.signature(function)

        def under_settings(*arguments: Any) -> Any:
            *own, settings = arguments
            with settings.in_force():
                return function(*own)  # type: ignore[call-arg]

        under_settings.__name__ = function.__name__
        self._function = jax.custom_vjp(under_settings, nondiff_argnums=nondiff_argnums)

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """The function's result."""
        given = self._signature.bind(*args, **kwargs)
        given.apply_defaults()
        result: Result = self._function(*given.args, Settings.current())
        return result

    def defvjp(
        self,
        forward: Callable[..., tuple[Any, Any]],
        backward: Callable[..., tuple[Any, ...]],
        *,
        symbolic_zeros: bool = False,
    ) -> None:
        """Set the two rules, as those of `jax.custom_vjp`."""

        def forward_under_settings(*arguments: Any) -> tuple[Any, Any]:
            *own, settings = arguments
            with settings.in_force():
                result, saved = forward(*own)
            return result, (saved, settings)

        def backward_under_settings(*arguments: Any) -> tuple[Any, ...]:
            *static, (saved, settings), cotangents = arguments
            with settings.in_force():
                return *backward(*static, saved, cotangents), None

        self._function.defvjp(
            forward_under_settings, backward_under_settings, symbolic_zeros=symbolic_zeros
        )


def with_gradient(
    *, nondiff_argnums: tuple[int, ...] = ()
) -> Callable[[Callable[Arguments, Result]], FunctionWithGradient[Arguments, Result]]:
    """Decorator, in the place of `jax.custom_vjp`."""
    return lambda function: FunctionWithGradient(function, nondiff_argnums)
