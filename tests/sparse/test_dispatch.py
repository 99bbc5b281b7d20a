"""Where an op runs: by the platform that is lowered for, by force, or on a new backend."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.sparse import dispatch, reference, signatures, xla
from uov_jax.sparse.backends import Backend, registered
from uov_jax.sparse.cuda import Cuda

FORWARD = np.array([[-1, 0, 1], [0, 1, 2], [1, 2, -1]], np.int32)
X = np.arange(6, dtype=np.float32).reshape(3, 2)
W = np.arange(12, dtype=np.float32).reshape(3, 2, 2)


def convolve(x: Any, w: Any) -> jax.Array:
    return sparse.gather_gemm(x, w, sparse.NeighbourMap.submanifold(FORWARD))


def loss(x: Any, w: Any) -> jax.Array:
    return jnp.sum(convolve(x, w) ** 2)


# The package has a function of this name.
backends = importlib.import_module("uov_jax.sparse.backends")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A fourth backend: one op of its own, the names of those that it was asked for."""
    asked: list[str] = []

    def gather_gemm(x: Any, w: Any, forward: Any, *rest: Any, **how: Any) -> Any:
        asked.append("gather_gemm")
        return 2 * xla.gather_gemm(x, w, forward, *rest, **how)

    functions = SimpleNamespace(gather_gemm=gather_gemm)
    monkeypatch.setattr(backends, "_BACKENDS", registered())
    sparse.register_backend("toy", Backend(lambda _: (functions, xla), lambda: "available (a toy)"))
    return asked


def test_a_fourth_backend_takes_one_file(toy: list[str]) -> None:
    expected = reference.gather_gemm(X, W, FORWARD)
    assert sparse.backends()["toy"] == "available (a toy)"
    with sparse.use_backend("toy"):
        assert sparse.current_backend() == sparse.current_kernels() == "toy"
        np.testing.assert_array_equal(convolve(X, W), 2 * expected)
        # What it lacks is composed of what it has, or is the next one's.
        maps = sparse.NeighbourMap.submanifold(FORWARD)
        y, mean, _ = sparse.gather_gemm_moments(X, jnp.asarray(W), maps, jnp.int32(3))
        np.testing.assert_array_equal(y, 2 * expected)
        np.testing.assert_allclose(mean, 2 * expected.mean(axis=0), rtol=1e-6)
    assert toy == ["gather_gemm"] * 2


def test_what_is_forced_is_part_of_a_compiled_function(toy: list[str]) -> None:
    """Around a function that has been compiled before, and back again."""
    compiled = jax.jit(convolve)
    expected = reference.gather_gemm(X, W, FORWARD)
    np.testing.assert_array_equal(compiled(X, W), expected)
    with sparse.use_backend("toy"):
        np.testing.assert_array_equal(compiled(X, W), 2 * expected)
    np.testing.assert_array_equal(compiled(X, W), expected)
    assert len(toy) == 1


MAPS, COUNT, ONE = sparse.NeighbourMap.submanifold(FORWARD), jnp.int32(3), jnp.ones(2)
INDEX = jnp.array([0, 2, 1], jnp.int32)
# Of x [3, 2] and w [3, 2, 2], as many rows as x.
PRODUCTS: dict[str, Any] = {
    "gather_gemm": lambda x, w: sparse.gather_gemm(x, w, MAPS),
    "multiply_rows": lambda x, w: sparse.multiply_rows(x, w[0], COUNT),
    "moments": lambda x, w: sparse.gather_gemm_moments(x, w, MAPS, COUNT)[0],
    "affine": lambda x, w: sparse.gather_gemm_affine(x, w, MAPS, ONE, ONE, ONE, None, COUNT, True),
}
ROWS: dict[str, Any] = {
    "affine_rows": lambda x, w: sparse.affine_rows(x, w[0, 0], ONE, ONE, x, COUNT, True),
    "unit_rows": lambda x, w: sparse.unit_rows(x + w[0, :1], COUNT),
    "gather_rows": lambda x, w: sparse.gather_rows(x + w[0, :1], INDEX),
    "scatter_add_rows": lambda x, w: sparse.scatter_add_rows(x + w[0, :1], INDEX, 3),
    "gather_scatter_rows": lambda x, w: sparse.gather_scatter_rows(x + w[0, :1], INDEX, INDEX, 3),
}
# What traces the rules of a gradient when the block around the call has ended, and what does not.
TRANSFORMATIONS: dict[str, Any] = {
    "plain": lambda f: f,
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "scan": lambda f: (
        lambda x, w: jax.lax.scan(lambda rows, _: (f(rows, w), None), x, None, length=2)[0]
    ),
}


