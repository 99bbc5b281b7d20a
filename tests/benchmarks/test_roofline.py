"""What stands on paper is what the maps and shapes say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from benchmarks import (
    accelerators,
    forms,
    lowered,
    network,
    pairs,
    plan_launches,
    roofline,
    sweeps,
    tiles,
    work,
)
from benchmarks.work import Convolution, Site
from uov_jax.sparse import xla


@pytest.fixture(scope="module")
def blob() -> work.Workload:
    """Some hundred voxels in a heap."""
    rng = np.random.default_rng(0)
    coords = np.unique(rng.integers(0, 9, (500, 4)) * [0, 1, 1, 1], axis=0).astype(np.int32)
    return work.Workload.of(
        sweeps.VoxelSweep("a heap", np.zeros((1, 3), np.float32), sweeps.VOXEL_SIZE, coords)
    )


def test_layers_are_those_that_the_benchmark_of_the_network_multiplies(blob):
    found = [(at.pairs, layer.c_in, layer.c_out) for layer, at in blob.layers]
    assert sorted(found) == sorted(network.products(blob.plan, work.CLASSES))
    forward = [t for t in blob.tasks(4) if t.op == "product"]
    expected = network.useful_gigaflop(blob.plan, work.CLASSES)
    assert sum(t.operations for t in forward) * 1e-9 == pytest.approx(expected)


def test_sites_lead_from_level_to_level(blob):
    for layer, at in blob.layers:
        assert at.rows_out == blob.plan.counts[layer.level]
        if at.forward is not None:
            assert at.forward.shape == (at.offsets, at.capacity_out)
            assert at.back.shape == (at.offsets, at.capacity_in)
            assert at.pairs == np.sum(at.back >= 0)


def test_the_least_that_a_layer_moves():
    """By hand: 5 rows of 3 channels to 2 rows of 4, 3 pairs at 2 offsets, bfloat16."""
    forward = np.array([[0, 1], [2, -1]], np.int32)
    back = np.array([[0, 1, -1, -1, -1], [-1, -1, 0, -1, -1]], np.int32)
    at = Site(forward, back, 2, 3, 5, 2, 5, 2)
    found = work.tasks(Convolution(work.DOWN, 1, 3, 4, has_shortcut=True), at, width=2)
    rows = 2 * (5 * 3 + 2 * 4)
    assert [(t.op, t.operations, t.bytes) for t in found] == [
        ("product", 2 * 3 * 12, rows + 2 * 24 + 4 * 4),
        ("gradient of x", 2 * 3 * 12, rows + 2 * 24 + 4 * 10),
        ("gradient of w", 2 * 3 * 12, rows + 4 * 24 + 8 * 3),
        ("norm", 0, 2 * 8 * 4),
        ("norm, backward", 0, 2 * 8 * 8),
    ]


HEADER = """
inline constexpr Tile kGatherTiles[] = {
    {64, 64, 32, 3}, {128, 96, 48, 2},
};
inline constexpr Tile kGradientTiles[] = {{64, 64, 32, 3}, {96, 96, 48, 2}};
inline constexpr TileChoice kGatherChoices[] = {
    // A comment.
    {Precision::kTf32, 900, 0, 1, 1, 0}, {Precision::kTf32, 800, 100, 1, 65, 1},
    {Precision::kBfloat16, 800, 0, 1, 1, 0},
};
inline constexpr TileChoice kGradientChoices[] = {
    {Precision::kTf32, 800, 0, 65, 65, 1},
};
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    path = tmp_path_factory.mktemp("header") / "tiles.h"
    path.write_text(HEADER)
    return tiles.read_tables(path)


def test_the_table_of_tiles_is_read(tables, tmp_path):
    gather, gradient = tables
    assert gather.tiles == (tiles.Tile(64, 64), tiles.Tile(128, 96))
    assert len(gather.choices) == 3
    wide, small = tiles.Tile(128, 96), tiles.Tile(64, 64)
    assert gather.chosen(accelerators.TF32, 100, 1, 65) == wide
    # The first line is for later architectures; what no line is for takes the first tile.
    assert gather.chosen(accelerators.TF32, 99, 1, 65) == small
    assert gradient.chosen(accelerators.TF32, 1, 96, 65) == tiles.Tile(96, 96)
    (tmp_path / "other.h").write_text("int x;")
    with pytest.raises(ValueError, match="no table kGatherTiles"):
        tiles.read_tables(tmp_path / "other.h")


def test_the_kernels_have_tiles_for_every_number():
    for found in tiles.read_tables():
        assert {name for name, *_ in found.choices} == {n.lower() for n in accelerators.WIDTH}
        assert all(choice[-1] < len(found.tiles) for choice in found.choices)


