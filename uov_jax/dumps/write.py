"""Dumping a teacher over many keyframes: resumable, with progress and an estimate of the size."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from uov_jax.bar import Bar
from uov_jax.datasets.image_file import read_image
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.required_files import require_images
from uov_jax.dumps.file import CameraMasks, TeacherDump
from uov_jax.dumps.folder import DumpFolder, DumpManifest, expected_bytes, image_sizes
from uov_jax.errors import InputError
from uov_jax.files import remove_unfinished
from uov_jax.readable import duration, readable_bytes
from uov_jax.vocabulary import Vocabulary

SAMPLE = 4  # keyframes after which size and time are estimated from what they took
HOPELESS = 10  # failures one after the other: something is wrong with all
# What an image that cannot be read, or one too many for the memory, raises.
FAILURES = (OSError, ValueError, RuntimeError, MemoryError)


class SegmentationLike(Protocol):
    """What a teacher says of one image (`uov_jax.teachers.ImageMasks`)."""

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
    mask_bytes: int | None
    text_embeddings: np.ndarray | None
    settings: dict[str, Any]

    def segment(self, images: Sequence[np.ndarray]) -> Sequence[SegmentationLike]:
        """Segment RGB images uint8[H, W, 3] of one size."""
        ...


class Failure(NamedTuple):
    """A keyframe that has no dump because an image could not be read or segmented."""

    keyframe: Keyframe
    reason: str


class DumpResult(NamedTuple):
    """What `dump_keyframes` did.

    written, found: keyframes written now and found done. bytes: written now. failed: keyframes
    that failed twice. seconds: of reading and segmenting one image, 0.0 where there was none.
    """

    written: int
    found: int
    bytes: int
    failed: tuple[Failure, ...] = ()
    seconds: float = 0.0


def dump_keyframes(
    teacher: TeacherLike,
    keyframes: Sequence[Keyframe],
    output: str | Path,
    vocabulary: Vocabulary,
    say: Callable[[str], None] = print,
    batch: int = 1,
) -> DumpResult:
    """Write the dumps of the keyframes that have none yet.

    A keyframe that fails is reported and tried again at the end, its images one at a time.

    Args:
        teacher: the teacher.
        keyframes: whose images are segmented.
        output: the folder; one of the same teacher and vocabulary is gone on with.
        vocabulary: the dictionary; noted in the folder if the teacher has words.
        say: takes a line of what is about to happen.
        batch: images that the teacher is given together, those of one size in a keyframe.

    Raises:
        MissingFileError: images are missing; found before anything is written.
        InputError: images of one camera in different sizes, or a folder of other dumps.
        RuntimeError: too many keyframes failed one after the other.

    """
    require_images(keyframes)
    folder = DumpFolder.create(
        output, _manifest(teacher, keyframes, vocabulary), teacher.text_embeddings
    )
    waiting = [keyframe for keyframe in keyframes if keyframe not in folder]
    found = len(keyframes) - len(waiting)
    remove_unfinished(folder.root, {folder.path(keyframe).name for keyframe in waiting})
    say(_plan(teacher, waiting, found, folder))
    run = _Run(teacher, folder, say, batch)
    run.dump(_sample_first(waiting), HOPELESS)
    if run.failed:
        again, run.failed, run.batch = run.failed, [], 1
        say(f"Trying {len(again)} keyframes again, the first one is {again[0].keyframe.token}")
        run.dump([failure.keyframe for failure in again], len(again) + 1)
    return DumpResult(
        run.written, found, run.bytes, tuple(run.failed), run.seconds / max(run.images, 1)
    )


class _Run:
    """Keyframes through a teacher into a folder, with a progress bar."""

    def __init__(
        self, teacher: TeacherLike, folder: DumpFolder, say: Callable[[str], None], batch: int
    ) -> None:
        self.batch = batch
        self.written = self.bytes = self.images = 0
        self.seconds = 0.0
        self.failed: list[Failure] = []
        self._in_a_row = 0
        self._teacher = teacher
        self._folder = folder
        self._say = say

    def dump(self, keyframes: Sequence[Keyframe], hopeless: int) -> None:
        """Write their dumps; those that fail are in `failed`. Give up if so many fail in a row."""
        self._in_a_row = 0
        start = time.perf_counter()
        bar = Bar(
            total=len(keyframes), unit="keyframe", desc=self._teacher.name, disable=not keyframes
        )
        with bar, contextlib.closing(_ahead(keyframes)) as decoded:
            for number, (keyframe, images) in enumerate(decoded, start=1):
                self._dump_one(keyframe, images)
                if self._in_a_row >= hopeless:
                    raise InputError(
                        f"{hopeless} keyframes failed one after the other, the last with: "
                        f"{self.failed[-1].reason}"
                    )
                bar.update()
                if number == SAMPLE < len(keyframes) and self.written:
                    spent = time.perf_counter() - start
                    self._say(self._outlook(number, len(keyframes), spent))
        self.seconds += time.perf_counter() - start
        self.images += sum(len(keyframe.cameras) for keyframe in keyframes)

    def _dump_one(self, keyframe: Keyframe, images: Future[list[np.ndarray]]) -> None:
        try:
            dump = _segmented(
                self._teacher, keyframe, images.result(), self._folder.manifest, self.batch
            )
        except FAILURES as error:
            self.failed.append(Failure(keyframe, str(error) or type(error).__name__))
            self._say(f"keyframe {keyframe.token} failed: {self.failed[-1].reason}")
            self._in_a_row += 1
            return
        self._in_a_row = 0
        self.bytes += self._folder.write(dump)
        self.written += 1

    def _outlook(self, done: int, total: int, spent: float) -> str:
        size = readable_bytes(self.bytes / self.written * total)
        to_go = duration(spent / done * (total - done))
        return f"Measured on {done} keyframes: about {size} for all {total}, {to_go} to go."


def _segmented(
    teacher: TeacherLike,
    keyframe: Keyframe,
    images: Sequence[np.ndarray],
    manifest: DumpManifest,
    batch: int,
) -> TeacherDump:
    found: dict[int, SegmentationLike] = {}
    for numbers in _batches(images, batch):
        segmented = teacher.segment([images[number] for number in numbers])
        found |= zip(numbers, segmented, strict=True)
    cameras = (
        CameraMasks(
            view.channel,
            view.token,
            found[number].masks,
            found[number].words,
            found[number].embeddings,
        )
        for number, view in enumerate(keyframe.cameras)
    )
    return TeacherDump(
        teacher=teacher.name,
        weights_hash=teacher.weights_hash,
        vocabulary_hash=manifest.vocabulary_hash,
        keyframe=keyframe.token,
        cameras=tuple(cameras),
    )


def _batches(images: Sequence[np.ndarray], batch: int) -> Iterator[list[int]]:
    """The numbers of all images, `batch` or fewer of one size at a time."""
    of_size: dict[tuple[int, ...], list[int]] = {}
    for number, image in enumerate(images):
        of_size.setdefault(image.shape, []).append(number)
    for numbers in of_size.values():
        for start in range(0, len(numbers), batch):
            yield numbers[start : start + batch]


def _ahead(
    keyframes: Sequence[Keyframe],
) -> Generator[tuple[Keyframe, Future[list[np.ndarray]]]]:
    """Keyframes and their images, the next one's decoded while one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(_read_images, keyframes[0]) if keyframes else None
        for number, keyframe in enumerate(keyframes):
            current, following = following, None
            if number + 1 < len(keyframes):
                following = pool.submit(_read_images, keyframes[number + 1])
            assert current is not None
            yield keyframe, current


