"""Voxels of rooms against what the published code makes of the same points."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import DATA
from uov_jax.errors import InputError
from uov_jax.input.room_voxels import (
    LARGEST_OFFSET,
    SCALES,
    TILT,
    random_offset,
    random_rotation,
    room_voxels,
)


@pytest.fixture(scope="module")
def measured() -> dict[str, np.ndarray]:
    with np.load(DATA / "indoor_voxels.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize(
    ("voxel_size", "coords", "first"),
    [
        (0.02, "coords_2cm", "first_2cm"),
        (0.05, "coords_5cm", "first_5cm"),
        (None, "augmented_coords", "augmented_first"),
    ],
)
def test_voxels_are_the_published_ones(
    measured: dict[str, np.ndarray], voxel_size: float | None, coords: str, first: str
) -> None:
    """Exactly: coordinates and the point that every voxel keeps; the rows there are sorted."""
    points = measured["xyz"]
    if voxel_size is None:
        # That scale is over the voxel's size already.
        found = room_voxels(points, 1.0, "room", measured["rotation"] * measured["scale"])
    else:
        found = room_voxels(points, voxel_size, "room")
    order = np.lexsort(found.coords.T[::-1])
    np.testing.assert_array_equal(found.coords[order], measured[coords])
    np.testing.assert_array_equal(found.first[order], measured[first])


def test_voxels_stand_in_order_of_first_occurrence_and_every_point_finds_its_own() -> None:
    points = np.random.default_rng(0).uniform(-3, 3, (4000, 3)).astype(np.float32)
    found = room_voxels(points, 0.4, "room")
    assert (np.diff(found.first) > 0).all()
    assert found.coords.min(axis=0).tolist() == [0, 0, 0]
    places = np.floor(points.astype(np.float64) / 0.4).astype(np.int64)
    places -= places.min(axis=0)
    np.testing.assert_array_equal(found.coords[found.inverse], places)
    assert len(np.unique(places, axis=0)) == len(found.coords)


def test_a_point_at_a_voxels_side_stays_where_float64_puts_it() -> None:
    """0.35 m in float32 is more than 0.35: in float32 the quotient would be rounded up to 7."""
    points = np.array([[0, 0, 0], [0.29999998, 0.35, 0.1]], np.float32)
    found = room_voxels(points, 0.05, "room")
    expected = np.floor(points.astype(np.float64) * (1 / 0.05)).astype(int)
    np.testing.assert_array_equal(found.coords, expected)


def test_rotations_are_small_tilts_any_turn_and_a_scale() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([random_rotation(rng) for _ in range(500)])
    scales = np.cbrt(np.linalg.det(drawn))
    assert SCALES[0] <= scales.min() < SCALES[0] + 0.01
    assert SCALES[1] - 0.01 < scales.max() <= SCALES[1]
    turns = drawn / scales[:, None, None]
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.eye(3)[None] + 0 * turns,
                               atol=1e-12)  # fmt: skip
    tilt = np.arccos(turns[:, 2, 2])
    # Of both axes together, where the turn about z lies between them.
    assert tilt.max() <= 2 * TILT + 1e-12
    assert tilt.max() > TILT
    azimuth = np.arctan2(turns[:, 1, 0], turns[:, 0, 0])
    counts, _ = np.histogram(azimuth, bins=8, range=(-np.pi, np.pi))
    assert counts.min() > 30
    # In another order the same three matrices give another product.
    assert (np.abs(turns[:, 2, 0]) > 1e-3).any()
    assert (np.abs(turns[:, 0, 2]) > 1e-3).any()


def test_offsets_are_0_to_99() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([random_offset(rng) for _ in range(3000)])
    assert drawn.dtype == np.int32
    assert drawn.min() == 0
    assert drawn.max() == LARGEST_OFFSET - 1


def test_what_makes_no_voxels_is_refused_by_the_rooms_name() -> None:
    with pytest.raises(InputError, match="room attic: there is no point"):
        room_voxels(np.zeros((0, 3), np.float32), 0.02, "attic")
    far = np.array([[0, 0, 0], [1e6, 0, 0]], np.float32)
    with pytest.raises(InputError, match="room attic: "):
        room_voxels(far, 0.02, "attic")