def test_a_tile_multiplies_all_its_rows_wherever_one_has_a_neighbour():
    rng = np.random.default_rng(1)
    forward = np.where(rng.random((27, 301)) < 0.2, 7, -1)
    expected = 0
    for begin in range(0, 301, 32):
        part = forward[:, begin : begin + 32] >= 0
        expected += 32 * int(np.sum(part.any(axis=1)))
    assert tiles.tiled_rows(tiles.masks(forward), 32) == expected
    # Rows of one mask fill their tiles, but for the last.
    bits = np.repeat(np.array([0b101, 0b11], np.uint64), 64)
    assert tiles.tiled_rows(bits, 64) == 2 * 128
    assert tiles.tiled_rows(bits, 128) == 3 * 128


def test_rows_are_sorted_by_their_rarest_offset_within_stretches(monkeypatch):
    forward = np.array([[0, 0, 0, -1], [-1, -1, 0, -1], [-1, 0, 0, 0]])
    # Offsets 0 and 2 have three each, 1 has one.
    bits = tiles.masks(forward)
    assert bits.tolist() == [0b001, 0b011, 0b111, 0b010]
    assert tiles.sorted_masks(bits).tolist() == [0b001, 0b010, 0b011, 0b111]
    monkeypatch.setattr(tiles, "STRETCH_BITS", 1)
    assert tiles.sorted_masks(bits).tolist() == [0b001, 0b011, 0b010, 0b111]


def test_what_tiles_multiply_by_hand(tables):
    """70 rows with one neighbour each, at two offsets in turn: TF32, 3 channels to 70."""
    forward = np.full((2, 70), -1)
    forward[0, ::2] = forward[1, 1::2] = 0
    at = Site(forward, forward, 2, 70, 70, 70, 70, 70)
    one = Convolution(work.SAME, 0, 3, 70)
    found = tiles.Tiles(work.Workload("", None, ((one, at),)), accelerators.TF32, tables).products
    (_, product), _, (_, gradient), *norms = found
    # Sorted: 32 of offset 0, then 3 with 29 of offset 1, then 6 of it.
    multiplied = 32 * (1 + 2 + 1)
    assert product.operations == 2 * multiplied * 32 * 128
    assert product.blocks == 2 * 2
    # Two tiles of 64 rows, with 2 offsets and 1, and two of 64 channels.
    assert product.cached == 4 * 3 * 2 * (70 + 3 * 64)
    assert gradient.operations == 2 * (64 + 64) * 64 * 128
    assert [tiled for _, tiled in norms] == [None, None]


def test_time_is_the_longer_of_multiplying_and_moving():
    machine = accelerators.Accelerator("one", 10.0, {accelerators.TF32: 100.0}, 1)
    assert machine.seconds(1000, 10, accelerators.TF32) == 10
    assert machine.seconds(100, 1000, accelerators.TF32) == 100


def test_the_tables_of_a_small_cloud(blob, tables, capsys):
    # Lowering every layer in every form takes a minute.
    few = work.Workload(blob.name, blob.plan, blob.layers[:3] + blob.layers[-1:])
    roofline.report(few, tables, with_forms=True)
    printed = capsys.readouterr().out
    assert f"{len(blob.plan.coords[0]):,}" in printed
    for form in ("dense, cuda", "dense, tpu", "pairs, cuda", "pairs, tpu"):
        assert form in printed
    # The first three are convolutions with a norm, the last one is neither.
    numbers = sum(at.rows_out * layer.c_out for layer, at in blob.layers[:3])
    assert f"spare at most {4e-6 * numbers:,.1f} MB in float32" in printed


def test_launches_of_plans_and_schedules():
    """As csrc/cuda/plan.cu and schedule.cu have them, of one sort each but for 125 offsets."""
    assert plan_launches.plan() == (13, 11)
    assert plan_launches.schedule(27, 40_000) == plan_launches.schedule(27, 120_000) == (13, 6)
    assert plan_launches.schedule(8, 65_536) == (10, 3)
    assert plan_launches.schedule(8, 65_537) == (11, 4)
    assert plan_launches.schedule(125, 1000) == (7 + 1 + 10 + 10, 20)


def test_every_map_of_a_plan_is_scheduled(blob):
    found = plan_launches.of_plan(blob.plan)
    assert {name: len(calls) for name, calls in found.items()} == {
        "plan": 1,
        "schedule of 27 offsets": len(blob.plan.same),
        "schedule of 8 offsets": 2 * len(blob.plan.down),
    }


