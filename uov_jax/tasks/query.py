"""Open-vocabulary queries: which points of a sweep a pre-trained network takes for a text.

Tri-modal pre-training puts every point into the teacher's space of image and text, so the cosine
of a point's feature and a text's embedding says how well they fit.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.spatial import cKDTree

from uov_jax.data.batching import Capacities
from uov_jax.data.dump import DumpSource
from uov_jax.data.evaluation_sample import evaluation_sample
from uov_jax.data.nuscenes import Keyframe
from uov_jax.data.tmp_sample import VoxelSettings
from uov_jax.models import VARIANTS, MinkUNet
from uov_jax.training import state
from uov_jax.training.checkpoints import (
    CheckpointError,
    find_checkpoint,
    read_arrays,
    read_record,
)
from uov_jax.vocabulary import Vocabulary


class QueryError(ValueError):
    """A text cannot be asked for: it has no embedding in the network's space."""


class TrainedNetwork:
    """A pre-trained network as its run left it, for looking at sweeps.

    Attributes:
        folder: the checkpoint's.
        config: the run's config, nested.
        identity: what it was trained on; `teacher`, `teacher_weights` (their sha256),
            `text_embeddings` (sha256 of the float32 rows), `vocabulary`.

    """

    def __init__(self, run: str | Path) -> None:
        """Read a run's last checkpoint.

        Args:
            run: directory of a run, or the folder of one checkpoint.

        Raises:
            CheckpointError: there is no checkpoint, it cannot be read, or it is not one of
                tri-modal pre-training.

        """
        self.folder = find_checkpoint(run)
        record = read_record(self.folder)
        self.config: dict[str, Any] = record["config"]
        self.identity: dict[str, str] = record["identity"]
        if self.config.get("task") != "tmp":
            raise CheckpointError(
                f"{self.folder}: a checkpoint of the task {self.config.get('task')!r}; only "
                "tri-modal pre-training ('tmp') gives features in the space of text"
            )
        skeleton, parameters, statistics = _restore(self.folder, self.config, self.identity)
        data = self.config["data"]
        self.voxels = VoxelSettings(tuple(data["voxel_size"]), data["cylindrical"])
        self._plans = Capacities.for_sweeps(
            1,
            first_kernel=VARIANTS[self.config["model"]["variant"]].first_kernel,
            voxels=tuple(data["voxels"]),
        ).plans

        def predict(parameters: Any, statistics: Any, features: Any, plan: Any) -> jax.Array:
            model: Any = skeleton.model(parameters, statistics)
            model.eval()
            return model(features, plan)

        self._predict = jax.jit(predict)
        self._arrays = jax.device_put((parameters, statistics))

    def features(
        self, keyframe: Keyframe, vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], np.ndarray]:
        """The keyframe's evaluation sample and float32[points, D], a unit row for every point.

        Raises:
            CapacityError: the sweep has more voxels than the run's config allows.

        """
        sample = evaluation_sample(keyframe, vocabulary, self._plans, self.voxels)
        rows = self._predict(*self._arrays, sample["features"], sample["plan"])
        return sample, np.asarray(rows, np.float32)[sample["inverse"]]


def stored_text(
    words: Sequence[str], dumps: DumpSource, vocabulary: Vocabulary, identity: Mapping[str, str]
) -> np.ndarray:
    """Embeddings of words of the vocabulary as the teacher's dumps hold them.

    Args:
        words: as they stand in the vocabulary.
        dumps: those that the network was trained on.
        vocabulary: of the dumps.
        identity: the network's.

    Returns:
        float32[words, D], unit rows; of a word that stands twice, the mean.

    Raises:
        QueryError: a word is not in the vocabulary, or the dumps are others than those that the
            network was trained on.

    """
    text = dumps.text_embeddings
    trained_on = identity.get("text_embeddings")
    if text is None or not trained_on:
        raise QueryError(f"{dumps.root}: the teacher {dumps.teacher!r} has no words to ask for")
    text = np.asarray(text, np.float32)
    if hashlib.sha256(text.tobytes()).hexdigest() != trained_on:
        raise QueryError(
            f"{dumps.root}: the text embeddings are not those that the network was trained with "
            f"({trained_on[:12]}...): name the dumps of that run"
        )
    rows = np.stack([text[_indices(word, vocabulary)].mean(axis=0) for word in words])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def require_same_weights(identity: Mapping[str, str], teacher: str, weights_hash: str) -> None:
    """QueryError unless a teacher is the one whose space the network was trained in."""
    expected = identity["teacher"], identity["teacher_weights"]
    if (teacher, weights_hash) != expected:
        raise QueryError(
            f"the network was trained with the teacher {expected[0]!r}, weights "
            f"{expected[1][:12] or 'unknown'}..., these are {teacher!r}, {weights_hash[:12]}...: "
            "their embeddings cannot be compared"
        )


def similarities(features: np.ndarray, text: np.ndarray) -> np.ndarray:
    """float32[texts, points]: cosines of unit rows float32[points, D] and float32[texts, D]."""
    product = jnp.matmul(jnp.asarray(text), jnp.asarray(features).T, precision="highest")
    return np.asarray(product)


def best_places(
    points: np.ndarray, similarity: np.ndarray, number: int, spacing: float = 2.0
) -> np.ndarray:
    """The most similar points that are not next to each other.

    Args:
        points: float[N, 3 or more], metres.
        similarity: float[N].
        number: how many at most.
        spacing: smallest distance between two of them, in metres.

    Returns:
        int64[at most number], the most similar first.

    """
    tree = cKDTree(points[:, :3])
    free = np.ones(len(points), bool)
    chosen: list[int] = []
    for point in np.argsort(-similarity, kind="stable"):
        if len(chosen) == number:
            break
        if free[point]:
            chosen.append(int(point))
            free[tree.query_ball_point(points[point, :3], spacing)] = False
    return np.array(chosen, np.int64)


def _restore(folder: Path, config: Mapping[str, Any], identity: Mapping[str, str]) -> Any:
    """Skeleton, parameters and statistics of a checkpoint's network."""
    settings = config["model"]
    model = nnx.eval_shape(
        lambda: MinkUNet(
            1,
            int(identity["embedding_size"]),
            variant=settings["variant"],
            normalize_features=True,
            dtype=jnp.dtype(settings["dtype"]),
            rngs=nnx.Rngs(0),
        )
    )
    skeleton, *expected = state.split(model)
    arrays = read_arrays(folder, ("parameters", "statistics"))
    found = []
    for kind, shapes in zip(("parameters", "statistics"), expected, strict=True):
        stored = {
            name.partition("/")[2]: array
            for name, array in arrays.items()
            if name.startswith(f"{kind}/")
        }
        for name in sorted(shapes.keys() | stored.keys()):
            new, old = (x[name].shape if name in x else None for x in (shapes, stored))
            if new != old:
                raise CheckpointError(
                    f"{folder}: {kind}/{name} has shape {old or 'nothing'}, expected "
                    f"{new or 'nothing'} for {settings['variant']}"
                )
        found.append(stored)
    return skeleton, *found


def _indices(word: str, vocabulary: Vocabulary) -> list[int]:
    indices = vocabulary.indices(word)
    if not indices:
        near = difflib.get_close_matches(word, vocabulary.words, n=3, cutoff=0.6)
        hint = f"did you mean {', '.join(map(repr, near))}? " if near else ""
        raise QueryError(
            f"{word!r} is not in the vocabulary {vocabulary.name!r}: {hint}Other texts need the "
            "teacher's text tower: name its weights with --weights"
        )
    return list(indices)
