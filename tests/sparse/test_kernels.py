"""Which kernels run: the choice by processor, the environment's, and changing them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uov_jax import sparse
from uov_jax.sparse import kernels
from uov_jax.sparse.engine import engine
from uov_jax.sparse.kernels import NAMES, Processor

# The last model is the plainest: of some vendor that nobody knows.
FAST = Processor("AuthenticAMD", 26, 2)
SLOW = (
    Processor("AuthenticAMD", 25, 17),
    Processor("AuthenticAMD", 26, 68),
    Processor("GenuineIntel", 6, 85),
    Processor("GenuineIntel", 6, 143),
    Processor("GenuineIntel", 6, 207),
    Processor("GenuineIntel", 6, 173),
    Processor("GenuineIntel", 6, 174),
    Processor("GenuineIntel", 6, 2),
    Processor("GenuineIntel", 26, 2),
    Processor("CentaurHauls", 7, 91),
    Processor("", 0, 0),
)


def test_the_instruction_is_used_where_it_was_measured_to_be_fast() -> None:
    assert kernels.fastest(FAST, NAMES) == "avx512_bf16"
    assert kernels.verdict(FAST).known.startswith("measured")


@pytest.mark.parametrize("processor", SLOW)
def test_elsewhere_it_is_not(processor: Processor) -> None:
    assert kernels.fastest(processor, NAMES) == "avx512"
    assert kernels.verdict(processor).known.startswith("not measured")


@pytest.mark.parametrize("processor", [FAST, *SLOW])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_without_it_the_widest_that_can_run_do(processor: Processor, count: int) -> None:
    assert kernels.fastest(processor, NAMES[:count]) == NAMES[count - 1]


def test_every_row_of_the_table_says_how_it_is_known_and_can_be_reached() -> None:
    numbers = [(row.vendor, row.family, m) for row in kernels.TABLE for m in range(256)]
    reached = {kernels.verdict(Processor(*number)) for number in numbers}
    assert {*kernels.TABLE, kernels.UNKNOWN} == {*reached, kernels.UNKNOWN}
    for row in (*kernels.TABLE, kernels.UNKNOWN):
        assert row.fast == row.known.startswith("measured")
        assert row.fast or row.known.startswith("not measured")


def test_the_environment_comes_first() -> None:
    for name in NAMES:
        assert kernels.chosen(FAST, NAMES, environment={kernels.VARIABLE: name}) == name
    for environment in ({}, {kernels.VARIABLE: ""}):
        assert kernels.chosen(FAST, NAMES, environment=environment) == "avx512_bf16"
        assert kernels.asked_for(environment) is None
    wish = {kernels.VARIABLE: "avx512"}
    with pytest.raises(
        kernels.KernelsError, match=r"SET=avx512: expected generic, .* here generic, avx2$"
    ):
        kernels.chosen(SLOW[0], NAMES[:2], environment=wish)
    with pytest.raises(kernels.KernelsError, match=r"not in this build: avx512, avx512_bf16$"):
        kernels.chosen(SLOW[0], NAMES[:2], NAMES[2:], wish)


def test_a_wish_that_cannot_be_met_ends_a_command_in_one_line() -> None:
    code = """
from uov_jax.command_line import command
def work():
    from uov_jax import sparse
    print(sparse.backends())
