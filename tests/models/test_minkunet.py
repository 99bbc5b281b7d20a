"""The networks against the reference's measured outputs, gradients and tensor names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.cuda import emulation
from tests.models.reference import (
    fixture_plan,
    padded,
    read_fixture,
    recipe_model,
    reference_shapes,
    relative_error,
    watch_relus,
)
from uov_jax import sparse
from uov_jax.checkpoints.state_dict import model_to_state_dict, named_variables
from uov_jax.models import VARIANTS, MinkUNet, build_model
from uov_jax.sparse import Plan, PlanSpec, build_plan

CAPACITY = 2400
EMULATED = emulation.register()


def also_emulated(*marks: pytest.MarkDecorator) -> pytest.MarkDecorator:
    """Each backend of the fixture, and the kernels of GPUs, emulated."""
    names = ["cpu", "xla", pytest.param(EMULATED, marks=marks)]
    return pytest.mark.parametrize("backend", names, indirect=True)


@pytest.fixture(params=["cpu", "xla"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    status = sparse.backends()[request.param]
    if not status.startswith("available"):
        pytest.skip(status)
    with sparse.use_backend(request.param):
        yield request.param


@pytest.fixture(scope="module")
def small_network() -> MinkUNet:
    """A network with drawn weights; drawing takes seconds, so it is shared and left unchanged."""
    return build_model("minkunet14a", 3, 4, first_kernel=3, rngs=nnx.Rngs(3))


def make_step(model: MinkUNet) -> Callable[..., Any]:
    """(variables, features, plan, gy, rows) -> gradients, logits, new statistics; a train step.

    The loss is the fixture's: the mean of logits * gy over the valid rows.
    """
    model.train()
    graph, params, statistics = nnx.split(model, nnx.Param, nnx.BatchStat)

    def loss(params: Any, statistics: Any, features: Any, plan: Plan, gy: Any, rows: Any) -> Any:
        network = nnx.merge(graph, params, statistics, copy=True)
        logits = network(features, plan)
        value = jnp.sum(logits * gy) / (rows * gy.shape[1])
        return value, (logits, nnx.state(network, nnx.BatchStat))

    step = jax.jit(jax.grad(loss, has_aux=True))
    return lambda *batch: step(params, statistics, *batch)


def by_name(state: Any) -> dict[str, np.ndarray]:
    return {".".join(map(str, k)): np.asarray(v[...]) for k, v in nnx.to_flat_state(state)}


@also_emulated()
def test_res16unet34c_in_eval_mode_gives_the_reference_logits(backend: str) -> None:
    fixture = read_fixture("res16unet34c")
    model = recipe_model("res16unet34c", 1, 17)
    model.eval()
    features = padded(fixture["feats"], CAPACITY)
    logits = np.asarray(
        nnx.jit(MinkUNet.__call__)(model, features, fixture_plan(fixture, CAPACITY))
    )
    rows = len(fixture["coords"])
    assert relative_error(logits[:rows], fixture["logits_eval"]) < 1e-5
    assert not logits[rows:].any()


def check_train_step(
    fixture: dict[str, np.ndarray], gradients: Any, logits: jax.Array, statistics: Any
) -> None:
    rows = len(fixture["coords"])
    assert relative_error(np.asarray(logits)[:rows], fixture["logits_train"]) < 1e-4
    named = by_name(gradients)
    measured = [name for name in fixture if name.startswith("grad:")]
    assert len(measured) == 7
    for name in measured:
        corner = tuple(slice(0, n) for n in fixture[name].shape)
        found = named[name.removeprefix("grad:")][corner]
        assert relative_error(found, fixture[name]) < 1e-3, name
    tracked = by_name(statistics)
    for short in ("mean", "var"):
        found = tracked[f"bn0.bn.running_{short}"]
        assert relative_error(found, fixture[f"running_{short}:bn0"]) < 1e-5
    assert tracked["bn0.bn.num_batches_tracked"] == 1


def res16unet34c_batch(fixture: dict[str, np.ndarray]) -> tuple[Any, ...]:
    """Features, plan, gradient of the logits and number of rows."""
    features, gy = (padded(fixture[name], CAPACITY) for name in ("feats", "gy"))
    return features, fixture_plan(fixture, CAPACITY), gy, jnp.float32(len(fixture["coords"]))


def test_res16unet34c_train_step_gives_the_reference_gradients(backend: str) -> None:
    fixture = read_fixture("res16unet34c")
    step = make_step(recipe_model("res16unet34c", 1, 17))
    gradients, (logits, statistics) = step(*res16unet34c_batch(fixture))
    check_train_step(fixture, gradients, logits, statistics)


@pytest.mark.slow
def test_res16unet34c_train_step_on_gpus_gives_the_reference_gradients() -> None:
    """Past the same ReLUs as on the CPU.

    One of millions of values may be within rounding of zero and pass its ReLU on one of them alone,
    which changes gradients by more than rounding does.
    """
    if not sparse.backends()["cpu"].startswith("available"):
        pytest.skip(sparse.backends()["cpu"])
    fixture = read_fixture("res16unet34c")
    features, plan, *rest = res16unet34c_batch(fixture)
    model = recipe_model("res16unet34c", 1, 17)
    model.train()
    seen: list[jax.Array] = []

    def passed(state: nnx.State, features: Any, plan: Plan) -> list[jax.Array]:
        seen.clear()
        nnx.merge(nnx.graphdef(model), state, copy=True)(features, plan)
        return list(seen)

    def passed_on(backend: str) -> list[np.ndarray]:
        with pytest.MonkeyPatch.context() as patch, sparse.use_backend(backend):
            watch_relus(patch, seen)
            found = jax.jit(passed)(nnx.state(model), features, plan)
            return [np.asarray(values) for values in found]

    of_cpu, own = passed_on("cpu"), passed_on(EMULATED)
    others = [(a > 0) != (b > 0) for a, b in zip(of_cpu, own, strict=True)]
    # Of values of about 1, that are off by some 1e-5 behind this many layers.
    assert sum(np.count_nonzero(other) for other in others) < 10
    for a, b, other in zip(of_cpu, own, others, strict=True):
        assert np.max(np.maximum(a, b)[other], initial=0.0) < 1e-4
    with pytest.MonkeyPatch.context() as patch, sparse.use_backend(EMULATED):
        seen.clear()
        watch_relus(patch, seen, [values > 0 for values in of_cpu])
        gradients, (logits, statistics) = make_step(model)(features, plan, *rest)
    check_train_step(fixture, gradients, logits, statistics)


@also_emulated(pytest.mark.slow)
def test_normalized_features_match_the_reference_and_have_unit_length(backend: str) -> None:
    fixture = read_fixture("res16unet34c")
    model = recipe_model("res16unet34c", 1, 768, normalize_features=True)
    model.eval()
    features = padded(fixture["feats"], CAPACITY)
    out = np.asarray(nnx.jit(MinkUNet.__call__)(model, features, fixture_plan(fixture, CAPACITY)))
    rows = len(fixture["coords"])
    assert relative_error(out[:rows, :64], fixture["features_eval_first64"]) < 1e-4
    np.testing.assert_allclose(np.linalg.norm(out[:rows], axis=1), 1.0, rtol=1e-5)
    assert not out[rows:].any()


@also_emulated(pytest.mark.slow)
def test_minkunet18a_gives_the_reference_output(backend: str) -> None:
    fixture = read_fixture("minkunet18a")
    model = recipe_model("minkunet18a", 3, 768)
    model.eval()
    plan = fixture_plan(fixture, 2500, first_kernel=5)
    out = np.asarray(nnx.jit(MinkUNet.__call__)(model, padded(fixture["feats"], 2500), plan))
    rows = len(fixture["coords"])
    assert relative_error(out[:rows, :32], fixture["out_first32"]) < 1e-5
    assert relative_error(np.linalg.norm(out[:rows], axis=1), fixture["out_norm"]) < 1e-5


@pytest.mark.parametrize(
    ("variant", "channels", "expected"),
    [
        ("res16unet34c", (1, 17), "logits_eval"),
        pytest.param("minkunet18a", (3, 768), "out_first32", marks=pytest.mark.slow),
    ],
)
def test_products_in_tf32_stay_near_the_reference(
    variant: str, channels: tuple[int, int], expected: str
) -> None:
    """On GPUs: factors are off by 2^-12 of themselves, a layer's sums by less, and some add up."""
    fixture = read_fixture(variant)
    model = recipe_model(variant, *channels, precision="tf32")
    model.eval()
    plan = fixture_plan(fixture, CAPACITY, VARIANTS[variant].first_kernel)
    with sparse.use_backend(EMULATED):
        out = nnx.jit(MinkUNet.__call__)(model, padded(fixture["feats"], CAPACITY), plan)
    wanted = fixture[expected]
    error = relative_error(np.asarray(out)[: len(wanted), : wanted.shape[1]], wanted)
    # More than float32 is off by: what was to be rounded has been.
    assert 1e-5 < error < 1e-3


