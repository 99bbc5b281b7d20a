"""Open-vocabulary queries: which points of a sweep a pre-trained network takes for a text.

Tri-modal pre-training puts every point into the teacher's space of image and text, so the cosine
of a point's feature and a text's embedding says how well they fit.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.spatial import cKDTree

from uov_jax import sparse
from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.checkpoints.folder import CheckpointError, read_record
from uov_jax.checkpoints.load import load_network
from uov_jax.checkpoints.run import find_checkpoint
from uov_jax.datasets.image_file import read_image
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.projection import Pairs, pair_points
from uov_jax.dumps.folder import DumpSource
from uov_jax.errors import InputError, NotFiniteError, decoration
from uov_jax.input.whole_sweep import keyframe_sample
from uov_jax.pictures.query import CameraPanel, similarity_picture, word_picture
from uov_jax.tasks.recipe_batches import recipe_capacities
from uov_jax.tasks.tri_modal import pretraining_model
from uov_jax.training.task import fingerprint
from uov_jax.vocabulary import Vocabulary

MIN_RANGE = 1.0  # metres


class QueryError(InputError):
    """A text cannot be asked for: it has no embedding in the network's space."""


class QueriedNetwork:
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
        if self.config.get("task") != "tri_modal":
            raise CheckpointError(
                f"{self.folder}: a checkpoint of the task {self.config.get('task')!r}; only "
                "tri-modal pre-training ('tri_modal') gives features in the space of text"
            )
        data = self.config["data"]
        self.voxels = VoxelSettings(tuple(data["voxel_size"]), data["cylindrical"])
        model, size = ConfigDict(self.config["model"]), int(self.identity["embedding_size"])
        network = load_network(
            functools.partial(pretraining_model, model, size), self.folder, self.voxels
        )
        self._predict, self._state = jax.jit(network.predict()), jax.device_put(network.state)
        self._plans = recipe_capacities(ConfigDict(self.config), 1).plans

    def features(
        self, keyframe: Keyframe, vocabulary: Vocabulary
    ) -> tuple[dict[str, Any], np.ndarray]:
        """The keyframe's evaluation sample and float32[points, D], a unit row for every point.

        Raises:
            BatchTooLargeError: the sweep has more voxels than the run's config allows.
            NotFiniteError: features are not finite.

        """
        sample = keyframe_sample(keyframe, vocabulary, self._plans, self.voxels)
        rows = self._predict(self._state, sample["inputs"])
        features = np.asarray(rows, np.float32)[sample["inverse"]]
        sparse.raise_fault()
        if not np.isfinite(features).all():
            raise NotFiniteError(
                f"{self.folder}: features of points of the sweep {keyframe.token} are not finite: "
                "its training had broken down; take an earlier checkpoint"
            )
        return sample, features

    def words(self, dumps: DumpSource) -> np.ndarray:
        """float32[W, D], a unit row for every word of the vocabulary, as the dumps hold them.

        Raises:
            QueryError: the dumps have no words, or others than the network was trained with.

        """
        text = dumps.text_embeddings
        trained_with = self.identity.get("text_embeddings")
        if text is None or not trained_with:
            raise QueryError(f"{dumps.root}: the teacher {dumps.teacher!r} has no words to ask for")
        text = np.asarray(text, np.float32)
        if fingerprint(text.tobytes()) != trained_with:
            raise QueryError(
                f"{dumps.root}: the embeddings of its words are not those that the network was "
                f"trained with (sha256 {trained_with[:12]}...): name that run's dumps with --dumps"
            )
        return text

    def require_weights(self, weights_hash: str) -> None:
        """QueryError unless these are the weights of the teacher that the network learned from.

        Dumps of the reference do not say what their weights were; nothing is refused then.
        """
        teacher, expected = self.identity["teacher"], self.identity["teacher_weights"]
        if expected and weights_hash != expected:
            raise QueryError(
                f"the network was trained with the teacher {teacher!r} and weights of sha256 "
                f"{expected[:12]}..., these have {weights_hash[:12]}...: the "
                "embeddings of one cannot be compared with those of the other"
            )


