"""ScanNet's recordings: `.sens` files (SensorStream, version 4), read frame by frame.

A header (names, intrinsics, kinds of compression, sizes), then for every frame its pose, two times,
two sizes, and the compressed colours and depth; what follows the frames (of the inertial sensor) is
not read. Facts of the format: https://github.com/ScanNet/ScanNet, folder SensReader.
"""

from __future__ import annotations

import dataclasses
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from uov_jax.datasets.image_file import UNDECODABLE, opened_image
from uov_jax.errors import InputError, MissingFileError

VERSION = 4
RAW_DEPTH, ZLIB_DEPTH = 0, 1
COLORS = {0: "raw", 1: "png", 2: "jpeg"}
DEPTHS = {RAW_DEPTH: "raw_ushort", ZLIB_DEPTH: "zlib_ushort", 2: "occi_ushort"}
READABLE_COLORS = (1, 2)
LONGEST_NAME = 4096
FRAME_HEADER = struct.Struct("<16f4Q")


class SensError(InputError):
    """A recording cannot be used; names it."""


@dataclasses.dataclass(frozen=True, eq=False)
class SensHeader:
    """What a recording says of all its frames. Sizes are (height, width).

    Attributes:
        sensor: its name.
        intrinsic_color: float32[4, 4], of the colours in their size.
        extrinsic_color: float32[4, 4].
        intrinsic_depth: float32[4, 4], of the depth in its size.
        extrinsic_depth: float32[4, 4].
        color_kind: of compression, a key of `COLORS`.
        depth_kind: a key of `DEPTHS`.
        color_size: of the colours.
        depth_size: of the depth.
        depth_units: of depth per metre.
        frames: their number.

    """

    sensor: str
    intrinsic_color: np.ndarray
    extrinsic_color: np.ndarray
    intrinsic_depth: np.ndarray
    extrinsic_depth: np.ndarray
    color_kind: int
    depth_kind: int
    color_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_units: float
    frames: int


@dataclasses.dataclass(frozen=True, eq=False)
class SensFrame:
    """One frame. Its images are decoded when they are asked for.

    Attributes:
        path: of the recording.
        number: in the recording, from 0.
        camera_to_world: float32[4, 4]; infinities where the tracking was lost.

    """

    path: Path
    header: SensHeader
    number: int
    camera_to_world: np.ndarray
    color_data: bytes
    depth_data: bytes

    def color(self) -> np.ndarray:
        """uint8[H, W, 3], RGB; SensError if it cannot be decoded."""
        try:
            with opened_image(self.color_data, ("JPEG", "PNG")) as image:
                found = np.asarray(image.convert("RGB"))
        except UNDECODABLE as error:
            raise SensError(f"{self._place}: damaged colours: {error}") from error
        if found.shape[:2] != self.header.color_size:
            raise SensError(
                f"{self._place}: colours of {found.shape[1]} x {found.shape[0]} pixels, the "
                f"recording says {self.header.color_size[1]} x {self.header.color_size[0]}"
            )
        return found

    def depth(self) -> np.ndarray:
        """uint16[H, W] in the recording's units, 0 for none; SensError if it cannot be decoded."""
        data, sizes = self.depth_data, self.header.depth_size
        try:
            if self.header.depth_kind == ZLIB_DEPTH:
                # A byte more than there should be, and no more: few bytes may unpack to gigabytes.
                data = zlib.decompressobj().decompress(data, 2 * math.prod(sizes) + 1)
            return np.frombuffer(data, "<u2").reshape(sizes)
        except (zlib.error, ValueError, OverflowError) as error:
            raise SensError(f"{self._place}: damaged depth: {error}") from error

    @property
    def _place(self) -> str:
        return f"{self.path}: frame {self.number}"


class SensFile:
    """A recording, open for reading: a context."""

    def __init__(self, path: str | Path) -> None:
        """Open it and read its header.

        Raises:
            MissingFileError: there is no such file.
            SensError: it is of another format or compression, or cut off.

        """
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingFileError(f"{self.path}: no such recording: download the scene's .sens")
        self._file: BinaryIO = self.path.open("rb")
        self._size = os.fstat(self._file.fileno()).st_size
        try:
            self.header = self._header()
        except BaseException:
            self._file.close()
            raise
        self._first = self._file.tell()

    def __enter__(self) -> SensFile:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._file.close()

    def frames(self, every: int = 1) -> Iterator[SensFrame]:
        """Frames 0, every, 2 every, ...; of the others no image is read.

        Raises:
            SensError: the file ends before its last frame.

        """
        self._file.seek(self._first)
        for number in range(self.header.frames):
            *pose, _, _, color_size, depth_size = FRAME_HEADER.unpack(
                self._read(FRAME_HEADER.size, number)
            )
            if number % every:
                self._skip(color_size + depth_size, number)
                continue
            color, depth = self._read(color_size, number), self._read(depth_size, number)
            matrix = np.array(pose, np.float32).reshape(4, 4)
            yield SensFrame(self.path, self.header, number, matrix, color, depth)

    def _header(self) -> SensHeader:
        (version,) = self._unpack("<I")
        if version != VERSION:
            raise SensError(
                f"{self.path}: not a recording of version {VERSION}, it begins with {version}"
            )
        (length,) = self._unpack("<Q")
        if length > LONGEST_NAME:
            raise SensError(f"{self.path}: not a recording: its sensor's name has {length} letters")
        sensor = self._read(length).decode("utf-8", "replace").rstrip("\0")
        matrices = np.frombuffer(self._read(4 * 64), "<f4").reshape(4, 4, 4)
        color_kind, depth_kind = self._unpack("<2i")
        color_width, color_height, depth_width, depth_height = self._unpack("<4I")
        (units,) = struct.unpack("<f", self._read(4))
        (frames,) = self._unpack("<Q")
        if color_kind not in READABLE_COLORS or depth_kind not in (RAW_DEPTH, ZLIB_DEPTH):
            raise SensError(
                f"{self.path}: colours as {COLORS.get(color_kind, color_kind)}, depth as "
                f"{DEPTHS.get(depth_kind, depth_kind)}: read are jpeg and png, zlib_ushort and "
                "raw_ushort"
            )
        if not units > 0 or min(color_width, color_height, depth_width, depth_height) < 2:
            raise SensError(f"{self.path}: damaged: its header has sizes or units that are none")
        return SensHeader(
            sensor=sensor,
            intrinsic_color=matrices[0],
            extrinsic_color=matrices[1],
            intrinsic_depth=matrices[2],
            extrinsic_depth=matrices[3],
            color_kind=color_kind,
            depth_kind=depth_kind,
            color_size=(color_height, color_width),
            depth_size=(depth_height, depth_width),
            depth_units=units,
            frames=frames,
        )

    def _unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self._read(struct.calcsize(form)))

    def _read(self, size: int, frame: int | None = None) -> bytes:
        # Sizes of a damaged file may ask for more than there is memory.
        if size > self._size - self._file.tell():
            raise self._cut_off(frame)
        return self._file.read(size)

    def _skip(self, size: int, frame: int) -> None:
        if size > self._size - self._file.tell():
            raise self._cut_off(frame)
        self._file.seek(size, os.SEEK_CUR)

    def _cut_off(self, frame: int | None) -> SensError:
        where = "its header" if frame is None else f"frame {frame} of {self.header.frames}"
        return SensError(f"{self.path}: the file ends within {where}: download or copy it again")
