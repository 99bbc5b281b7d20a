"""Dumping a teacher over many keyframes: resumable, with progress and an estimate of the size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from uov_jax.data.dump import (
    CameraMasks,
    DumpFolder,
    DumpManifest,
    TeacherDump,
    expected_bytes,
)
from uov_jax.data.nuscenes import Keyframe, require_files
from uov_jax.vocabulary import Vocabulary


class SegmentationLike(Protocol):
    """What a teacher says of one image (`uov_jax.teachers.Segmentation`)."""

    @property
    def masks(self) -> np.ndarray:
        """uint16[H, W]: mask ids, 0 = void."""
        ...

    @property
    def words(self) -> np.ndarray:
        """int32[M]: word of every mask, -1 for none."""
        ...

    @property
    def embeddings(self) -> np.ndarray:
        """float32[M, D]."""
        ...


class TeacherLike(Protocol):
    """What is needed of a teacher (`uov_jax.teachers.Teacher`)."""

    name: str
    weights_hash: str
    embedding_size: int
    masks_per_image: int
    text_embeddings: np.ndarray | None

    def segment(self, image: np.ndarray) -> SegmentationLike:
        """Segment an RGB image uint8[H, W, 3]."""
        ...


class DumpResult(NamedTuple):
    """What `dump_keyframes` did: keyframes written now and found done, bytes written now."""

    written: int
    found: int
    bytes: int


def dump_keyframes(
    teacher: TeacherLike,
    keyframes: Sequence[Keyframe],
    output: str | Path,
    vocabulary: Vocabulary,
    say: Callable[[str], None] = print,
) -> DumpResult:
    """Write the dumps of the keyframes that have none yet.

    Args:
        teacher: the teacher.
        keyframes: whose images are segmented.
        output: the folder; one of the same teacher and vocabulary is gone on with.
        vocabulary: the dictionary; noted in the folder if the teacher has words.
        say: takes a line of what is about to happen.

    Raises:
        FileNotFoundError: images are missing; found before anything is written.
        ValueError: no keyframes, images of different sizes, an image that cannot be read, or a
            folder of other dumps.

    """
    require_files(keyframes, lambda k: [camera.path for camera in k.cameras], "camera images")
    folder = DumpFolder.create(
        output, _manifest(teacher, keyframes, vocabulary), teacher.text_embeddings
    )
    waiting = [keyframe for keyframe in keyframes if keyframe not in folder]
    found = len(keyframes) - len(waiting)
    num_images = sum(len(keyframe.cameras) for keyframe in waiting)
    size = expected_bytes(len(waiting), teacher.embedding_size, teacher.masks_per_image)
    say(
        f"Teacher {teacher.name!r}: {len(waiting)} keyframes ({num_images} images) to do, {found} "
        f"done already. Expected size: {readable_bytes(size)} in {folder.root}"
    )
    written = 0
    for keyframe in tqdm(waiting, unit="keyframe", desc=teacher.name, disable=not waiting):
        written += folder.write(dump_of_keyframe(teacher, keyframe, folder.manifest))
    return DumpResult(len(waiting), found, written)


def dump_of_keyframe(
    teacher: TeacherLike, keyframe: Keyframe, manifest: DumpManifest
) -> TeacherDump:
    """Segment the images of one keyframe."""
    cameras = []
    for view in keyframe.cameras:
        image = read_image(view.path)
        if image.shape[:2] != (view.height, view.width):
            raise ValueError(
                f"{view.path}: {image.shape[:2]} pixels (height, width), the table "
                f"sample_data says {(view.height, view.width)}"
            )
        found = teacher.segment(image)
        cameras.append(
            CameraMasks(view.channel, view.token, found.masks, found.words, found.embeddings)
        )
    return TeacherDump(
        teacher=teacher.name,
        weights_hash=teacher.weights_hash,
        vocabulary_hash=manifest.vocabulary_hash,
        keyframe=keyframe.token,
        cameras=tuple(cameras),
    )


def read_image(path: Path) -> np.ndarray:
    """uint8[H, W, 3]: an image as RGB; ValueError naming the file if it cannot be decoded."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{path}: corrupt or truncated image: {error}") from error


def readable_bytes(size: float) -> str:
    """A size as people read it, such as "3.2 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _manifest(
    teacher: TeacherLike, keyframes: Sequence[Keyframe], vocabulary: Vocabulary
) -> DumpManifest:
    sizes = {(view.height, view.width) for keyframe in keyframes for view in keyframe.cameras}
    if len(sizes) != 1:
        raise ValueError(f"expected images of one size, found {sorted(sizes)} (height, width)")
    has_words = teacher.text_embeddings is not None
    return DumpManifest(
        teacher=teacher.name,
        weights_hash=teacher.weights_hash,
        vocabulary=vocabulary.name if has_words else "",
        vocabulary_hash=vocabulary.hash if has_words else "",
        embedding_size=teacher.embedding_size,
        image_size=sizes.pop(),
    )
