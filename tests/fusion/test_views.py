"""Which points an image sees: pixel for pixel the published code's, and the definition's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import DATA
from tests.fusion.rooms import INTRINSICS, SIZE, depth_of, pixels_by_definition, poses, wall
from uov_jax.datasets.frames import Frame
from uov_jax.errors import InputError
from uov_jax.fusion.views import ViewSettings, seen_points

VIEWS = ViewSettings(cut=2)


def frame(pose: np.ndarray | None = None, **changes: object) -> Frame:
    made = Frame("0", Path("0.png"), Path("d.png"), np.eye(4), INTRINSICS)
    return dataclasses.replace(made, camera_to_world=np.eye(4) if pose is None else pose, **changes)


@pytest.mark.parametrize("threads", [1, 3])
def test_every_pixel_is_that_of_the_published_code(threads):
    golden = np.load(DATA / "indoor_fusion.npz")
    total = 0
    for pose, depth, seen, rows, columns in zip(
        *(golden[name] for name in ("poses", "depth_mm", "seen", "pixel_row", "pixel_column")),
        strict=True,
    ):
        view = frame(pose, intrinsics=golden["intrinsic"][:3, :3])
        found = seen_points(golden["xyz"], view, depth.shape, depth, ViewSettings(), threads)
        np.testing.assert_array_equal(found.point, np.flatnonzero(seen))
        np.testing.assert_array_equal(found.row, rows[seen])
        np.testing.assert_array_equal(found.column, columns[seen])
        total += len(found)
    assert total == 2796


@pytest.mark.parametrize("kind", ["depth", "no depth", "metres", "missing"])
def test_the_definition(kind):
    points = wall(9000)  # several tasks of threads
    for pose in poses():
        view, depth = frame(pose), depth_of(pose)
        if kind == "missing":
            depth[depth > 3200] = 65535
            view = dataclasses.replace(view, depth_missing=65535, depth_units=900.0)
        given = {"no depth": None, "metres": (depth / 1000).astype(np.float32)}.get(kind, depth)
        seen, rows, columns = pixels_by_definition(
            points, view, None if given is None else depth, VIEWS.cut, VIEWS.depth_tolerance
        )
        found = seen_points(points, view, SIZE, given, VIEWS)
        assert 0.05 < seen.mean() < 0.95
        np.testing.assert_array_equal(found.point, np.flatnonzero(seen))
        np.testing.assert_array_equal(found.row, rows[seen])
        np.testing.assert_array_equal(found.column, columns[seen])


def test_depth_may_lie_in_memory_in_any_way():
    """Where the engine makes an image of its own, that lives as long as it is looked at."""
    points, pose = wall(9000), poses()[0]
    whole = (depth_of(pose) / 1000).astype(np.float32)
    expected = seen_points(points, frame(pose), SIZE, whole, VIEWS)
    assert len(expected)
    wide = np.zeros((SIZE[0], 2 * SIZE[1]), np.float32)
    wide[:, ::2] = whole
    for depth in (wide[:, ::2], np.asfortranarray(whole), whole[::-1].copy()[::-1]):
        assert not depth.flags.c_contiguous
        for _ in range(20):
            found = seen_points(points, frame(pose), SIZE, depth, VIEWS)
            np.testing.assert_array_equal(found.point, expected.point)


def test_pixels_are_rounded_half_to_even_and_cut_at_the_border():
    # At a depth of 1 m a point x = (u - cx) / fx falls on the pixel u.
    camera = frame(intrinsics=np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]))
    columns = np.array([1.5, 2.5, 3.5, 28.5, 29.5, 29.4, 30.0, 1.4])
    points = np.stack([columns, np.full(8, 5.0), np.ones(8)], axis=1).astype(np.float32)
    found = seen_points(points, camera, SIZE, None, ViewSettings(cut=2))
    assert found.point.tolist() == [0, 1, 2, 3, 5]
    assert found.column.tolist() == [2, 2, 4, 28, 29]
    assert set(found.row.tolist()) == {5}


def test_depth_tolerance_is_a_share_of_the_measured_depth():
    camera = frame(intrinsics=np.array([[1.0, 0, 8], [0, 1, 8], [0, 0, 1]]))
    z = np.array([1.49, 1.5, 2.0, 2.5, 2.51, -2.0, 0.0])
    points = np.stack([np.zeros(7), np.zeros(7), z], axis=1).astype(np.float32)
    depth = np.full(SIZE, 2000, np.uint16)
    assert seen_points(points, camera, SIZE, depth, VIEWS).point.tolist() == [1, 2, 3]
    exact = ViewSettings(cut=2, depth_tolerance=0.0)
    assert seen_points(points, camera, SIZE, depth, exact).point.tolist() == [2]
    # Without depth: what is before the camera; the camera's own place projects nowhere.
    assert seen_points(points, camera, SIZE, None, VIEWS).point.tolist() == [0, 1, 2, 3, 4]


def test_places_that_are_no_numbers_are_not_seen():
    points = np.array([[0, 0, np.nan], [np.inf, 0, 1], [0, 0, 1e-38], [1e38, 0, 1e-3], [0, 0, 1]])
    found = seen_points(points.astype(np.float32), frame(), SIZE, None, VIEWS)
    assert found.point.tolist() == [2, 4]


def test_no_points_and_an_image_that_is_all_border():
    assert len(seen_points(np.zeros((0, 3), np.float32), frame(), SIZE, None, VIEWS)) == 0
    border = ViewSettings(cut=12)
    assert len(seen_points(wall(), frame(poses()[0]), SIZE, None, border)) == 0


@pytest.mark.parametrize(
    ("changes", "depth", "message"),
    [
        ({}, np.zeros((5, 7), np.uint16), r"d\.png: \[5, 7\] pixels .* 0\.png has \[24, 32\]"),
        ({"camera_to_world": np.full((4, 4), np.inf)}, None, "0.png: its pose is none"),
        ({"camera_to_world": np.zeros((4, 4))}, None, "0.png: its pose is none"),
        ({"intrinsics": np.eye(3) + 0.1}, None, "0.png: no pinhole camera without skew"),
    ],
)
def test_frames_that_cannot_be_used_are_named(changes, depth, message):
    with pytest.raises(InputError, match=message):
        seen_points(wall(), dataclasses.replace(frame(), **changes), SIZE, depth, VIEWS)


@pytest.mark.parametrize("settings", [(-1, 0.25), (10, 1.0), (10, -0.1), (10, float("nan"))])
def test_settings_that_are_none_are_refused(settings):
    with pytest.raises(InputError, match="a cut of .* pixels and a depth tolerance of"):
        ViewSettings(*settings)
