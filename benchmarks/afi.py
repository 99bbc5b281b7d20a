"""Label smoothing by approximate flat interaction: a whole sweep, and its parts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.report import OURS, Row, compared
from benchmarks.sweeps import VoxelSweep
from benchmarks.timing import interleaved
from uov_jax import afi, sparse
from uov_jax.afi.decoder import decode
from uov_jax.afi.encoder import Level, encode
from uov_jax.afi.geometry import nearest
from uov_jax.afi.ground import ground_points

ALL_CORES = -1  # that this process may use


def smoothing(sweep: VoxelSweep, repeats: int) -> Iterator[Row]:
    """The first sweep with published parameters; labels by height, a fifth of them at random.

    The encoder samples and finds neighbours, the decoder finds neighbours: both are timed with
    that, and that alone.
    """
    points = sweep.points
    generator = np.random.default_rng(0)
    labels = np.array([11, 4, 15, 16])[np.digitize(points[:, 2], [-1.5, 0.0, 2.0])]
    wrong = generator.random(len(points)) < 0.2
    labels[wrong] = generator.integers(1, 17, int(wrong.sum()))
    smooth = functools.partial(
        afi.smooth_labels, points, labels, ground=afi.NUSCENES_GROUND, workers=ALL_CORES
    )
    whole = {OURS: smooth, "one worker": functools.partial(smooth, workers=1)}
    megapoints = len(points) * 1e-6
    name = f"AFI of {len(points):,} points"
    yield compared(name, interleaved(whole, repeats), megapoints, "Mpoint/s")
    for part, call in _parts(points, np.eye(17, dtype=np.float32)[labels]).items():
        timings = interleaved({OURS: call}, repeats)
        yield compared(f"{name}: {part}", timings, megapoints, "Mpoint/s")


def _parts(points: np.ndarray, features: np.ndarray) -> dict[str, Callable[[], Any]]:
    parameters = afi.PUBLISHED
    levels = encode(points, features, parameters)
    return {
        "ground plane": functools.partial(ground_points, points, afi.NUSCENES_GROUND),
        "encoder": functools.partial(encode, points, features, parameters, ALL_CORES),
        "decoder": functools.partial(decode, levels, parameters, ALL_CORES),
        "sampling alone": functools.partial(_sample, levels),
        "neighbours alone": functools.partial(_find_neighbours, levels, parameters),
    }


def _sample(levels: list[Level]) -> None:
    for fine, coarse in zip(levels, levels[1:], strict=False):
        sparse.farthest_points(fine.points, len(coarse.points))


def _find_neighbours(levels: list[Level], parameters: afi.FlatInteraction) -> None:
    for fine, coarse in zip(levels, levels[1:], strict=False):
        nearest(fine.points, coarse.points, parameters.neighbours, ALL_CORES)
        nearest(coarse.points, fine.points, parameters.decoder_neighbours, ALL_CORES)
