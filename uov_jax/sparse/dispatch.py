"""Runs a sparse op by its name, on the backend of the platform that it is lowered for.

Each op is one JAX primitive until then, so that a program can be lowered for platforms that are not
here, or for several at once. What `use_backend` forces is a parameter of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from uov_jax.sparse import composites, signatures
from uov_jax.sparse.backends import forced_backend, lowered_backend, scheduling_backend


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["arrays"], meta_fields=["backend"]
)
@dataclasses.dataclass(frozen=True)
class Schedule:
    """What a backend works out of a map once, for all products with it."""

    arrays: tuple[jax.Array, ...]
    """int32 each; their meaning is the backend's."""
    backend: str
    """Whose it is: on another it is not looked at."""


_sparse_op = Primitive("sparse_op")
_sparse_op.multiple_results = True


def run(op: str, *operands: Any, **attributes: Any) -> Any:
    """The result or results of an op of `signatures.py`.

    Args:
        op: its name.
        operands: arrays, trees of arrays, or None where there is none.
        attributes: what is known when it is traced; hashable.

    """
    flat, structure = jax.tree.flatten(operands)
    results = _sparse_op.bind(
        *map(jnp.asarray, flat),
        op=op,
        structure=structure,
        attributes=tuple(sorted(attributes.items())),
        forced=forced_backend(),
    )
    return results[0] if len(results) == 1 else tuple(results)


def schedule(forward: jax.Array) -> Schedule | None:
    """The schedule of a map int32 [K, N], for the backend that wants one; None if none does.

    Lowered for another, its arrays are zeros that nothing looks at.
    """
    found = scheduling_backend()
    if found is None:
        return None
    name, functions = found
    shapes = functions.schedule_shapes(forward.shape)
    arrays = run("schedule", forward, backend=name, shapes=shapes)
    return Schedule(arrays if isinstance(arrays, tuple) else (arrays,), name)


def implementation(functions: tuple[Any, ...], op: str) -> Callable[..., Any]:
    """An op's function of a backend: its own, or the one that composes it of others of its own."""
    for several in functions:
        if hasattr(several, op):
            return getattr(several, op)
    own = functools.partial(implementation, functions)
    return functools.partial(getattr(composites, op), own)


def _results(
    *operands: Any, op: str, structure: Any, attributes: Any, forced: str | None
) -> list[jax.core.ShapedArray]:
    del forced
    found = getattr(signatures, op)(*jax.tree.unflatten(structure, operands), **dict(attributes))
    shapes = found if isinstance(found, list) else [found]
    return [jax.core.ShapedArray(shape.shape, shape.dtype) for shape in shapes]


@functools.partial(jax.jit, static_argnames=("op", "structure", "attributes", "forced"))
def _compiled(*operands: jax.Array, **parameters: Any) -> list[jax.Array]:
    return _sparse_op.bind(*operands, **parameters)


def _lowering(platform: str) -> Callable[..., Any]:
    def rule(
        context: Any, *operands: Any, op: str, structure: Any, attributes: Any, forced: str | None
    ) -> Any:
        name, functions = lowered_backend(platform, forced)
        known = dict(attributes)
        if op == "schedule" and known["backend"] != name:
            functions = ()

        def own(schedule: Any) -> Any:
            if not isinstance(schedule, Schedule):
                return schedule
            return schedule.arrays if schedule.backend == name else None

        def of_backend(*flat: jax.Array) -> Sequence[jax.Array]:
            arguments = [
                jax.tree.map(own, argument, is_leaf=lambda node: isinstance(node, Schedule))
                for argument in jax.tree.unflatten(structure, flat)
            ]
            found = implementation(functions, op)(*arguments, **known)
            return found if isinstance(found, tuple | list) else [found]

        return mlir.lower_fun(of_backend, multiple_results=True)(context, *operands)

    return rule


def _one_after_the_other(
    operands: Sequence[jax.Array], axes: Sequence[int | None], **parameters: Any
) -> tuple[list[jax.Array], list[int]]:
    """Kernels know no batch: `vmap` is a loop."""
    mapped = [
        jnp.moveaxis(operand, axis, 0)
        for operand, axis in zip(operands, axes, strict=True)
        if axis is not None
    ]

    def one(some: list[jax.Array]) -> list[jax.Array]:
        following = iter(some)
        every = [
            operand if axis is None else next(following)
            for operand, axis in zip(operands, axes, strict=True)
        ]
        return _sparse_op.bind(*every, **parameters)

    results = jax.lax.map(one, mapped)
    return results, [0] * len(results)


_sparse_op.def_impl(lambda *operands, **parameters: _compiled(*operands, **parameters))
_sparse_op.def_abstract_eval(_results)
batching.primitive_batchers[_sparse_op] = _one_after_the_other
for _platform in ("cpu", "cuda", "tpu"):
    mlir.register_lowering(_sparse_op, _lowering(_platform), platform=_platform)
mlir.register_lowering(_sparse_op, _lowering("other"))
