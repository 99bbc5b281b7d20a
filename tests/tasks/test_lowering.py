"""The training step of pre-training, lowered for machines that are not here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.cuda import emulation
from uov_jax import sparse
from uov_jax.checkpoints import state
from uov_jax.sparse.backends import Backend
from uov_jax.sparse.cuda import Cuda
from uov_jax.tasks.build import build_task
from uov_jax.training import parallel, step
from uov_jax.training.optimizer import build_optimizer

# What a step calls: every convolution, its gradients, its norm; moves of rows, plans, schedules.
TARGETS = {
    "plan",
    "schedule",
    "gather_gemm",
    "gather_gemm_moments",
    "gather_gemm_dw",
    "column_moments",
    "affine_rows",
    "affine_gradient_sums",
    "affine_gradient_rows",
    "gather_scatter_rows",
    "unit_rows",
    "unit_rows_gradient",
}


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The backend of GPUs in force; what it must know of its kernels, their emulation tells."""
    functions = Cuda(emulation.engine, "cpu")
    sparse.register_backend("cuda-lowered", Backend(lambda _: (functions,), lambda: "available"))
    with sparse.use_backend("cuda-lowered"):
        yield


def lowered(configure: Any, dataset: Path, devices: int, platform: str) -> str:
    """StableHLO of the step of a batch of one sweep a device."""
    config: ConfigDict = configure("tmp_san", dumps=str(dataset / "dumps"))
    config.batch_size = 1
    task: Any = build_task(config)
    batch = next(task.train_batches(1).starting_at(0))
    skeleton, parameters, statistics = state.split(step.initial_model(task, 0))
    groups = {name: task.parameter_group(name) for name in parameters}
    optimizer, rate = build_optimizer(
        config.optimizer.to_dict(), config.schedule.to_dict(), groups, 10, 10, devices
    )
    first = jax.device_get(state.create(parameters, statistics, optimizer))

    def stacked(array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((devices, *np.shape(array)), np.asarray(array).dtype)

    train = step.training_step(task, skeleton, optimizer, rate)
    config.batch_size = devices
    mesh = jax.sharding.AbstractMesh((devices,), (parallel.AXIS,))
    spec = jax.sharding.PartitionSpec(parallel.AXIS)

    def one_device(state: Any, batch: Any) -> Any:
        squeezed = jax.tree.map(lambda array: array[0], (state, batch))
        return jax.tree.map(lambda array: array[None], train(*squeezed))

    spread = jax.jit(
        jax.shard_map(
            one_device, mesh=mesh, in_specs=(spec, spec), out_specs=spec, check_vma=False
        ),
        donate_argnums=0,
    )
    shapes = jax.tree.map(stacked, first), jax.tree.map(lambda a: stacked(a[0]), batch)
    names = [f"uov_cuda_{name}" for name in (*TARGETS, "gather_rows")]
    checks = [jax.export.DisabledSafetyCheck.custom_call(name) for name in names]
    return jax.export.export(spread, platforms=[platform], disabled_checks=checks)(
        *shapes
    ).mlir_module()


def calls(text: str) -> list[str]:
    """Names of all custom calls but JAX's own markers of sharding."""
    found = re.findall(r"stablehlo\.custom_call @(\w+)", text)
    return [name for name in found if name not in ("Sharding", "SPMDFullToShardShape")]


@pytest.mark.parametrize("devices", [1, 8])
def test_the_step_for_gpus_runs_kernels_alone(
    cuda: None, configure: Any, dataset: Path, devices: int
) -> None:
    del cuda
    text = lowered(configure, dataset, devices, "cuda")
    found = {name.removeprefix("uov_cuda_") for name in calls(text)}
    others = {name for name in found if not name.startswith("SPMD")} - TARGETS - {"gather_rows"}
    assert not others, "a host callback, or another target than the backend's"
    assert found >= TARGETS
    for line in text.splitlines():
        if "custom_call @uov_cuda_" in line:
            # Rows lie one after the other, in arguments and results.
            layouts = re.findall(r"(?:operand|result)_layouts = \[(.*?)\]\s*[,}]", line)
            assert layouts, line
            for axes in re.findall(r"dense<(.*?)> : tensor<\d+xindex>", " ".join(layouts)):
                order = [int(axis) for axis in re.findall(r"\d+", axes)]
                assert order == sorted(order, reverse=True), line
    # The new state takes the old one's memory.
    assert text.count("tf.aliasing_output") + text.count("jax.buffer_donor") > 100


def test_the_step_for_tpus_has_no_kernel(configure: Any, dataset: Path) -> None:
    text = lowered(configure, dataset, 1, "tpu")
    assert not [name for name in calls(text) if not name.startswith("SPMD")]
    assert "uov_" not in text.replace("uov_jax", "")
