"""From a recipe to its task, and to the evaluation of its networks."""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from uov_jax.errors import InputError
from uov_jax.evaluation.judged_split import JudgedSplit
from uov_jax.tasks.annotation_free import AnnotationFree
from uov_jax.tasks.esg import Distillation
from uov_jax.tasks.ess import Specialisation
from uov_jax.tasks.finetune import FineTuning
from uov_jax.tasks.room_evaluation import RoomSplit
from uov_jax.tasks.segmentation_evaluation import SegmentationSplit
from uov_jax.tasks.tri_modal import TriModalPretraining
from uov_jax.tasks.tri_modal_evaluation import ZeroShotSplit
from uov_jax.training.task import Task

TASKS: dict[str, Callable[[ConfigDict], Task]] = {
    "tri_modal": TriModalPretraining,
    "annotation_free": AnnotationFree,
    "finetune": FineTuning,
    "ess": Specialisation,
    "esg": Distillation,
}
SPLITS: dict[str, Callable[[ConfigDict, str], JudgedSplit]] = {
    "tri_modal": ZeroShotSplit,
    "annotation_free": SegmentationSplit,
    "finetune": SegmentationSplit,
    "esg": RoomSplit,
}


def build_task(config: ConfigDict) -> Task:
    """The task that `config.task` names.

    Raises:
        InputError: there is no such task.
        MissingFileError: its data are not there.

    """
    _check(config)
    return TASKS[config.task](config)


def build_judged_split(config: ConfigDict, split: str | None = None) -> JudgedSplit:
    """The evaluation of the task that `config.task` names; nothing of its training is opened.

    Args:
        config: the recipe.
        split: of the dataset; None takes `config.data.val_split`.

    Raises:
        InputError: there is no such task, or there is no split.
        MissingFileError: its data are not there.

    """
    _check(config)
    if config.task not in SPLITS:
        raise InputError(
            f"networks of the task {config.task!r} are not judged: export the features with "
            "scripts/export_features.py and judge those, with configs/esg_scannet.py (or "
            "esg_s3dis.py), --config.data.features= and no checkpoint"
        )
    split = config.data.val_split if split is None else split
    if not split:
        raise InputError("there is no split to evaluate on: give one with --split")
    return SPLITS[config.task](config, split)


def _check(config: ConfigDict) -> None:
    if config.task not in TASKS:
        raise InputError(f"config.task: expected one of {sorted(TASKS)}, found {config.task!r}")
