"""Schedules, gather_gemm and gather_gemm_dw of the CUDA backend against float64."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cuda.calls import faults
from tests.cuda.products import (
    GATHER_TILES,
    GRADIENT_TILES,
    KINDS,
    NO_SCHEDULE,
    ROUNDING,
    SUMS,
    TF32,
    Kind,
    Schedule,
    check_dw,
    check_gather_gemm,
    exact,
    gather_cases,
    gather_gemm,
    gather_gemm_dw,
    gradient_cases,
    kinds,
    normal,
    random_map,
    schedule,
)
from tests.sparse.clouds import random_coords
from uov_jax.sparse import reference

# Rows within which a schedule orders them: kStretchBits of csrc/cuda/schedule.cu.
STRETCH = 65536


def check_schedule(forward: np.ndarray, plan: Schedule) -> None:
    kernel, rows = forward.shape
    order, masks, pair_rows, pair_counts = (np.asarray(array) for array in plan)
    there = forward >= 0
    np.testing.assert_array_equal(np.sort(order), np.arange(rows))
    # Stretch by stretch, the rows of each mask next to each other and ascending.
    np.testing.assert_array_equal(order // STRETCH, np.arange(rows) // STRETCH)
    for first in range(0, rows, STRETCH):
        ordered = order[first : first + STRETCH]
        same = np.all(there[:, ordered[1:]] == there[:, ordered[:-1]], axis=0)
        assert np.all(ordered[1:][same] > ordered[:-1][same])
        distinct = len(np.unique(there[:, ordered], axis=1).T)
        assert np.count_nonzero(~same) + 1 == distinct
    padded = np.zeros((kernel, -(-rows // 32) * 32), bool)
    padded[:, :rows] = there[:, order]
    joined = padded.reshape(kernel, -1, 32).any(axis=2).T
    k = np.arange(kernel)
    words = masks.view(np.uint32)
    np.testing.assert_array_equal(words[:, k // 32] >> (k % 32) & 1, joined)
    beyond = np.arange(kernel, words.shape[1] * 32)
    assert not np.any(words[:, beyond // 32] >> (beyond % 32) & 1)
    np.testing.assert_array_equal(pair_counts, there.sum(axis=1))
    for listed, found in zip(pair_rows, there, strict=True):
        expected = np.full(rows, -1)
        expected[: found.sum()] = np.flatnonzero(found)
        np.testing.assert_array_equal(listed, expected)


@pytest.mark.parametrize("kernel", [1, 2, 8, 27, 64, 125])
def test_schedule(engine, kernel):
    rng = np.random.default_rng(kernel)
    for rows in (0, 1, 31, 32, 33, 300, 1024, 1025):
        forward = random_map(rng, kernel, rows, 50)
        if rows:
            check_schedule(forward, schedule(engine, forward))
        else:
            plan = schedule(engine, forward)
            np.testing.assert_array_equal(plan.pair_counts, np.zeros(kernel))
    few = np.full((kernel, 70), -1, np.int32)
    check_schedule(few, schedule(engine, few))
    check_schedule(few * 0, schedule(engine, few * 0))


@pytest.mark.parametrize("kernel", [2, 63])
def test_schedule_orders_within_stretches(engine, kernel):
    rng = np.random.default_rng(kernel)
    # Of 63 offsets the number of the stretch, two bits, lies in both words of a key.
    rows = 2 * STRETCH + 100 if kernel == 2 else STRETCH * 2 + 40
    forward = np.full((kernel, rows), -1, np.int32)
    some = rng.choice(rows, rows // 2, replace=False)
    forward[rng.integers(0, kernel, len(some)), some] = 0
    check_schedule(forward, schedule(engine, forward))


def test_schedule_puts_the_rarest_offset_first(engine):
    """Of offsets that half, all and few rows have, the few are at one end, in few masks."""
    rng = np.random.default_rng(0)
    forward = np.full((3, 320), -1, np.int32)
    forward[0, rng.choice(320, 160, replace=False)] = 0
    forward[1] = 0
    forward[2, rng.choice(320, 16, replace=False)] = 0
    masks = np.asarray(schedule(engine, forward).masks)
    assert np.count_nonzero(masks & 4) == 1
    assert np.all(masks & 2)


def test_schedule_reports_entries_below_minus_one(engine):
    forward = np.full((3, 100), -1, np.int32)
    forward[1, 70] = -7
    plan = schedule(engine, forward)
    assert faults(engine) == ("map entry", -7, 100)
    np.testing.assert_array_equal(plan.pair_counts, 0)


CHANNELS = [1, 3, 17, 32, 64, 96, 130, 256]


@gather_cases
@pytest.mark.parametrize("channels_in", CHANNELS)
def test_gather_gemm(engine, kind, tile, channels_in):
    """Each tile, at each number of channels in, beside several others out."""
    engine.use_gather_tile(tile)
    rng = np.random.default_rng(channels_in)
    forward = random_map(rng, 3, 150, 70)
    plan = schedule(engine, forward)
    first = CHANNELS.index(channels_in)
    for channels_out in (CHANNELS[first - 2], CHANNELS[-1 - first], 96):
        x = normal(rng, kind, 70, channels_in)
        w = normal(rng, kind, 3, channels_in, channels_out)
        y = gather_gemm(engine, kind, x, w, forward, plan)
        check_gather_gemm(kind, y, x, w, forward)
        back = w.swapaxes(1, 2)
        same = gather_gemm(engine, kind, x, back, forward, plan, transposed=True)
        np.testing.assert_array_equal(same, y)
    assert faults(engine) is None


@gather_cases
def test_gather_gemm_of_any_rows_and_kernel(engine, kind, tile):
    engine.use_gather_tile(tile)
    rng = np.random.default_rng(tile)
    for kernel, rows in itertools.chain(
        itertools.product([1, 8], [0, 1, 63, 64, 65, 300]), [(3, 128), (27, 300), (125, 65)]
    ):
        forward = random_map(rng, kernel, rows, rows)
        plan = schedule(engine, forward)
        x = normal(rng, kind, rows, 33)
        w = normal(rng, kind, kernel, 33, 20)
        for mirrored in (False, True):
            y = gather_gemm(engine, kind, x, w, forward, plan, mirrored=mirrored)
            check_gather_gemm(kind, y, x, w, forward, mirrored=mirrored)
    assert faults(engine) is None


@kinds
def test_gather_gemm_of_many_channels(engine, kind):
    """At 768 channels, with the table's tile."""
    rng = np.random.default_rng(0)
    forward = random_map(rng, 1, 100, 100)
    for channels_in, channels_out in ((768, 33), (48, 768)):
        x = normal(rng, kind, 100, channels_in)
        w = normal(rng, kind, 1, channels_in, channels_out)
        y = gather_gemm(engine, kind, x, w, forward, schedule(engine, forward))
        check_gather_gemm(kind, y, x, w, forward)


