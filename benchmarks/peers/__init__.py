"""Other libraries on the same voxels, where they can be imported."""

from __future__ import annotations

import functools
import importlib
import importlib.util

from benchmarks.peers.peer import Call, Peer

__all__ = ["Call", "Peer", "available"]

# The package that is looked for, and the module here that adapts it.
ADAPTERS = {
    "spconv": "benchmarks.peers.spconv",
    "MinkowskiEngine": "benchmarks.peers.minkowski",
    "torchsparse": "benchmarks.peers.torchsparse",
}


@functools.cache
def available() -> tuple[Peer, ...]:
    """The peers that can be imported here, each in its best configuration that adds correctly."""
    if importlib.util.find_spec("torch") is None:
        return ()
    return tuple(
        peer
        for package, adapter in ADAPTERS.items()
        if importlib.util.find_spec(package) is not None
        for peer in importlib.import_module(adapter).peers()
    )
