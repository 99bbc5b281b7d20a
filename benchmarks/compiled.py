"""What XLA makes of the forms of the `xla` backend: `python -m benchmarks.compiled`.

For a TPU v5e and an H100 that are not here: with `libtpu` installed beside jax, and with
`jax-cuda13-plugin`, `jax-cuda13-pjrt` (without what they depend on) and a CUDA toolkit. Nothing is
run. Printed are, for one 3x3x3 layer, the memory beside arguments and result, and whether XLA has
kernels of its own in it, as for ragged products on TPUs.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import pairs
from benchmarks.report import table
from uov_jax.sparse import xla_parallel

OFFSETS = 27
# As XLA describes the device, from NVIDIA's data sheet and programming guide.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32  threads_per_core_limit: 2048
  shared_memory_per_block: 49152  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  core_count: 132  fpus_per_core: 128  clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000  device_memory_size: 84929347584  l2_cache_size: 52428800
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
runtime_version { major: 13 minor: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


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


def gpu() -> Any:
    """An H100 to compile for."""
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    # Without a GPU there is nothing to choose the fastest kernel on.
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_autotune_level=0"
    from jax._src import xla_bridge
    from jax.experimental import topologies

    # Jax looks for a GPU here to learn what "gpu" stands for: jax issue 23971.
    known = xla_bridge.canonicalize_platform

    def canonical(platform: str) -> str:
        return "cuda" if platform == "gpu" else known(platform)

    xla_bridge.canonicalize_platform = canonical
    return topologies.get_topology_desc(
        platform="cuda", target_config=H100, topology="1x1x1"
    ).devices[0]


MACHINES: dict[str, tuple[str, Callable[[], Any]]] = {
    "TPU v5e": ("libtpu", tpu),
    "H100": ("jax_cuda13_plugin", gpu),
}


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
    """Print a table for every machine that there is a compiler for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__)
    parser.add_argument("--rows", type=int, default=15_947, help="of the layer")
    parser.add_argument("--channels", type=int, default=96, help="of the layer, in and out")
    options = parser.parse_args()
    for name, (package, device_of) in MACHINES.items():
        if importlib.util.find_spec(package) is None:
            print(f"{name}: no compiler, {package} is not installed\n")
            continue
        device = device_of()
        rows = [
            row(device, form, op, options.rows, options.channels, dtype)
            for op in ("gather_gemm", "gather_gemm_dw")
            for form in ("dense", "pairs")
            for dtype in (jnp.float32, jnp.bfloat16)
        ]
        size = f"{options.rows:,} rows of {options.channels} channels"
        print(f"{name}, {size}, jax {jax.__version__}:\n")
        print(table(["product", "memory MB", "XLA's kernel for ragged products", "loop"], rows))


if __name__ == "__main__":
    main()
