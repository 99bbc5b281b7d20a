"""What XLA makes of the forms of the `xla` backend: `python -m benchmarks.compiled`.

For a TPU v5e that is not here, with `libtpu` installed beside jax. Nothing is run. Printed are, for
one 3x3x3 layer, the memory beside arguments and result, and whether XLA has kernels of its own in
it, as for ragged products.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import pairs
from benchmarks.report import table
from uov_jax.sparse import xla_parallel

OFFSETS = 27


def tpu() -> Any:
    """A TPU v5e to compile for."""
    from jax.experimental import topologies

    # Else libtpu asks the network which machine this is.
    os.environ |= {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
    }
    shape = [1, 1, 1]
    return topologies.get_topology_desc("v5e:1x1x1", "tpu", chips_per_host_bounds=shape).devices[0]


def row(device: Any, form: str, op: str, rows: int, channels: int, dtype: Any) -> list[str]:
    """Cells of the table."""
    functions = {"dense": xla_parallel, "pairs": pairs}[form]
    sharding = jax.sharding.SingleDeviceSharding(device)

    def array(*size: int, dtype: Any = dtype) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(size, dtype, sharding=sharding)

    map_shape = (OFFSETS, rows)
    schedule = None
    if form == "pairs":
        schedule = tuple(array(*s, dtype=jnp.int32) for s in pairs.schedule_shapes(map_shape))
    how: dict[str, Any] = {"precision": "float32"}
    if op == "gather_gemm":
        other = array(OFFSETS, channels, channels)
        how |= {"transposed": False, "mirrored": False}
    else:
        other = array(rows, channels)

    def run(x: Any, other: Any, forward: Any, schedule: Any) -> Any:
        return getattr(functions, op)(x, other, forward, schedule, **how)

    arguments = array(rows, channels), other, array(*map_shape, dtype=jnp.int32), schedule
    program = jax.jit(run).lower(*arguments).compile()
    memory, text = program.memory_analysis(), program.as_text()
    assert memory is not None
    assert text is not None
    return [
        f"{op}, {form}, {jnp.dtype(dtype).name}",
        f"{memory.temp_size_in_bytes * 1e-6:.0f}",
        "yes" if "tpu_custom_call" in text else "no",
        "yes" if " while(" in text else "no",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__)
    parser.add_argument("--rows", type=int, default=15_947, help="of the layer")
    parser.add_argument("--channels", type=int, default=96, help="of the layer, in and out")
    options = parser.parse_args()
    if importlib.util.find_spec("libtpu") is None:
        parser.error("there is no compiler for TPUs: libtpu is not installed")
    device = tpu()
    rows = [
        row(device, form, op, options.rows, options.channels, dtype)
        for op in ("gather_gemm", "gather_gemm_dw")
        for form in ("dense", "pairs")
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    print(f"{options.rows:,} rows of {options.channels} channels, jax {jax.__version__}:\n")
    print(table(["product", "memory MB", "XLA's kernel for ragged products", "loop"], rows))


if __name__ == "__main__":
    main()
