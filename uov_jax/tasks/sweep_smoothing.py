"""AFI for the sweeps of a dataset: how many points it samples, and whether there is ground."""

from __future__ import annotations

import dataclasses

import numpy as np

from uov_jax.afi import PUBLISHED, FlatInteraction, smooth_labels
from uov_jax.afi.ground import ground_ring
from uov_jax.datasets.split import SEMANTICKITTI

# A scan has 3.6 times the points of a nuScenes sweep; see `FlatInteraction.points`.
SEMANTICKITTI_AFI = FlatInteraction(points=65_536)


def smooth_sweep(
    points: np.ndarray,
    classes: np.ndarray,
    num_classes: int,
    dataset: str,
    ground: tuple[int, ...],
    afi_points: int | None = None,
    probabilities: np.ndarray | None = None,
) -> np.ndarray:
    """uint8[N]: smoothed, on nuScenes with a plane fitted to the ground near the sensor.

    Args:
        points: float32[N, 3 or more], metres in the sensor's frame.
        classes: uint8[N].
        num_classes: the ignored one included.
        dataset: that the network learned from.
        ground: the classes that ground may have.
        afi_points: `FlatInteraction.points`; None for the dataset's own.
        probabilities: float32[N, C] as `smooth_labels` takes them.

    """
    kitti = dataset == SEMANTICKITTI
    afi = SEMANTICKITTI_AFI if kitti else PUBLISHED
    return smooth_labels(
        points[:, :3],
        classes,
        afi if afi_points is None else dataclasses.replace(afi, points=afi_points),
        num_classes=num_classes,
        ground=None if kitti else ground_ring(ground),
        probabilities=probabilities,
        workers=-1,
    )
