"""What a teacher is, and the registry that makes one by name."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from uov_jax.errors import InputError, MissingPackageError
from uov_jax.vocabulary import Vocabulary

# Module of each teacher; it has `create(vocabulary, options) -> Teacher`. Modules are imported when
# asked for, since most need packages that training does not.
MODULES = {
    "catseg": "uov_jax.teachers.catseg",
    "fcclip": "uov_jax.teachers.fcclip",
    "maskclip": "uov_jax.teachers.maskclip",
    "san": "uov_jax.teachers.san",
    "slic": "uov_jax.teachers.slic",
}


class TeacherOptions(NamedTuple):
    """How a teacher is made; one without weights takes the defaults alone.

    weights: its official files, in the order of its module's `OFFICIAL`. device: "auto", "cpu",
    "cuda" or "cuda:1". autocast: half precision where it is enough, else float32 throughout.
    stretch_padding: of CAT-Seg alone, see `CatSegTeacher`.
    """

    weights: tuple[Path, ...] = ()
    device: str = "auto"
    autocast: bool = False
    stretch_padding: bool = False


DEFAULTS = TeacherOptions()


class ImageMasks(NamedTuple):
    """What a teacher says of one image.

    masks: uint16[H, W], 0 = void, 1..M. words: int32[M], index into the vocabulary, -1 for none.
    embeddings: float32[M, D], row i - 1 belongs to mask i.
    """

    masks: np.ndarray
    words: np.ndarray
    embeddings: np.ndarray


class Teacher(Protocol):
    """A segmenter of images.

    Attributes:
        name: as in the registry.
        weights_hash: sha256 of its weights, "" where it has none.
        embedding_size: D.
        masks_per_image: typical number, for the estimate of a dump's size.
        mask_bytes: typical size of one image's coded masks, for the same; None if nothing better
            is known than what follows from their number.
        text_embeddings: float32[W, D] of the vocabulary's words, None for a teacher without words.
        settings: by name, those that change its masks and are not the usual ones; a dump's manifest
            holds them, so that masks of different settings are not mixed.

    """

    name: str
    weights_hash: str
    embedding_size: int
    masks_per_image: int
    mask_bytes: int | None
    text_embeddings: np.ndarray | None
    settings: dict[str, Any]

    def segment(self, images: Sequence[np.ndarray]) -> list[ImageMasks]:
        """Segment RGB images uint8[H, W, 3] of one size, together where that is faster."""
        ...


def unusual(**settings: Any) -> dict[str, Any]:
    """The settings that are set: what `Teacher.settings` is made of."""
    return {name: value for name, value in settings.items() if value}


def teacher_names() -> list[str]:
    """Names that `create_teacher` knows."""
    return sorted(MODULES)


def create_teacher(
    name: str, vocabulary: Vocabulary, options: TeacherOptions = DEFAULTS
) -> Teacher:
    """Make a teacher; one without words ignores the vocabulary.

    Raises:
        InputError: there is no teacher of that name, no such device, or the weight files are not
            the official ones.
        MissingFileError: a weight file is missing; says where its authors publish it.
        MissingPackageError: a package it needs is not installed.

    """
    if name not in MODULES:
        raise InputError(f"unknown teacher {name!r}, known are {', '.join(teacher_names())}")
    with packages_needed(name):
        module = importlib.import_module(MODULES[name])
    teacher: Teacher = module.create(vocabulary, options)
    return teacher


@contextlib.contextmanager
def packages_needed(teacher: str) -> Iterator[None]:
    """Imports for a teacher; MissingPackageError for a package that is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "uov_jax"):
            raise
        raise MissingPackageError(
            f"the teacher {teacher!r} needs the package {package!r}, which is not installed: "
            "pip install -r requirements/teachers.txt, or pip install 'uov-jax[teachers]'"
        ) from error


def require_rgb(images: Sequence[np.ndarray]) -> None:
    """InputError unless these are RGB images uint8[H, W, 3], at least one and all of one size."""
    for image in images:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(
                f"expected an RGB image uint8[H, W, 3], found {image.dtype} {image.shape}"
            )
    sizes = sorted({image.shape[:2] for image in images})
    if len(sizes) != 1:
        raise InputError(f"expected images of one size, found {sizes} (height, width)")
