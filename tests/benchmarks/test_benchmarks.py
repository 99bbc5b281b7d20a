"""The benchmarks measure what they say; how fast that is, no test asks."""

from __future__ import annotations

import json
import os
import types

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import __main__ as command
from benchmarks import (
    dense,
    first_step,
    fusion,
    installed,
    kernels,
    loader,
    loader_side,
    network,
    ops,
    peers,
    report,
    rooms,
    sweeps,
    teachers,
)
from benchmarks.timing import Timing, ratio
from uov_jax import sparse
from uov_jax.datasets.rooms import RoomStore
from uov_jax.input import tri_modal
from uov_jax.models import layers, minkunet
from uov_jax.sparse.engine import engine


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


def test_layers_are_held_against_the_product_of_their_pairs(monkeypatch):
    sweep = sweeps.synthetic()
    neighbours = sparse.submanifold_map(sweep.coords, len(sweep.coords), 3)
    pairs = int(np.sum(neighbours.forward >= 0))
    bare, computed = [], {}

    class Bare:
        def __init__(self, shapes, multiply):
            bare.append((shapes, multiply))
            self.forward, self.both = (lambda: "y"), (lambda: "y, dx, dw")

    def once(calls, repeats):
        computed.update((name, call()) for name, call in calls.items())
        seconds = {report.OURS: 0.25, f"{report.OURS} both": 0.5}
        return {name: Timing((seconds.get(name, 1.0),) * repeats) for name in calls}

    monkeypatch.setattr(dense, "Layers", Bare)
    monkeypatch.setattr(dense, "libraries", lambda: {"dense, numpy": np.matmul})
    monkeypatch.setattr(ops, "interleaved", once)
    forward, both = ops.layers(sweep, repeats=3, widths=(16,))
    assert bare == [([(pairs, 16, 16)], np.matmul)]
    assert (computed["dense, numpy"], computed["dense, numpy both"]) == ("y", "y, dx, dw")
    shapes = [array.shape for array in computed[f"{report.OURS} both"]]
    assert computed[report.OURS].shape == (len(sweep.coords), 16)
    assert shapes == [(len(sweep.coords), 16), (len(sweep.coords), 16), (27, 16, 16)]
    assert (forward.what, both.what) == ("layer 16, forward", "layer 16, forward + backward")
    assert (forward.against, both.against) == ({"dense, numpy": 4.0}, {"dense, numpy": 2.0})
    gigaflop = 2e-9 * pairs * 16 * 16
    assert (forward.rate, both.rate) == pytest.approx((gigaflop / 0.25, 3 * gigaflop / 0.5))


def test_bfloat16_layers_by_all_kernels_are_held_against_float32(monkeypatch):
    sweep = sweeps.synthetic()
    before = sparse.current_kernels()
    ran = []

    def product(x, w, neighbours):
        del neighbours
        return x @ w[0]

    def once(calls, repeats):
        for name, call in calls.items():
            ran.append((name, jax.tree.leaves(call())[0].dtype.name, sparse.current_kernels()))
        seconds = {"float32": 1.0, "generic": 4.0}
        return {name: Timing((seconds.get(name, 0.5),) * repeats) for name in calls}

    monkeypatch.setattr(ops.sparse, "gather_gemm", product)
    monkeypatch.setattr(kernels, "interleaved", once)
    rows = list(kernels.kernels(sweep, repeats=3, widths=(8,)))
    names = engine().runnable_kernels()
    of_once = [("float32", "float32", before), *((n, "bfloat16", n) for n in names)]
    assert ran == 2 * of_once
    assert sparse.current_kernels() == before
    assert [row.what for row in rows] == [
        f"layer 8, {what}, bfloat16 by {name}"
        for what in ("forward", "forward + backward")
        for name in names
    ]
    assert rows[0].against == {f"float32, {before}": 0.25}
    assert {row.against[f"float32, {before}"] for row in rows} <= {0.25, 2.0}


