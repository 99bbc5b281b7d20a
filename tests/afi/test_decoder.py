"""Features of the cloud equal the reference's; weights of lines their definition."""

from __future__ import annotations

import numpy as np
import pytest

from tests.afi.surroundings import random_surroundings
from uov_jax.afi import decoder
from uov_jax.afi.encoder import encode


def test_features_equal_the_reference(street, street_parameters):
    levels = encode(street["points"], street["enc_x_0"], street_parameters)
    features = decoder.decode(levels, street_parameters)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, street["features_noground"], atol=1e-5)


@pytest.mark.parametrize("pairs", [7, 8192])
def test_line_weights_are_their_definition(pairs, monkeypatch):
    monkeypatch.setattr(decoder, "_PAIRS", pairs)
    rng = np.random.default_rng(2)
    surroundings = random_surroundings(rng, 9, 8)
    # Centres without any direction, and with all.
    surroundings.share[0], surroundings.offset[0] = 0, 0
    surroundings.share[1] = 0.125
    surroundings.offset[1] = rng.normal(size=(8, 3))
    offset = rng.normal(size=(40, 3, 3)).astype(np.float32)
    offset[0] = 0
    neighbour = rng.integers(0, 9, (40, 3))
    weights = decoder.line_weights(offset, neighbour, surroundings, 0.6)
    direction = surroundings.offset[neighbour].astype(np.float64)
    norms = np.linalg.norm(direction, axis=-1) * np.linalg.norm(offset, axis=-1)[..., None]
    dots = np.abs(np.einsum("nkx,nkdx->nkd", offset.astype(np.float64), direction))
    assert np.abs(dots - 0.6 * norms)[norms > 0].min() > 1e-6  # clear of rounding
    expected = np.where(dots > 0.6 * norms, surroundings.share[neighbour], 0).sum(axis=-1)
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-7)
    assert np.mean(weights > 0) > 0.5


def test_surroundings_without_any_direction_weigh_nothing():
    surroundings = random_surroundings(np.random.default_rng(3), 4, 5)
    surroundings.share[:] = 0
    offset = np.ones((6, 2, 3), np.float32)
    weights = decoder.line_weights(offset, np.zeros((6, 2), int), surroundings, 0.9)
    np.testing.assert_array_equal(weights, np.zeros((6, 2), np.float32))
