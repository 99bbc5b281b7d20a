"""Other libraries on the same voxels, where they can be imported."""

from __future__ import annotations

import functools
import importlib
import importlib.util

from benchmarks import installed
from benchmarks.peers.peer import Call, Peer

__all__ = ["Call", "Peer", "available", "broken"]

# The package that is looked for, and the module here that adapts it.
ADAPTERS = {
    "spconv": "benchmarks.peers.spconv",
    "MinkowskiEngine": "benchmarks.peers.minkowski",
    "torchsparse": "benchmarks.peers.torchsparse",
}


@functools.cache
def available() -> tuple[Peer, ...]:
    """The peers that can be imported here, each in its best configuration that adds correctly."""
    if not installed.usable("torch"):
        return ()
    return tuple(
        peer
        for package, adapter in ADAPTERS.items()
        if importlib.util.find_spec(package) is not None
        and installed.failure(package, adapter) is None
        for peer in importlib.import_module(adapter).peers()
    )


def broken() -> tuple[str, ...]:
    """A line for every library that is installed and yet left out, with the error of its import.

    The peers are PyTorch libraries: where that is the broken one, it has the only line.
    """
    if importlib.util.find_spec("torch") is None:
        return ()
    if (torch := installed.failure("torch")) is not None:
        return (torch,)
    return tuple(
        line
        for package, adapter in ADAPTERS.items()
        if importlib.util.find_spec(package) is not None
        and (line := installed.failure(package, adapter)) is not None
    )