@also_emulated(pytest.mark.slow)
def test_padding_rows_and_capacity_change_nothing(backend: str, small_network: MinkUNet) -> None:
    """Garbage in padding rows, and more of them, leave every result where it was."""
    generator = np.random.default_rng(0)
    coords = np.unique(generator.integers([0, -9, -9, -4], [2, 9, 9, 4], (500, 4)), axis=0)
    fixture = {"coords": coords.astype(np.int32)}
    rows = len(coords)
    features = generator.standard_normal((rows, 3)).astype(np.float32)
    gy = generator.standard_normal((rows, 4)).astype(np.float32)
    step = make_step(small_network)
    results = []
    for capacity, garbage, cotangent in ((600, 0.0, 0.0), (997, np.nan, 1e6)):
        gradients, (logits, statistics) = step(
            padded(features, capacity, garbage),
            fixture_plan(fixture, capacity),
            padded(gy, capacity, cotangent),
            jnp.float32(rows),
        )
        assert not np.asarray(logits)[rows:].any()
        results.append((by_name(gradients), np.asarray(logits)[:rows], by_name(statistics)))
    (gradients, logits, statistics), (wide_gradients, wide_logits, wide_statistics) = results
    # Sums over rows may be grouped by capacity, so rounding, and rounding alone, may differ.
    assert relative_error(wide_logits, logits) < 1e-4
    for name, value in gradients.items():
        assert relative_error(wide_gradients[name], value) < 1e-3, name
    for name, value in statistics.items():
        np.testing.assert_allclose(wide_statistics[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("variant", "in_channels", "out_channels", "numbers"),
    [("res16unet34c", 1, 17, 37_862_287), ("minkunet18a", 3, 768, 15_575_696)],
)
def test_names_and_shapes_are_those_of_the_official_checkpoints(
    variant: str, in_channels: int, out_channels: int, numbers: int
) -> None:
    model = nnx.eval_shape(
        lambda: build_model(variant, in_channels, out_channels, rngs=nnx.Rngs(0))
    )
    shapes = {name: v.get_value().shape for name, v in named_variables(model)}
    assert shapes == reference_shapes(variant)
    # The published size counts the running statistics and counters of the state_dict too.
    assert sum(math.prod(shape) for shape in shapes.values()) == numbers


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_shapes_fit_through_every_variant(variant: str) -> None:
    """Traced, not run, forward and backward."""
    spec = PlanSpec(capacity=64, first_kernel=VARIANTS[variant].first_kernel)
    plan = build_plan(np.zeros((1, 4), np.int32), spec)
    model = nnx.eval_shape(lambda: build_model(variant, 3, 11, rngs=nnx.Rngs(0)))
    batch = (jnp.ones((64, 3)), plan, jnp.ones((64, 11)), jnp.float32(1))
    gradients, (logits, statistics) = jax.eval_shape(make_step(model), *batch)
    assert logits.shape == (64, 11)
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(
        jnp.shape, nnx.state(model, nnx.Param)
    )
    assert jax.tree.map(jnp.shape, statistics) == jax.tree.map(
        jnp.shape, nnx.state(model, nnx.BatchStat)
    )


def test_bfloat16_keeps_float32_parameters_and_stays_near() -> None:
    fixture = read_fixture("res16unet34c")
    rows = len(fixture["coords"])
    step = make_step(recipe_model("res16unet34c", 1, 17, dtype=jnp.bfloat16))
    gradients, (logits, statistics) = step(
        padded(fixture["feats"], CAPACITY),
        fixture_plan(fixture, CAPACITY),
        padded(fixture["gy"], CAPACITY),
        jnp.float32(rows),
    )
    assert logits.dtype == jnp.float32
    kinds = {leaf.dtype for leaf in jax.tree.leaves((gradients, statistics))}
    assert kinds == {jnp.dtype(jnp.float32), jnp.dtype(jnp.int32)}
    logits = np.asarray(logits)[:rows]
    expected = fixture["logits_train"]
    assert np.linalg.norm(logits - expected) < 0.1 * np.linalg.norm(expected)


@also_emulated()
def test_no_voxel_at_all_gives_zeros_and_finite_gradients(
    backend: str, small_network: MinkUNet
) -> None:
    plan = build_plan(np.zeros((0, 4), np.int32), PlanSpec(capacity=16))
    batch = (jnp.ones((16, 3)), plan, jnp.ones((16, 4)), jnp.float32(1))
    gradients, (logits, statistics) = make_step(small_network)(*batch)
    assert not np.asarray(logits).any()
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(gradients))
    before = model_to_state_dict(small_network)
    for name, value in by_name(statistics).items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(value, before[name])