def rows_of(texts: Sequence[str], words: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Embeddings of texts that are words or evaluation classes of the vocabulary.

    Args:
        texts: words as they stand in the vocabulary, or names of classes ("traffic cone" for
            traffic_cone), which stand for all their words.
        words: float32[W, D], a unit row for every word.
        vocabulary: of the words.

    Returns:
        float32[texts, D], unit rows; of several words, or one that stands twice, the mean.

    Raises:
        QueryError: a text is neither; names the words most like it.

    """
    rows = np.stack([words[word_indices(text, vocabulary)].mean(axis=0) for text in texts])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def answer(
    network: QueriedNetwork,
    keyframe: Keyframe,
    vocabulary: Vocabulary,
    queries: Mapping[str, np.ndarray],
    words: np.ndarray | None,
    output: Path,
    *,
    top: int = 10,
) -> Iterator[str]:
    """Answer queries on one sweep: a table and a picture for each, and the word of every point.

    Args:
        network: the trained one.
        keyframe: its sweep is asked.
        vocabulary: names the true classes; and the words, if given.
        queries: float32[D], unit vectors of texts by their text.
        words: float32[W, D], unit rows of the vocabulary's words; None leaves that picture out.
        output: folder of the pictures, made where it is missing.
        top: number of places to list.

    Yields:
        Lines for the user as they come.

    """
    output.mkdir(parents=True, exist_ok=True)
    sample, features = network.features(keyframe, vocabulary)
    points, pairs = sample["points"], pair_points(sample["points"], keyframe)
    where = f"sweep of {keyframe.scene}, keyframe {keyframe.token}"
    for text, similarity in zip(
        queries, similarities(features, np.stack(list(queries.values()))), strict=True
    ):
        places = best_places(points, similarity, top)
        yield f"\n{text!r}, the {len(places)} best places of {len(points):,} points:"
        yield from _table(sample, similarity, places, keyframe, pairs, vocabulary)
        path = output / f"{keyframe.token}_{file_name(text)}.png"
        with _said(path) as said:
            camera = _camera_of(places, keyframe, pairs)
            similarity_picture(
                points, similarity, places, path, title=f"{text!r} in the {where}", camera=camera
            )
        yield said[-1]
    if words is not None:
        best = best_words(features, words)
        path = output / f"{keyframe.token}_words.png"
        with _said(path) as said:
            word_picture(
                points,
                best,
                vocabulary,
                path,
                title=f"The nearest of {len(words)} words in the {where}",
            )
        yield f"\nThe nearest of the vocabulary's {len(words)} words for every point. {said[-1]}"


@contextlib.contextmanager
def _said(path: Path) -> Iterator[list[str]]:
    """What is drawn within; the last line says where the picture is, or why there is none."""
    lines = [f"Picture: {path}"]
    with decoration(f"The picture {path}", lambda line: lines.append(str(line))):
        yield lines


def similarities(features: np.ndarray, text: np.ndarray) -> np.ndarray:
    """float32[texts, points]: cosines of unit rows float32[points, D] and float32[texts, D]."""
    product = jnp.matmul(jnp.asarray(text), jnp.asarray(features).T, precision="highest")
    return np.asarray(product)


def best_words(features: np.ndarray, words: np.ndarray) -> np.ndarray:
    """int64[points]: the nearest of unit rows float32[W, D] for unit rows float32[points, D]."""
    return np.argmax(similarities(features, words), axis=0)


def file_name(text: str) -> str:
    """A text as part of a file's name: "a red car!" as "a_red_car"."""
    return re.sub(r"\W+", "_", text).strip("_")[:60] or "text"


def best_places(
    points: np.ndarray,
    similarity: np.ndarray,
    number: int,
    spacing: float = 2.0,
    nearest: float = MIN_RANGE,
) -> np.ndarray:
    """The most similar points that are not next to each other.

    Args:
        points: float[N, 3 or more], metres.
        similarity: float[N].
        number: how many at most.
        spacing: smallest distance between two of them, in metres.
        nearest: metres from the sensor within which none is taken: there is the vehicle itself. 0
            for rooms, which have no sensor.

    Returns:
        int64[at most number], the most similar first.

    """
    tree = cKDTree(points[:, :3])
    free = np.hypot(points[:, 0], points[:, 1]) >= nearest
    chosen: list[int] = []
    for point in np.argsort(-similarity, kind="stable"):
        if len(chosen) == number:
            break
        if free[point]:
            chosen.append(int(point))
            free[tree.query_ball_point(points[point, :3], spacing)] = False
    return np.array(chosen, np.int64)


def _table(
    sample: Mapping[str, Any],
    similarity: np.ndarray,
    places: np.ndarray,
    keyframe: Keyframe,
    pairs: Pairs,
    vocabulary: Vocabulary,
) -> Iterator[str]:
    """Where the places are, which camera sees them, and their true class where it is known."""
    yield "   no.  cosine  right m  ahead m     up m  range m  camera            truth"
    for number, point in enumerate(places, start=1):
        x, y, z = sample["points"][point, :3]
        seen = pairs.camera[pairs.point == point]
        camera = keyframe.cameras[seen[0]].channel if len(seen) else "none"
        truth = sample["truth"]
        name = "unknown" if truth is None else vocabulary.eval_classes[truth[point]]
        yield (
            f"  {number:4d}  {similarity[point]:6.3f}  {x:7.2f}  {y:7.2f}  {z:7.2f}  "
            f"{np.hypot(x, y):7.2f}  {camera:16s}  {name}"
        )


def _camera_of(places: np.ndarray, keyframe: Keyframe, pairs: Pairs) -> CameraPanel | None:
    """The camera that sees the best place that any camera sees."""
    for point in places:
        seen = pairs.camera[pairs.point == point]
        if len(seen):
            view = keyframe.cameras[seen[0]]
            own = pairs.select(pairs.camera == seen[0])
            pixels = read_image(view.path)
            return CameraPanel(view.channel, pixels, own.point, own.u, own.v)
    return None


def word_indices(text: str, vocabulary: Vocabulary) -> list[int]:
    """Which words of the vocabulary a text is: itself, or those of the class that it names.

    Raises:
        QueryError: it is neither; names the words most like it.

    """
    if indices := vocabulary.indices(text):
        return list(indices)
    classes = [name.replace("_", " ") for name in vocabulary.eval_classes]
    if text in classes[1:]:
        return vocabulary.words_of_class(classes.index(text)).tolist()
    known = dict.fromkeys([*vocabulary.words, *classes[1:]])
    near = difflib.get_close_matches(text, known, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(map(repr, near))}? " if near else ""
    raise QueryError(
        f"{text!r} is neither a word nor a class of the vocabulary {vocabulary.name!r}: {hint}"
        "Other texts need the teacher's text tower: name its weights with --weights"
    )