@kinds
def test_gather_gemm_of_nothing(engine, kind):
    """No input row, no channel in, no channel out: zeros, or nothing."""
    rng = np.random.default_rng(0)
    nothing = np.full((3, 40), -1, np.int32)
    plan = schedule(engine, nothing)
    for rows_in, channels_in, channels_out in ((0, 8, 8), (5, 0, 8), (5, 8, 0), (5, 8, 8)):
        x = normal(rng, kind, rows_in, channels_in)
        w = normal(rng, kind, 3, channels_in, channels_out)
        y = gather_gemm(engine, kind, x, w, nothing, plan)
        np.testing.assert_array_equal(y, np.zeros((40, channels_out)))


@kinds
def test_without_a_schedule_the_bits_are_the_same(engine, kind):
    rng = np.random.default_rng(1)
    for kernel in (1, 27, 40):
        forward = random_map(rng, kernel, 150, 150)
        plan = schedule(engine, forward)
        x, dy = normal(rng, kind, 150, 24), normal(rng, kind, 150, 40)
        w = normal(rng, kind, kernel, 24, 40)
        y = gather_gemm(engine, kind, x, w, forward, plan)
        without = gather_gemm(engine, kind, x, w, forward, NO_SCHEDULE)
        np.testing.assert_array_equal(without, y)
        dw = gather_gemm_dw(engine, kind, x, dy, forward, NO_SCHEDULE)
        check_dw(kind, dw, x, dy, forward)


