"""The products for GPUs and TPUs against float64, beside the loop, and what they are lowered to."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks import pairs
from tests.sparse.clouds import relative_error
from uov_jax import sparse
from uov_jax.models.minkunet import MinkUNet
from uov_jax.sparse import reference, xla, xla_parallel

# As in test_ops.py: float32 sums of a few hundred products, relative to the largest sum.
TIGHT = 1e-6
# Numbers rounded to nearest with 8 bits, and with the 11 of TF32. Of two rounded factors a product
# is off by twice as much, a sum by no more of the sum of the products' absolute values.
BFLOAT16, TF32 = 2.0**-8, 2.0**-11

FORMS = {"dense": xla_parallel, "pairs": pairs}
READ = {"transposed": False, "mirrored": False, "precision": "float32"}


def random_map(
    rng: np.random.Generator, offsets: int, rows_in: int, rows_out: int, share: float
) -> np.ndarray:
    """int32 [offsets, rows_out], a share of them neighbours, every fourth row without any."""
    forward = rng.integers(0, max(rows_in, 1), (offsets, rows_out))
    missing = rng.random((offsets, rows_out)) >= share
    missing[:, ::4] = True
    return np.where(missing, -1, forward).astype(np.int32)


def both(form, x, w, dy, forward, precision="float32"):
    """`gather_gemm` and `gather_gemm_dw` in one form, or with `xla` in the loop."""
    functions = FORMS.get(form, xla)

    @jax.jit
    def run(x, w, dy, forward):
        y = functions.gather_gemm(x, w, forward, None, **READ | {"precision": precision})
        return y, functions.gather_gemm_dw(x, dy, forward, None, precision=precision)

    return run(*(jnp.asarray(a) for a in (x, w, dy, forward)))


def arrays(rng, offsets, rows_in, rows_out, c_in, c_out, share=0.3):
    x = rng.standard_normal((rows_in, c_in)).astype(np.float32)
    w = rng.standard_normal((offsets, c_in, c_out)).astype(np.float32)
    dy = rng.standard_normal((rows_out, c_out)).astype(np.float32)
    return x, w, dy, random_map(rng, offsets, rows_in, rows_out, share)


SHAPES = [
    (1, 300, 300, 32, 17),
    (3, 40, 50, 3, 5),
    (8, 300, 90, 33, 16),
    (8, 90, 300, 16, 40),
    (27, 500, 500, 1, 32),
    (27, 260, 260, 48, 24),
    (125, 200, 200, 4, 6),
    (27, 1, 1, 3, 5),
    (27, 2, 5, 3, 1),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_are_those_of_float64_and_of_the_loop(form, shape):
    x, w, dy, forward = arrays(np.random.default_rng(0), *shape)
    y, dw = both(form, x, w, dy, forward)
    assert y.dtype == x.dtype
    assert dw.dtype == jnp.float32
    assert relative_error(y, reference.gather_gemm(x, w, forward)) < TIGHT
    assert relative_error(dw, reference.gather_gemm_dw(x, dy, forward)) < TIGHT
    if form == "dense":
        for value, expected in zip((y, dw), both("loop", x, w, dy, forward), strict=True):
            assert relative_error(value, np.asarray(expected, np.float64)) < TIGHT


@pytest.mark.parametrize("form", FORMS)
def test_values_where_memory_allows_few_rows_at_a_time(form, monkeypatch):
    """Parts and rounds that end within an offset, one of them empty, the last of another size."""
    monkeypatch.setattr(xla_parallel, "PANEL_BYTES", 27 * xla_parallel.LANES * 4 * 300)
    x, w, dy, forward = arrays(np.random.default_rng(1), 27, 900, 900, 12, 20)
    y, dw = both(form, x, w, dy, forward)
    assert relative_error(y, reference.gather_gemm(x, w, forward)) < TIGHT
    assert relative_error(dw, reference.gather_gemm_dw(x, dy, forward)) < TIGHT


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("offsets", "rows_in", "rows_out", "c_in", "c_out"),
    [(27, 0, 0, 3, 5), (27, 0, 4, 3, 5), (8, 4, 0, 3, 5), (27, 4, 4, 0, 5), (27, 4, 4, 3, 0)],
)
def test_nothing_gives_zeros(form, offsets, rows_in, rows_out, c_in, c_out):
    x, w, dy, forward = arrays(np.random.default_rng(0), offsets, rows_in, rows_out, c_in, c_out)
    forward[:] = -1
    y, dw = both(form, x, w, dy, forward)
    assert y.shape == (rows_out, c_out)
    assert dw.shape == (offsets, c_in, c_out)
    assert not np.asarray(y).any()
    assert not np.asarray(dw).any()


@pytest.mark.parametrize("form", FORMS)
def test_a_map_without_neighbours_gives_zeros(form):
    x, w, dy, forward = arrays(np.random.default_rng(0), 27, 50, 60, 3, 5)
    forward[:] = -1
    y, dw = both(form, x, w, dy, forward)
    assert not np.asarray(y).any()
    assert not np.asarray(dw).any()


@pytest.mark.parametrize("form", FORMS)
def test_a_full_map(form):
    rng = np.random.default_rng(2)
    x, w, dy, _ = arrays(rng, 27, 130, 130, 8, 8)
    forward = rng.integers(0, 130, (27, 130)).astype(np.int32)
    y, dw = both(form, x, w, dy, forward)
    assert relative_error(y, reference.gather_gemm(x, w, forward)) < TIGHT
    assert relative_error(dw, reference.gather_gemm_dw(x, dy, forward)) < TIGHT


@pytest.mark.parametrize("form", FORMS)
def test_padding_rows_influence_nothing(form):
    """NaN in input rows that no entry names, and in gradients of rows without a neighbour."""
    x, w, dy, forward = arrays(np.random.default_rng(3), 27, 300, 300, 6, 7)
    count = 200
    forward[:, count:] = -1
    forward[forward >= count] = -1
    x[count:] = np.nan
    dy[np.all(forward < 0, axis=0)] = np.nan
    y, dw = both(form, x, w, dy, forward)
    clean, gradient = np.nan_to_num(x), np.nan_to_num(dy)
    assert relative_error(y, reference.gather_gemm(clean, w, forward)) < TIGHT
    assert not np.asarray(y)[count:].any()
    assert relative_error(dw, reference.gather_gemm_dw(clean, gradient, forward)) < TIGHT


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_bfloat16_products(form, dtype):
    """Of float32 rows at that precision, and of bfloat16 rows."""
    rng = np.random.default_rng(4)
    x, w, dy, forward = arrays(rng, 27, 300, 300, 40, 24)
    x, w, dy = (jnp.asarray(a, dtype) for a in (x, w, dy))
    y, dw = both(form, x, w, dy, forward, precision="bfloat16")
    assert y.dtype == dtype
    assert dw.dtype == jnp.float32
    # What is left beside the rounding of the factors is that of float32 sums, and of the result.
    x, w, dy = (np.asarray(a.astype(jnp.bfloat16), np.float64) for a in (x, w, dy))
    rounding = BFLOAT16 if dtype == jnp.bfloat16 else 0.0
    assert relative_error(y, reference.gather_gemm(x, w, forward)) < rounding + TIGHT
    assert relative_error(dw, reference.gather_gemm_dw(x, dy, forward)) < TIGHT


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [
        ("float32", TIGHT),
        ("tf32", 2 * TF32 + TIGHT),
        ("bfloat16", 2 * BFLOAT16 + BFLOAT16**2 + TIGHT),
    ],
)
def test_each_precision_keeps_its_bound(form, precision, tolerance):
    """Errors relative to the sum of the products' absolute values, entry by entry."""
    x, w, dy, forward = arrays(np.random.default_rng(5), 27, 200, 200, 16, 8)
    y, dw = both(form, x, w, dy, forward, precision=precision)
    most = reference.gather_gemm(abs(x), abs(w), forward)
    assert np.all(abs(np.asarray(y) - reference.gather_gemm(x, w, forward)) <= tolerance * most)
    most = reference.gather_gemm_dw(abs(x), abs(dy), forward)
    assert np.all(
        abs(np.asarray(dw) - reference.gather_gemm_dw(x, dy, forward)) <= tolerance * most
    )


