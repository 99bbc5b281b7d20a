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
    features: FeatureFolder, tensors: Mapping[str, np.ndarray], model: Mapping[str, object]
) -> FeatureManifest:
    """The manifest of features that an adapter makes of others.

    Args:
        features: that it is given.
        tensors: of the adapter, by name.
        model: its settings, such as `share_kept`, which its tensors do not tell.

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
        settings={
            "features": features_identity(features),
            "adapter": network.hexdigest(),
            **model,
        },
    )


def specialise_rooms(
    store: RoomStore,
    features: FeatureFolder,
    writer: FeatureWriter,
    adapt: Adapt,
    rooms: Sequence[str],
) -> Iterator[RoomExport]:
    """Write the rooms that are not there yet, one after the other.

    Memory: a chunk of the features, however many points a room has.

    Raises:
        NotFiniteError: features of a room do not fit half precision; nothing of it is written.
        MissingFileError, FeatureError: features of a room are missing or damaged.

    """
    for name in rooms:
        points = store.facts(name).points
        fused = features.room(name, points)
        seen = int(np.count_nonzero(fused.views))
        if writer.has(name):
            yield RoomExport(name, seen, False)
            continue
        with writer.open(name) as writing:
            writing.append(fused.views, (_specialised(name, p, adapt) for p in fused.parts(CHUNK)))
        yield RoomExport(name, seen, True)


def _specialised(room: str, part: np.ndarray, adapt: Adapt) -> np.ndarray:
    padded = np.zeros((CHUNK, part.shape[1]), np.float16)
    padded[: len(part)] = part
    with np.errstate(over="ignore"):
        found = adapt(padded)[: len(part)].astype(np.float16)
    wrong = int(np.count_nonzero(~np.isfinite(found).all(axis=1)))
    if wrong:
        raise NotFiniteError(
            f"room {room}: specialised features of {wrong:,} of {len(found):,} points are too "
            "large for half precision or no numbers: the adapter's training had broken down, or "
            "the fused features of the room are damaged"
        )
    return found
