"""The peers of the benchmarks compute what we do, in the configuration in which they are timed."""

from __future__ import annotations

import importlib
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import network, peers, sweeps
from uov_jax import sparse

# Their imports warn.
pytestmark = pytest.mark.filterwarnings("default")
TOLERANCE = 1e-4


@pytest.fixture(params=sorted(peers.ADAPTERS))
def library(request):
    """Every configuration of one library."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed: nothing but the benchmarks uses it")
    pytest.importorskip("torch", reason="the peers are PyTorch libraries, and it is not installed")
    return importlib.import_module(peers.ADAPTERS[request.param]).peers()


def assert_close(found, expected):
    """Within `TOLERANCE` of the largest value: float32 sums in another order."""
    found = found.numpy().reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("width", [32, 96])
def test_layer_and_its_gradients_are_ours(library, width):
    # Of this size, so that threads that disturb each other have the time to.
    coords = sweeps.synthetic(batch=2).coords
    generator = np.random.default_rng(width)
    x, dy = generator.standard_normal((2, len(coords), width), np.float32)
    w = generator.standard_normal((27, width, width), np.float32)
    neighbours = jax.tree.map(jnp.asarray, sparse.submanifold_map(coords, len(coords), 3))
    y, pull = jax.vjp(lambda x, w: sparse.gather_gemm(x, w, neighbours), x, w)
    expected = [np.asarray(array) for array in (y, *pull(jnp.asarray(dy)))]
    for peer in library:
        forward, both = peer.layer(coords, x, w, dy)
        for _ in range(3):
            assert_close(forward(), expected[0])
            for found, value in zip(both(), expected, strict=True):
                assert_close(found, value)


def test_network_and_its_training_are_ours(library):
    coords = sweeps.synthetic().coords
    features, labels = network.made_up(coords)
    own = network.Own(coords, features, labels)
    scores = np.asarray(own.forward())
    losses = [float(own.step()[1]["loss"][0]) for _ in range(3)]
    trained = np.asarray(own.forward())
    for peer in library:
        run, learn = peer.network(coords, features, labels, own.weights)
        assert_close(run(), scores)
        # From the second on, a loss shows the gradients of the steps before.
        assert [learn() for _ in losses] == pytest.approx(losses, rel=TOLERANCE)
        # What three steps made of the weights and of the running statistics.
        assert_close(run(), trained)
