"""Tri-modal pre-training (UOV-TMP): LiDAR features aligned with image masks and their words."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from uov_jax import losses
from uov_jax.bar import Bar
from uov_jax.checkpoints.agreement import voxel_settings
from uov_jax.checkpoints.card import NetworkCard, Words
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.required_files import require_keyframe_files
from uov_jax.datasets.split import open_dataset
from uov_jax.dumps.folder import settings_identity
from uov_jax.dumps.reference import open_dumps
from uov_jax.errors import InputError, decoration
from uov_jax.evaluation import tables
from uov_jax.evaluation.judging import evenly_spaced, judge
from uov_jax.evaluation.scores import Scores
from uov_jax.evaluation.share import WHOLE, Share
from uov_jax.evaluation.validation import NETWORK, ValidationScores
from uov_jax.input.augment import CropSettings
from uov_jax.input.batching import fitting_size, pad
from uov_jax.input.loader import Collate, TrainBatches
from uov_jax.input.tri_modal import TriModalAugmentation, TriModalSource, collate_tri_modal
from uov_jax.input.whole_sweep import keyframe_sample
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
from uov_jax.tasks.zero_shot import word_classifier
from uov_jax.training.geometry import Geometry
from uov_jax.training.task import Predict, fingerprint
from uov_jax.vocabulary import load_vocabulary

PAIR_ARRAYS = ("pair_voxel", "pair_superpoint", "superpoint_word", "superpoint_embedding")


class TriModalPretraining:
    """The task of `configs/tmp_*.py`.

    Without words in the dumps (class-agnostic superpixels) there is no text term and no zero-shot
    score; without true labels there is the validation loss and the agreement with the teacher.
    These two are of all validation keyframes, scores of those with true labels.
    """

    title = "Tri-modal pre-training"
    unit = "sweeps"

    def __init__(self, config: ConfigDict) -> None:
        """Open dataset and dumps and check that every keyframe has what it needs.

        Raises:
            MissingFileError: dataset, sweeps or dumps are missing.
            InputError: they do not fit each other or the config.

        """
        self.config = config
        data = config.data
        self.vocabulary = load_vocabulary(data.vocabulary)
        dataset = open_dataset(data)
        self.dumps = open_dumps(data.dumps, self.vocabulary)
        self.voxels = voxel_settings(data)
        train = dataset.split(data.train_split).with_cameras()
        augmentation = TriModalAugmentation(
            scale=None if data.scale is None else tuple(data.scale),
            crop=CropSettings(at_small_pixel=data.crop_lookup_at_small_pixel),
        )
        self.source = TriModalSource(train, self.dumps, self.voxels, augmentation)
        self.validation: list[Keyframe] = []
        if data.val_split:
            keyframes = dataset.split(data.val_split).with_cameras()
            self.validation = evenly_spaced(keyframes, config.run.validation_keyframes)
            require_keyframe_files(self.validation)
            self.dumps.check(self.validation)
        self.text: np.ndarray | None = None
        self.text_targets: np.ndarray | None = None
        if config.loss.text_weight:
            self._read_words()
            self._say_what_is_unlabelled()
        self._check_model()
        self.sweep_capacities = recipe_capacities(config, 1)
        self._judge = jax.jit(self._judge_output)

    def identity(self) -> dict[str, str]:
        """Teacher, vocabulary and training keyframes, which a checkpoint is bound to.

        The keyframes in their order, because the order of the batches follows from it.
        """
        manifest = getattr(self.dumps, "manifest", None)
        settings = manifest.settings if manifest else {}
        return settings_identity(settings) | {
            "teacher": self.dumps.teacher,
            "teacher_weights": manifest.weights_hash if manifest else "",
            "vocabulary": self.vocabulary.hash if self.text is not None else "",
            "text_embeddings": "" if self.text is None else fingerprint(self.text.tobytes()),
            "embedding_size": str(self.dumps.embedding_size),
            "training_keyframes": fingerprint(
                "\n".join(keyframe.token for keyframe in self.source.keyframes).encode()
            ),
        }

    def card(self) -> NetworkCard:
        """Of the recipe, with the words and the figures of some training sweeps."""
        manifest = getattr(self.dumps, "manifest", None)
        weights = manifest.weights_hash if manifest else ""
        words = None
        if self.text is not None:
            words = Words(self.vocabulary, self.text, self.dumps.teacher, weights)
        figures = sweep_figures(self.source.keyframes, Keyframe.points, self.voxels)
        return dataclasses.replace(recipe_card(self.config), words=words, training=figures)

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        """The network with one unit feature of the teacher's embedding size a voxel."""
        return pretraining_model(self.config.model, self.dumps.embedding_size, rngs, axis_name)

    def initialize(self, model: nnx.Module) -> None:
        """Nothing to do: pre-training starts from the seed's weights."""

    def train_batches(self, num_devices: int) -> TrainBatches:
        """Endless batches for this process's devices."""

        def collate(geometry: Geometry) -> Collate:
            return functools.partial(collate_tri_modal, shards=geometry.shards)

        return recipe_batches(self.config, self.source, collate, num_devices)

    def loss(
        self, model: Any, batch: Any, axis_name: str | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The tri-modal loss of the shards of one device."""
        output = model(batch["features"], batch["plan"])
        devices = geometry_of_axis(self.config, axis_name).devices_of_a_shard
        return self._loss_of(output, batch, axis_name, devices)

    def parameter_group(self, path: str) -> str:
        """The last layer is the head."""
        return "head" if path.startswith("final.") else "trunk"

    def score(self, metrics: dict[str, float]) -> float | None:
        """Zero-shot mIoU where there is one, else the negative validation loss."""
        if "zero_shot_miou" in metrics:
            return metrics["zero_shot_miou"]
        return -metrics["validation_loss"] if "validation_loss" in metrics else None

    def evaluate(
        self, predict: Predict, directory: Path, step: int, share: Share = WHOLE
    ) -> dict[str, float]:
        """Validation loss, zero-shot scores beside the teacher's, pictures and a table.

        The loss is that of batches of one sweep: it has fewer masks to tell apart than a training
        batch and is lower for that reason alone.
        """
        if not self.validation:
            return {}
        names = self.vocabulary.eval_classes
        scores = Scores(names)
        drawn = {
            keyframe.token
            for keyframe in evenly_spaced(self.validation, self.config.run.picture_keyframes)
        }
        found_terms: dict[str, list[jax.Array]] = {}
        mine = share.of(self.validation)

        def classes_of_rows(sample: Any) -> Any:
            output = predict(sample["inputs"])
            row_class, terms = self._judge(output, {name: sample[name] for name in PAIR_ARRAYS})
            for name, value in terms.items():
                found_terms.setdefault(name, []).append(value)
            return row_class

        sweeps = judge(
            self._evaluation_sample,
            mine,
            {NETWORK: classes_of_rows},
            workers=self.config.data.workers,
            timeout=worker_timeout(self.config),
            name_of=lambda keyframe: keyframe.token,
            at_once=share.at_once,
        )
        for sweep in Bar(
            sweeps, total=len(mine), desc="validation", leave=False, disable=not share.writes
        ):
            scores.add(sweep.sample, sweep.columns)
            if NETWORK in sweep.columns and sweep.sample["token"] in drawn:
                colors = self.vocabulary.colors
                prediction = sweep.columns[NETWORK]
                token = sweep.sample["token"]
                with decoration(f"The picture of sweep {token}", Bar.write):
                    validation_picture(
                        directory, step, sweep.sample, prediction, colors, names, "y"
                    )
        share.merge(scores)
        sums = share.sums({name: [*map(float, found)] for name, found in found_terms.items()})
        means = {f"validation_{name}": total / len(self.validation) for name, total in sums.items()}
        if self.text is None:
            return means
        found = ValidationScores(scores, "zero_shot_miou")
        if scores.labelled_sweeps and share.writes:
            Bar.write("\n".join([tables.format_table(found.columns), *found.summary()]))
            found.write_tables(directory, step)
        return means | found.metrics()

    def _read_words(self) -> None:
        text = self.dumps.text_embeddings
        if text is None:
            raise InputError(
                f"{self.dumps.root}: the dumps of {self.dumps.teacher!r} have no words, but "
                f"config.loss.text_weight is {self.config.loss.text_weight}: set it to 0 or use "
                "configs/tmp_slic.py"
            )
        self.text = np.asarray(text, np.float32)
        self.text_targets = losses.soft_text_targets(
            self.text, self.vocabulary.word_group, self.config.loss.own_word_share
        )
        self._classify = word_classifier(self.text, self.vocabulary)

    def _say_what_is_unlabelled(self) -> None:
        data, total = self.config.data, len(self.validation)
        unlabelled = sum(keyframe.lidarseg_path is None for keyframe in self.validation)
        if jax.process_index() or not unlabelled:
            return
        if unlabelled == total:
            line = (
                f"no true labels of {data.val_split!r}, so there is no zero-shot score, only the "
                "validation loss and the agreement with the teacher."
            )
        else:
            line = (
                f"{unlabelled:,} of {total:,} sweeps of {data.val_split!r} have no labels: left "
                "out of the zero-shot score, though not of the loss."
            )
        print(f"{data.root}: {line}", flush=True)

    def _check_model(self) -> None:
        model = self.config.model
        check_model(model)
        wanted = model.out_channels
        if wanted is not None and wanted != self.dumps.embedding_size:
            raise InputError(
                f"config.model.out_channels = {wanted}, but the embeddings in {self.dumps.root} "
                f"have {self.dumps.embedding_size} values"
            )

    def _loss_of(
        self, output: jax.Array, pairs: Any, axis_name: str | None = None, devices: int = 1
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        settings = self.config.loss
        return losses.tri_modal_loss(
            output,
            pairs["pair_voxel"],
            pairs["pair_superpoint"],
            pairs["superpoint_word"],
            pairs["superpoint_embedding"],
            None if self.text is None else jnp.asarray(self.text),
            None if self.text_targets is None else jnp.asarray(self.text_targets),
            temperature=settings.temperature,
            image_weight=settings.image_weight,
            text_weight=settings.text_weight,
            axis_name=axis_name,
            devices_of_a_shard=devices,
        )

    def _judge_output(self, output: jax.Array, pairs: Any) -> tuple[Any, dict[str, jax.Array]]:
        """Class of every voxel row (None without words) and the loss's terms, of one sweep."""
        loss, terms = self._loss_of(output, pairs)
        terms = {"loss": loss, **{k: v for k, v in terms.items() if k.endswith("_loss")}}
        return (None if self.text is None else self._classify(output)), terms

    def _evaluation_sample(self, keyframe: Keyframe) -> dict[str, Any]:
        """The sample of a keyframe with the arrays that the loss needs."""
        capacities = self.sweep_capacities
        sample = keyframe_sample(
            keyframe, self.vocabulary, capacities.plans, self.voxels, self.dumps
        )
        groups = sample["groups"]
        token = keyframe.token
        series = capacities.pairs, capacities.superpoints
        pairs = series[0][fitting_size([len(groups.pair_point)], series[0], "pairs", token)]
        masks = series[1][fitting_size([len(groups.word)], series[1], "superpoints", token)]
        arrays = (
            pad(sample["inverse"][groups.pair_point], pairs, -1),
            pad(groups.pair_superpoint, pairs, -1),
            pad(groups.word, masks, -1)[None],
            pad(groups.embedding, masks, 0)[None],
        )
        return sample | dict(zip(PAIR_ARRAYS, arrays, strict=True))


def pretraining_model(
    model: ConfigDict, embedding_size: int, rngs: nnx.Rngs, axis_name: str | None
) -> nnx.Module:
    """The network that `config.model` describes, with one unit feature a voxel."""
    return recipe_model(model, 1, embedding_size, rngs, axis_name, normalize_features=True)
