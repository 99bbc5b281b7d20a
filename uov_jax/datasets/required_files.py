"""Looks, before a long run, whether all its files are there and of a size that can be.

A sweep that is cut off would else end a run when the shuffle reaches it, days later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.lidar_file import SweepColumns, other_columns
from uov_jax.errors import InputError, MissingFileError
from uov_jax.files import file_sizes, read_bytes

SWEEPS, LABELS, IMAGES = "LiDAR sweeps", "label files", "camera images"
INCOMPLETE = "is the archive unpacked completely?"


def require_keyframe_sweeps(keyframes: Sequence[Keyframe]) -> np.ndarray:
    """int64[n]: points of every keyframe's sweep; errors as `require_sweeps`."""
    if not keyframes:
        return np.zeros(0, np.int64)
    # All of one dataset.
    columns = keyframes[0].rig.columns
    return require_sweeps([keyframe.lidar_path for keyframe in keyframes], columns)


def require_keyframe_files(keyframes: Sequence[Keyframe]) -> None:
    """Look at sweeps and, where there are some, labels; errors as of the two below."""
    _require_keyframe_labels(keyframes, require_keyframe_sweeps(keyframes))


def _require_keyframe_labels(keyframes: Sequence[Keyframe], num_points: np.ndarray) -> None:
    """Look at the lidarseg files of those keyframes that have one; see `require_labels`."""
    wanted = [
        (keyframe.lidarseg_path, number)
        for keyframe, number in zip(keyframes, num_points.tolist(), strict=True)
        if keyframe.lidarseg_path is not None
    ]
    paths = [path for path, _ in wanted]
    require_labels(paths, np.array([number for _, number in wanted]), 1, INCOMPLETE)


def require_images(keyframes: Sequence[Keyframe]) -> None:
    """MissingFileError or InputError unless every camera image is there and not empty."""
    paths = [camera.path for keyframe in keyframes for camera in keyframe.cameras]
    sizes = _require(paths, IMAGES, INCOMPLETE)
    _refuse(paths, sizes == 0, IMAGES, lambda _: "an empty file, expected a JPEG")


def require_sweeps(paths: Sequence[Path], columns: SweepColumns) -> np.ndarray:
    """int64[n]: the points of every sweep.

    Raises:
        MissingFileError: files are missing; counts them and names the first.
        InputError: files have a size that no sweep of these columns has; likewise.

    """
    sizes = _require(paths, SWEEPS, INCOMPLETE)
    wrong = (sizes == 0) | (sizes % columns.bytes_per_point != 0)

    def problem(number: int) -> str:
        hint = other_columns(read_bytes(paths[number]), columns)
        return columns.wrong_size(int(sizes[number])) + hint

    _refuse(paths, wrong, SWEEPS, problem)
    return sizes // columns.bytes_per_point


def require_labels(
    paths: Sequence[Path], num_points: np.ndarray, bytes_per_point: int, how_to_get: str
) -> None:
    """Look for label files, one number of `bytes_per_point` for each of a sweep's `num_points` [n].

    Raises:
        MissingFileError: files are missing; counts them and names the first, with `how_to_get`.
        InputError: files are too long or too short for their sweeps; likewise.

    """
    sizes = _require(paths, LABELS, how_to_get)
    expected = num_points * bytes_per_point

    def problem(number: int) -> str:
        return (
            f"{sizes[number]} bytes, expected {expected[number]} ({bytes_per_point} for each of "
            f"the sweep's {num_points[number]} points)"
        )

    _refuse(paths, sizes != expected, LABELS, problem)


def _require(paths: Sequence[Path], what: str, how_to_get: str) -> np.ndarray:
    sizes = file_sizes(paths, what)
    missing = np.flatnonzero(sizes < 0)
    if len(missing):
        raise MissingFileError(
            f"{paths[missing[0]]}: {len(missing)} of {len(paths)} {what} are missing, this is the "
            f"first: {how_to_get}"
        )
    return sizes


def _refuse(
    paths: Sequence[Path], wrong: np.ndarray, what: str, problem: Callable[[int], str]
) -> None:
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(
            f"{paths[first]}: {problem(first)}. It is the first of {wrong.sum()} wrong {what} of "
            f"{len(paths)}: copy or unpack them again"
        )
