"""The keyframes of a scene with every labelling there is of them, for pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes import NuScenesLabelFormat, true_classes
from uov_jax.datasets.projection import pair_points
from uov_jax.dumps.check import matching_cameras
from uov_jax.dumps.reference import open_dumps
from uov_jax.errors import InputError, MissingFileError
from uov_jax.pictures.animation import Frame
from uov_jax.superpoints.grouping import point_superpoints
from uov_jax.vocabulary import Vocabulary


class DrawnScene:
    """Frames with the truth, a teacher's labels and predictions, whichever there are.

    Attributes:
        unlabelled: number of keyframes without true labels in a scene where others have some.

    """

    def __init__(
        self,
        keyframes: Sequence[Keyframe],
        vocabulary: Vocabulary,
        dumps: Path | None = None,
        predictions: Path | None = None,
    ) -> None:
        """Find the files of every keyframe.

        Args:
            keyframes: in the order of time.
            vocabulary: gives the classes of labels and words.
            dumps: folder of a teacher's dumps; None for no teacher.
            predictions: folder with `TOKEN_lidarseg.bin` files at any depth; None for none.

        Raises:
            MissingFileError: a dump or a prediction is missing.
            InputError: there is nothing to draw.

        """
        self.keyframes, self.vocabulary = keyframes, vocabulary
        self.dumps = None if dumps is None else open_dumps(dumps, vocabulary)
        if self.dumps is not None:
            self.dumps.check(self.keyframes)
        self.predictions = None if predictions is None else self._find(predictions)
        labelled = sum(keyframe.lidarseg_path is not None for keyframe in keyframes)
        self.unlabelled = len(keyframes) - labelled if labelled else 0
        if not (labelled or self.dumps or self.predictions):
            raise InputError(
                "there is nothing to draw: the dataset has no labels, and neither dumps nor "
                "predictions are given"
            )

    def __len__(self) -> int:
        """Number of keyframes."""
        return len(self.keyframes)

    def __getitem__(self, number: int) -> Frame:
        """One keyframe with its labellings: "truth", "teacher", "prediction".

        The same for all, so that their pictures are of one size: a keyframe without true labels
        among others that have some has the truth 0, unlabelled, everywhere.
        """
        keyframe = self.keyframes[number]
        points = keyframe.points()
        panels: dict[str, np.ndarray] = {}
        truth = true_classes(keyframe, len(points), self.vocabulary)
        if truth is None and self.unlabelled:
            truth = np.zeros(len(points), np.uint8)
        if truth is not None:
            panels["truth"] = truth
        if self.dumps is not None:
            cameras = matching_cameras(keyframe, self.dumps.read(keyframe))
            pairs = pair_points(points, keyframe)
            word = point_superpoints(pairs, cameras, len(points)).words()
            classes = self.vocabulary.word_eval_class
            panels["teacher"] = np.where(word >= 0, classes[word], 0)
        if self.predictions is not None:
            form = NuScenesLabelFormat(self.keyframes, "", len(self.vocabulary.eval_classes))
            panels["prediction"] = form.read(self.predictions[number], len(points))
        return Frame(points, panels, keyframe)

    def _find(self, folder: Path) -> list[Path]:
        names = [f"{keyframe.lidar_token}_lidarseg.bin" for keyframe in self.keyframes]
        found: dict[str, Path] = {}
        for path in sorted(folder.rglob("[!.]*_lidarseg.bin")):
            if path.name in names and path.name in found:
                raise InputError(
                    f"{path}: predictions of the same sweep as {found[path.name]}: give the folder "
                    "of one network"
                )
            found[path.name] = path
        missing = [name for name in names if name not in found]
        if missing:
            raise MissingFileError(
                f"{folder}: no {missing[0]} at any depth, and {len(missing)} of {len(names)} "
                "predictions of the scene are missing"
            )
        return [found[name] for name in names]
