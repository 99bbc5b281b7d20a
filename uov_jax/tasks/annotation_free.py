"""Annotation-free training: segmentation learned from a teacher's masks, without any label."""

from __future__ import annotations

from ml_collections import ConfigDict

from uov_jax.datasets.split import open_dataset
from uov_jax.superpoints.labels import open_pseudo_labels
from uov_jax.tasks.segmentation import Segmentation
from uov_jax.vocabulary import load_vocabulary


class AnnotationFree(Segmentation):
    """The task of `configs/annotation_free_*.py`.

    It trains on the pseudo labels of `scripts/make_superpoints.py`. True labels are read only for
    validation, of the sweeps that have some. Where the validation split has pseudo labels
    too, they are judged beside the network.
    """

    title = "Annotation-free training"

    def __init__(self, config: ConfigDict) -> None:
        """Open dataset and pseudo labels and check that every training keyframe has some.

        Raises:
            MissingFileError: dataset, sweeps or pseudo labels are missing.
            InputError: they do not fit each other or the config.

        """
        data = config.data
        vocabulary = load_vocabulary(data.vocabulary)
        dataset = open_dataset(data)
        self.pseudo_labels = open_pseudo_labels(data.labels, vocabulary)
        train = dataset.split(data.train_split).sweeps(self.pseudo_labels)
        validation = teacher_labels = None
        if data.val_split:
            split = dataset.split(data.val_split)
            validation = split.sweeps()
            if all(keyframe in self.pseudo_labels for keyframe in split.with_cameras()):
                teacher_labels = split.sweeps(self.pseudo_labels)
        super().__init__(config, train, validation, teacher_labels)

    def identity(self) -> dict[str, str]:
        """Also whose pseudo labels they are."""
        return super().identity() | self.pseudo_labels.identity()
