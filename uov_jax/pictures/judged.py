"""Pictures of judged scans: from above, over the camera images, and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.evaluation.judged_split import JudgedSplit
from uov_jax.evaluation.judging import JudgedSweep
from uov_jax.evaluation.score_files import file_name
from uov_jax.evaluation.scores import SubsetScores
from uov_jax.pictures.bird_eye import bird_eye
from uov_jax.pictures.cameras import camera_picture
from uov_jax.pictures.confusion import confusion_picture
from uov_jax.pictures.room import room_picture


class JudgedPictures:
    """Draws what an evaluation judged (`evaluation.evaluate.Pictures`)."""

    def sweep(self, split: JudgedSplit, index: int, sweep: JudgedSweep, folder: Path) -> None:
        """Draw a scan once for each column, from above and, where it has images, over them.

        Rooms are drawn in perspective too.
        """
        folder.mkdir(parents=True, exist_ok=True)
        sample, keyframe = sweep.sample, split.keyframe(index)
        for name, classes in sweep.columns.items():
            panels = labellings(sample, classes)
            stem = f"{sample['token']}_{file_name(name)}"
            title = f"{sample['token']}, {name}"
            if split.unit == "rooms":
                room_picture(
                    sample["points"], panels, split.colors, folder / f"{stem}.png",
                    point_colors=sample["colors"], names=split.classes, title=title,
                )  # fmt: skip
                continue
            bird_eye(
                sample["points"], panels, split.colors, folder / f"{stem}.png",
                names=split.classes, title=title, ahead=split.ahead,
            )  # fmt: skip
            views = () if keyframe is None else keyframe.cameras
            if keyframe is not None and views and all(view.path.is_file() for view in views):
                camera_picture(
                    sample["points"], panels, keyframe, split.colors,
                    folder / f"{stem}_cameras.jpg", names=split.classes, title=title,
                )  # fmt: skip

    def scores(self, scores: Mapping[str, SubsetScores], folder: Path) -> list[Path]:
        """Draw the confusion matrix of every column as `COLUMN.png`; returns the files."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name, subsets in scores.items():
            path = folder / f"{file_name(name)}.png"
            confusion_picture(subsets.everywhere, path, title=name)
            written.append(path)
        return written


def labellings(sample: Mapping[str, Any], prediction: np.ndarray) -> dict[str, np.ndarray]:
    """The panels of a sweep: truth and teacher's labels where it has some, and the prediction."""
    given = {"truth": sample["truth"], "teacher": sample["teacher_label"]}
    return {name: labels for name, labels in given.items() if labels is not None} | {
        "prediction": prediction
    }


def validation_picture(
    directory: Path,
    step: int,
    sample: Mapping[str, Any],
    prediction: np.ndarray,
    colors: np.ndarray,
    names: Sequence[str],
    ahead: str,
) -> None:
    """Draw a sweep of a run's validation as `pictures/step_0000100_TOKEN.png`.

    Args:
        directory: of the run.
        step: that the network is at.
        sample: `points`, `truth`, `teacher_label`, `token`, as in `JudgedSplit.sample`.
        prediction: uint8[N], the class of every point.
        colors: uint8[C, 3], RGB of every class.
        names: of the classes.
        ahead: the axis along which the vehicle goes.

    """
    path = directory / "pictures" / f"step_{step:07d}_{sample['token']}.png"
    path.parent.mkdir(exist_ok=True)
    bird_eye(
        sample["points"], labellings(sample, prediction), colors, path, names=names, ahead=ahead
    )
