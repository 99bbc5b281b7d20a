"""What is scored of a kind of scan: the subsets of its points, and the rows below a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from uov_jax.evaluation.confusion import ConfusionMatrix

EVERYWHERE, SEEN, UNSEEN = "all points", "seen", "unseen"
# Metres in the plane of the ground; the upper end belongs to the next band.
RANGES = {
    "0-10 m": (0.0, 10.0),
    "10-20 m": (10.0, 20.0),
    "20-40 m": (20.0, 40.0),
    "40+ m": (40.0, np.inf),
}
BY_MANY, BY_FEW, BY_NONE = "seen by 2+ views", "seen by at most one view", "seen by none"
Sample = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How a kind of scan is scored.

    Attributes:
        subsets: names of the subsets of points; the first is all of them.
        masks: bool[N] by name, those of the other subsets that a sample of N points says.
        summary: rows of a table below the classes: their names, and how they are read off.

    """

    subsets: tuple[str, ...]
    masks: Callable[[Sample], dict[str, np.ndarray]]
    summary: tuple[tuple[str, Callable[[ConfusionMatrix], float]], ...]


def sweep_masks(sample: Sample) -> dict[str, np.ndarray]:
    """Bands of distance, and what cameras see.

    Args:
        sample: `points` float32[N, 2 or more], x and y in metres in the sensor's frame; `seen`
            bool[N], whether a camera sees each point, None where that is not known.

    """
    points, seen = sample["points"], sample["seen"]
    distance = np.hypot(points[:, 0], points[:, 1])
    masks = {name: (distance >= near) & (distance < far) for name, (near, far) in RANGES.items()}
    return masks if seen is None else masks | {SEEN: seen, UNSEEN: ~seen}


def room_masks(sample: Sample) -> dict[str, np.ndarray]:
    """By the number of views that see a point.

    Args:
        sample: `views` uint16[N], None where it is not known which points views see;
            `views_counted`, False where it is known that any do, but not how many (True by
            default), so that there is nothing to say of one view and of several.

    """
    views = sample["views"]
    if views is None:
        return {}
    masks = {SEEN: views > 0, BY_NONE: views == 0}
    if sample.get("views_counted", True):
        masks |= {BY_MANY: views > 1, BY_FEW: views < 2}
    return masks


def room_mean_iou(matrix: ConfusionMatrix) -> float:
    """The mean IoU of rooms: over the classes that the truth has; no prediction is a miss.

    NaN where the truth has none. Whatever is compared with the judging of rooms is to have this.
    """
    return matrix.mean_iou("untrue")


SWEEPS = Scoring(
    (EVERYWHERE, *RANGES, SEEN, UNSEEN),
    sweep_masks,
    (
        ("mean IoU", lambda matrix: matrix.mean_iou()),
        ("mean IoU, absent = 1", lambda matrix: matrix.mean_iou("one")),
        ("frequency-weighted IoU", lambda matrix: matrix.frequency_weighted_iou()),
        ("accuracy", lambda matrix: matrix.accuracy()),
    ),
)
# As published: OpenScene's and 3DSS-VLG's, where a class that the truth lacks counts 0, and a point
# without a prediction is left out of the IoU.
ROOMS = Scoring(
    (EVERYWHERE, SEEN, BY_MANY, BY_FEW, BY_NONE),
    room_masks,
    (
        ("mean IoU", room_mean_iou),
        ("mean IoU, as published", lambda matrix: matrix.mean_iou("zero", void="drop")),
        ("mean accuracy", lambda matrix: matrix.mean_accuracy()),
        ("mean accuracy, as published", lambda matrix: matrix.mean_accuracy("zero")),
        ("accuracy", lambda matrix: matrix.accuracy()),
    ),
)
