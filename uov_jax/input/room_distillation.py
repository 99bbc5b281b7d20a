"""Samples of ESG: the voxels of one room, and the features that those seen shall have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from uov_jax.datasets.rooms import Room, RoomStore
from uov_jax.errors import InputError
from uov_jax.fusion.features import FeatureFolder, RoomFeatures
from uov_jax.input import room_augment
from uov_jax.input.batching import (
    Allocate,
    Batch,
    Capacities,
    build_plans,
    fitting_plan,
    in_shards,
)
from uov_jax.input.room_augment import ALL_AUGMENTATIONS, RoomAugmentation
from uov_jax.input.room_voxels import random_offset, random_rotation, room_voxels
from uov_jax.input.voxels import merge_sweeps


@dataclasses.dataclass(frozen=True, eq=False)
class DistillationSample:
    """One room.

    Attributes:
        room: its name.
        coords: int32[V, 3], voxels in order of first occurrence, at least one.
        colors: float32[V, 3], of each voxel's first point, from -1 to 1.
        seen: int32[S], the voxels whose first point a view saw, rising.
        embedding: float16[S, D], the features of those points.
        offset: int32[3], that a shard's voxels are all moved by where this room comes first.
        focus: the voxel about which the room is cut where it is too large.

    """

    room: str
    coords: np.ndarray
    colors: np.ndarray
    seen: np.ndarray
    embedding: np.ndarray
    offset: np.ndarray
    focus: int

    def cut(self, voxels: int) -> DistillationSample:
        """The `voxels` voxels that are nearest to the focus in the plane; itself if it has no more.

        The plane, because a part of a room from floor to ceiling is still like a room.
        """
        if len(self.coords) <= voxels:
            return self
        away = (self.coords[:, :2] - self.coords[self.focus, :2]).astype(np.int64)
        kept = np.zeros(len(self.coords), bool)
        kept[np.argpartition((away**2).sum(axis=1), voxels - 1)[:voxels]] = True
        row = np.cumsum(kept, dtype=np.int32) - np.int32(1)
        stays = kept[self.seen]
        return dataclasses.replace(
            self,
            coords=self.coords[kept],
            colors=self.colors[kept],
            seen=row[self.seen[stays]],
            embedding=self.embedding[stays],
            focus=int(row[self.focus]) if kept[self.focus] else 0,
        )


class DistillationSource:
    """Rooms with features as samples, each several times an epoch."""

    def __init__(
        self,
        store: RoomStore,
        features: FeatureFolder,
        rooms: Sequence[str],
        voxel_size: float,
        augmentation: RoomAugmentation = ALL_AUGMENTATIONS,
        loop: int = 1,
    ) -> None:
        """Take rooms of which each has a point that is seen.

        Raises:
            InputError: there is no room, or they are not to be looked at once.

        """
        if not rooms:
            raise InputError("training needs at least one room with a point that a view saw")
        if loop < 1:
            raise InputError(f"config.data.loop = {loop}: expected at least 1")
        self.store, self.features, self.rooms = store, features, list(rooms)
        self.voxel_size, self.augmentation, self.loop = voxel_size, augmentation, loop

    def __len__(self) -> int:
        """Rooms times how often each comes in an epoch."""
        return len(self.rooms) * self.loop

    def name(self, index: int) -> str:
        """The name of a room."""
        return self.rooms[index % len(self.rooms)]

    def sample(self, index: int, rng: np.random.Generator) -> DistillationSample:
        """Build one sample; the same generator state gives the same sample."""
        name = self.name(index)
        room = self.store.room(name)
        fused = self.features.room(name, len(room))
        return distillation_sample(room, fused, self.voxel_size, self.augmentation, rng)


def distillation_sample(
    room: Room,
    fused: RoomFeatures,
    voxel_size: float,
    augmentation: RoomAugmentation,
    rng: np.random.Generator,
) -> DistillationSample:
    """Build the sample of one room.

    Raises:
        InputError: it has no point, or too many voxels a side.

    """
    points: np.ndarray = room.coords
    if augmentation.elastic:
        points = room_augment.distort(points, rng)
    rotation = random_rotation(rng) if augmentation.rotate else None
    voxels = room_voxels(points, voxel_size, room.name, rotation)
    coords = room_augment.flip(voxels.coords, rng) if augmentation.flip else voxels.coords
    colors = room.colors[voxels.first].astype(np.float32)
    if augmentation.colors:
        colors = room_augment.change_colors(colors, rng)
    rows = fused.rows()[voxels.first]
    seen = np.flatnonzero(rows >= 0).astype(np.int32)
    return DistillationSample(
        room=room.name,
        coords=coords,
        colors=network_colors(colors),
        seen=seen,
        embedding=fused.read(rows[seen]),
        offset=random_offset(rng) if augmentation.rotate else np.zeros(3, np.int32),
        focus=int(rng.integers(len(coords))),
    )


def network_colors(colors: np.ndarray) -> np.ndarray:
    """float32[N, 3] from -1 to 1, as the network takes them, of colours from 0 to 255."""
    return colors.astype(np.float32) / np.float32(127.5) - np.float32(1)


def fair_shares(sizes: Sequence[int], most: int) -> list[int]:
    """What of each size is left so that the sum is at most `most`: all but the largest are whole.

    Those that are cut are cut to the same number, none below 1.
    """
    left, shares = most, [0] * len(sizes)
    for place, number in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        shares[number] = max(1, min(sizes[number], left // (len(sizes) - place)))
        left -= shares[number]
    return shares


@dataclasses.dataclass(frozen=True)
class CollateRooms:
    """The batch of ESG.

    Attributes:
        most_voxels: of a shard's rooms, a room on the average. Where they have more together, the
            largest rooms are cut to a part, another one in every epoch, and the others stay whole;
            None: nothing is cut.
        shards: of a device, of equally many rooms each.

    """

    most_voxels: int | None = None
    shards: int = 1

    def __call__(
        self,
        samples: Sequence[Sequence[DistillationSample]],
        capacities: Capacities,
        allocate: Allocate = np.empty,
    ) -> Batch:
        """Make the batch.

        Args:
            samples: for every local device its rooms.
            capacities: all devices take the smallest plan that holds the fullest of them.
            allocate: makes the batch's arrays.

        Returns:
            Arrays with a leading axis over the devices: `plan`, `features` float32[N, 3], `target`
            float16[N, D], `seen` bool[N], the voxels that have a target.

        Raises:
            BatchTooLargeError: more voxels than the largest capacity, with numbers.

        """
        samples = [
            [room for shard in in_shards(rooms, self.shards) for room in self._together(shard)]
            for rooms in samples
        ]
        merged = [merge_sweeps([sample.coords for sample in rooms]) for rooms in samples]
        names = [[sample.room for sample in rooms] for rooms in samples]
        spec = capacities.plans[fitting_plan(merged, capacities.plans, names)]
        shape, width = (len(samples), spec.capacity), samples[0][0].embedding.shape[1]
        features = allocate((*shape, 3), np.float32)
        target, seen = allocate((*shape, width), np.float16), allocate(shape, bool)
        target[:], seen[:] = 0, False
        for device, (rooms, cloud) in enumerate(zip(samples, merged, strict=True)):
            cloud.gather([sample.colors for sample in rooms], features[device])
            for number, sample in enumerate(rooms):
                rows = cloud.rows(number, sample.seen)
                target[device, rows], seen[device, rows] = sample.embedding, True
        plan = build_plans(merged, spec, allocate)
        return {"plan": plan, "features": features, "target": target, "seen": seen}

    def _together(self, rooms: Sequence[DistillationSample]) -> list[DistillationSample]:
        """The rooms of a shard, cut where they have too many voxels and moved by one offset."""
        if self.most_voxels is not None:
            rooms = cut_to(rooms, self.most_voxels * len(rooms))
        offset = rooms[0].offset
        return [dataclasses.replace(room, coords=room.coords + offset) for room in rooms]


def cut_to(rooms: Sequence[DistillationSample], most: int) -> list[DistillationSample]:
    """Rooms of at most `most` voxels together, as `CollateRooms` cuts them."""
    shares = fair_shares([len(sample.coords) for sample in rooms], most)
    return [sample.cut(share) for sample, share in zip(rooms, shares, strict=True)]