def test_lists_name_every_neighbour_once_by_offset():
    forward = random_map(np.random.default_rng(6), 27, 70, 90, 0.4)
    shapes = pairs.schedule_shapes(forward.shape)
    source, target, sizes = jax.jit(
        lambda forward: pairs.schedule(forward, backend="", shapes=shapes)
    )(forward)
    assert tuple(a.shape for a in (source, target, sizes)) == shapes
    offset, row = np.nonzero(forward >= 0)
    number = len(offset)
    np.testing.assert_array_equal(sizes, np.bincount(offset, minlength=27))
    np.testing.assert_array_equal(source[:number], forward[offset, row])
    np.testing.assert_array_equal(target[:number], row)
    assert np.all(np.asarray(source)[number:] == -1)
    assert np.all(np.asarray(target)[number:] == -1)


def test_lists_made_once_serve_as_the_schedule():
    x, w, dy, forward = (
        jnp.asarray(a) for a in arrays(np.random.default_rng(7), 27, 160, 160, 5, 6)
    )
    known = pairs.schedule(forward, backend="", shapes=None)
    own = pairs.gather_gemm(x, w, forward, None, **READ)
    np.testing.assert_array_equal(pairs.gather_gemm(x, w, forward, known, **READ), own)


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 5000, 1_000_003])
@pytest.mark.parametrize("row_bytes", [1, 400, 27 * 256 * 4, 2**30])
def test_parts_are_within_the_memory(rows, row_bytes):
    size = xla_parallel.cut(rows, row_bytes)
    assert 1 <= size <= rows
    assert size == 1 or size * row_bytes <= xla_parallel.PANEL_BYTES
    parts = -(-rows // size)
    # No more parts than needed, but for what is lost to alignment.
    assert parts == 1 or size * 2 * row_bytes > xla_parallel.PANEL_BYTES or size == 1


def shapes(offsets, rows, c_in, c_out, dtype=jnp.float32):
    return (
        jax.ShapeDtypeStruct((rows, c_in), dtype),
        jax.ShapeDtypeStruct((offsets, c_in, c_out), dtype),
        jax.ShapeDtypeStruct((rows, c_out), dtype),
        jax.ShapeDtypeStruct((offsets, rows), jnp.int32),
    )


def lowered(form: str, platform: str, *arguments: jax.ShapeDtypeStruct) -> str:
    """The StableHLO of both products."""
    functions = FORMS.get(form, xla)

    def run(x, w, dy, forward):
        y = functions.gather_gemm(x, w, forward, None, **READ)
        return y, functions.gather_gemm_dw(x, dy, forward, None, precision="float32")

    return str(jax.export.export(jax.jit(run), platforms=[platform])(*arguments).mlir_module())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("rows", [4096, 1_000_000], ids=["one part", "many parts"])
def test_no_loop_and_no_custom_call(form, platform, dtype, rows):
    text = lowered(form, platform, *shapes(27, rows, 96, 96, dtype))
    assert "stablehlo.while" not in text
    assert "stablehlo.custom_call" not in text
    assert ("chlo.ragged_dot" if form == "pairs" else "stablehlo.dot_general") in text


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_loop_would_be_seen(platform):
    assert "stablehlo.while" in lowered("loop", platform, *shapes(27, 4096, 8, 8))


def test_a_networks_gradient_has_no_loop_but_on_cpus():
    """Everything that a step does along a plan, as `xla` lowers it for other platforms."""
    coords = np.stack([np.zeros(40, np.int32), *np.unravel_index(range(40), (4, 2, 5))], axis=1)
    spec = sparse.PlanSpec(64, first_kernel=5, fractions=(1.0,) * 5)
    plan = sparse.build_plan(coords.astype(np.int32), spec)
    model = nnx.eval_shape(lambda: MinkUNet(1, 17, variant="minkunet14a", rngs=nnx.Rngs(0)))
    definition, state = nnx.split(model)

    def gradient(state, features, plan):
        def loss(state):
            return jnp.sum(nnx.merge(definition, state)(features, plan))

        return jax.tree.leaves(jax.grad(loss, allow_int=True)(state))

    arguments = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype),
        (state, np.zeros((64, 1), np.float32), plan),
    )
    loops, products = {}, {}
    for platform in ("cpu", "cuda", "tpu"):
        with sparse.use_backend("xla"):
            exported = jax.export.export(jax.jit(gradient), platforms=[platform])(*arguments)
        text = str(exported.mlir_module())
        loops[platform] = text.count("stablehlo.while")
        products[platform] = text.count("stablehlo.dot_general ")
        assert "stablehlo.custom_call" not in text
    assert loops["cpu"] > 0
    assert loops["cuda"] == loops["tpu"] == 0
    assert products["cuda"] == products["tpu"] > 60


