"""Cards of networks: of a task that has its data open, and of a recipe alone."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from uov_jax.checkpoints.agreement import VoxelSettings, voxel_settings
from uov_jax.checkpoints.card import ROOMS, SWEEPS, NetworkCard, Words
from uov_jax.checkpoints.files import StoredNetwork
from uov_jax.clouds.likeness import CloudFigures, figures_of, medians
from uov_jax.datasets.semantickitti import class_table
from uov_jax.datasets.split import NUSCENES, SEMANTICKITTI
from uov_jax.dumps.reference import open_dumps
from uov_jax.errors import InputError, UserError
from uov_jax.evaluation.judging import evenly_spaced
from uov_jax.fusion.words import read_words
from uov_jax.input.room_voxels import room_voxels
from uov_jax.input.voxels import voxels_of
from uov_jax.tasks.recipe_batches import ROOM_TASKS
from uov_jax.training.task import fingerprint
from uov_jax.vocabulary import load_vocabulary

LOOKED_AT = 6  # training clouds whose figures a card has
TASKS = ("tri_modal", "annotation_free", "finetune", "esg")  # whose networks label clouds
# Of one real cloud of each dataset, for networks that do not say what they learned from.
USUAL_FIGURES: Mapping[str, CloudFigures] = {
    NUSCENES: CloudFigures((66.9, 89.0, 9.3), -1.875, 34_688, 2.18, 100.0),
    SEMANTICKITTI: CloudFigures((93.6, 86.2, 5.1), -1.625, 123_389, 2.30, 0.61),
}


def sweep_figures(
    clouds: Sequence[Any],
    points: Callable[[Any], np.ndarray],
    voxels: VoxelSettings,
    intensity_offset: float = 0.0,
) -> CloudFigures | None:
    """Figures of some training sweeps; None if none of those looked at can be read.

    Damaged ones are left out: whether training bears them is for its loader to say.

    Args:
        clouds: all of them.
        points: float32[N, 4 or more] of one, the intensity with its offset in the fourth column.
        voxels: of the recipe.
        intensity_offset: is taken off again.

    """

    def figures(cloud: Any) -> CloudFigures:
        rows = points(cloud)
        rows = rows[np.isfinite(rows[:, :4]).all(axis=1)]
        number = len(voxels_of(rows, voxels, str(cloud)).coords)
        return figures_of(rows[:, :3], rows[:, 3] - np.float32(intensity_offset), number)

    return _medians_of_some(clouds, figures)


def room_figures(
    rooms: Sequence[str], points: Callable[[str], np.ndarray], voxel_size: float
) -> CloudFigures | None:
    """As `sweep_figures`, of points float32[N, 3] of rooms and voxels of so many metres."""

    def figures(room: str) -> CloudFigures:
        coords = np.asarray(points(room))
        return figures_of(coords, None, len(room_voxels(coords, voxel_size, room).coords))

    return _medians_of_some(rooms, figures)


def _medians_of_some(
    clouds: Sequence[Any], figures: Callable[[Any], CloudFigures]
) -> CloudFigures | None:
    found = []
    for cloud in evenly_spaced(clouds, LOOKED_AT):
        with contextlib.suppress(UserError, OSError):
            found.append(figures(cloud))
    return medians(found) if found else None


def recipe_card(config: ConfigDict, place: object = "config.task") -> NetworkCard:
    """What a recipe alone says of its network; words and figures are left out.

    Args:
        config: the recipe.
        place: for the message.

    Raises:
        InputError: networks of its task do not label clouds.
        MissingFileError, VocabularyError: of its vocabulary.

    """
    task, data = config.get("task"), config.get("data", ConfigDict())
    if task not in TASKS:
        raise InputError(
            f"{place}: networks of the task {task!r} label no clouds; those of "
            f"{', '.join(map(repr, TASKS))} do"
        )
    rooms = task in ROOM_TASKS
    dataset = data.vocabulary if rooms else data.get("dataset", NUSCENES)
    ground: tuple[int, ...] = ()
    if dataset == SEMANTICKITTI:
        table = class_table()
        classes, colors = tuple(table["names"]), np.array(table["colors"], np.uint8)
    else:
        vocabulary = load_vocabulary(data.vocabulary)
        classes, colors = vocabulary.eval_classes, vocabulary.colors
        ground = vocabulary.ground_classes
    return NetworkCard(
        task=task,
        model=config.model.to_dict(),
        voxels=voxel_settings(data),
        capacity=tuple(data.get("voxels") or ()),
        unit=ROOMS if rooms else SWEEPS,
        classes=classes,
        colors=colors,
        ground=ground,
        dataset=Path(str(dataset)).stem,
        ahead="x" if dataset == SEMANTICKITTI else "y",
        intensity_offset=float(data.get("intensity_offset") or 0.0),
    )


def assumed_card(config: ConfigDict, stored: StoredNetwork, what: str) -> NetworkCard:
    """The card of a network that has none: what its recipe says, with what was assumed named.

    Args:
        config: of the run, or the recipe that a file's network is said to be of.
        stored: the network; its words are looked for where the recipe has them.
        what: the config is, for the sentences.

    Raises:
        as `recipe_card`.

    """
    card = recipe_card(config, stored.path)
    assumed = [
        f"it does not carry what labels clouds: voxels of {tuple(card.voxels.size)}, "
        f"{len(card.classes) - 1} classes and input are those of {what}"
    ]
    words = None
    if card.task in ("tri_modal", "esg"):
        try:
            words = _words_there(config, stored)
        except UserError as error:
            assumed.append(f"its words were looked for in vain: {error}")
    training = USUAL_FIGURES.get(card.dataset)
    if training is not None:
        assumed.append(f"training clouds are taken to be like those of {card.dataset}")
    return dataclasses.replace(card, words=words, training=training, assumed=tuple(assumed))


def _words_there(config: ConfigDict, stored: StoredNetwork) -> Words:
    """The words in the dumps or features that a recipe names; UserError if they are not there."""
    vocabulary = load_vocabulary(config.data.vocabulary)
    if config.task == "tri_modal":
        dumps = open_dumps(config.data.dumps, vocabulary)
        if dumps.text_embeddings is None:
            raise InputError(f"{dumps.root}: the teacher {dumps.teacher!r} has no words")
        manifest = getattr(dumps, "manifest", None)
        rows = np.asarray(dumps.text_embeddings, np.float32)
        words = Words(vocabulary, rows, dumps.teacher, manifest.weights_hash if manifest else "")
        place: object = dumps.root
    else:
        found = read_words(Path(config.data.features), vocabulary)
        words = Words(vocabulary, found.text, found.teacher, found.weights_hash)
        place = found.source
    trained_with = stored.identity.get("text_embeddings")
    if trained_with and fingerprint(words.embeddings.tobytes()) != trained_with:
        raise InputError(f"{place}: its words are embedded otherwise than those it learned from")
    return words
