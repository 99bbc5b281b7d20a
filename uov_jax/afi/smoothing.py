"""Labels of one sweep, smoothed."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from uov_jax.afi.decoder import decode
from uov_jax.afi.encoder import encode
from uov_jax.afi.ground import GroundRing, ground_points, ranges
from uov_jax.afi.parameters import PUBLISHED, FlatInteraction
from uov_jax.errors import InputError

NUSCENES_THINGS = range(1, 11)  # the classes of things that can be counted


def smooth_labels(
    points: np.ndarray,
    labels: np.ndarray,
    parameters: FlatInteraction = PUBLISHED,
    *,
    num_classes: int = 17,
    ground: GroundRing | None = None,
    probabilities: np.ndarray | None = None,
    teacher_labels: np.ndarray | None = None,
    things: Collection[int] = (),
    seed: int = 0,
    workers: int = 1,
) -> np.ndarray:
    """Approximate flat interaction (UOV, arXiv 2405.15286): each point's label from its surface.

    The same labels from run to run and for any number of workers. A point that no label reaches
    keeps its own (the reference gives it class 0).

    Args:
        points: float32 [N, 3], metres in the sensor's frame.
        labels: integers [N], 0..num_classes - 1; class 0 is one like the others.
        parameters: of the method.
        num_classes: C, the ignored one included.
        ground: for nuScenes `NUSCENES_GROUND`: neither the vehicle nor the ground around it gives
            labels, and that ground gets the strongest class of ground that reaches it. None: no
            point is special.
        probabilities: float32 [N, C], what the network gives to each class: not published. They
            spread in the place of one-hot labels, and the shares of the classes that reach a point
            are multiplied by its own probabilities, so that a point of which the network is sure
            keeps its label. None: the published method.
        teacher_labels: integers [N], 0 where the teacher has none; merged into the labels first,
            see `merge_teacher_labels`. None: no merge.
        things: the classes of the teacher that may replace, needed with its labels.
        seed: of that merge.
        workers: threads for the nearest neighbours, -1: one for each processor that this
            process may use.

    Returns:
        [N] of the type of `labels`.

    Raises:
        InputError: shapes or types do not fit, a point is not finite, or a label or a class of
            the ground is none of the C classes; names the first such point. Probabilities and
            teacher's labels both, or probabilities that are none.

    """
    points, labels = np.asarray(points), np.asarray(labels)
    _check_points(points)
    _check_labels("labels", labels, len(points), num_classes)
    if ground is not None and not all(0 <= c < num_classes for c in ground.classes):
        raise InputError(f"classes of the ground {ground.classes}: there are {num_classes} classes")
    if probabilities is not None and teacher_labels is not None:
        raise InputError("probabilities and teacher_labels: one of both, not both")
    if teacher_labels is not None:
        teacher_labels = np.asarray(teacher_labels)
        _check_labels("teacher_labels", teacher_labels, len(points), num_classes)
        if not things or not all(0 <= c < num_classes for c in things):
            raise InputError(
                f"teacher_labels: things = {list(things)}, expected the classes, of {num_classes}, "
                "of which the teacher's labels may replace others"
            )
        labels = merge_teacher_labels(points, labels, teacher_labels, seed, things)
    if probabilities is None:
        features = np.eye(num_classes, dtype=np.float32)[labels]
    else:
        _check_probabilities(probabilities, len(points), num_classes)
        features = probabilities.copy()
    if len(points) == 0:
        return labels.copy()
    if ground is not None:
        on_ground = ground_points(points, ground)
        features[on_ground | (ranges(points) <= ground.near)] = 0
    features = decode(encode(points, features, parameters, workers), parameters, workers)
    if ground is not None:
        others = np.setdiff1d(np.arange(num_classes), ground.classes)
        features[np.ix_(on_ground, others)] = 0
    if probabilities is not None:
        features *= probabilities
    reached = features.any(axis=1)
    return np.where(reached, features.argmax(axis=1), labels).astype(labels.dtype)


def merge_teacher_labels(
    points: np.ndarray,
    labels: np.ndarray,
    teacher_labels: np.ndarray,
    seed: int,
    things: Collection[int],
) -> np.ndarray:
    """Labels of which near ones are replaced by the teacher's, at random.

    With probability b / (1 + b), b = 4 exp(-range ln 4 / 20 m): 0.8 at the sensor, 0.5 at 20 m.
    Cameras see near things best.

    Args:
        points: float32 [N, 3], metres in the sensor's frame.
        labels: integers [N].
        teacher_labels: integers [N].
        seed: equal seeds, equal choices.
        things: classes of the teacher that may replace, `NUSCENES_THINGS` for nuScenes.

    Returns:
        [N] of the type of `labels`.

    """
    odds = 4 * np.exp(-ranges(points) * (np.log(4) / 20))
    drawn = np.random.default_rng(seed).random(len(points)) < odds / (1 + odds)
    replaced = drawn & np.isin(teacher_labels, list(things))
    return np.where(replaced, teacher_labels, labels).astype(labels.dtype)


def _check_points(points: np.ndarray) -> None:
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype != np.float32:
        raise InputError(f"points must be float32 [N, 3], not {points.dtype} {points.shape}")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise InputError(f"point {bad[0]} {points[bad[0]].tolist()} is not finite")


def _check_labels(name: str, labels: np.ndarray, count: int, num_classes: int) -> None:
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{name} must be integers [{count}], one for each point, "
            f"not {labels.dtype} {labels.shape}"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        raise InputError(
            f"{name}: point {bad[0]} has class {labels[bad[0]]}, expected 0..{num_classes - 1}"
        )


def _check_probabilities(probabilities: np.ndarray, count: int, num_classes: int) -> None:
    shape = (count, num_classes)
    if probabilities.shape != shape or probabilities.dtype != np.float32:
        raise InputError(
            f"probabilities must be float32 {list(shape)}, not {probabilities.dtype} "
            f"{list(probabilities.shape)}"
        )
    wrong = ~((probabilities >= 0) & (probabilities <= 1)).all(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"probabilities of point {row} are not between 0 and 1")