@pytest.mark.parametrize("form", FORMS)
def test_memory_beside_the_result_is_bounded(form):
    """By the shapes of everything in the program: nothing is larger than a panel, but x and y.

    What a ragged product may be expanded to is left out.
    """
    rows = 500_000
    text = lowered(form, "tpu", *shapes(27, rows, 128, 96))
    body = text.split("func.func private @chlo")[0]
    largest = (rows + 1) * 128 * 4  # x, with a row of zeros
    lists = 27 * (rows + 128) * 4
    for dimensions, kind in re.findall(r"tensor<((?:\d+x)+)(f32|bf16|i32|i1)>", body):
        size = np.prod([int(n) for n in dimensions.split("x") if n], dtype=np.int64)
        width = {"f32": 4, "bf16": 2, "i32": 4, "i1": 1}[kind]
        assert size * width <= max(xla_parallel.PANEL_BYTES, largest, lists)


def test_panels_are_made_one_after_the_other():
    """Else XLA makes them at once: a part of the map waits for the product before it."""
    text = lowered("dense", "cuda", *shapes(27, 500_000, 128, 96))
    products = text.count("stablehlo.dot_general ")
    assert products > 20
    assert text.count("stablehlo.optimization_barrier") == products - 2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("mirrored", [False, True])
def test_weights_are_read_as_the_gradient_of_x_wants_them(form, transposed, mirrored):
    x, w, _, forward = arrays(np.random.default_rng(8), 27, 80, 80, 4, 6)
    read = w[::-1] if mirrored else w
    stored = w.swapaxes(1, 2) if transposed else w
    y = FORMS[form].gather_gemm(
        *(jnp.asarray(a) for a in (x, stored, forward)),
        None,
        transposed=transposed,
        mirrored=mirrored,
        precision="float32",
    )
    assert relative_error(y, reference.gather_gemm(x, read, forward)) < TIGHT


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [
        ("float32", TIGHT),
        ("tf32", 2 * TF32 + TIGHT),
        ("bfloat16", 2 * BFLOAT16 + BFLOAT16**2 + TIGHT),
    ],
)
def test_dense_rows_at_each_precision(precision, tolerance):
    rng = np.random.default_rng(9)
    x, w, dy = (rng.standard_normal(s).astype(np.float32) for s in ((90, 24), (24, 9), (90, 9)))
    count = 70
    x[count:] = dy[count:] = np.nan
    on_device = [jnp.asarray(a) for a in (x, w, dy)]
    y = xla_parallel.multiply_rows(
        *on_device[:2], jnp.int32(count), transposed=False, precision=precision
    )
    dw = xla_parallel.multiply_rows_dw(
        on_device[0], on_device[2], jnp.int32(count), precision=precision
    )
    x, w, dy = (np.nan_to_num(a).astype(np.float64) for a in (x, w, dy))
    assert np.all(abs(np.asarray(y) - x @ w) <= tolerance * (abs(x) @ abs(w)))
    assert np.all(abs(np.asarray(dw) - x.T @ dy) <= tolerance * (abs(x.T) @ abs(dy)))
