"""What annotation-free training and fine-tuning share: one class per voxel, learned and judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from uov_jax import losses
from uov_jax.bar import Bar
from uov_jax.checkpoints.agreement import voxel_settings
from uov_jax.checkpoints.card import NetworkCard
from uov_jax.checkpoints.load import load_weights
from uov_jax.datasets.sweeps import LabelledSweeps, labelled_indices
from uov_jax.errors import MissingFileError, decoration
from uov_jax.evaluation import tables
from uov_jax.evaluation.judging import evenly_spaced, judge, where_finite
from uov_jax.evaluation.scores import Scores
from uov_jax.evaluation.share import WHOLE, Share
from uov_jax.evaluation.validation import NETWORK, ValidationScores
from uov_jax.input.loader import TrainBatches
from uov_jax.input.segmentation import SegmentationSource, collate_segmentation
from uov_jax.input.whole_sweep import sweep_sample
from uov_jax.pictures.judged import validation_picture
from uov_jax.tasks.cards import recipe_card, sweep_figures
from uov_jax.tasks.recipe_batches import (
    check_model,
    geometry_of_axis,
    recipe_batches,
    recipe_capacities,
    worker_timeout,
)
from uov_jax.tasks.recipe_model import recipe_model
from uov_jax.training.optimizer import FROZEN
from uov_jax.training.task import Predict, fingerprint


class Segmentation:
    """A network with one output a class, and no opinion on where labels come from.

    Attributes:
        train: sweeps to learn from.
        validation: sweeps to be judged on; None for no validation.
        judged: the indices of those of them with labels, or of all where none has any.
        teacher_labels: pseudo labels of the sweeps of `validation`, judged beside the network.
        classes: names of all classes, the first one ignored.
        frozen_trunk: linear probing: the trunk and its statistics stay as they are.

    """

    title = "Segmentation"
    unit = "sweeps"

    def __init__(
        self,
        config: ConfigDict,
        train: LabelledSweeps,
        validation: LabelledSweeps | None,
        teacher_labels: LabelledSweeps | None = None,
    ) -> None:
        """Take data that a stage has opened.

        Raises:
            InputError: they do not fit each other or the config.

        """
        self.config = config
        self.train, self.validation, self.teacher_labels = train, validation, teacher_labels
        self.classes, self.colors = train.classes, train.colors
        self.frozen_trunk = bool(config.model.freeze_trunk)
        data = config.data
        self.voxels = voxel_settings(data)
        check_model(config.model)
        self.source = SegmentationSource(train, self.voxels, data.rotate, data.flip)
        self.plans = recipe_capacities(config, 1).plans
        self.judged: Sequence[int] = []
        if validation is not None:
            self.judged = labelled_indices(validation) or range(len(validation))
        self._say_what_is_unlabelled()

    def identity(self) -> dict[str, str]:
        """Classes and training sweeps, which a checkpoint is bound to.

        The sweeps in their order, because the order of the batches follows from it.
        """
        tokens = [self.train.token(index) for index in self.source.indices]
        return {
            "classes": fingerprint("\n".join(self.classes).encode()),
            "training_sweeps": fingerprint("\n".join(tokens).encode()),
        }

    def card(self) -> NetworkCard:
        """Of the recipe, with the figures of some training sweeps."""
        card = recipe_card(self.config)
        figures = sweep_figures(
            self.source.indices, self.train.points, self.voxels, card.intensity_offset
        )
        return dataclasses.replace(card, training=figures)

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        """The network with the logits of all classes, the ignored one among them."""
        return segmentation_model(self.config.model, len(self.classes), rngs, axis_name)

    def initialize(self, model: nnx.Module) -> None:
        """Load `config.init.checkpoint` into the network, or leave it random for ""."""
        path = self.config.init.checkpoint
        main = not jax.process_index()
        if not path:
            if main:
                print("Starting from random weights.", flush=True)
            return
        if not Path(path).exists():
            raise MissingFileError(
                f"config.init.checkpoint = {path}: there is no such file or folder. Train that "
                "stage first, give another checkpoint (a run directory, or a .pt file of SLidR or "
                "UOV), or start from random weights with --config.init.checkpoint="
            )
        loaded = load_weights(model, path, self.voxels, other_head=True)
        if main:
            print(loaded, flush=True)

    def train_batches(self, num_devices: int) -> TrainBatches:
        """Endless batches for this process's devices."""
        return recipe_batches(self.config, self.source, lambda _: collate_segmentation, num_devices)

    def loss(
        self, model: Any, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Cross-entropy + Lovász-softmax of the shards of one device, unlabelled voxels left out.

        A frozen trunk is in evaluation mode, its batch norms included.
        """
        if self.frozen_trunk:
            model.eval()
        logits = model(batch["features"], batch["plan"])
        geometry = geometry_of_axis(self.config, axis_name)
        if geometry.shards > 1:
            shard = batch["plan"].coords[0][:, 0] // jnp.int32(geometry.sweeps_of_a_shard)
            return losses.segmentation_loss(logits, batch["labels"], shard, geometry.shards)
        rows = losses.gather_rows((logits, batch["labels"]), axis_name, geometry.devices_of_a_shard)
        return losses.segmentation_loss(*rows)

    def parameter_group(self, path: str) -> str:
        """The last layer is the head; the trunk is trained unless it is frozen."""
        if path.startswith("final."):
            return "head"
        return FROZEN if self.frozen_trunk else "trunk"

    def score(self, metrics: dict[str, float]) -> float | None:
        """The mean IoU over the classes that occur, else the agreement with the pseudo labels."""
        return metrics.get("miou", metrics.get("teacher_agreement"))

    def evaluate(
        self, predict: Predict, directory: Path, step: int, share: Share = WHOLE
    ) -> dict[str, float]:
        """Scores over points, beside the pseudo labels where there are some; table and pictures."""
        if self.validation is None:
            return {}
        run = self.config.run
        indices = evenly_spaced(self.judged, run.validation_keyframes)
        drawn = {self.validation.token(i) for i in evenly_spaced(indices, run.picture_keyframes)}
        scores = Scores(self.classes)
        mine = share.of(indices)

        def classes_of_rows(sample: Any) -> Any:
            return _best_class(predict(sample["inputs"]))

        sweeps = judge(
            self._evaluation_sample,
            mine,
            {NETWORK: classes_of_rows},
            workers=self.config.data.workers,
            timeout=worker_timeout(self.config),
            name_of=self.validation.token,
            at_once=share.at_once,
        )
        for sweep in Bar(
            sweeps, total=len(mine), desc="validation", leave=False, disable=not share.writes
        ):
            scores.add(sweep.sample, sweep.columns)
            if sweep.sample["token"] in drawn:
                prediction = sweep.columns[NETWORK]
                token = sweep.sample["token"]
                with decoration(f"The picture of sweep {token}", Bar.write):
                    validation_picture(
                        directory,
                        step,
                        sweep.sample,
                        prediction,
                        self.colors,
                        self.classes,
                        self.validation.ahead,
                    )
        share.merge(scores)
        found = ValidationScores(scores, "miou")
        if not scores.labelled_sweeps:
            return found.metrics()
        if share.writes:
            lines = [tables.format_table(found.columns)]
            if found.teacher.points:
                lines += found.summary()
            Bar.write("\n".join(lines))
            found.write_tables(directory, step)
        matrix = found.everywhere
        return found.metrics() | {
            "miou_absent_one": matrix.mean_iou("one"),
            "frequency_weighted_iou": matrix.frequency_weighted_iou(),
            "accuracy": matrix.accuracy(),
        }

    def _say_what_is_unlabelled(self) -> None:
        data, validation = self.config.data, self.validation
        if jax.process_index():
            return
        left_out = [(data.train_split, len(self.train) - len(self.source), len(self.train))]
        if validation is not None and not any(map(validation.has_labels, self.judged[:1])):
            print(
                f"{data.root}: no true labels of {data.val_split!r}, so there is no mIoU.",
                flush=True,
            )
        elif validation is not None:
            total = len(validation)
            left_out.append((data.val_split, total - len(self.judged), total))
        for split, number, total in left_out:
            if number:
                print(
                    f"{data.root}: {number:,} of {total:,} sweeps of {split!r} have no labels: "
                    "left out.",
                    flush=True,
                )

    def _evaluation_sample(self, index: int) -> dict[str, Any]:
        assert self.validation is not None
        return sweep_sample(self.validation, index, self.plans, self.voxels, self.teacher_labels)


def segmentation_model(
    model: ConfigDict, num_classes: int, rngs: nnx.Rngs, axis_name: str | None
) -> nnx.Module:
    """The network that `config.model` describes, with the logits of all classes a voxel."""
    return recipe_model(model, 1, num_classes, rngs, axis_name)


def class_probabilities(logits: jax.Array, predict_ignored: bool = False) -> jax.Array:
    """float32[N, C]: softmax of the logits [N, C], without class 0 as in `best_class`."""
    first = 0 if predict_ignored else 1
    found = jax.nn.softmax(logits[:, first:].astype(jnp.float32), axis=1)
    return jnp.pad(found, ((0, 0), (first, 0)))


def best_class(logits: jax.Array, predict_ignored: bool = False) -> jax.Array:
    """uint8[N]: the class of the largest logit of [N, C].

    The ignored class 0 takes part only with `predict_ignored`. NOT_FINITE for rows that are not.
    """
    first = 0 if predict_ignored else 1
    best = jnp.argmax(logits[:, first:], axis=1).astype(jnp.uint8) + jnp.uint8(first)
    return where_finite(logits, best)


_best_class = jax.jit(best_class)
