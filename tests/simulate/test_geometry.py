"""Shapes are closed, face outwards and are labelled as their maker says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from uov_jax.simulate import street_objects, vehicles
from uov_jax.simulate.geometry import Mesh, Surface, box, extrude, frustum, merge, prism, tube
from uov_jax.simulate.kinds import KIND

GREY = Surface(KIND["wall"], (0.5, 0.5, 0.5), 0.3)


def volume(mesh: Mesh) -> float:
    """Enclosed volume by the divergence theorem; positive where the normals point outwards."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def test_box_has_its_volume_and_bounds() -> None:
    mesh = box(GREY, (1, 3), (-1, 2), (0, 4))
    assert volume(mesh) == pytest.approx(2 * 3 * 4)
    low, high = mesh.bounds()
    np.testing.assert_allclose(low, [1, -1, 0])
    np.testing.assert_allclose(high, [3, 2, 4])


def test_volumes_of_the_other_solids() -> None:
    pyramid = frustum(GREY, (0, 2, 0, 2), (0.5, 1.5, 0.5, 1.5), (0, 3))
    assert volume(pyramid) == pytest.approx(3 * (4 + 1 + 2) / 3)
    wedge = extrude(GREY, [(0, 0), (2, 0), (0, 1)], (-1, 2))
    assert volume(wedge) == pytest.approx(3.0)
    bar = tube(GREY, (0, 0, 0), (3, 4, 0), 1.0, sides=200)
    assert volume(bar) == pytest.approx(5 * np.pi, rel=1e-3)
    upright = tube(GREY, (0, 0, 0), (0, 0, -2), 1.0, sides=200)
    assert volume(upright) == pytest.approx(2 * np.pi, rel=1e-3)


def test_every_edge_of_a_prism_is_shared_by_two_faces() -> None:
    corners = np.array([[0, 0, 0], [2, 0, 0], [3, 1, 0], [1, 2, 0], [0, 1, 0]], float)
    mesh = prism(GREY, corners, corners + [0, 0, 1])
    edges = Counter((int(face[i]), int(face[(i + 1) % 3])) for face in mesh.faces for i in range(3))
    assert all(edges[edge[::-1]] == count == 1 for edge, count in edges.items())


def test_cap_has_its_own_surface() -> None:
    lid = Surface(KIND["car"], (1, 0, 0), 0.9)
    mesh = prism(GREY, [(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 0, 1), (1, 0, 1), (0, 1, 1)], lid)
    assert sorted(Counter(mesh.kind.tolist()).items()) == [(GREY.kind, 6), (lid.kind, 2)]


def test_placing_turns_then_moves() -> None:
    mesh = box(GREY, (0, 1), (0, 2), (0, 3)).placed(10, 20, 30, np.pi / 2, instance=7)
    low, high = mesh.bounds()
    np.testing.assert_allclose(low, [8, 20, 30], atol=1e-12)
    np.testing.assert_allclose(high, [10, 21, 33], atol=1e-12)
    assert set(mesh.instance.tolist()) == {7}


def test_merge_keeps_faces_apart() -> None:
    one, two = box(GREY, (0, 1), (0, 1), (0, 1)), box(GREY, (5, 6), (0, 1), (0, 1))
    both = merge([one, two])
    assert volume(both) == pytest.approx(2.0)
    np.testing.assert_array_equal(both.faces[len(one.faces) :], two.faces + len(one.vertices))


@pytest.mark.parametrize("kind", sorted(vehicles.VEHICLES))
def test_vehicles_stand_on_the_ground_and_are_of_one_kind(kind: str) -> None:
    for seed in range(6):
        mesh = vehicles.VEHICLES[kind](np.random.default_rng(seed))
        low, high = mesh.bounds()
        assert set(mesh.kind.tolist()) == {KIND[kind]}
        assert -0.03 < low[2] < 0.06
        length, width, height = high - low
        assert length > width or kind == "construction_vehicle"
        assert 0.5 < height < 5.0
        assert np.all((mesh.color >= 0) & (mesh.color <= 1))
        assert np.all((mesh.reflectivity >= 0) & (mesh.reflectivity <= 1))


@pytest.mark.parametrize(
    ("make", "kind", "height"),
    [
        (street_objects.traffic_cone, "traffic_cone", (0.6, 1.2)),
        (street_objects.barrier, "barrier", (0.8, 1.3)),
        (street_objects.pedestrian, "adult", (1.4, 2.1)),
        (street_objects.animal, "animal", (0.3, 1.0)),
        (street_objects.bush, "bush", (0.3, 2.0)),
    ],
)
def test_street_objects_have_a_plausible_height(make, kind, height) -> None:
    for seed in range(6):
        mesh = make(np.random.default_rng(seed))
        assert set(mesh.kind.tolist()) == {KIND[kind]}
        assert height[0] < mesh.bounds()[1][2] < height[1]