def traced(function: Any, transformation: str) -> str:
    """The jaxpr of the gradients, forward pass and all, of a function of x and w."""
    transformed = TRANSFORMATIONS[transformation](function)
    both = jax.value_and_grad(lambda x, w: jnp.sum(transformed(x, w)), argnums=(0, 1))
    return str(jax.make_jaxpr(both)(jnp.asarray(X), jnp.asarray(W)))


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("op", PRODUCTS)
def test_products_and_gradients_have_the_precision_of_their_call(
    op: str, transformation: str
) -> None:
    def product(x: jax.Array, w: jax.Array) -> jax.Array:
        with sparse.use_precision("tf32"):
            return PRODUCTS[op](x, w)

    text = traced(product, transformation)
    assert text.count("'precision', 'tf32'") >= 2
    assert "'precision', 'float32'" not in text


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("op", PRODUCTS | ROWS)
def test_ops_and_gradients_run_on_the_backend_of_their_call(op: str, transformation: str) -> None:
    def forced(x: jax.Array, w: jax.Array) -> jax.Array:
        with sparse.use_backend("xla"):
            return (PRODUCTS | ROWS)[op](x, w)

    text = traced(forced, transformation)
    assert text.count("forced=xla") >= 2
    assert "forced=None" not in text


def test_a_gradient_of_a_block_that_has_ended_is_that_of_its_backend(toy: list[str]) -> None:
    """In numbers: the toy's product is twice what it should be, and so is its gradient."""

    @jax.jit
    def forced(x: jax.Array, w: jax.Array) -> jax.Array:
        with sparse.use_backend("toy"):
            return sparse.gather_gemm(x, w, MAPS)

    def gradient(function: Any) -> Any:
        return jax.jit(jax.grad(lambda x, w: jnp.sum(function(x, w))))(X, W)

    np.testing.assert_array_equal(gradient(forced), 2 * gradient(convolve))
    assert toy


def test_the_platform_that_is_lowered_for_decides() -> None:
    """Not the one of this process: exported for a TPU there is no custom call, here there is."""
    x, w = jnp.asarray(X), jnp.asarray(W)
    step = jax.jit(jax.grad(loss, argnums=(0, 1)))
    here = jax.export.export(
        step,
        platforms=["cpu"],
        disabled_checks=[
            jax.export.DisabledSafetyCheck.custom_call(name)
            for name in ("uov_gather_gemm", "uov_gather_gemm_gradients")
        ],
    )(x, w)
    assert "uov_gather_gemm_gradients" in here.mlir_module()
    there = jax.export.export(step, platforms=["tpu"])(x, w)
    assert "custom_call" not in there.mlir_module()


