"""Writing specialised features: every room's fused ones through the adapter that ESS trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from uov_jax.datasets.rooms import RoomStore
from uov_jax.errors import InputError, NotFiniteError
from uov_jax.fusion.features import SPECIALISED, FeatureFolder, FeatureManifest, FeatureWriter
from uov_jax.fusion.pseudo_labels import features_identity

# Rows that go through the adapter at a time.
CHUNK = 16_384
# Features float16[CHUNK, D] to float32[CHUNK, D].
Adapt = Callable[[np.ndarray], np.ndarray]


class RoomExport(NamedTuple):
    """A room that is done: its name, its points with a feature, and whether it was written now."""

    room: str
    points: int
    written: bool


def specialised_manifest(
    features: FeatureFolder, tensors: Mapping[str, np.ndarray]
) -> FeatureManifest:
    """The manifest of features that an adapter of these tensors makes of others.

    Raises:
        InputError: they are specialised already.

    """
    facts = features.manifest
    if facts.kind == SPECIALISED:
        raise InputError(
            f"{features.root}: these features are specialised already: give those of "
            "scripts/fuse_features.py with --config.data.features"
        )
    network = hashlib.sha256()
    for name in sorted(tensors):
        network.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return FeatureManifest(
        teacher=facts.teacher,
        weights_hash=facts.weights_hash,
        embedding_size=facts.embedding_size,
        dataset=facts.dataset,
        vocabulary=facts.vocabulary,
        vocabulary_hash=facts.vocabulary_hash,
        kind=SPECIALISED,
        settings={"features": features_identity(features), "adapter": network.hexdigest()},
    )


def specialise_rooms(
    store: RoomStore,
    features: FeatureFolder,
    writer: FeatureWriter,
    adapt: Adapt,
    rooms: Sequence[str],
) -> Iterator[RoomExport]:
    """Write the rooms that are not there yet, one after the other.

    Memory: the features of one room in half precision, and a chunk of them in float32.

    Raises:
        NotFiniteError: features of a room do not fit half precision; nothing of it is written.
        MissingFileError, FeatureError: features of a room are missing or damaged.

    """
    for name in rooms:
        points = store.facts(name).points
        fused = features.room(name, points)
        if writer.has(name):
            yield RoomExport(name, len(fused.features), False)
            continue
        size = features.manifest.embedding_size
        found = np.empty((len(fused.features), size), np.float16)
        for start in range(0, len(found), CHUNK):
            part = np.zeros((CHUNK, size), np.float16)
            rows = fused.features[start : start + CHUNK]
            part[: len(rows)] = rows
            with np.errstate(over="ignore"):
                found[start : start + CHUNK] = adapt(part)[: len(rows)]
        wrong = int(np.count_nonzero(~np.isfinite(found).all(axis=1)))
        if wrong:
            raise NotFiniteError(
                f"room {name}: specialised features of {wrong:,} of {len(found):,} points are too "
                "large for half precision or no numbers: the adapter's training had broken down, "
                "or the fused features of the room are damaged"
            )
        writer.write(name, fused.views, found)
        yield RoomExport(name, len(found), True)
