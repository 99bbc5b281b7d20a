"""Embeddings soft-guidance (ESG): a sparse network learns the features of a room's voxels."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from uov_jax import losses
from uov_jax.checkpoints.agreement import voxel_settings
from uov_jax.checkpoints.card import NetworkCard, Words
from uov_jax.errors import InputError
from uov_jax.evaluation.share import WHOLE, Share
from uov_jax.input.loader import TrainBatches
from uov_jax.input.room_augment import RoomAugmentation
from uov_jax.input.room_distillation import CollateRooms, DistillationSource
from uov_jax.input.whole_room import judged_facts, room_input
from uov_jax.quirks import UNDISTORTED_ROOMS, quirks_of
from uov_jax.tasks.cards import recipe_card, room_figures
from uov_jax.tasks.recipe_batches import (
    check_model,
    recipe_batches,
    recipe_capacities,
    worker_timeout,
)
from uov_jax.tasks.room_model import room_model
from uov_jax.tasks.rooms import open_rooms, validate_rooms
from uov_jax.tasks.zero_shot import nearest_words, word_classifier
from uov_jax.training.geometry import Geometry
from uov_jax.training.task import Predict


class Distillation:
    """The task of `configs/esg_*.py`: 3DSS-VLG's second stage, and OpenScene's distillation.

    The network's output for a voxel learns the direction of the feature of its first point, where a
    view saw that. Scores are of all points, by the nearest word, beside the features' own on the
    points that views saw.
    """

    title = "Embeddings soft-guidance"
    unit = "rooms"

    def __init__(self, config: ConfigDict) -> None:
        """Open rooms and features.

        Raises:
            MissingFileError: rooms or features are missing.
            InputError: they do not fit each other or the config.

        """
        self.config = config
        settings = config.data
        check_model(config.model)
        self.voxels = voxel_settings(settings)
        self.voxel_size = cube_side(config)
        if settings.most_voxels < 0:
            raise InputError(
                f"config.data.most_voxels = {settings.most_voxels}: expected 0, for never, or more"
            )
        self.data = open_rooms(config)
        features = self.data.features
        elastic = settings.elastic and UNDISTORTED_ROOMS not in quirks_of(config)
        self.source = DistillationSource(
            self.data.store,
            features,
            self.data.train,
            self.voxel_size,
            RoomAugmentation(settings.rotate, elastic, settings.flip, settings.colors),
            settings.loop,
        )
        text = features.text_embeddings
        self._classify = jax.jit(word_classifier(text, self.data.vocabulary))
        self._nearest_words = nearest_words(text, self.data.vocabulary)
        self.plans = recipe_capacities(config, 1).plans
        self._say_what_is_unseen()

    def identity(self) -> dict[str, str]:
        """Rooms and features, which a checkpoint is bound to."""
        return self.data.identity()

    def card(self) -> NetworkCard:
        """Of the recipe, with the words and the figures of some training rooms."""
        features, store = self.data.features, self.data.store
        facts = features.manifest
        words = Words(
            self.data.vocabulary,
            np.asarray(features.text_embeddings, np.float32),
            facts.teacher,
            facts.weights_hash,
        )
        card = recipe_card(self.config)
        figures = room_figures(
            self.data.train, lambda name: store.room(name).coords, card.voxels.size[0]
        )
        return dataclasses.replace(card, words=words, training=figures)

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        """The network with one feature of the teacher's embedding size a voxel."""
        size = self.data.features.manifest.embedding_size
        return room_model(self.config.model, size, rngs, axis_name)

    def initialize(self, model: nnx.Module) -> None:
        """Nothing to do: distillation starts from the seed's weights."""

    def train_batches(self, num_devices: int) -> TrainBatches:
        """Endless batches for this process's devices."""
        most = self.config.data.most_voxels or None

        def collate(geometry: Geometry) -> CollateRooms:
            return CollateRooms(most, geometry.shards)

        return recipe_batches(self.config, self.source, collate, num_devices)

    def loss(
        self, model: Any, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Mean of 1 - cos over the voxels of all devices that have a feature."""
        output = model(features=batch["features"], plan=batch["plan"])
        loss = losses.cosine_distance(output, batch["target"], batch["seen"], axis_name)
        seen = losses.over_devices(jnp.sum(batch["seen"].astype(jnp.float32)), axis_name)
        return loss, {"seen_voxels": seen}

    def parameter_group(self, path: str) -> str:
        """The last layer is the head."""
        return "head" if path.startswith("final.") else "trunk"

    def score(self, metrics: dict[str, float]) -> float | None:
        """The mean IoU over all points."""
        return metrics.get("miou")

    def evaluate(
        self, predict: Predict, directory: Path, step: int, share: Share = WHOLE
    ) -> dict[str, float]:
        """Scores over all points of rooms voxelised once, beside the features; a table."""

        def classes_of_rows(sample: Any) -> jax.Array:
            return self._classify(predict(sample["inputs"]))

        return validate_rooms(
            self.data,
            self._evaluation_sample,
            classes_of_rows,
            self.config.data.workers,
            worker_timeout(self.config),
            directory,
            step,
            share,
        )

    def _evaluation_sample(self, name: str) -> dict[str, Any]:
        room = self.data.store.room(name)
        features = self.data.features
        fused = features.room(name, len(room)) if features.has(name) else None
        facts = judged_facts(room, fused, self._nearest_words)
        return room_input(room, self.plans, self.voxel_size) | facts

    def _say_what_is_unseen(self) -> None:
        lacking = [name for name in self.data.validation if not self.data.features.has(name)]
        if lacking and not jax.process_index():
            print(
                f"{self.data.features.root}: no features of {len(lacking)} of "
                f"{len(self.data.validation)} validation rooms, which are judged without them.",
                flush=True,
            )


def cube_side(config: ConfigDict) -> float:
    """Metres of a voxel's side; InputError unless voxels are cubes."""
    size = tuple(config.data.voxel_size)
    if config.data.cylindrical or len(set(size)) != 1 or len(size) != 3 or not size[0] > 0:
        raise InputError(
            f"config.data.voxel_size: voxels of rooms are cubes, three times the same number of "
            f"metres and not cylindrical, found {size}"
        )
    return float(size[0])