def _read_images(keyframe: Keyframe) -> list[np.ndarray]:
    images = []
    for view in keyframe.cameras:
        image = read_image(view.path)
        if image.shape[:2] != (view.height, view.width):
            raise InputError(
                f"{view.path}: {image.shape[:2]} pixels (height, width), the table "
                f"sample_data says {(view.height, view.width)}"
            )
        images.append(image)
    return images


def _sample_first(keyframes: Sequence[Keyframe]) -> list[Keyframe]:
    """The same keyframes, some from all over the dataset first: the size is estimated on them."""
    if len(keyframes) <= SAMPLE:
        return list(keyframes)
    chosen = {round(i * (len(keyframes) - 1) / (SAMPLE - 1)) for i in range(SAMPLE)}
    return [keyframes[i] for i in sorted(chosen)] + [
        keyframe for i, keyframe in enumerate(keyframes) if i not in chosen
    ]


def _plan(teacher: TeacherLike, waiting: Sequence[Keyframe], found: int, folder: DumpFolder) -> str:
    num_images = sum(len(keyframe.cameras) for keyframe in waiting)
    size = expected_bytes(
        len(waiting),
        teacher.embedding_size,
        teacher.masks_per_image,
        folder.manifest.image_sizes.values(),
        teacher.mask_bytes,
    )
    free = shutil.disk_usage(folder.root).free
    warning = f" WARNING: only {readable_bytes(free)} are free there." if size > free else ""
    return (
        f"Teacher {teacher.name!r}: {len(waiting)} keyframes ({num_images} images) to do, {found} "
        f"done already. Expected size: {readable_bytes(size)} in {folder.root}{warning}"
    )


def _manifest(
    teacher: TeacherLike, keyframes: Sequence[Keyframe], vocabulary: Vocabulary
) -> DumpManifest:
    has_words = teacher.text_embeddings is not None
    return DumpManifest(
        teacher=teacher.name,
        weights_hash=teacher.weights_hash,
        vocabulary=vocabulary.name if has_words else "",
        vocabulary_hash=vocabulary.hash if has_words else "",
        embedding_size=teacher.embedding_size,
        image_sizes=image_sizes(keyframes),
        settings=teacher.settings,
    )
