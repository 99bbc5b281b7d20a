"""Samples of ESS: points of a room that views saw, their features and their pseudo labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from uov_jax.datasets.rooms import RoomStore
from uov_jax.errors import InputError
from uov_jax.fusion.features import FeatureFolder
from uov_jax.input.batching import Allocate, Batch


class RoomLabels(Protocol):
    """Labels of the points of rooms (such as `PseudoLabelFolder`)."""

    def labels(self, room: str, points: int) -> np.ndarray:
        """uint8[points]: evaluation class of every point of a room, 0 for none."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class PointSample:
    """Some points of one room.

    Attributes:
        room: its name.
        features: float16[P, D].
        labels: uint8[P], 0 for none.

    """

    room: str
    features: np.ndarray
    labels: np.ndarray


class PointSource:
    """Rooms as samples of so many of the points that views saw, others every time."""

    def __init__(
        self,
        store: RoomStore,
        features: FeatureFolder,
        labels: RoomLabels,
        rooms: Sequence[str],
        points: int,
    ) -> None:
        """Take rooms of which each has a point that is seen.

        Raises:
            InputError: there is no room, or no point is to be drawn.

        """
        if not rooms:
            raise InputError("training needs at least one room with a point that a view saw")
        if points < 1:
            raise InputError(f"config.data.points = {points}: expected at least 1")
        self.store, self.features, self.labels = store, features, labels
        self.rooms, self.points = list(rooms), points

    def __len__(self) -> int:
        """Number of rooms."""
        return len(self.rooms)

    def name(self, index: int) -> str:
        """The name of a room."""
        return self.rooms[index]

    def sample(self, index: int, rng: np.random.Generator) -> PointSample:
        """Draw points of one room; several times each where it has fewer that are seen."""
        name = self.name(index)
        number = self.store.facts(name).points
        fused = self.features.room(name, number)
        seen = np.flatnonzero(fused.visible)
        rows = rng.choice(len(seen), self.points, replace=len(seen) < self.points)
        # Their order is nothing to the loss, and rows of a file are read faster one after another.
        rows.sort()
        labels = self.labels.labels(name, number)
        return PointSample(name, fused.read(rows), labels[seen[rows]])


def collate_points(
    samples: Sequence[Sequence[PointSample]],
    capacities: Any = None,
    allocate: Allocate = np.empty,
) -> Batch:
    """The batch of ESS.

    Args:
        samples: for every local device its rooms, of equally many points.
        capacities: not needed: batches always have the same shape.
        allocate: makes the batch's arrays.

    Returns:
        Arrays with a leading axis over the devices: `features` float16[N, D], `labels` uint8[N].

    """
    del capacities
    rooms, first = len(samples[0]), samples[0][0]
    points, size = first.features.shape
    # Written once: they are large, and stacking would copy them a second time.
    features = allocate((len(samples), rooms, points, size), first.features.dtype)
    labels = allocate((len(samples), rooms, points), np.uint8)
    for device, row in enumerate(samples):
        for number, sample in enumerate(row):
            features[device, number] = sample.features
            labels[device, number] = sample.labels
    return {
        "features": features.reshape(len(samples), rooms * points, size),
        "labels": labels.reshape(len(samples), rooms * points),
    }