def test_loop_steps_are_those_of_the_loop(blob):
    """Counted by running it: every iteration adds one to the first number of the result."""
    layer, at = next((a, b) for a, b in blob.layers if b.forward is not None)
    chunks = xla._Chunks.of(jnp.asarray(at.forward))
    steps = chunks.fold(lambda total, k, rows: total + 1, jnp.int32(0))
    one = work.Workload("", blob.plan, ((layer, at),))
    assert roofline.loop_steps(one) == 2 * int(steps)


def shape(*size, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(size, dtype)


def test_products_and_moves_are_counted_from_shapes():
    def function(x, w, index):
        return jnp.take(x, index, axis=0, mode="clip") @ w

    found = lowered.lowered(function, "tpu", [shape(7, 3), shape(3, 5), shape(4, dtype=jnp.int32)])
    gather, dot = found.always
    assert gather.bytes == 4 * 4 + 2 * 4 * (4 * 3)
    assert (dot.operations, dot.bytes) == (2 * 4 * 3 * 5, 4 * (12 + 15 + 20))
    assert not found.has_loop
    assert not found.custom_calls


def test_what_is_called_twice_counts_twice_and_branches_apart():
    inner = jax.jit(jnp.matmul)

    def function(x, flag):
        y = inner(inner(x, x), x)
        return lax.cond(flag > 0, lambda y: inner(y, x), lambda y: y, y)

    found = lowered.lowered(function, "cuda", [shape(6, 6), shape(dtype=jnp.int32)])
    assert [w.operations for w in found.always] == [2 * 6**3] * 2
    assert [[w.operations for w in branch] for branch in found.conditional] == [[2 * 6**3]]


def test_loops_and_custom_calls_are_seen():
    arguments = shape(9, 3), shape(27, 3, 5), shape(27, 9, dtype=jnp.int32)
    assert lowered.lowered(xla.multiply_pairs, "cuda", arguments).has_loop
    found = lowered.lowered(jnp.linalg.qr, "cuda", [shape(5, 5)])
    assert found.custom_calls


@pytest.mark.parametrize("by_matrix", [True, False])
def test_ragged_products_grouped_and_expanded(by_matrix):
    def function(x, other, sizes):
        if by_matrix:
            return lax.ragged_dot(x, other, sizes)
        return lax.ragged_dot_general(x, other, sizes, pairs.BY_OFFSET)

    other = shape(8, 3, 5) if by_matrix else shape(40, 5)
    arguments = [shape(40, 3), other, shape(8, dtype=jnp.int32)]
    (grouped,) = lowered.lowered(function, "tpu", arguments, lowered.GROUPED).always
    (expanded,) = lowered.lowered(function, "cuda", arguments, lowered.EXPANDED).always
    assert grouped.operations == 2 * 40 * 3 * 5
    assert expanded.operations == 8 * grouped.operations
    copies = 8 * 40 * (3 if by_matrix else 3 + 5) * 4
    assert expanded.bytes == grouped.bytes + 2 * copies
    assert expanded.largest == 8 * 40 * (3 if by_matrix else 5) * 4


def test_rounds_without_pairs_are_not_counted(monkeypatch):
    monkeypatch.setattr(pairs, "LEAST_ROUND_PAIRS", 64)
    forms.program.cache_clear()
    one = forms.Shape("product", 27, 100, 100, 3, 5)
    found = forms.program(one, "pairs", "tpu", 4)
    size = pairs.round_size(pairs.room((27, 100)), 3, 5)
    assert 1 + len(found.conditional) == -(-27 * 100 // size) == 4
    for existing, rounds in ((0, 1), (size, 1), (size + 1, 2), (27 * 100, 4)):
        ops = forms.executed(one, existing, "pairs", found)
        assert sum(w.op == lowered.RAGGED for w in ops) == rounds
    forms.program.cache_clear()


def test_tiles_multiply_more_than_there_is(blob, tables):
    products = tiles.Tiles(blob, accelerators.TF32, tables).products
    padded = sum(tiled.operations for _, tiled in products if tiled)
    assert sum(task.operations for task, _ in products) < padded


def test_turned_sweeps_are_others_of_the_same_kind(real_nuscenes):
    path = next((real_nuscenes / "samples" / "LIDAR_TOP").glob("*.pcd.bin"))
    found = sweeps.turned(path, 3)
    counts = np.bincount(found.coords[:, 0])
    np.testing.assert_array_equal(found.coords[found.coords[:, 0] == 0], sweeps.stored(path).coords)
    assert np.all(abs(counts - counts[0]) < 0.05 * counts[0])
    assert len({tuple(c) for c in found.coords[:, 1:].tolist()}) > 1.5 * counts[0]
