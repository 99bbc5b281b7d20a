"""Every n-th frame of ScanNet's recordings as small images: OpenScene's `scannet_2d`.

Depth is taken at the nearest pixel, colours are averaged, and the intrinsics are those of the depth
camera, adapted to the new size: where a point lies in front of or behind a surface is decided by
depth. ScanNet's colours are registered to it but for a hundredth of the width at most.
"""

from __future__ import annotations

import dataclasses
import io
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from uov_jax.datasets.frames import adapted_intrinsics, resized_nearest
from uov_jax.datasets.sens_file import SensError, SensFile, SensHeader
from uov_jax.errors import InputError, UserError
from uov_jax.files import write_bytes, write_text

MILLIMETRES = 1000.0
JPEG_QUALITY = 95
# Of a frame of 320 x 240, and per scene, measured on simulated rooms of ScanNet's size.
BYTES_PER_PIXEL = 1.6


@dataclasses.dataclass(frozen=True)
class FrameJob:
    """What is done with every recording.

    Attributes:
        output: the folder of all rooms' frames.
        every: frame 0, every, 2 every, ... is taken.
        size: (height, width) of the images that are written.

    """

    output: Path
    every: int
    size: tuple[int, int]

    def __call__(self, recording: Path) -> ExtractedRoom:
        """Extract one recording; what a user can mend is told in the result."""
        try:
            return extract_frames(recording, self.output, self.every, self.size)
        except (UserError, OSError) as error:
            return ExtractedRoom(recording.stem, failure=str(error))


@dataclasses.dataclass(frozen=True)
class ExtractedRoom:
    """What became of one recording.

    Attributes:
        name: of the room.
        frames: written now; 0 where they were there.
        without_pose: of these, frames whose pose is not finite.
        bytes: written.
        failure: why there are none, "" where there are.

    """

    name: str
    frames: int = 0
    without_pose: int = 0
    bytes: int = 0
    failure: str = ""


def recordings(root: Path) -> list[Path]:
    """All `.sens` files below a folder of scenes, or the one that is named, by room."""
    if root.suffix == ".sens":
        return [root]
    found = {path.stem: path for path in sorted(root.glob("**/[!.]*.sens"))}
    return [found[name] for name in sorted(found)]


def extracted(recording: Path, output: Path) -> bool:
    """Whether the frames of a recording are there, whole."""
    return (output / recording.stem / "intrinsics.txt").is_file()


def extract_frames(
    recording: Path, output: Path, every: int = 20, size: tuple[int, int] = (240, 320)
) -> ExtractedRoom:
    """Write the frames of one recording, all or none; nothing where they are there.

    Args:
        recording: a `.sens` file, named after its room.
        output: gets a folder of that name with color, depth, pose and intrinsics.txt.
        every: frame 0, every, 2 every, ... is taken.
        size: (height, width) of the images.

    Raises:
        MissingFileError: there is no such file.
        SensError: it cannot be used.

    """
    if extracted(recording, output):
        return ExtractedRoom(recording.stem)
    folder = output / recording.stem
    temporary = output / f".{recording.stem}.{uuid.uuid4().hex}.tmp"
    try:
        with SensFile(recording) as sens:
            written = without_pose = 0
            for frame in sens.frames(every):
                depth = _millimetres(frame.depth(), sens.header, recording)
                stem = str(frame.number)
                _save(temporary / "color" / f"{stem}.jpg", _smaller(frame.color(), size))
                _save(temporary / "depth" / f"{stem}.png", resized_nearest(depth, size))
                _save_matrix(temporary / "pose" / f"{stem}.txt", frame.camera_to_world)
                without_pose += not np.isfinite(frame.camera_to_world).all()
                written += 1
            if not written:
                raise SensError(f"{recording}: the recording has no frames")
            intrinsics = adapted_intrinsics(
                sens.header.intrinsic_depth, sens.header.depth_size, size
            )
            _save_matrix(temporary / "intrinsics.txt", intrinsics)
        total = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
        shutil.rmtree(folder, ignore_errors=True)  # without intrinsics: not from here
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ExtractedRoom(recording.stem, written, without_pose, total)


def expected_frames(paths: Sequence[Path], every: int) -> int:
    """How many frames recordings give; those that cannot be read count as none."""
    total = 0
    for path in paths:
        try:
            with SensFile(path) as sens:
                total += -(-sens.header.frames // every)
        except InputError:
            continue
    return total


def _millimetres(depth: np.ndarray, header: SensHeader, recording: Path) -> np.ndarray:
    if header.depth_units == MILLIMETRES:
        return depth
    scaled = np.rint(depth * (MILLIMETRES / header.depth_units))
    if scaled.max(initial=0) > np.iinfo(np.uint16).max:
        raise SensError(f"{recording}: depth beyond 65 m, which millimetres in 16 bits cannot say")
    return scaled.astype(np.uint16)


def _smaller(color: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if color.shape[:2] == size:
        return color
    return np.asarray(Image.fromarray(color).resize(size[::-1], Image.Resampling.BILINEAR))


def _save(path: Path, image: np.ndarray) -> None:
    buffer = io.BytesIO()
    if path.suffix == ".jpg":
        Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    else:
        Image.fromarray(image).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def _save_matrix(path: Path, matrix: np.ndarray) -> None:
    lines = (" ".join(f"{number:.9g}" for number in row) for row in matrix)
    write_text(path, "\n".join(lines))