def test_a_schedule_is_for_its_backend_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another made of the map is not looked at, and nobody makes it in vain."""

    def schedule(forward: Any, *, backend: str, shapes: Any) -> Any:
        assert backend == "scheduling"
        return [jnp.full(shape, 7, jnp.int32) for shape in shapes]

    seen: list[Any] = []

    def gather_gemm(x: Any, w: Any, forward: Any, schedule: Any, **how: Any) -> Any:
        seen.append(schedule)
        return xla.gather_gemm(x, w, forward, schedule, **how)

    functions = SimpleNamespace(
        schedule=schedule, schedule_shapes=lambda shape: (shape[1:],), gather_gemm=gather_gemm
    )
    without = {name: each for name, each in registered().items() if name != "cuda"}
    monkeypatch.setattr(backends, "_BACKENDS", without)
    sparse.register_backend("scheduling", Backend(lambda _: (functions, xla), lambda: "available"))
    maps = sparse.NeighbourMap.submanifold(jnp.asarray(FORWARD))
    assert maps.scheduled() == maps
    with sparse.use_backend("scheduling"):
        scheduled = maps.scheduled()
        assert scheduled.schedule is not None
        np.testing.assert_array_equal(scheduled.schedule.arrays[0], [7, 7, 7])
        sparse.gather_gemm(jnp.asarray(X), jnp.asarray(W), scheduled)
        assert len(seen[-1]) == 1
        sparse.gather_gemm(jnp.asarray(X), jnp.asarray(W), maps)
        assert seen[-1] is None
    y = sparse.gather_gemm(jnp.asarray(X), jnp.asarray(W), scheduled)
    np.testing.assert_array_equal(y, reference.gather_gemm(X, W, FORWARD))
    with sparse.use_backend("xla"):
        y = sparse.gather_gemm(jnp.asarray(X), jnp.asarray(W), scheduled)
    np.testing.assert_array_equal(y, reference.gather_gemm(X, W, FORWARD))


class MadeUpKernels(ModuleType):
    """A module of CUDA handlers that are never called; `fault` may be made to fail or to find."""

    def __init__(self) -> None:
        super().__init__("made_up_kernels")
        self.asked: list[int] = []
        self.found = [0, 0, 0, 0]
        self.error: Exception | None = None

    def handlers(self) -> dict[str, Any]:
        return {}

    def workspace_bytes(self, op: str, sizes: list[int]) -> int:
        return 256

    def built_for(self) -> str:
        return "sm_90, made up"

    def fault(self, device: int) -> list[int]:
        if self.error is not None:
            raise self.error
        self.asked.append(device)
        return self.found

    def clear_fault(self, device: int) -> None:
        self.found = [0, 0, 0, 0]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> MadeUpKernels:
    """The backend `cuda` of made-up kernels, on a machine without a GPU."""
    module = MadeUpKernels()
    functions = Cuda(lambda: module, "CUDA")
    monkeypatch.setattr(backends, "_BACKENDS", registered())
    sparse.register_backend("cuda", Backend(lambda _: (functions,), functions.status, ("cuda",)))
    return module


def two_layers(x: jax.Array, w: jax.Array, forward: jax.Array) -> jax.Array:
    maps = sparse.NeighbourMap.submanifold(forward).scheduled()
    y = sparse.gather_gemm(x, w, maps)
    return jnp.sum(sparse.gather_gemm(y, w, maps) ** 2)


def test_a_map_is_scheduled_once_for_a_gpu_that_is_not_here(kernels: MadeUpKernels) -> None:
    """Not once a product: by the platform alone, no backend being forced."""
    del kernels
    step = jax.jit(jax.grad(two_layers, argnums=(0, 1)))
    names = [f"uov_cuda_{op}" for op in ("schedule", "gather_gemm", "gather_gemm_dw")]
    checks = [jax.export.DisabledSafetyCheck.custom_call(name) for name in names]
    arguments = jnp.asarray(X), jnp.asarray(W), jnp.asarray(FORWARD)
    there = jax.export.export(step, platforms=["cuda"], disabled_checks=checks)(*arguments)
    calls = re.findall(r"custom_call @uov_cuda_(\w+)", there.mlir_module())
    assert calls.count("schedule") == 1
    assert calls.count("gather_gemm") >= 3
    assert calls.count("gather_gemm_dw") == 2


def test_a_schedule_for_elsewhere_is_no_work_here(kernels: MadeUpKernels) -> None:
    """The program of this platform is the same, whether or not kernels of another are there."""
    arguments = jnp.asarray(X), jnp.asarray(W), jnp.asarray(FORWARD)

    def compiled() -> list[str]:
        step = jax.jit(lambda *of: jax.grad(two_layers, argnums=(0, 1))(*of))
        text = step.lower(*arguments).compile().as_text()
        return sorted(re.findall(r" = \S+ ([\w-]+)\(", text))

    with_kernels = compiled()
    kernels.error = RuntimeError("no longer")
    backends._BACKENDS.pop("cuda")
    assert with_kernels == compiled()


def test_a_forced_backend_of_another_platform_is_one_clear_error(kernels: MadeUpKernels) -> None:
    del kernels
    with (
        sparse.use_backend("cuda"),
        pytest.raises(ValueError, match="'cuda' is forced, which runs on cuda; .* lowered for cpu"),
    ):
        sparse.gather_rows(jnp.asarray(X), INDEX)


def test_kernels_that_cannot_run_are_no_backend(
    kernels: MadeUpKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is asked; and what cannot run for want of a GPU says so."""
    assert sparse.backends()["cuda"] == (
        "available (built for sm_90, made up; no such device here: to be lowered for alone)"
    )
    kernels.error = RuntimeError("memory for faults: driver version is insufficient")
    functions = Cuda(lambda: kernels, "CUDA")
    monkeypatch.setattr(functions, "_devices", lambda: [0])
    sparse.register_backend("cuda", Backend(lambda _: (functions,), functions.status, ("cuda",)))
    for _ in range(2):
        assert sparse.backends()["cuda"] == (
            "the kernels of uov_jax._engine_cuda cannot run here: "
            "memory for faults: driver version is insufficient"
        )


