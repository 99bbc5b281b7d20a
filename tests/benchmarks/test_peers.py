"""The peers of the benchmarks compute what we do, in the configuration in which they are timed."""

from __future__ import annotations

import importlib
import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import dense, installed, network, peers, sweeps
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
    adapter = peers.ADAPTERS[request.param]
    if (failure := installed.failure(request.param, adapter)) is not None:
        pytest.skip(failure)
    return importlib.import_module(adapter).peers()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Makes packages that run some code on import, the only libraries there are to a test."""
    caches = (peers.available, installed.failure)
    find = importlib.util.find_spec

    def find_made(name):
        return find(name) if name not in peers.ADAPTERS or (tmp_path / name).is_dir() else None

    def forget():
        for cache in caches:
            cache.cache_clear()

    def make(package, code):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(code)
        for module in list(sys.modules):
            if module.split(".")[0] == package or module in peers.ADAPTERS.values():
                monkeypatch.delitem(sys.modules, module)
        importlib.invalidate_caches()

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", find_made)
    forget()
    yield make
    forget()


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


# ---- libraries that do not import ---------------------------------------------------------------

BROKEN = {
    "OSError('libcudart.so.11.0: cannot open\\n  shared object file')": (
        "OSError: libcudart.so.11.0: cannot open shared object file"
    ),
    "ImportError('undefined symbol: _ZN2at4_ops')": "ImportError: undefined symbol: _ZN2at4_ops",
    "ModuleNotFoundError('No module named \"cumm\"')": (
        'ModuleNotFoundError: No module named "cumm"'
    ),
    "RuntimeError('CUDA driver is too old')": "RuntimeError: CUDA driver is too old",
    "AttributeError()": "AttributeError",
    "SystemExit('no GPU')": "SystemExit: no GPU",
    "ValueError('a word ' * 999)": None,
}


@pytest.mark.parametrize("package", sorted(peers.ADAPTERS))
@pytest.mark.parametrize("error", BROKEN)
def test_a_library_that_does_not_import_is_left_out_and_named(install, package, error):
    pytest.importorskip("torch", reason="the peers are PyTorch libraries, and it is not installed")
    install(package, f"raise {error}")
    assert peers.available() == ()
    (line,) = peers.broken()
    begin = f"{package}: installed, but does not import: "
    assert line.startswith(begin)
    assert "\n" not in line
    if BROKEN[error] is None:
        assert len(line) <= len(begin) + installed.LONGEST
    else:
        assert line == begin + BROKEN[error]


def test_a_library_of_another_version_is_left_out_and_named(install):
    pytest.importorskip("torch", reason="the peers are PyTorch libraries, and it is not installed")
    install("spconv", "")  # imports, but has nothing of what is used
    assert peers.available() == ()
    (line,) = peers.broken()
    assert "spconv: installed, but does not import: ModuleNotFoundError: No module named" in line


def test_the_benchmark_goes_on_without_what_does_not_import(install, capsys):
    pytest.importorskip("torch", reason="the peers are PyTorch libraries, and it is not installed")
    install("spconv", "raise OSError('libcudart.so.11.0')")
    install("torchsparse", "raise AttributeError('backend')")
    command.main(["moves", "--repeats", "1"])
    printed = capsys.readouterr()
    assert "peers: none;" in printed.out
    assert "| scatter_add_rows 30,000 x 768 |" in printed.out
    for line in (
        "spconv: installed, but does not import: OSError: libcudart.so.11.0; it is left out",
        "torchsparse: installed, but does not import: AttributeError: backend; it is left out",
    ):
        assert printed.out.splitlines().count(line) == 1
    assert "Traceback" not in printed.out + printed.err


def test_a_broken_pytorch_is_named_once_and_numpy_is_left(install, monkeypatch):
    install("spconv", "")
    broken = "torch: installed, but does not import: OSError: libtorch.so"
    monkeypatch.setattr(
        installed, "failure", lambda package, *_: broken if package == "torch" else None
    )
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name == "torch" else found(name)
    )
    assert peers.available() == ()
    assert peers.broken() == (broken,)
    assert list(dense.libraries()) == ["dense, numpy"]
