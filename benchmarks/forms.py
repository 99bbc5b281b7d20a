"""Both forms of the `xla` backend's convolutions on GPUs and TPUs, counted as they are lowered."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import lowered, pairs
from benchmarks.accelerators import ACCELERATORS, WIDTH, least
from benchmarks.report import table
from benchmarks.work import POINTWISE, Convolution, Site, Workload, tasks
from uov_jax.sparse import xla_parallel

MIXED = "pairs, but dense for w"
FORMS = (
    ("dense", "cuda"),
    ("pairs", "cuda"),
    ("dense", "tpu"),
    ("pairs", "tpu"),
    (MIXED, "tpu"),
)


@dataclass(frozen=True)
class Shape:
    """A product of the `xla` backend: which of the two it is, and its static shapes."""

    op: str
    offsets: int
    rows_in: int
    rows_out: int
    c_in: int
    c_out: int


@functools.cache
def program(shape: Shape, form: str, platform: str, width: int) -> lowered.Program:
    """What one is lowered to, for rows of numbers of `width` bytes.

    A ragged product along rows of one matrix each is one op on a TPU; the gradient of the weights
    there, and both on a GPU, are expanded. That is what XLA makes of them: see docs/performance.md.
    """
    dtype = {4: jnp.float32, 2: jnp.bfloat16}[width]
    x = jax.ShapeDtypeStruct((shape.rows_in, shape.c_in), dtype)
    forward = jax.ShapeDtypeStruct((shape.offsets, shape.rows_out), jnp.int32)
    is_dw = shape.op == "gradient of w"
    other_shape = (
        (shape.rows_out, shape.c_out) if is_dw else (shape.offsets, shape.c_in, shape.c_out)
    )
    functions = {"dense": xla_parallel, "pairs": pairs}[form]
    arguments = [x, jax.ShapeDtypeStruct(other_shape, dtype), forward]
    if form == "pairs":
        places = pairs.schedule_shapes(forward.shape)
        arguments += [jax.ShapeDtypeStruct(size, jnp.int32) for size in places]

    def run(x: jax.Array, other: jax.Array, forward: jax.Array, *schedule: jax.Array) -> jax.Array:
        how: dict[str, Any] = {"precision": "float32"}
        if is_dw:
            return functions.gather_gemm_dw(x, other, forward, schedule or None, **how)
        how |= {"transposed": False, "mirrored": False}
        return functions.gather_gemm(x, other, forward, schedule or None, **how)

    is_kernel = platform == "tpu" and not is_dw
    ragged = lowered.GROUPED if is_kernel else lowered.EXPANDED
    return lowered.lowered(run, platform, arguments, ragged)


def shapes(layer: Convolution, at: Site) -> Iterator[Shape]:
    """The products of a layer."""
    if layer.kind == POINTWISE:
        return
    ends = at.capacity_in, at.capacity_out
    yield Shape("product", at.offsets, *ends, layer.c_in, layer.c_out)
    if layer.wants_dx:
        yield Shape("gradient of x", at.offsets, *ends[::-1], layer.c_out, layer.c_in)
    yield Shape("gradient of w", at.offsets, *ends, layer.c_in, layer.c_out)


def executed(shape: Shape, existing: int, form: str, found: lowered.Program) -> list[lowered.Work]:
    """The ops that run: rounds without pairs are skipped."""
    work = list(found.always)
    if form == "pairs":
        places = pairs.room((shape.offsets, shape.rows_out))
        size = pairs.round_size(places, shape.c_in, shape.c_out)
        for branch in found.conditional[: max(0, -(-existing // size) - 1)]:
            work += branch
    return work


def forms(work: Workload) -> str:
    """Both forms of the convolutions of the `xla` backend, as they are lowered, beside the useful.

    Pointwise convolutions are plain products in both, and left out.
    """
    rows = []
    for numbers in WIDTH:
        useful = [
            t
            for layer, at in work.layers
            if layer.kind != POINTWISE
            for t in tasks(layer, at, WIDTH[numbers])
            if t.operations
        ]
        rows.append(
            [
                f"useful, {numbers}",
                f"{sum(t.operations for t in useful) * 1e-9:.0f}",
                f"{sum(t.bytes for t in useful) * 1e-9:.2f}",
                "",
                "",
                *(f"{least(useful, a, numbers) * 1e3:.1f}" for a in ACCELERATORS),
            ]
        )
        for form, platform in FORMS:
            rows.append(_form(work, form, platform, numbers))
    head = ["convolutions of a step", "GFLOP", "GB", "largest array MB", "ops"]
    return table([*head, *(f"{a.name} ms" for a in ACCELERATORS)], rows)


def _form(work: Workload, form: str, platform: str, numbers: str) -> list[str]:
    ops: list[lowered.Work] = []
    for layer, at in work.layers:
        for shape in shapes(layer, at):
            own = form
            if form == MIXED:
                own = "dense" if shape.op == "gradient of w" else "pairs"
            found = program(shape, own, platform, WIDTH[numbers])
            if found.has_loop or found.custom_calls:
                raise RuntimeError(f"{form}, {platform}: a loop or custom call in {shape}")
            ops += executed(shape, at.pairs, own, found)
    times = [
        f"{sum(a.seconds(w.operations, w.bytes, numbers) for w in ops) * 1e3:.1f}"
        if (a.multiprocessors > 0) == (platform == "cuda")
        else ""
        for a in ACCELERATORS
    ]
    return [
        f"{form}, {platform}, {numbers}",
        f"{sum(w.operations for w in ops) * 1e-9:.0f}",
        f"{sum(w.bytes for w in ops) * 1e-9:.2f}",
        f"{max(w.largest for w in ops) * 1e-6:.0f}",
        str(len(ops)),
        *times,
    ]
