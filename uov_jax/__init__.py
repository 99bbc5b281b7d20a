"""3D semantic segmentation without 3D labels, in JAX.

network = uov_jax.load("runs/tmp_san-sim")
labels = network.predict(points, intensity=intensity)  # or colours=colours
network.classes
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uov_jax.tasks.prediction import CloudLabeller


def load(path: str | os.PathLike[str], recipe: str | None = None) -> CloudLabeller:
    """A trained network, ready to label point clouds: `uov_jax.tasks.prediction.load`."""
    # Late, so that parts of the package are imported without JAX.
    from uov_jax.tasks import prediction

    return prediction.load(path, recipe)
