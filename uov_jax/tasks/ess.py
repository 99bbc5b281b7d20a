"""Embeddings semantic specialisation (ESS): features moved towards the words of pseudo labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from uov_jax import losses
from uov_jax.errors import InputError
from uov_jax.evaluation.scoring import SEEN
from uov_jax.evaluation.share import WHOLE, Share
from uov_jax.fusion.pseudo_labels import PseudoLabelFolder
from uov_jax.input.batching import pad
from uov_jax.input.loader import TrainBatches
from uov_jax.input.room_points import PointSource, collate_points
from uov_jax.input.whole_room import CHUNK, judged_facts
from uov_jax.models.adapter import FeatureAdapter
from uov_jax.tasks.recipe_batches import recipe_batches, worker_timeout
from uov_jax.tasks.rooms import open_rooms, validate_rooms
from uov_jax.tasks.zero_shot import evaluated_words, nearest_words, word_classifier
from uov_jax.training.task import Predict


class Specialisation:
    """The task of `configs/ess_*.py`: 3DSS-VLG's first stage (arXiv 2407.09826).

    An adapter learns to bring the fused feature of every point near the word of its pseudo label.
    Scores are of the points that views saw, beside those of the fused features themselves.
    """

    title = "Embeddings semantic specialisation"
    unit = "rooms"

    def __init__(self, config: ConfigDict) -> None:
        """Open rooms, features and pseudo labels, and check that they fit each other.

        Raises:
            MissingFileError: rooms, features or pseudo labels are missing.
            InputError: they do not fit each other or the config.

        """
        self.config = config
        self.data = open_rooms(config)
        check_adapter(config.model, self.data.features.manifest.embedding_size)
        features, vocabulary = self.data.features, self.data.vocabulary
        self.labels = PseudoLabelFolder(config.data.labels, vocabulary)
        self.labels.check_features(features)
        self.labels.check(self.data.train)
        features.check(list(self.data.validation))
        text = features.text_embeddings
        words, classes = evaluated_words(text, vocabulary)
        self.text, self.word_class = words, classes.astype(np.int32)
        self._classify = jax.jit(word_classifier(text, vocabulary))
        self._nearest_words = nearest_words(text, vocabulary)
        self.source = PointSource(
            self.data.store, features, self.labels, self.data.train, config.data.points
        )

    def identity(self) -> dict[str, str]:
        """Rooms, features and pseudo labels, which a checkpoint is bound to."""
        return self.data.identity() | {"pseudo_labels": self.labels.identity(self.data.train)}

    def card(self) -> None:
        """None: an adapter labels no clouds."""

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        """The adapter."""
        del axis_name
        return adapter(self.config.model, self.data.features.manifest.embedding_size, rngs)

    def initialize(self, model: nnx.Module) -> None:
        """Nothing to do: the adapter starts from the seed's weights."""

    def train_batches(self, num_devices: int) -> TrainBatches:
        """Endless batches for this process's devices."""
        return recipe_batches(
            self.config, self.source, lambda _: collate_points, num_devices, fixed_shape=True
        )

    def loss(
        self, model: Any, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross-entropy of points against the words, those without a label left out.

        It is the mean over the labelled points of all devices.
        A batch of 24 rooms in float32 would be 2.9 GB: it stays in half precision, and a chunk of
        it at a time is worked on.
        """
        text, word_class = jnp.asarray(self.text), jnp.asarray(self.word_class)

        def terms(features: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
            return losses.word_likelihoods(model.logits(features, text), labels, word_class)

        loss, count = losses.mean_in_chunks(
            terms, CHUNK, batch["features"], batch["labels"], axis_name=axis_name
        )
        return loss, {"labelled_points": count}

    def parameter_group(self, path: str) -> str:
        """All of it is the trunk."""
        del path
        return "trunk"

    def score(self, metrics: dict[str, float]) -> float | None:
        """The mean IoU over the points that views saw."""
        return metrics.get("miou_seen")

    def evaluate(
        self, predict: Predict, directory: Path, step: int, share: Share = WHOLE
    ) -> dict[str, float]:
        """Scores over the points that views saw, beside the fused features; a table."""

        def classes_of_rows(sample: Any) -> np.ndarray:
            found = []
            for part in sample["fused"].parts(CHUNK):
                output = predict({"features": pad(part, CHUNK, 0)})
                found.append(np.asarray(self._classify(output))[: len(part)])
            return np.concatenate(found)

        return validate_rooms(
            self.data,
            self._evaluation_sample,
            classes_of_rows,
            self.config.data.workers,
            worker_timeout(self.config),
            directory,
            step,
            share,
            SEEN,
        )

    def _evaluation_sample(self, name: str) -> dict[str, Any]:
        """The points of a room that views saw; their features stay in the file until asked for."""
        room = self.data.store.room(name)
        fused = self.data.features.room(name, len(room))
        facts = judged_facts(room, fused, self._nearest_words)
        seen = facts["seen"]
        return {
            "fused": fused,
            "inverse": np.arange(np.count_nonzero(seen), dtype=np.int32),
            "points": room.coords[seen],
            "token": name,
            **{
                key: value[seen] if isinstance(value, np.ndarray) else value
                for key, value in facts.items()
            },
        }


def check_adapter(model: ConfigDict, embedding_size: int) -> None:
    """InputError unless `config.model` describes an adapter for embeddings of a size."""
    if not 1 <= model.reduction <= embedding_size:
        raise InputError(
            f"config.model.reduction = {model.reduction}: expected 1 to {embedding_size}, the size "
            "of the embeddings"
        )
    if not 0 <= model.share_kept <= 1:
        raise InputError(f"config.model.share_kept = {model.share_kept}: expected 0 to 1")


def adapter(model: ConfigDict, embedding_size: int, rngs: nnx.Rngs) -> FeatureAdapter:
    """The adapter that `config.model` describes, for embeddings of a size."""
    return FeatureAdapter(
        embedding_size, reduction=model.reduction, share_kept=model.share_kept, rngs=rngs
    )
