"""Fine-tuning on true labels, or linear probing where the config freezes the trunk."""

from __future__ import annotations

from ml_collections import ConfigDict

from uov_jax.data.labelled_sweeps import LabelledSweeps, NuScenesSweeps
from uov_jax.data.nuscenes import NuScenesTables
from uov_jax.data.semantickitti import SemanticKittiScans
from uov_jax.tasks.segmentation import Segmentation
from uov_jax.vocabulary import load_vocabulary


class FineTuning(Segmentation):
    """The task of `configs/finetune_*.py` and `configs/linear_probing_*.py`."""

    def __init__(self, config: ConfigDict) -> None:
        """Open the dataset and check that every sweep has its labels.

        Raises:
          FileNotFoundError: dataset, sweeps or label files are missing.
          ValueError: unknown dataset or split, no labels, or settings that do not fit.

        """
        open_sweeps = {"nuscenes": _nuscenes, "semantickitti": _semantickitti}
        data = config.data
        if data.dataset not in open_sweeps:
            raise ValueError(
                f"config.data.dataset: expected one of {sorted(open_sweeps)}, found "
                f"{data.dataset!r}"
            )
        splits = [data.train_split] + [data.val_split] * bool(data.val_split)
        train, *validation = open_sweeps[data.dataset](data, splits)
        super().__init__(config, train, next(iter(validation), None))
        self.title = "Linear probing" if self.frozen_trunk else "Fine-tuning"


def _nuscenes(data: ConfigDict, splits: list[str]) -> list[LabelledSweeps]:
    vocabulary = load_vocabulary(data.vocabulary)
    tables = NuScenesTables(data.root, data.version)
    return [NuScenesSweeps(tables.keyframes(split), vocabulary) for split in splits]


def _semantickitti(data: ConfigDict, splits: list[str]) -> list[LabelledSweeps]:
    return [SemanticKittiScans(data.root, split, data.intensity_offset) for split in splits]