def test_build_model_draws_first_weights_like_the_reference(small_network: MinkUNet) -> None:
    deep = np.asarray(small_network.block4[0].conv2.kernel[...])
    assert deep.std() == pytest.approx(math.sqrt(2 / (27 * 256)), rel=0.01)
    up = np.asarray(small_network.convtr4p16s2.kernel[...])
    assert np.abs(up).max() == pytest.approx(1 / math.sqrt(8 * 128), rel=0.01)


def test_momentum_of_the_residual_branches_can_be_the_published_runs() -> None:
    build = lambda **kw: build_model("res16unet34c", 1, 17, rngs=nnx.Rngs(0), **kw)  # noqa: E731
    plain = nnx.eval_shape(build)
    assert plain.bn0.momentum == plain.block1[0].norm1.momentum == 0.05
    quirk = nnx.eval_shape(lambda: build(batch_norm_momentum=0.02, block_batch_norm_momentum=0.1))
    block = quirk.block2[0]
    assert quirk.bn0.momentum == block.downsample[1].momentum == 0.02
    assert block.norm1.momentum == block.norm2.momentum == 0.1


def test_refusals_name_what_was_expected() -> None:
    with pytest.raises(ValueError, match=r"unknown network variant 'resnet'.*res16unet34c"):
        build_model("resnet", 1, 17, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="first_kernel must be 3 or 5, found 7"):
        build_model("minkunet14a", 1, 17, first_kernel=7, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="float32 or bfloat16, found float16"):
        build_model("minkunet14a", 1, 17, dtype=jnp.float16, rngs=nnx.Rngs(0))
    model = recipe_model("minkunet18a", 3, 768)
    coords = np.zeros((1, 4), np.int32)
    plan = build_plan(coords, PlanSpec(capacity=8))
    with pytest.raises(ValueError, match=r"shape \(8, 1\), expected \(8, 3\)"):
        model(jnp.ones((8, 1)), plan)
    with pytest.raises(ValueError, match=r"PlanSpec\(first_kernel=5\)"):
        model(jnp.ones((8, 3)), plan)
    shallow = build_plan(coords, PlanSpec(capacity=8, levels=4, first_kernel=5))
    with pytest.raises(ValueError, match="has 4 levels, minkunet18a needs 5"):
        model(jnp.ones((8, 3)), shallow)
