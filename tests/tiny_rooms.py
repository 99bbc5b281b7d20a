"""A tiny store of rooms and features for it, written for tests without the simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.rooms import RoomStore, RoomWriter
from uov_jax.fusion.features import FUSED, FeatureFolder, FeatureManifest, FeatureWriter
from uov_jax.vocabulary import Vocabulary

SPLITS: Mapping[str, Sequence[str]] = {
    "train": ("scene0000_00", "scene0001_00"),
    "val": ("scene0002_00",),
}
# Classes of ScanNet (and fewer of S3DIS, of which there are 13) by what a room is made of.
WALL, FLOOR, BED, CHAIR, TABLE = 1, 2, 4, 5, 7


def write_rooms(
    root: Path,
    vocabulary: Vocabulary,
    *,
    splits: Mapping[str, Sequence[str]] = SPLITS,
    points: int = 600,
    labels: bool = True,
    dataset: str = "scannet",
) -> RoomStore:
    """Write a store of boxes with walls, a floor, a bed, a chair and a table; every room differs.

    A room has `points` points and some more for every further one; 1 in 20 has no label.
    """
    writer = RoomWriter(root, dataset, vocabulary)
    number = 0
    for split, names in splits.items():
        for name in names:
            coords, classes = made_room(points + 25 * number, seed=number)
            rng = np.random.default_rng(100 + number)
            colors = vocabulary.colors[classes].astype(np.int16) + rng.integers(
                -20, 21, (len(coords), 3)
            )
            classes[rng.random(len(classes)) < 0.05] = 0
            writer.write(
                name,
                coords,
                colors.clip(0, 255).astype(np.uint8),
                classes if labels else None,
                source="tiny",
            )
            number += 1
        writer.write_split(split, names)
    return RoomStore(root, vocabulary)


def made_room(points: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points float32[N, 3] of a room of 4 x 3 x 2.5 m, and their classes uint8[N]."""
    rng = np.random.default_rng(seed)
    boxes = {  # lower and upper corner, and which share of the points
        FLOOR: ((0, 0, 0), (4, 3, 0), 0.3),
        BED: ((0.2, 0.2, 0.0), (2.2, 1.6, 0.5), 0.15),
        CHAIR: ((2.8, 0.6, 0.0), (3.3, 1.1, 0.9), 0.1),
        TABLE: ((2.6, 1.6, 0.7), (3.8, 2.6, 0.75), 0.15),
    }
    parts, classes = [], []
    for number, (low, high, share) in boxes.items():
        count = max(1, round(share * points))
        parts.append(rng.uniform(low, high, (count, 3)))
        classes.append(np.full(count, number, np.uint8))
    left = points - sum(map(len, parts))
    wall = rng.uniform((0, 0, 0), (4, 3, 2.5), (left, 3))
    side = rng.integers(0, 4, left)
    for index, (axis, place) in enumerate(((0, 0.0), (0, 4.0), (1, 0.0), (1, 3.0))):
        wall[side == index, axis] = place
    parts.append(wall)
    classes.append(np.full(left, WALL, np.uint8))
    order = rng.permutation(points)
    return np.concatenate(parts)[order].astype(np.float32), np.concatenate(classes)[order]


def write_features(
    root: Path,
    store: RoomStore,
    vocabulary: Vocabulary,
    *,
    embedding_size: int = 16,
    noise: float = 0.3,
    teacher: str = "tiny",
    kind: str = FUSED,
    rooms: Sequence[str] | None = None,
    length: float = 10.0,
) -> FeatureFolder:
    """Write features near the words of the true classes, for the 9 in 10 points that are seen.

    Args:
        root: the folder.
        store: with labels.
        vocabulary: whose words get unit embeddings of chance.
        embedding_size: D.
        noise: standard deviation of every number that is added to a unit vector, times sqrt(D).
        teacher: its name.
        kind: of the features.
        rooms: None for all.
        length: of the features.

    """
    text = np.random.default_rng(7).normal(size=(len(vocabulary), embedding_size))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    manifest = FeatureManifest(
        teacher, "0" * 64, embedding_size, store.manifest.dataset, vocabulary.name,
        vocabulary.hash, kind,
    )  # fmt: skip
    writer = FeatureWriter(root, manifest, text.astype(np.float32))
    word_of_class = np.array(
        [
            vocabulary.words_of_class(number)[0] if number else 0
            for number in range(len(vocabulary.eval_classes))
        ]
    )
    for number, name in enumerate(store.names() if rooms is None else rooms):
        room = store.room(name)
        assert room.labels is not None
        rng = np.random.default_rng(200 + number)
        views = rng.integers(1, 5, len(room)).astype(np.uint16)
        views[rng.random(len(room)) < 0.1] = 0
        seen = views > 0
        clean = text[word_of_class[room.labels[seen]]]
        noisy = clean + noise / np.sqrt(embedding_size) * rng.normal(size=clean.shape)
        writer.write(name, views, (length * noisy).astype(np.float16))
    return FeatureFolder(root, vocabulary)
