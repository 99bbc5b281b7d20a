"""Calls of the emulated handlers, and what is asked after each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# FaultKind of csrc/cuda/fault.h.
FAULTS = [
    "none",
    "map entry",
    "row index",
    "coordinate range",
    "coordinate stride",
    "duplicate coordinate",
    "point",
    "count",
]


def call(
    emulated: ModuleType,
    op: str,
    results: Any,
    *operands: Any,
    workspace: Sequence[int] | None = None,
    **attributes: Any,
) -> Any:
    """The results of one op; of `workspace` sizes where the op has one, which is left out."""
    wanted = list(results) if isinstance(results, (list, tuple)) else [results]
    if workspace is not None:
        size = emulated.workspace_bytes(op, list(workspace))
        wanted.append(jax.ShapeDtypeStruct((size,), jnp.uint8))
    made = jax.ffi.ffi_call(f"uov_cuda_{op}", wanted)(*operands, **attributes)
    made = jax.block_until_ready(made)[: len(wanted) - (workspace is not None)]
    return made if isinstance(results, (list, tuple)) else made[0]


def faults(emulated: ModuleType) -> tuple[str, int, int] | None:
    """What was reported since the last look, if anything."""
    kind, a, b, _ = emulated.fault(0)
    emulated.clear_fault(0)
    return (FAULTS[kind], a, b) if kind else None


def same_bits_in_any_order(emulated: ModuleType, run: Callable[[], Any]) -> None:
    """Require that `run` does not depend on the order of blocks, warps and lanes."""
    seen = set()
    for seed in range(6):
        emulated.use_order(seed)
        seen.add(b"".join(np.asarray(a).tobytes() for a in jax.tree.leaves(run())))
    assert len(seen) == 1
