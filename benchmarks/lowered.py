"""Operations and bytes of a lowered program, from the shapes in its StableHLO.

XLA's own cost analysis counts a `ragged_dot` on the machine that it compiles for, which needs a
compiler for that machine; here products are counted as they are written down. Counted are the ops
that move rows or multiply them; what is done number by number is taken to be fused into these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.mlir import ir
from jax.interpreters import mlir

RAGGED = "ragged_dot"


@dataclass(frozen=True)
class Work:
    """One op: multiplications and additions, and the bytes of what it reads and writes.

    largest: bytes of the largest array that it makes.
    """

    op: str
    operations: float
    bytes: float
    largest: float


@dataclass(frozen=True)
class Program:
    """What always runs, and what runs under each condition, in order."""

    always: tuple[Work, ...]
    conditional: tuple[tuple[Work, ...], ...]
    has_loop: bool
    custom_calls: tuple[str, ...]


GROUPED, EXPANDED = "grouped", "expanded"
"""What becomes of a ragged product: every row is multiplied by the matrix of its group alone; or
each row is written once for every group, zeros but for its own, and one dense product is taken, as
the `RaggedDotRewriter` of XLA does for GPUs."""


def lowered(
    function: Any, platform: str, arguments: Sequence[jax.ShapeDtypeStruct], ragged: str = GROUPED
) -> Program:
    """The program of a function exported for a platform, "cuda" or "tpu"; no device is needed."""
    exported = jax.export.export(
        jax.jit(function),
        platforms=[platform],
        disabled_checks=[jax.export.DisabledSafetyCheck.custom_call("*")],
    )(*arguments)
    with mlir.make_ir_context():
        module = ir.Module.parse(exported.mlir_module())
        return _program(module, ragged)


def _program(module: Any, ragged: str) -> Program:
    functions = {op.attributes["sym_name"].value: op for op in module.body.operations}
    always: list[Work] = []
    conditional: list[tuple[Work, ...]] = []
    calls: list[str] = []
    loops = []

    def walk(operation: Any, found: list[Work]) -> None:
        for op in _inside(operation):
            name = op.operation.name
            if name in ("func.call", "call"):
                walk(functions[op.operation.attributes["callee"].value], found)
            elif name in ("stablehlo.case", "stablehlo.if"):
                branches: list[Work] = []
                walk(op, branches)
                conditional.append(tuple(branches))
            elif name == "stablehlo.while":
                loops.append(op)
                walk(op, found)
            elif name == "stablehlo.custom_call":
                calls.append(op.operation.attributes["call_target_name"].value)
            elif (work := _work(op.operation, ragged)) is not None:
                found.append(work)

    walk(functions["main"], always)
    return Program(tuple(always), tuple(conditional), bool(loops), tuple(calls))


def _inside(operation: Any) -> Iterator[Any]:
    for region in operation.operation.regions:
        for block in region.blocks:
            yield from block.operations


def _shape(value: Any) -> tuple[tuple[int, ...], int]:
    """Shape, and bytes of a number."""
    kind = ir.RankedTensorType(value.type)
    element = str(kind.element_type)
    bits = 8 if element == "i1" else int("".join(c for c in element if c.isdigit()))
    return tuple(kind.shape), bits // 8


def _bytes(value: Any) -> float:
    shape, width = _shape(value)
    return float(np.prod(shape, dtype=np.float64)) * width


def _work(op: Any, ragged: str) -> Work | None:
    name = op.name
    if name not in (
        "stablehlo.gather",
        "stablehlo.scatter",
        "stablehlo.dot_general",
        "stablehlo.concatenate",
        "stablehlo.sort",
        "stablehlo.composite",
    ):
        return None
    written = _bytes(op.results[0])
    short = name.removeprefix("stablehlo.")
    if name == "stablehlo.gather":
        # Rows of the operand as often as they are taken.
        return Work(short, 0.0, _bytes(op.operands[1]) + 2 * written, written)
    if name == "stablehlo.scatter":
        # Targets are read and written as often as there are rows to add.
        return Work(short, 0.0, _bytes(op.operands[1]) + 3 * _bytes(op.operands[2]), written)
    if name == "stablehlo.composite":
        if op.attributes["name"].value != f"chlo.{RAGGED}":
            return None
        return _ragged(op, ragged)
    moved = sum(_bytes(value) for value in op.operands) + written
    if name == "stablehlo.dot_general":
        return Work(short, 2.0 * _contracted(op) * _size(op.results[0]), moved, written)
    return Work(short, 0.0, moved, written)


def _size(value: Any) -> float:
    return float(np.prod(_shape(value)[0], dtype=np.float64))


def _contracted(op: Any) -> float:
    """Summands of each number of a product's result."""
    left, right, result = (_size(v) for v in (op.operands[0], op.operands[1], op.results[0]))
    # Without batch axes left * right = result * summands^2.
    return float(np.sqrt(left * right / result))


def _ragged(op: Any, ragged: str) -> Work:
    left, right, sizes = op.operands
    (rows, inner), groups = _shape(left)[0], _shape(sizes)[0][0]
    by_matrix = len(_shape(right)[0]) == 3  # [m, k] x [g, k, n], or [m, k] x [m, n] by groups
    operations = 2.0 * rows * inner * _shape(right)[0][-1]
    read = [_bytes(left), _bytes(right)]
    written = _bytes(op.results[0])
    if ragged == GROUPED:
        return Work(RAGGED, operations, sum(read) + written, written)
    copies = [groups * _bytes(left)] + ([] if by_matrix else [groups * _bytes(right)])
    # Each copy is written and read, what it is made of is read.
    moved = sum(read) + 2 * sum(copies) + written
    return Work(RAGGED, groups * operations, moved, max(written, *copies))
