"""The benchmarks measure what they say, and the engine has not become slow."""

from __future__ import annotations

import json
import time

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import __main__ as command
from benchmarks import dense, first_step, network, ops, peers, report, sweeps, teachers
from benchmarks.timing import Timing, ratio
from uov_jax import sparse
from uov_jax.models import layers, minkunet


@pytest.fixture(autouse=True)
def no_peers(monkeypatch):
    """Other libraries may be installed here, and warn."""
    monkeypatch.setattr(peers, "available", lambda: ())


def test_ratio_is_taken_round_by_round():
    # The machine was three times slower in the second round, for both.
    ours, other = Timing((1.0, 3.0, 1.0)), Timing((2.0, 6.0, 2.0))
    assert ratio(ours, other) == 2.0
    assert ours.median == 1.0
    assert Timing((2.0,)).spread == 0.0
    assert Timing((1.0, 2.0, 3.0)).spread == pytest.approx(0.25)


def test_a_row_has_rate_and_ratios():
    row = report.compared("x", {report.OURS: Timing((0.5,)), "peer": Timing((1.0,))}, 3.0, "GB/s")
    assert (row.milliseconds, row.rate, row.against) == (500.0, 6.0, {"peer": 2.0})
    assert "| x | 500 | 0% | 6 GB/s | 2.00 |" in report.markdown([row])


def test_synthetic_sweep_has_the_size_of_a_real_one():
    sweep = sweeps.synthetic(batch=2)
    first = sweep.coords[sweep.coords[:, 0] == 0]
    assert 17_500 < len(first) < 20_500
    plan = sparse.build_plan(first, sparse.PlanSpec(len(first)))
    assert 65_000 < np.sum(plan.same[0].forward >= 0) < 85_000
    # Forward through Res16UNet34C; a measured nuScenes sweep has 58.8.
    assert 50 < network.useful_gigaflop(plan, 17) < 72
    assert len(sweep.coords) > 1.8 * len(first)


def test_useful_operations_of_one_voxel_are_those_of_every_weight():
    # One voxel has one neighbour, itself, in every map: each layer uses one matrix, once.
    plan = sparse.build_plan(np.zeros((1, 4), np.int32), sparse.PlanSpec(1))
    model = nnx.eval_shape(lambda: minkunet.MinkUNet(1, 17, rngs=nnx.Rngs(0)))
    kernels = [
        leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.state(model, nnx.Param))
        if "kernel" in jax.tree_util.keystr(path)
    ]
    expected = 2e-9 * sum(shape[-2] * shape[-1] for shape in kernels)
    assert network.useful_gigaflop(plan, 17) == pytest.approx(expected, rel=1e-9)


def test_products_are_those_of_the_network(monkeypatch):
    plan = sparse.build_plan(sweeps.synthetic().coords, sparse.PlanSpec(20_000))
    multiplied = []

    def product(rows, kernel):
        multiplied.append((int(rows), *(int(size) for size in kernel.get_value().shape[-2:])))
        return np.zeros((1, multiplied[-1][-1]), np.float32)

    def convolve(convolution, norm, x, neighbours, count, **_):
        rows = count if neighbours is None else np.sum(np.asarray(neighbours.forward) >= 0)
        assert x.shape[1] == convolution.kernel.get_value().shape[-2]
        return product(rows, convolution.kernel)

    for module in (minkunet, layers):
        monkeypatch.setattr(module, "convolve_and_normalize", convolve)
    monkeypatch.setattr(
        layers.PointwiseConvolution,
        "__call__",
        lambda self, x, count, **_: product(count, self.kernel),
    )
    model = nnx.eval_shape(lambda: minkunet.MinkUNet(1, 17, rngs=nnx.Rngs(0)))
    model(np.zeros((20_000, 1), np.float32), plan)
    assert sorted(multiplied) == sorted(network.products(plan, 17))


def test_dense_layers_multiply_rows_weights_and_gradients():
    multiplied = []

    def multiply(a, b, out):
        multiplied.append((a.shape, b.shape, out.shape))
        np.matmul(a, b, out=out)

    bare = dense.Layers([(dense.ROWS + 7, 3, 5), (4, 6, 2)], multiply)
    bare.forward()
    forward = [((n, i), (i, o), (n, o)) for n, i, o in ((dense.ROWS, 3, 5), (7, 3, 5), (4, 6, 2))]
    assert multiplied == forward
    multiplied.clear()
    bare.both()
    assert multiplied[::3] == forward
    assert multiplied[1::3] == [((i, n), (n, o), (i, o)) for (n, i), (_, o), _ in forward]
    assert multiplied[2::3] == [((n, o), (o, i), (n, i)) for (n, i), (_, o), _ in forward]


@pytest.mark.parametrize("name", ["dense, numpy", "dense, torch"])
def test_libraries_multiply(name):
    if name == "dense, torch":
        pytest.importorskip("torch", reason="it is not installed, and its product is not measured")
    a, b = np.random.default_rng(0).standard_normal((2, 30, 30), np.float32)
    for inner in (30, 1):
        x, w, out = a[:inner].T, b[:, :inner].T, np.empty_like(a)
        dense.libraries()[name](x, w, out)
        # Sums of at most 30 products of numbers of size 1.
        np.testing.assert_allclose(out, x.astype(np.float64) @ w, rtol=0, atol=1e-5)