@gradient_cases
@pytest.mark.parametrize("channels_in", CHANNELS)
def test_gather_gemm_dw(engine, kind, tile, channels_in):
    engine.use_gradient_tile(tile)
    rng = np.random.default_rng(channels_in)
    forward = random_map(rng, 3, 150, 70)
    plan = schedule(engine, forward)
    first = CHANNELS.index(channels_in)
    for channels_out in (CHANNELS[first - 2], CHANNELS[-1 - first], 96):
        x = normal(rng, kind, 70, channels_in)
        dy = normal(rng, kind, 150, channels_out)
        dw = gather_gemm_dw(engine, kind, x, dy, forward, plan)
        check_dw(kind, dw, x, dy, forward)
    assert faults(engine) is None


@gradient_cases
def test_gather_gemm_dw_of_any_rows_and_kernel(engine, kind, tile):
    engine.use_gradient_tile(tile)
    rng = np.random.default_rng(tile)
    # From 2048 rows on offsets have parts: as many as are their share of the rows.
    for kernel, rows in [
        *itertools.product([1, 8], [0, 1, 31, 32, 33, 63, 64, 65, 300]),
        *[(27, 300), (125, 65), (3, 5000)],
    ]:
        forward = random_map(rng, kernel, rows, rows)
        plan = schedule(engine, forward)
        x, dy = normal(rng, kind, rows, 17), normal(rng, kind, rows, 20)
        dw = gather_gemm_dw(engine, kind, x, dy, forward, plan)
        check_dw(kind, dw, x, dy, forward)
    assert faults(engine) is None


@kinds
def test_the_gradients_are_adjoint(engine, kind):
    """<dy, y> = <dx, x> = <dw, w> for y linear in both, over a submanifold and a strided map."""
    rng = np.random.default_rng(2)
    coords = random_coords(rng, 200, extent=5)
    same = reference.submanifold_map(coords, 3)
    _, down, up = reference.strided_maps(coords)
    for forward, back, mirrored in ((same, same, True), (down, up, False), (up, down, False)):
        x = normal(rng, kind, back.shape[1], 12)
        w = normal(rng, kind, len(forward), 12, 20)
        dy = normal(rng, kind, forward.shape[1], 20)
        plan = schedule(engine, forward)
        y = gather_gemm(engine, kind, x, w, forward, plan)
        dx = gather_gemm(
            engine, kind, dy, w, back, schedule(engine, back), transposed=True, mirrored=mirrored
        )
        dw = gather_gemm_dw(engine, kind, x, dy, forward, plan)
        check_gather_gemm(kind, y, x, w, forward)
        check_gather_gemm(kind, dx, dy, w, back, transposed=True, mirrored=mirrored)
        check_dw(kind, dw, x, dy, forward)
        # Each of the three rounds two of the three factors, and bfloat16 rows their sums too.
        u = ROUNDING[kind.precision]
        pairs = np.abs(exact(dy)) * reference.gather_gemm(
            np.abs(exact(x)), np.abs(exact(w)), forward
        )
        allowed = (2 * (2 * u + u * u) + 2 * SUMS) * pairs.sum()
        products = [(exact(a) * exact(b)).sum() for a, b in ((dy, y), (dx, x), (dw, w))]
        assert np.ptp(products) <= allowed


