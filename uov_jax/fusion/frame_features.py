"""Features that lie as files beside the frames: of the simulated teacher, or of one's own.

    FRAMES/teacher.json                   name, embedding_size, vocabulary_hash; it may have
                                          weights_hash, and of grids resize: "bilinear" (as where
                                          it does not say) or "nearest"
    FRAMES/text_embeddings.npz            embeddings: float32 [W, D], of the vocabulary's words
    FRAMES/scene0000_00/color/20.jpg
                        features/20.npz   masks: uint16 [h, w], 0 = void, 1..M, of the image's size
                                          or coarser; embeddings: float16 [M, D]
                        features/20.npy   or a grid float16 [D, h, w] instead

A frame's features lie in the folder `features` beside the one that its image lies in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.contents import MALFORMED, map_npy, parse_json, parse_npz
from uov_jax.datasets.frames import Frame
from uov_jax.errors import InputError, MissingFileError, UserError
from uov_jax.files import DAMAGE, read_bytes, write_atomically, write_npz
from uov_jax.fusion.image_features import FeatureGrid, ImageFeatures, MaskFeatures, Resize
from uov_jax.fusion.word_embeddings import TEXT_EMBEDDINGS, read_embeddings
from uov_jax.vocabulary import Vocabulary

TEACHER = "teacher.json"
RESIZES: tuple[Resize, ...] = ("bilinear", "nearest")
HALF, SINGLE = np.dtype(np.float16), np.dtype(np.float32)


class FileTeacher:
    """A teacher whose features of all frames were written before; see `ImageTeacher`."""

    quick = True

    def __init__(self, root: Path) -> None:
        """Read who the teacher is.

        Args:
            root: of the frames.

        Raises:
            MissingFileError: there is no `teacher.json`.
            InputError: it cannot be used.

        """
        self.root = root
        path = root / TEACHER
        if not path.is_file():
            raise MissingFileError(
                f"{path}: no teacher's features lie beside these frames: name a teacher that looks "
                "at images, or write them as uov_jax/fusion/frame_features.py says"
            )
        try:
            content = parse_json(read_bytes(path))
            self.name = str(content["name"])
            self.embedding_size = int(content["embedding_size"])
            self.vocabulary_hash = str(content["vocabulary_hash"])
            self.weights_hash = str(content.get("weights_hash", ""))
            self._resize: Resize = content.get("resize", RESIZES[0])
            if self._resize not in RESIZES:
                raise ValueError(f"resize is {self._resize!r}")
        except MALFORMED as error:
            raise InputError(
                f"{path}: expected name, embedding_size and vocabulary_hash: {error}"
            ) from error
        self.settings: dict[str, Any] = {}
        if self._resize != RESIZES[0]:
            self.settings["resize"] = self._resize

    def text_embeddings(self, vocabulary: Vocabulary) -> np.ndarray:
        """float32[W, D]: the words of a vocabulary as this teacher has them.

        Raises:
            MissingFileError: there is no file of them.
            InputError: they are of another vocabulary, or cannot be used.

        """
        if self.vocabulary_hash != vocabulary.hash:
            raise InputError(
                f"{self.root / TEACHER}: the teacher {self.name!r} has other words than the "
                f"vocabulary {vocabulary.name!r}: give the one that it was made with"
            )
        return read_embeddings(self.root / TEXT_EMBEDDINGS, len(vocabulary), self.embedding_size)

    def load(self, frame: Frame) -> ImageFeatures:
        """Read a frame's features.

        Raises:
            MissingFileError: it has none.
            InputError: the file is damaged, or holds something else.

        """
        path = self.file(frame)
        if path is None:
            raise MissingFileError(
                f"{_features_of(frame)}.npz: no features of this frame, nor .npy: run the "
                f"teacher {self.name!r} over all frames"
            )
        return read_features(path, self.embedding_size, self._resize)

    def file(self, frame: Frame) -> Path | None:
        """The file of a frame's features; None where there is none."""
        stem = _features_of(frame)
        paths = (stem.with_name(f"{stem.name}{ending}") for ending in (".npz", ".npy"))
        return next(filter(Path.is_file, paths), None)

    def features(self, frame: Frame, loaded: ImageFeatures) -> ImageFeatures:
        """What was loaded."""
        return loaded


def _features_of(frame: Frame) -> Path:
    """Of the file, without its ending."""
    return frame.color.parent.parent / "features" / frame.color.stem


def read_features(path: Path, embedding_size: int, resize: Resize = "bilinear") -> ImageFeatures:
    """The features of one file, a grid mapped into memory; `resize` is that of a grid.

    Raises:
        InputError: the file is damaged, or holds something else; names it.

    """
    try:
        if path.suffix == ".npy":
            return _grid(path, map_npy(path), embedding_size, resize)
        stored = parse_npz(read_bytes(path))
        masks, embeddings = stored["masks"], stored["embeddings"]
    except UserError:
        raise
    except DAMAGE as error:
        raise InputError(f"{path}: damaged, or no features of an image: {error}") from error
    return _masks(path, masks, embeddings, embedding_size)


def write_features(path: Path, features: ImageFeatures) -> Path:
    """Write what `read_features` reads; `path` has no ending, the file's is returned."""
    if isinstance(features, MaskFeatures):
        file = path.with_name(f"{path.name}.npz")
        write_npz(file, {"masks": features.masks, "embeddings": features.embeddings})
        return file
    assert isinstance(features, FeatureGrid)
    file = path.with_name(f"{path.name}.npy")
    write_atomically(file, lambda out: np.save(out, features.planes, allow_pickle=False))
    return file


def _grid(path: Path, planes: np.ndarray, embedding_size: int, resize: Resize) -> FeatureGrid:
    fits = planes.dtype in (HALF, SINGLE) and planes.ndim == 3 and planes.size > 0
    if not fits or len(planes) != embedding_size:
        raise InputError(
            f"{path}: expected float16 [{embedding_size}, h, w], found {planes.dtype} "
            f"{list(planes.shape)}"
        )
    return FeatureGrid(planes, resize)


def _masks(
    path: Path, masks: np.ndarray, embeddings: np.ndarray, embedding_size: int
) -> MaskFeatures:
    fits = masks.dtype == np.uint16 and masks.ndim == 2 and masks.size > 0
    fits &= embeddings.dtype in (HALF, SINGLE) and embeddings.ndim == 2
    if not fits or embeddings.shape[1] != embedding_size:
        raise InputError(
            f"{path}: expected masks uint16 [h, w] and embeddings float16 [M, {embedding_size}], "
            f"found {masks.dtype} {list(masks.shape)} and {embeddings.dtype} "
            f"{list(embeddings.shape)}"
        )
    if masks.max() > len(embeddings):
        raise InputError(
            f"{path}: a pixel of mask {masks.max()}, but there are {len(embeddings)} embeddings"
        )
    return MaskFeatures(masks, embeddings)