raise SystemExit(command.run(work))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=dict(os.environ) | {kernels.VARIABLE: "mmx"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {kernels.VARIABLE}=mmx: expected generic, ")
    assert done.stderr.count("\n") == 1


def test_which_float32_kernels_are_the_same() -> None:
    same = {(one, other) for one in NAMES for other in NAMES if kernels.same_float32(one, other)}
    shared = {("avx512", "avx512_bf16"), ("avx512_bf16", "avx512")}
    assert same == {(name, name) for name in NAMES} | shared


def test_the_processor_is_the_one_that_the_system_names() -> None:
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        pytest.skip("only Linux has /proc/cpuinfo")
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "vendor_id" not in told:
        pytest.skip("this processor is not named as x86 ones are")
    expected = (told["vendor_id"], int(told["cpu family"]), int(told["model"]))
    assert engine().processor() == expected


# What the compiled kernels need of the processor.
NEEDS = {
    "generic": set(),
    "avx2": {"avx2", "fma"},
    "avx512": {"avx512f"},
    "avx512_bf16": {"avx512bw", "avx512_bf16"},
}


def test_those_that_are_fast_here_run() -> None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        pytest.skip("only Linux lists in /proc/cpuinfo what the processor can do")
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    if not flags:
        pytest.skip("this processor does not list its abilities as x86 does")
    runnable = [name for name in NAMES if NEEDS[name] <= flags]
    assert set(engine().runnable_kernels()) <= set(runnable)  # a compiler may lack some
    expected = kernels.fastest(Processor(*engine().processor()), engine().runnable_kernels())
    code = "from uov_jax import sparse; print(sparse.backends()['cpu'], sparse.current_kernels())"
    chosen = {name: value for name, value in os.environ.items() if name != kernels.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], env=chosen, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"available ({expected} kernels) {expected}\n"


def test_others_are_used_from_then_on() -> None:
    before = sparse.current_kernels()
    try:
        assert sparse.use_kernels("generic")
        assert sparse.current_kernels() == "generic"
        assert not sparse.use_kernels("mmx")
        assert sparse.current_kernels() == "generic"
        assert sparse.use_kernels(before)
    finally:
        sparse.use_kernels(before)
    with sparse.use_backend("xla"):
        assert sparse.current_kernels() == "xla"
        assert not sparse.use_kernels("generic")
    assert sparse.current_kernels() == before
    with pytest.raises(ValueError, match="mmx kernels cannot run here"):
        engine().use_kernels("mmx")


SPECIAL = (0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 3.3895314e38, -3.3895314e38, 1e-30, 257.0)


@pytest.fixture
def kernels_in_use(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kernels of a parameter, for one test."""
    before = sparse.current_kernels()
    if not sparse.use_kernels(request.param):
        pytest.skip(f"{request.param} kernels cannot run here")
    yield request.param
    sparse.use_kernels(before)


@pytest.mark.parametrize("kernels_in_use", NAMES, indirect=True)
@pytest.mark.parametrize("relu", [False, True])
def test_sums_are_rounded_to_the_nearest_bfloat16_or_the_even_one(
    kernels_in_use: str, relu: bool
) -> None:
    """In whole vectors and past the last of them: halves, overflow, signs of zero, no numbers."""
    del kernels_in_use
    rng = np.random.default_rng(0)
    rows, channels = 90, 39  # no multiple of any vector
    numbers = rng.standard_normal((2, rows, channels)) * 2.0 ** rng.integers(-9, 9, (2, rows, 1))
    for i, number in enumerate(SPECIAL):
        numbers[:, i, ::2] = number
        numbers[1, i, 1::3] = SPECIAL[-1 - i]
    pairs = jnp.asarray(numbers, jnp.bfloat16)

    def rounded_sum(first: jax.Array, second: jax.Array, relu: bool) -> np.ndarray:
        with np.errstate(invalid="ignore", over="ignore"):
            total = np.asarray(first, np.float32) + np.asarray(second, np.float32)
            total = np.where(total < 0, np.float32(0), total) if relu else total
            return np.asarray(total.astype(jnp.bfloat16), np.float32)

    one, none = jnp.ones(channels), jnp.zeros(channels)
    y = sparse.affine_rows(pairs[0], none, one, none, pairs[1], jnp.int32(rows), relu)
    expected = rounded_sum(*pairs, relu)
    assert np.isnan(expected).any()
    assert np.isinf(expected).any()
    np.testing.assert_array_equal(np.asarray(y, np.float32), expected)
    # A product with ones, by a map whose two offsets take a row of each.
    finite = jnp.where(jnp.isfinite(pairs), pairs, 0)
    forward = np.arange(2 * rows, dtype=np.int32).reshape(2, rows)
    identity = jnp.broadcast_to(jnp.eye(channels, dtype=jnp.bfloat16), (2, channels, channels))
    x = finite.reshape(2 * rows, channels)
    y = sparse.gather_gemm(x, identity, sparse.NeighbourMap(forward))
    np.testing.assert_array_equal(np.asarray(y, np.float32), rounded_sum(*finite, relu=False))


def test_an_op_keeps_its_kernels_to_its_end() -> None:
    """They differ in the sizes of their tiles: one that changed midway would mix them up."""
    names = engine().runnable_kernels()
    rng = np.random.default_rng(0)
    rows = 3000
    x = jnp.asarray(rng.standard_normal((rows, 40)), jnp.float32)
    w = jnp.asarray(rng.standard_normal((27, 40, 72)), jnp.float32)
    found = rng.integers(-1, rows, (27, rows)).astype(np.int32)
    product = jax.jit(lambda x, w: sparse.gather_gemm(x, w, sparse.NeighbourMap(found)))
    before = sparse.current_kernels()
    possible = []
    try:
        for name in names:
            sparse.use_kernels(name)
            possible.append(np.asarray(product(x, w)).tobytes())
        ended = threading.Event()

        def change() -> None:
            while not ended.is_set():
                for name in names:
                    sparse.use_kernels(name)

        changing = threading.Thread(target=change)
        changing.start()
        try:
            for _ in range(30):
                assert np.asarray(product(x, w)).tobytes() in possible
        finally:
            ended.set()
            changing.join()
    finally:
        sparse.use_kernels(before)