@kinds
def test_equal_bits_for_any_order_of_blocks_and_any_tile(engine, kind):
    rng = np.random.default_rng(3)
    forward = random_map(rng, 27, 260, 200)
    # Of 24 channels no offset is shared out among blocks, of 72 they are.
    for channels in (24, 72):
        x, w = normal(rng, kind, 200, channels), normal(rng, kind, 27, channels, 100)
        dy = normal(rng, kind, 260, 100)
        results: dict[str, set[bytes]] = {"schedule": set(), "y": set(), "dw": set()}
        for seed, tile in enumerate([-1, *GATHER_TILES[kind.precision]]):
            engine.use_order(seed)
            engine.use_gather_tile(tile)
            engine.use_gradient_tile(tile if tile in GRADIENT_TILES[kind.precision] else -1)
            plan = schedule(engine, forward)
            results["schedule"].add(b"".join(np.asarray(array).tobytes() for array in plan))
            y = gather_gemm(engine, kind, x, w, forward, plan)
            results["y"].add(y.tobytes())
            results["dw"].add(gather_gemm_dw(engine, kind, x, dy, forward, plan).tobytes())
        assert {name: len(bits) for name, bits in results.items()} == dict.fromkeys(results, 1)


@kinds
def test_bad_entries_of_a_map_are_reported_and_left_out(engine, kind):
    rng = np.random.default_rng(4)
    x, w = normal(rng, kind, 50, 9), normal(rng, kind, 8, 9, 5)
    dy = normal(rng, kind, 80, 5)
    good = random_map(rng, 8, 80, 50)
    for bad in (50, 2**31 - 1):
        forward = good.copy()
        forward[3, 20] = bad
        without = good.copy()
        without[3, 20] = -1
        plan = schedule(engine, forward)
        assert faults(engine) is None
        y = gather_gemm(engine, kind, x, w, forward, plan)
        assert faults(engine) == ("map entry", bad, 50)
        check_gather_gemm(kind, y, x, w, without)
        dw = gather_gemm_dw(engine, kind, x, dy, forward, plan)
        assert faults(engine) == ("map entry", bad, 50)
        check_dw(kind, dw, x, dy, without)


def test_numbers_that_are_not_finite_stay_in_their_rows(engine):
    """A row that is not finite reaches its neighbours and no other row."""
    rng = np.random.default_rng(5)
    forward = random_map(rng, 27, 100, 100)
    plan = schedule(engine, forward)
    for kind, value in itertools.product(KINDS, (np.nan, np.inf)):
        x = normal(rng, kind, 100, 20).at[7].set(value)
        y = exact(gather_gemm(engine, kind, x, normal(rng, kind, 27, 20, 30), forward, plan))
        touched = (forward == 7).any(axis=0)
        np.testing.assert_array_equal(np.isfinite(y).all(axis=1), ~touched)
        dw = exact(gather_gemm_dw(engine, kind, x, y_like(rng, kind), forward, plan))
        assert np.isfinite(dw).all(axis=(1, 2)).tolist() == (~(forward == 7).any(axis=1)).tolist()


def y_like(rng: np.random.Generator, kind: Kind) -> jax.Array:
    return normal(rng, kind, 100, 30)


def test_workspaces_are_known_without_a_device(engine):
    """Few rows have partial sums of their own; many have none, or of a bounded size."""
    sizes = engine.workspace_bytes
    assert sizes("gather_gemm", [27, 256, 256, 1000, 4, 1]) == 4 * 1000 * 256 * 4
    assert sizes("gather_gemm", [27, 96, 96, 120_000, 4, 1]) == 0
    assert sizes("gather_gemm", [1, 96, 96, 100, 4, 1]) == 0
    assert sizes("gather_gemm_dw", [27, 96, 96, 1000, 4, 1]) == 0
    for shape in ([27, 96, 96], [27, 256, 256], [125, 3, 32], [1, 768, 768], [8, 512, 512]):
        assert sizes("gather_gemm_dw", [*shape, 2_000_000, 4, 1]) <= 110e6


