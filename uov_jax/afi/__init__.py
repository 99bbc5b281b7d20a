"""Approximate flat interaction (AFI): labels of one sweep smoothed along its flat surfaces.

Without parameters to train: the last step of UOV (arXiv 2405.15286). Labels travel between points
that lie on a common line with their own surroundings, which points of one flat surface do and
points on two sides of a corner do not.
"""

from uov_jax.afi.ground import NUSCENES_GROUND, GroundRing, ground_ring
from uov_jax.afi.parameters import PUBLISHED, FlatInteraction
from uov_jax.afi.smoothing import NUSCENES_THINGS, merge_teacher_labels, smooth_labels

__all__ = [
    "NUSCENES_GROUND",
    "NUSCENES_THINGS",
    "PUBLISHED",
    "FlatInteraction",
    "GroundRing",
    "ground_ring",
    "merge_teacher_labels",
    "smooth_labels",
]
