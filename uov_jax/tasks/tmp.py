"""Tri-modal pre-training (UOV-TMP): LiDAR features aligned with image masks and their words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from flax import nnx
from ml_collections import ConfigDict

from uov_jax import losses
from uov_jax.data.augment import CropSettings
from uov_jax.data.batching import Capacities, fitting_size, pad
from uov_jax.data.dump import settings_identity
from uov_jax.data.evaluation_sample import evaluation_sample
from uov_jax.data.nuscenes import Keyframe, NuScenesTables, require_files
from uov_jax.data.pipeline import TrainBatches, train_batches
from uov_jax.data.projection import pair_points
from uov_jax.data.reference_dump import open_dumps
from uov_jax.data.superpoints import matching_cameras, superpoints
from uov_jax.data.tmp_sample import TmpAugmentation, TmpSource, VoxelSettings, sweep_files
from uov_jax.evaluation import pictures, tables
from uov_jax.models import VARIANTS, build_model
from uov_jax.tasks.validation import (
    NetworkScores,
    evenly_spaced,
    label_files,
    picture_path,
    prefetched,
    sha256,
)
from uov_jax.tasks.zero_shot import word_classifier
from uov_jax.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from uov_jax.tasks import Predict

PAIR_ARRAYS = ("pair_voxel", "pair_superpoint", "superpoint_word", "superpoint_embedding")


class TriModalPretraining:
    """The task of `configs/tmp_*.py`.

    Without words in the dumps (class-agnostic superpixels) there is no text term and no zero-shot
    score; without true labels there is the validation loss and the agreement with the teacher.
    """

    title = "Tri-modal pre-training"

    def __init__(self, config: ConfigDict) -> None:
        """Open dataset and dumps and check that every keyframe has what it needs.

        Raises:
          FileNotFoundError: dataset, sweeps or dumps are missing.
          ValueError: they do not fit each other or the config.

        """
        self.config = config
        data = config.data
        self.vocabulary = load_vocabulary(data.vocabulary)
        tables_of_dataset = NuScenesTables(data.root, data.version)
        self.dumps = open_dumps(data.dumps, self.vocabulary)
        self.voxels = VoxelSettings(tuple(data.voxel_size), data.cylindrical)
        train = tables_of_dataset.keyframes(data.train_split)
        augmentation = TmpAugmentation(
            scale=None if data.scale is None else tuple(data.scale),
            crop=CropSettings(at_small_pixel=data.crop_lookup_at_small_pixel),
        )
        self.source = TmpSource(train, self.dumps, self.voxels, augmentation)
        self.validation: list[Keyframe] = []
        if data.val_split:
            keyframes = tables_of_dataset.keyframes(data.val_split)
            self.validation = evenly_spaced(keyframes, config.run.validation_keyframes)
            require_files(self.validation, sweep_files, "LiDAR sweeps")
            require_files(self.validation, label_files, "label files")
            self.dumps.check(self.validation)
        self.text: np.ndarray | None = None
        self.text_targets: np.ndarray | None = None
        if config.loss.text_weight:
            self._read_words()
            self._say_if_unlabelled()
        self._check_model()
        self.sweep_capacities = self._capacities(1)
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
            "text_embeddings": "" if self.text is None else sha256(self.text.tobytes()),
            "embedding_size": str(self.dumps.embedding_size),
            "training_keyframes": sha256(
                "\n".join(keyframe.token for keyframe in self.source.keyframes).encode()
            ),
        }

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        """The network with one unit feature of the teacher's embedding size a voxel."""
        return pretraining_model(self.config.model, self.dumps.embedding_size, rngs, axis_name)

    def initialize(self, model: nnx.Module) -> None:
        """Nothing to do: pre-training starts from the seed's weights."""

    def train_batches(self, num_devices: int) -> TrainBatches:
        """Endless batches for this process's devices."""
        config = self.config
        processes = jax.process_count()
        per_device = config.batch_size // (num_devices * processes)
        return train_batches(
            self.source,
            batch_size_per_device=per_device,
            num_devices=num_devices,
            capacities=self._capacities(per_device),
            seed=config.seed,
            workers=config.data.workers,
            processes=config.data.worker_processes,
            host=jax.process_index(),
            num_hosts=processes,
        )

    def loss(self, model: Any, batch: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The tri-modal loss of one device's batch."""
        output = model(batch["features"], batch["plan"])
        return self._loss_of(output, batch)

    def parameter_group(self, path: str) -> str:
        """The last layer is the head."""
        return "head" if path.startswith("final.") else "trunk"

    def score(self, metrics: dict[str, float]) -> float | None:
        """Zero-shot mIoU where there is one, else the negative validation loss."""
        if "zero_shot_miou" in metrics:
            return metrics["zero_shot_miou"]
        return -metrics["validation_loss"] if "validation_loss" in metrics else None

    def evaluate(self, predict: Predict, directory: Path, step: int) -> dict[str, float]:
        """Validation loss, zero-shot scores beside the teacher's, pictures and a table.

        The loss is that of batches of one sweep: it has fewer masks to tell apart than a training
        batch and is lower for that reason alone.
        """
        if not self.validation:
            return {}
        scores = NetworkScores.empty(self.vocabulary.eval_classes, "zero_shot_miou")
        drawn = {
            keyframe.token
            for keyframe in evenly_spaced(self.validation, self.config.run.picture_keyframes)
        }
        sums: dict[str, float] = {}
        samples = prefetched(self._evaluation_sample, self.validation, self.config.data.workers)
        bar = tqdm.tqdm(samples, total=len(self.validation), desc="validation", leave=False)
        for sample in bar:
            output = predict(sample["features"], sample["plan"])
            row_class, terms = self._judge(output, {name: sample[name] for name in PAIR_ARRAYS})
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value)
            if row_class is None:
                continue
            prediction = np.asarray(row_class)[sample["inverse"]]
            scores.add(prediction, sample["truth"], sample["teacher_label"], sample["seen"])
            if sample["token"] in drawn:
                self._draw(sample, prediction, picture_path(directory, step, sample["token"]))
        if scores.labelled_sweeps:
            tqdm.tqdm.write("\n".join([tables.format_table(scores.columns), *scores.summary()]))
            scores.write_tables(directory, step)
        means = {f"validation_{name}": total / len(self.validation) for name, total in sums.items()}
        return means | scores.metrics()

    def _read_words(self) -> None:
        text = self.dumps.text_embeddings
        if text is None:
            raise ValueError(
                f"{self.dumps.root}: the dumps of {self.dumps.teacher!r} have no words, but "
                f"config.loss.text_weight is {self.config.loss.text_weight}: set it to 0 or use "
                "configs/tmp_slic.py"
            )
        self.text = np.asarray(text, np.float32)
        self.text_targets = losses.soft_text_targets(
            self.text, self.vocabulary.word_group, self.config.loss.own_word_share
        )
        self._classify = word_classifier(self.text, self.vocabulary)

    def _say_if_unlabelled(self) -> None:
        labelled = any(keyframe.lidarseg_path is not None for keyframe in self.validation)
        if self.validation and not labelled and not jax.process_index():
            data = self.config.data
            print(
                f"{data.root}: no true labels of {data.val_split!r}, so there is no zero-shot "
                "score, only the validation loss and the agreement with the teacher.",
                flush=True,
            )

    def _check_model(self) -> None:
        model = self.config.model
        if model.variant not in VARIANTS:
            raise ValueError(
                f"config.model.variant: expected one of {sorted(VARIANTS)}, found {model.variant!r}"
            )
        wanted = model.out_channels
        if wanted is not None and wanted != self.dumps.embedding_size:
            raise ValueError(
                f"config.model.out_channels = {wanted}, but the embeddings in {self.dumps.root} "
                f"have {self.dumps.embedding_size} values"
            )

    def _capacities(self, sweeps: int) -> Capacities:
        """Static shapes of so many sweeps."""
        data = self.config.data
        return Capacities.for_sweeps(
            sweeps,
            first_kernel=VARIANTS[self.config.model.variant].first_kernel,
            voxels=tuple(data.voxels),
            pairs=tuple(data.pairs),
            superpoints=tuple(data.superpoints),
        )

    def _loss_of(self, output: jax.Array, pairs: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
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
        )

    def _judge_output(self, output: jax.Array, pairs: Any) -> tuple[Any, dict[str, jax.Array]]:
        """Class of every voxel row (None without words) and the loss's terms, of one sweep."""
        loss, terms = self._loss_of(output, pairs)
        terms = {"loss": loss, **{k: v for k, v in terms.items() if k.endswith("_loss")}}
        return (None if self.text is None else self._classify(output)), terms

    def _evaluation_sample(self, keyframe: Keyframe) -> dict[str, Any]:
        """The sample of a keyframe with the arrays that the loss needs."""
        capacities = self.sweep_capacities
        sample = evaluation_sample(
            keyframe, self.vocabulary, capacities.plans, self.voxels, self.dumps
        )
        cameras = matching_cameras(keyframe, self.dumps.read(keyframe))
        groups = superpoints(pair_points(sample["points"], keyframe), cameras)
        token = keyframe.token
        series = capacities.pairs, capacities.superpoints
        pairs = series[0][fitting_size([len(groups.pair_point)], series[0], "pairs", token)]
        masks = series[1][fitting_size([len(groups.word)], series[1], "superpoints", token)]
        arrays = (
            pad(sample["inverse"][groups.pair_point], pairs, -1),
            pad(groups.pair_superpoint, pairs, -1),
            pad(groups.word, masks, -1),
            pad(groups.embedding, masks, 0),
        )
        return sample | dict(zip(PAIR_ARRAYS, arrays, strict=True))

    def _draw(self, sample: dict[str, Any], prediction: np.ndarray, path: Path) -> None:
        panels = {"prediction": prediction, "teacher": sample["teacher_label"]}
        if sample["truth"] is not None:
            panels["truth"] = sample["truth"]
        path.parent.mkdir(exist_ok=True)
        pictures.bird_eye(
            sample["points"],
            panels,
            self.vocabulary.colors,
            path,
            names=self.vocabulary.eval_classes,
        )


def pretraining_model(
    model: ConfigDict, embedding_size: int, rngs: nnx.Rngs, axis_name: str | None
) -> nnx.Module:
    """The network that `config.model` describes, with one unit feature a voxel."""
    return build_model(
        model.variant,
        1,
        embedding_size,
        normalize_features=True,
        batch_norm_momentum=model.batch_norm_momentum,
        block_batch_norm_momentum=model.block_batch_norm_momentum,
        dtype=jnp.dtype(model.dtype),
        axis_name=axis_name,
        rngs=rngs,
    )
