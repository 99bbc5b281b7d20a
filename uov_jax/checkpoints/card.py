"""A network's card: what it must know of itself to label clouds without its recipe and its data.

It stands in the record of every checkpoint and in exported files, as plain values.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.clouds.likeness import CloudFigures
from uov_jax.errors import InputError
from uov_jax.vocabulary import Vocabulary, parse_vocabulary

FORMAT = 1
SWEEPS, ROOMS = "sweeps", "rooms"


class CardError(InputError):
    """A checkpoint's card cannot be used; names the checkpoint and the field."""


@dataclasses.dataclass(frozen=True, eq=False)
class Words:
    """The words that a network in the space of text was trained with.

    Attributes:
        vocabulary: of W words.
        embeddings: float32[W, D], a unit row for every word.
        teacher: whose text tower made them, "" where that is not known.
        weights_hash: sha256 of its weights, "" where that is not known.

    """

    vocabulary: Vocabulary
    embeddings: np.ndarray
    teacher: str = ""
    weights_hash: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkCard:
    """What a network is, what it takes and what it says.

    Attributes:
        task: that trained it.
        model: the recipe's `model` section: `variant`, `dtype` and so on.
        voxels: how points become voxels.
        capacity: smallest and largest number of voxels that it was trained with; () for any.
        unit: "sweeps", whose input is the intensity, or "rooms", whose input are colours.
        classes: names of its C classes, the first one for points without a label.
        colors: uint8[C, 3], RGB of each.
        ground: classes that ground may have, for AFI; () where that is not said.
        dataset: whose clouds it learned from.
        ahead: the axis along which the vehicle goes, "x" or "y".
        intensity_offset: is added to intensities.
        words: of a network in the space of text; None for one with an output a class.
        training: figures of the training clouds; None where nobody looked.
        assumed: sentences on what is not known of this network and was taken from elsewhere.

    """

    task: str
    model: Mapping[str, Any]
    voxels: VoxelSettings
    capacity: tuple[int, ...]
    unit: str
    classes: tuple[str, ...]
    colors: np.ndarray
    ground: tuple[int, ...] = ()
    dataset: str = ""
    ahead: str = "y"
    intensity_offset: float = 0.0
    words: Words | None = None
    training: CloudFigures | None = None
    assumed: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values; what was assumed is left out, so that it is not taken for known."""
        words = self.words
        return {
            "format": FORMAT,
            "task": self.task,
            "model": dict(self.model),
            "voxel_size": list(self.voxels.size),
            "cylindrical": self.voxels.cylindrical,
            "capacity": list(self.capacity),
            "unit": self.unit,
            "classes": list(self.classes),
            "colors": self.colors.tolist(),
            "ground": list(self.ground),
            "dataset": self.dataset,
            "ahead": self.ahead,
            "intensity_offset": self.intensity_offset,
            "words": None
            if words is None
            else {
                "vocabulary": words.vocabulary.content(),
                # JSON has no arrays, and its decimals would be thrice as long.
                "embeddings": base64.b64encode(words.embeddings.astype("<f4").tobytes()).decode(),
                "teacher": words.teacher,
                "weights_hash": words.weights_hash,
            },
            "training": None if self.training is None else self.training.as_json(),
        }


def read_card(content: Mapping[str, Any], place: object) -> NetworkCard:
    """The card of what `as_json` gave.

    Args:
        content: plain values.
        place: the checkpoint, for messages.

    Raises:
        CardError: it is of a later format, or damaged.

    """
    if content.get("format") != FORMAT:
        raise CardError(
            f"{place}: what it says of its network is of format {content.get('format')!r}, this "
            f"program reads {FORMAT}: take the version that wrote it, or a later one"
        )
    try:
        return _card(content, place)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CardError(
            f"{place}: what it says of its network is damaged: {type(error).__name__}: {error}"
        ) from error


def _card(content: Mapping[str, Any], place: object) -> NetworkCard:
    first, second, third = (float(side) for side in content["voxel_size"])
    classes = tuple(str(name) for name in content["classes"])
    colors = np.asarray(content["colors"], np.uint8)
    ground = tuple(int(number) for number in content["ground"])
    if colors.shape != (len(classes), 3) or not set(ground) <= set(range(len(classes))):
        raise ValueError(f"{len(classes)} classes, colours {colors.shape}, ground {ground}")
    if content["unit"] not in (SWEEPS, ROOMS) or content["ahead"] not in ("x", "y"):
        raise ValueError(f"unit {content['unit']!r}, ahead {content['ahead']!r}")
    words, training = content["words"], content["training"]
    return NetworkCard(
        task=str(content["task"]),
        model=dict(content["model"]),
        voxels=VoxelSettings((first, second, third), bool(content["cylindrical"])),
        capacity=tuple(int(number) for number in content["capacity"]),
        unit=content["unit"],
        classes=classes,
        colors=colors,
        ground=ground,
        dataset=str(content["dataset"]),
        ahead=content["ahead"],
        intensity_offset=float(content["intensity_offset"]),
        words=None if words is None else _words(words, place),
        training=None if training is None else CloudFigures.from_json(training),
    )


def _words(content: Mapping[str, Any], place: object) -> Words:
    vocabulary = parse_vocabulary(content["vocabulary"], f"{place}, its words")
    values = np.frombuffer(base64.b64decode(content["embeddings"], validate=True), "<f4")
    rows = values.reshape(len(vocabulary), -1).astype(np.float32)
    if not np.isfinite(rows).all() or not rows.size:
        raise ValueError("embeddings that are not finite")
    return Words(vocabulary, rows, str(content["teacher"]), str(content["weights_hash"]))
