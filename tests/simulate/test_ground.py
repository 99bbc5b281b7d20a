"""The ground: bands across a street and rays that meet two levels."""

from __future__ import annotations

import numpy as np

from uov_jax.simulate.ground import CELL, MATERIAL, CrossSection, Ground, GroundPainter
from uov_jax.simulate.street import Street


def section(median: float = 0.0) -> CrossSection:
    return CrossSection(
        6.0,
        (("kerb", 0.2), ("paving", 2.0)),
        (("kerb", 0.2), ("ballast", 3.0), ("grass", 1.0)),
        ("slabs", "soil"),
        ("grass", median),
    )


def names(beside: list[float], median: float = 0.0) -> list[str]:
    found = section(median).materials(np.array(beside, np.float32))
    by_number = {number: name for name, number in MATERIAL.items()}
    return [by_number[int(number)] for number in found]


def test_bands_follow_each_other_outwards() -> None:
    assert names([0.0, 5.9, 6.1, 7.0, 9.0]) == ["asphalt", "asphalt", "kerb", "paving", "slabs"]
    assert names([-5.9, -6.1, -7.0, -9.7, -11.0]) == ["asphalt", "kerb", "ballast", "grass", "soil"]


def test_median_lies_between_kerbs() -> None:
    assert names([-1.6, -1.4, 0.0, 1.4, 1.6], 3.0) == [
        "asphalt",
        "kerb",
        "grass",
        "kerb",
        "asphalt",
    ]


def test_middle_of_a_band() -> None:
    assert section().band_middle(1, "paving") == 7.2
    assert section().band_middle(-1, "ballast") == -7.7
    assert section().band_middle(1, "ballast") is None


def test_painted_street_matches_its_section() -> None:
    street = Street(-40, 40, ((-20, 30, 1 / 70),))
    painter = GroundPainter.covering(street.extent(15))
    _, beside = painter.coordinates(street)
    painter.cover(section().materials(beside))
    ground = painter.finished(0.15)
    generator = np.random.default_rng(0)
    along, across = generator.uniform(-35, 35, 2000), generator.uniform(-11, 11, 2000)
    x, y, _ = street.at(along, across)
    right = ground.material_at(x, y) == section().materials(across.astype(np.float32))
    assert right.mean() > 0.97  # the rest lies within a cell of a border


def flat() -> Ground:
    """Carriageway where x < 5 m, pavement beyond, 0.2 m higher."""
    material = np.full((200, 200), MATERIAL["asphalt"], np.uint8)
    material[:, int(5 / CELL) :] = MATERIAL["paving"]
    return Ground(0.0, 0.0, material, 0.2)


def test_rays_meet_road_pavement_and_kerb() -> None:
    origin = np.array([[0.0, 10.0, 2.0]], np.float32)
    targets = np.array([[3.0, 10.0, 0.0], [8.0, 10.0, 0.2], [5.02, 10.0, 0.1]], np.float32)
    directions = targets - origin
    length = np.linalg.norm(directions, axis=1)
    distance, material = flat().cast(np.repeat(origin, 3, 0), directions / length[:, None])
    assert material.tolist() == [MATERIAL["asphalt"], MATERIAL["paving"], MATERIAL["kerb"]]
    np.testing.assert_allclose(distance, length, rtol=0.02)
    np.testing.assert_allclose(distance[:2], length[:2], rtol=1e-5)


def test_border_goes_on_beyond_the_raster() -> None:
    far = flat().material_at(np.array([-500.0, 900.0]), np.array([3.0, 5000.0]))
    assert far.tolist() == [MATERIAL["asphalt"], MATERIAL["paving"]]