@pytest.mark.parametrize("op", ["gather", "gradient"])
def test_each_line_of_the_table_of_tiles_is_reached(engine, op):
    """At its own bounds, and not one below any of them."""
    lines = getattr(engine, f"{op}_choices")()
    chosen = getattr(engine, f"chosen_{op}_tile")
    assert {line[0] for line in lines} == {0, 1, 2}

    def reached(precision: int, sizes: list[int]) -> int:
        for number, (of, *bounds, _) in enumerate(lines):
            if of == precision and all(a <= b for a, b in zip(bounds, sizes, strict=True)):
                return number
        return -1

    for number, (precision, *bounds, tile) in enumerate(lines):
        assert reached(precision, bounds) == number
        assert chosen(precision, *bounds) == tile
        for i in range(len(bounds)):
            below = [bound - (i == j) for j, bound in enumerate(bounds)]
            other = reached(precision, below)
            assert other != number
            assert chosen(precision, *below) == (lines[other][-1] if other >= 0 else 0)


def test_the_table_gives_the_tiles_that_its_model_asks_for(engine):
    """Of real levels: as wide as the result, high where there are rows for every processor."""
    gather, gradient = engine.chosen_gather_tile, engine.chosen_gradient_tile
    for precision in (TF32, 2):
        for rows, channels, tile in (
            (120_000, 32, 1),
            (120_000, 64, 2),
            (120_000, 96, 3),
            (120_000, 128, 4),
            (10_000, 256, 4),
            (10_000, 160, 3),
            (10_000, 128, 0),
            (1_000, 256, 0),
        ):
            assert gather(precision, 900, rows, channels, channels) == tile
        for rows, channels, tile in ((120_000, 32, 0), (120_000, 96, 1), (120_000, 128, 2)):
            assert gradient(precision, 900, rows, channels, channels) == tile
        assert gradient(precision, 900, 4_000, 128, 128) == 0
    for rows, channels, tile in ((120_000, 32, 1), (120_000, 96, 1), (120_000, 128, 2)):
        assert gather(0, 900, rows, channels, channels) == tile
    # Architectures before the table's have the smallest tile.
    assert gather(TF32, 750, 120_000, 128, 128) == 0


def test_sizes_are_bounded_before_they_are_narrowed(engine):
    kind = Kind(jnp.float32, TF32)
    x, w = jnp.zeros((4, 2)), jnp.zeros((4097, 2, 2))
    with pytest.raises(Exception, match="at most 4096 kernel offsets"):
        gather_gemm(engine, kind, x, w, np.full((4097, 4), -1, np.int32), NO_SCHEDULE)
    with pytest.raises(Exception, match=r"must be at most 2\^31 - 1"):
        gather_gemm(
            engine, kind, jnp.zeros((2**31, 0)), w[:1, :0], np.zeros((1, 4), np.int32), NO_SCHEDULE
        )


def test_wrong_arguments_are_refused(engine):
    kind = Kind(jnp.float32, 3)
    forward = np.zeros((1, 4), np.int32)
    x, w = jnp.zeros((4, 2)), jnp.zeros((1, 2, 2))
    with pytest.raises(Exception, match="precision must be 0"):
        gather_gemm(engine, kind, x, w, forward, NO_SCHEDULE)
    with pytest.raises(Exception, match="precision must be 0"):
        gather_gemm_dw(engine, kind, x, x, forward, NO_SCHEDULE)
    kind = Kind(jnp.float32, TF32)
    short = Schedule(jnp.zeros(3, jnp.int32), jnp.zeros((1, 1), jnp.int32), *NO_SCHEDULE[2:])
    with pytest.raises(Exception, match="a schedule needs order"):
        gather_gemm(engine, kind, x, w, forward, short)
