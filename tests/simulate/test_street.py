"""Places along a street and back."""

from __future__ import annotations

import numpy as np

from uov_jax.simulate.street import Street


def bent() -> Street:
    return Street(-50, 150, ((20, 80, 1 / 60), (90, 120, -1 / 80)), (3.0, -4.0, 0.3))


def test_zero_is_the_start() -> None:
    x, y, heading = bent().at(0.0, 0.0)
    np.testing.assert_allclose([x, y, heading], [3.0, -4.0, 0.3], atol=1e-9)


def test_beside_is_to_the_left() -> None:
    x, y, _ = Street(-10, 10).at(2.0, 1.5)
    np.testing.assert_allclose([x, y], [2.0, 1.5], atol=1e-9)


def test_locate_undoes_at() -> None:
    generator = np.random.default_rng(0)
    along, beside = generator.uniform(-45, 145, (1, 400)), generator.uniform(-30, 30, (1, 400))
    street = bent()
    x, y, _ = street.at(along, beside)
    back_along, back_beside = street.locate(x, y)
    np.testing.assert_allclose(back_along, along, atol=0.05)
    np.testing.assert_allclose(back_beside, beside, atol=0.02)


def test_line_goes_straight_on_beyond_its_ends() -> None:
    along, beside = Street(-10, 10).locate(np.array([[25.0, -14.0]]), np.array([[2.0, -3.0]]))
    np.testing.assert_allclose(along, [[25.0, -14.0]], atol=1e-6)
    np.testing.assert_allclose(beside, [[2.0, -3.0]], atol=1e-6)


def test_arc_has_its_radius() -> None:
    street = Street(0, 100, ((0, 100, 1 / 50),))
    x, y, _ = street.at(np.linspace(0, 100, 30), 0.0)
    np.testing.assert_allclose(np.hypot(x, y - 50), 50, atol=0.02)
