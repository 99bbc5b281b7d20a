"""Splats: what is near hides what is far, surfaces have no holes, outlines stay."""

from __future__ import annotations

import numpy as np
import pytest

from uov_jax.pictures.splatting import SUPERSAMPLING, Camera, look, spacing_of

AHEAD_ALONG_Y = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # right x, down -z


def camera(perspective: bool = True, focal: float = 100.0) -> Camera:
    return Camera(AHEAD_ALONG_Y, np.zeros(3), focal, (50.0, 40.0), perspective)


def plate(distance: float, half: float = 0.5, step: float = 0.02) -> np.ndarray:
    """A square across the way the camera looks."""
    side = np.arange(-half, half + step / 2, step)
    x, z = np.meshgrid(side, side)
    return np.stack([x.ravel(), np.full(x.size, distance), z.ravel()], axis=1)


@pytest.mark.parametrize("perspective", [False, True])
def test_a_point_is_where_the_pinhole_has_it(perspective: bool) -> None:
    points = np.array([[0.2, 4.0, 0.1]])
    places, depth = camera(perspective).project(points)
    scale = 100 / 4 if perspective else 100
    np.testing.assert_allclose(places[0], [50 + 0.2 * scale, 40 - 0.1 * scale])
    assert depth[0] == 4.0
    view = look(points, camera(perspective), 100, 80, 0.02)
    rows, columns = np.nonzero(view.point == 0)
    assert columns.mean() / SUPERSAMPLING == pytest.approx(places[0, 0], abs=0.5)
    assert rows.mean() / SUPERSAMPLING == pytest.approx(places[0, 1], abs=0.5)


@pytest.mark.parametrize("perspective", [False, True])
@pytest.mark.parametrize("order", [1, -1])
def test_the_near_plate_hides_the_far_one(perspective: bool, order: int) -> None:
    near, far = plate(3.0), plate(5.0, half=1.0)
    points = np.concatenate([near, far][::order])
    is_near = np.concatenate([np.ones(len(near), bool), np.zeros(len(far), bool)][::order])
    spacing = 0.02
    view = look(points, camera(perspective, 40.0 if not perspective else 100.0), 100, 80, spacing)
    scale = 100 / 3 if perspective else 40
    reach = int(SUPERSAMPLING * (0.5 * scale - 1))
    middle = view.point[
        40 * SUPERSAMPLING - reach : 40 * SUPERSAMPLING + reach,
        50 * SUPERSAMPLING - reach : 50 * SUPERSAMPLING + reach,
    ]
    assert (middle >= 0).all()
    assert is_near[middle].all()
    seen = np.unique(view.point[view.point >= 0])
    assert (~is_near[seen]).any()


def test_surfaces_are_closed_and_outlines_stay() -> None:
    """A thinned plate: no hole within it, and nothing beyond it but half a splat."""
    rng = np.random.default_rng(0)
    points = plate(2.0)
    points = points[rng.random(len(points)) < 0.5]
    spacing = spacing_of(points)
    assert 0.02 <= spacing <= 0.06
    view = look(points, camera(), 100, 80, spacing)
    covered = view.point >= 0
    half = SUPERSAMPLING * 0.5 * 100 / 2
    v, u = np.indices(covered.shape)
    inside = (np.abs(u - 100) < half - 3) & (np.abs(v - 80) < half - 3)
    outside = (np.abs(u - 100) > half + 8) | (np.abs(v - 80) > half + 8)
    assert covered[inside].all()
    assert not covered[outside].any()


def test_edges_are_darker_and_surfaces_are_not() -> None:
    view = look(np.concatenate([plate(3.0), plate(5.0, half=1.2)]), camera(), 100, 80, 0.02)
    number = len(plate(3.0))
    far = view.point >= number
    assert view.shade[far].min() < 0.8
    assert (view.shade[(view.point >= 0) & ~far] == 1).mean() > 0.95
    assert (view.shade[view.point < 0] == 1).all()


def test_what_is_behind_or_nothing_at_all_is_white() -> None:
    points = plate(-3.0)
    view = look(points, camera(), 100, 80, 0.02)
    assert (view.point == -1).all()
    image = np.asarray(view.image(np.zeros((len(points), 3), np.uint8)))
    assert image.shape == (80, 100, 3)
    assert (image == 255).all()


def test_spacing_of_few_points() -> None:
    assert spacing_of(np.zeros((1, 3))) == 0.01
    assert spacing_of(np.zeros((5, 3))) == 0.01
    assert spacing_of(np.array([[0.0, 0, 0], [0.3, 0, 0]])) == pytest.approx(0.3)