def test_the_network_is_held_against_its_products(monkeypatch):
    coords = np.zeros((40, 4), np.int32)
    coords[:, 1] = np.arange(40)
    sweep = sweeps.VoxelSweep("a line", np.zeros((40, 3), np.float32), sweeps.VOXEL_SIZE, coords)
    called = []

    class Bare:
        def __init__(self, products, multiply):
            self.forward = lambda: called.append("forward")
            self.both = lambda: called.append("both")

    monkeypatch.setattr(dense, "Layers", Bare)
    rows = {row.what: row.against for row in network.networks(sweep, repeats=1)}
    assert list(rows) == [
        "Res16UNet34C forward",
        "Res16UNet34C forward, bfloat16",
        "Res16UNet34C step",
        "Res16UNet34C step, bfloat16",
    ]
    for what, against in rows.items():
        assert list(against) == ([] if "bfloat16" in what else list(dense.libraries()))
    assert set(called) == {"forward", "both"}


def test_our_network_learns_the_labels_it_is_timed_with():
    coords = np.zeros((40, 4), np.int32)
    coords[:, 1] = np.arange(40)
    own = network.Own(coords, *network.made_up(coords))
    losses = [float(own.step()[1]["loss"][0]) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    assert own.forward().shape == (40, network.CLASSES)


def test_activations_of_one_voxel_are_the_channels_of_every_layer():
    # Two numbers a channel of the stem, four a channel and block, two a channel of each change of
    # level, one a channel of each projected shortcut and of what the decoder joins.
    shape = minkunet.VARIANTS["res16unet34c"]
    blocks = sum(4 * p * n for p, n in zip(shape.planes, shape.blocks, strict=True))
    levels = 2 * (32 + 32 + 64 + 128) + 2 * (256 + 128 + 96 + 96)
    joined = (256 + 128) + (128 + 64) + (96 + 32) + (96 + 32)
    projected = 64 + 128 + 256 + 256 + 128 + 96 + 96
    expected = 4 * (2 * 32 + blocks + levels + joined + projected)
    spec = sparse.PlanSpec(1, fractions=(1.0,) * 5)
    assert first_step.activation_bytes(spec) == expected


def test_the_engine_keeps_up_with_the_dense_product(monkeypatch):
    # PyTorch's threads would be in the way.
    only = {"dense, numpy": dense.libraries()["dense, numpy"]}
    monkeypatch.setattr(dense, "libraries", lambda: only)
    # Measured: 1.15 to 2.0 with AVX-512 and 1.1 with AVX2. What is left leaves room for a bad day
    # of the machine, but not for a kernel that has lost its vectors.
    least = {"avx512_bf16": 0.9, "avx512": 0.9, "avx2": 0.6}.get(
        sparse.backends()["cpu"].split("(")[1].split()[0], 0.1
    )
    rows = list(ops.layers(sweeps.synthetic(), repeats=5, widths=(128,)))
    assert [row.what for row in rows] == ["layer 128, forward", "layer 128, forward + backward"]
    for row in rows:
        assert row.against["dense, numpy"] > least, row


def test_a_training_step_holds_little_more_than_its_activations():
    coords = sweeps.synthetic().coords
    own = network.Own(coords, *network.made_up(coords))
    taken = first_step.step_bytes(own)
    # Measured: 1.07. The gradients and the new state take the place of activations, and of the old.
    assert taken < 1.2 * first_step.activation_bytes(own.spec)


def test_the_command_prints_a_table_and_writes_it(tmp_path, capsys):
    command.main(["moves", "--repeats", "1", "--json", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert "| scatter_add_rows 30,000 x 768 |" in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["rows"][0]["against"]["copy"] > 0
    assert written["machine"]["backend"].startswith(sparse.current_backend())


def test_smoothing_is_timed_with_its_parts(capsys):
    command.main(["afi", "--repeats", "1"])
    printed = capsys.readouterr().out
    name = f"AFI of {len(sweeps.synthetic().points):,} points"
    parts = ["ground plane", "encoder", "decoder", "sampling alone", "neighbours alone"]
    for row in (name, *(f"{name}: {part}" for part in parts)):
        assert f"| {row} |" in printed
    assert "x one worker" in printed


def test_an_unknown_suite_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["laiers"])
    expected = "no suite laiers: expected layers, moves, plans, network, first_step, afi"
    assert expected in capsys.readouterr().err


def test_a_teacher_is_timed_on_its_second_image(monkeypatch, capsys):
    seen = []

    class Slow:
        def segment(self, images):
            seen.append(images[0].shape)
            time.sleep(1.0 if len(seen) == 1 else 0.05)

    monkeypatch.setitem(teachers.TEACHERS, "slow", Slow)
    teachers.main(["slow", "--alone"])
    found = json.loads(capsys.readouterr().out)
    assert seen == [(900, 1600, 3)] * 2
    assert 0.05 <= found["wall"] < 1.0
    assert found["processor"] < found["wall"]
    assert 0.05 < found["memory"] < 64
    with pytest.raises(SystemExit):
        teachers.main(["sann"])
    assert "no teacher sann: expected san, fcclip, catseg, maskclip" in capsys.readouterr().err
