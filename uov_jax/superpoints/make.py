"""From a teacher's dumps to pseudo labels of many keyframes: parallel, resumable, with a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes import true_classes
from uov_jax.datasets.projection import pair_points
from uov_jax.datasets.required_files import require_keyframe_files
from uov_jax.dumps.check import matching_cameras
from uov_jax.dumps.folder import DumpSource
from uov_jax.errors import InputError
from uov_jax.files import remove_unfinished
from uov_jax.superpoints.grouping import point_superpoints
from uov_jax.superpoints.labels import (
    Format,
    PseudoLabelFolder,
    PseudoLabelManifest,
)
from uov_jax.vocabulary import Vocabulary
from uov_jax.workers import spread

# Of one keyframe of 34,700 points; native files measured on the simulated teacher's masks.
NATIVE_BYTES, NPY_BYTES = 6_500, 139_000


class KeyframeResult(NamedTuple):
    """What became of one keyframe.

    bytes: written now, 0 where the file was there before. points: of the sweep. labelled: those
    with an evaluated class. counts: int64[C, C], points by true class and pseudo label (0: none),
    row 0 empty; None without true labels.
    """

    bytes: int
    points: int
    labelled: int
    counts: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class _Job:
    """What all keyframes of a call have in common."""

    keyframes: Sequence[Keyframe]
    dumps: DumpSource
    folder: PseudoLabelFolder
    vocabulary: Vocabulary

    def __call__(self, number: int) -> KeyframeResult:
        return _label(self, self.keyframes[number])


def prepare(
    keyframes: Sequence[Keyframe],
    dumps: DumpSource,
    vocabulary: Vocabulary,
    output: str | Path,
    format: Format,
) -> PseudoLabelFolder:
    """Check what the keyframes need, then make the folder or find it of the same kind.

    Raises:
        MissingFileError: sweeps, label files or dumps are missing.
        InputError: the dumps have no words, or the folder holds other labels.

    """
    if not keyframes:
        raise InputError("superpoints need at least one keyframe, found none")
    require_keyframe_files(keyframes)
    if dumps.text_embeddings is None:
        raise InputError(
            f"{dumps.root}: the dumps of {dumps.teacher!r} have no words, so there are no labels "
            "in them: take those of SAN, FC-CLIP or CAT-Seg"
        )
    manifest = PseudoLabelManifest.of_dumps(dumps, vocabulary, format, keyframes[0].rig)
    if Path(output).is_dir():
        folder = PseudoLabelFolder.create(output, manifest, vocabulary)
        dumps.check([keyframe for keyframe in keyframes if keyframe not in folder])
        return folder
    dumps.check(keyframes)
    return PseudoLabelFolder.create(output, manifest, vocabulary)


def make_superpoints(
    keyframes: Sequence[Keyframe],
    dumps: DumpSource,
    vocabulary: Vocabulary,
    folder: PseudoLabelFolder,
    workers: int = 1,
) -> Iterator[KeyframeResult]:
    """Write the pseudo labels that are missing; yields a result for every keyframe, in order.

    Args:
        keyframes: to label.
        dumps: of a teacher with words, of this vocabulary.
        vocabulary: the dictionary.
        folder: of `prepare`.
        workers: processes; 1 works in this one.

    Raises:
        InputError: fewer than one worker; a dump, a sweep or an earlier file that is corrupt.

    """
    waiting = [keyframe for keyframe in keyframes if keyframe not in folder]
    remove_unfinished(folder.root, {folder.path(keyframe).name for keyframe in waiting})
    job = _Job(keyframes, dumps, folder, vocabulary)
    yield from spread(job, range(len(keyframes)), workers, chunk=4)


def _label(job: _Job, keyframe: Keyframe) -> KeyframeResult:
    """Write the labels of a keyframe unless they are there, and count them."""
    points = keyframe.points()
    written = 0
    if keyframe not in job.folder:
        cameras = matching_cameras(keyframe, job.dumps.read(keyframe))
        found = point_superpoints(pair_points(points, keyframe), cameras, len(points))
        written = job.folder.write(keyframe, found)
    # Read back, so that the report is of what lies on the disk.
    label = job.folder.labels(keyframe, len(points))
    counts = None
    truth = true_classes(keyframe, len(points), job.vocabulary)
    if truth is not None:
        classes = len(job.vocabulary.eval_classes)
        judged = truth > 0
        pair = truth[judged].astype(np.int64) * classes + label[judged]
        counts = np.bincount(pair, minlength=classes**2).reshape(classes, classes)
    return KeyframeResult(written, len(points), int(np.count_nonzero(label)), counts)
