"""Fine-tuning on true labels, or linear probing where the config freezes the trunk."""

from __future__ import annotations

from ml_collections import ConfigDict

from uov_jax.datasets.split import open_dataset
from uov_jax.tasks.segmentation import Segmentation


class FineTuning(Segmentation):
    """The task of `configs/finetune_*.py` and `configs/linear_probing_*.py`."""

    def __init__(self, config: ConfigDict) -> None:
        """Open the dataset; sweeps without labels are left out, which is said.

        Raises:
            MissingFileError: dataset, sweeps or label files are missing.
            InputError: unknown dataset or split, no labels at all, or settings that do not fit.

        """
        data = config.data
        dataset = open_dataset(data)
        train = dataset.split(data.train_split).sweeps()
        validation = dataset.split(data.val_split).sweeps() if data.val_split else None
        super().__init__(config, train, validation)
        self.title = "Linear probing" if self.frozen_trunk else "Fine-tuning"