def test_a_required_speed_ends_the_command_where_it_is_missed(monkeypatch, capsys):
    rows = [
        report.Row("fast", 1.0, 0.0, against={"dense, numpy": 1.2, "a peer": 0.1}),
        report.Row("slow", 1.0, 0.0, against={"dense, numpy": 0.8}),
        report.Row("alone", 1.0, 0.0),
    ]
    monkeypatch.setattr(command, "SUITES", {"some": lambda sweep, repeats: iter(rows)})
    command.main(["some"])
    command.main(["some", "--least", "0.8"])
    with pytest.raises(SystemExit) as ended:
        command.main(["some", "--least", "0.9"])
    assert ended.value.code == "slower than 0.9 times dense, numpy: slow (0.80)"
    monkeypatch.setattr(command, "SUITES", {"some": lambda sweep, repeats: iter(rows[2:])})
    with pytest.raises(SystemExit, match="nothing that ran is held against dense, numpy"):
        command.main(["some", "--least", "0.9"])
    assert capsys.readouterr().out.count("| slow |") == 3


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
    expected = "no suite laiers: expected layers, moves, plans, kernels, network, first_step, afi"
    assert expected in capsys.readouterr().err


def test_a_teacher_is_timed_on_its_second_image(monkeypatch, capsys):
    seen = []
    clock = {"perf_counter": 100.0, "process_time": 7.0}

    class Teacher:
        def segment(self, images):
            seen.append(images[0].shape)
            clock["perf_counter"] += 50.0 if len(seen) == 1 else 3.0
            clock["process_time"] += 90.0 if len(seen) == 1 else 5.0

    # Of the module alone: its name for `time` is replaced.
    ticking = {name: lambda name=name: clock[name] for name in clock}
    monkeypatch.setattr(teachers, "time", types.SimpleNamespace(**ticking))
    monkeypatch.setitem(teachers.TEACHERS, "slic", Teacher)
    teachers.main(["slic", "--alone"])
    found = json.loads(capsys.readouterr().out)
    assert seen == [(900, 1600, 3)] * 2
    assert (found["wall"], found["processor"]) == (3.0, 5.0)
    assert 0.05 < found["memory"] < 64


def test_an_unknown_teacher_is_refused(capsys):
    with pytest.raises(SystemExit):
        teachers.main(["sann"])
    expected = "no teacher sann: expected san, fcclip, catseg, maskclip, slic"
    assert expected in capsys.readouterr().err


def test_rooms_are_opened_from_the_store_and_from_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.timing.REST", 0)
    rows = rooms.opening(tmp_path, points=500, repeats=2)
    assert [row.what for row in rows] == ["open", "open and read 500 points", "open and read all"]
    assert all(rooms.PEER in row.against for row in rows)
    path = tmp_path / "scannet_3d" / "train" / "scene0000_00_vh_clean_2.pth"
    coords, _, labels = rooms.load(path)
    room = RoomStore(tmp_path / "rooms").room(rooms.NAME)
    np.testing.assert_array_equal(room.coords, coords)
    np.testing.assert_array_equal(room.labels, labels + 1)


def test_fusion_equals_the_loops_over_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(fusion, "PATCHES", (3, 4))
    small = {"points": 2000, "channels": 40, "size": (60, 80), "poses": 2, "repeats": 1}
    for torch in (True, False):
        if not torch:
            monkeypatch.setattr(installed, "usable", lambda _: False)
        elif not installed.usable("torch"):
            continue
        rows = list(fusion.speed(**small))  # compares the results
        assert [row.what.partition(",")[0] for row in rows] == [
            "features of every pixel", "patches", "masks",
        ]  # fmt: skip
        peers = {"torch, +=", "torch, index_add_"} if torch else {"numpy"}
        assert all(set(row.against) == peers for row in rows)


def test_memory_of_a_long_recording_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(fusion, "PATCHES", (3, 4))
    speed, early, late = fusion.recording(tmp_path, 6, 2000, 40, (60, 80))
    assert "6 frames" in speed.what
    assert late.rate >= early.rate > 0


def test_the_loaders_time_is_counted_to_stages(tiny_root, tiny_dumps):
    settings = {
        "task": "tri_modal",
        "root": str(tiny_root),
        "version": "v1.0-mini",
        "split": "mini_train",
        "dumps": str(tiny_dumps.root),
        "batch": 2,
        "deferred": True,
    }
    original = tri_modal.pair_points
    side = loader_side.Side(settings)
    found = side.build(1, stages=True)
    assert {"read", "dump", "project", "group", "voxels", "plan", "rest"} <= found["stages"].keys()
    assert found["seconds"] == pytest.approx(sum(found["stages"].values()))
    assert tri_modal.pair_points is original
    assert 0 < side.build(1, stages=False)["seconds"] < 60
    process = loader.Process(loader.HERE, core=min(os.sched_getaffinity(0)))
    cells, stages = loader.measure(
        settings | {"task": "segmentation"}, [process, process], rounds=1, batches=1
    )
    process.close()
    assert len(cells) == 4
    assert "project" not in stages