def test_faults_are_asked_for_wherever_kernels_ran(
    kernels: MadeUpKernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the default platform is; and not of kernels that nobody asked for."""
    functions = backends._BACKENDS["cuda"].functions("cuda")[0]
    monkeypatch.setattr(functions, "_devices", lambda: [0, 1])
    kernels.found = [1, 9, 3, 0]
    sparse.raise_fault()
    assert not kernels.asked
    functions.module()
    assert kernels.asked == [0, 1]  # their memory is made
    with pytest.raises(sparse.FaultError, match="a map entry is 9, but the input has 3 rows"):
        sparse.raise_fault()
    sparse.raise_fault()


def test_every_backend_has_every_op() -> None:
    ops = [
        name
        for name, value in vars(signatures).items()
        if callable(value) and value.__module__ == signatures.__name__ and name[0] != "_"
    ]
    assert len(ops) >= 18
    for name, backend in registered().items():
        if backend.available:
            for op in ops:
                assert callable(dispatch.implementation(backend.functions("cpu"), op)), name


def test_what_a_gpu_cannot_raise_is_raised_when_it_is_asked_for() -> None:
    """And once: the next results are not blamed for it."""
    x = jnp.asarray(X)
    with sparse.use_backend("cuda-emulated"):
        jax.block_until_ready(sparse.gather_rows(x, jnp.array([0, 9], jnp.int32)))
        with pytest.raises(sparse.FaultError, match="an index is 9, but there are 3 rows"):
            sparse.raise_fault()
        sparse.raise_fault()
        beyond = sparse.NeighbourMap(jnp.asarray(FORWARD).at[0, 1].set(5))
        jax.block_until_ready(sparse.gather_gemm(x, jnp.asarray(W), beyond))
        with pytest.raises(sparse.FaultError, match="a map entry is 5, but the input has 3 rows"):
            sparse.raise_fault()
        coords = np.array([[0, 1, 2, 3], [0, 1, 2, 3]], np.int32)
        spec = sparse.PlanSpec(2, fractions=(1.0,) * 5)
        jax.block_until_ready(jax.jit(lambda c: sparse.plan_in_jit(c, jnp.int32(2), spec))(coords))
        with pytest.raises(sparse.FaultError, match="duplicate coordinate in rows 0 and 1"):
            sparse.raise_fault()
    sparse.raise_fault()  # a CPU raises by itself


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="sparse backend 'none' cannot be used; cpu: available"):
        sparse.use_backend("none").__enter__()
    with pytest.raises(ValueError, match="precision is 'half', expected one of float32, tf32"):
        sparse.use_precision("half").__enter__()


def test_no_op_asks_which_backend_it_is_on() -> None:
    folder = Path(dispatch.__file__).parent
    for name in ("ops.py", "plan.py", "norm.py", "state.py", "composites.py", "signatures.py"):
        text = (folder / name).read_text()
        assert "current_backend" not in text, name
        assert "ffi_call" not in text, name


def test_the_oracle_imports_nothing_of_the_package() -> None:
    code = (
        "import sys, runpy; runpy.run_path(sys.argv[1]); "
        "print([name for name in sys.modules if name.startswith('uov_jax')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, reference.__file__], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
