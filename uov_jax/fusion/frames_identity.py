"""What a room's features were fused from, as one short word: other frames have another one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from uov_jax.datasets.frames import Frame
from uov_jax.files import file_sizes
from uov_jax.fusion.frame_features import FileTeacher
from uov_jax.fusion.image_features import ImageTeacher

DIGITS = (
    5  # of poses and intrinsics; products of matrices differ behind them from machine to machine
)


def frames_identity(frames: Sequence[Frame], teacher: ImageTeacher) -> str:
    """sha256 of the frames of a room, in hexadecimal: names, cameras, units of depth, file sizes.

    Of images, depth and features that lie beside them only the sizes are looked at, no content, and
    neither paths nor times: frames that were copied are the same.

    Raises:
        UnreadableFileError: a file could not be looked at.

    """
    found = hashlib.sha256()
    paths = []
    for frame in frames:
        facts = frame.name, frame.depth is not None, float(frame.depth_units), frame.depth_missing
        found.update(json.dumps(facts).encode())
        for matrix in (frame.camera_to_world, frame.intrinsics):
            # Adding makes zeros of negative ones.
            found.update((np.round(np.asarray(matrix, np.float64), DIGITS) + 0.0).tobytes())
        beside = teacher.file(frame) if isinstance(teacher, FileTeacher) else None
        paths += [path for path in (frame.color, frame.depth, beside) if path is not None]
    found.update(file_sizes(paths, "frames").tobytes())
    return found.hexdigest()
