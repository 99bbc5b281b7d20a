"""OpenScene's preprocessed points, `.pth`."""

from __future__ import annotations

from pathlib import Path

from uov_jax.clouds.cloud import CloudError, Reading, Stored, as_positions
from uov_jax.datasets.openscene_rooms import openscene_arrays


def read_pth(path: Path, reading: Reading) -> Stored:
    """The points of a `.pth` file; errors as `openscene_arrays`."""
    if reading.columns is not None:
        raise CloudError(
            f"{path}: arrays of .pth files are told by their order: leave --columns out"
        )
    positions, colors, _ = openscene_arrays(path)
    fields = ("x", "y", "z") if colors is None else ("x", "y", "z", "red", "green", "blue")
    return Stored(as_positions(positions), None, colors, "OpenScene", fields)
