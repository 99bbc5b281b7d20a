"""ROS 2 bags, mcap and sqlite3, read with rosbags: the sweeps of one topic of PointCloud2.

Facts of the messages: sensor_msgs/msg/PointCloud2 and PointField of ROS 2.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.clouds.cloud import Cloud, CloudError, Loader, Reading, Stored, cloud_of
from uov_jax.clouds.fields import stored_of_fields
from uov_jax.clouds.packages import one_line, required_package

METADATA = "metadata.yaml"  # of a bag that is a folder
KIND = "sensor_msgs/msg/PointCloud2"
AT_ONCE = 2**20  # bytes
# PointField's numbers of types.
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


@dataclasses.dataclass(frozen=True)
class Bag:
    """The sweeps of one topic of a bag, which is opened anew for every pass through it.

    Attributes:
        path: a file, or a folder with `metadata.yaml`.
        topic: of the point clouds.
        sweeps: how many there are, as the bag says.
        reading: how they are to be read.

    """

    path: Path
    topic: str
    sweeps: int
    reading: Reading

    def name(self, number: int) -> str:
        """Of a sweep, by its number from 0 on."""
        return f"{self.path.stem}-{number:06d}"

    def __iter__(self) -> Iterator[tuple[str, Loader]]:
        """Names such as "drive-000012", and what reads each sweep, in the order of their times."""
        with _opened(self.path) as reader:
            wanted = [each for each in reader.connections if _is_cloud(each, self.topic)]
            messages = reader.messages(wanted)
            number = 0
            while True:
                place = f"{self.path}, sweep {number} of {self.topic}"
                try:
                    found = next(messages, None)
                except Exception as error:  # Of three packages that unpack and decompress.
                    raise CloudError(
                        f"{place}: the bag breaks off here, or is damaged: {one_line(error)}"
                    ) from error
                if found is None:
                    return
                _, time, message = found
                name = self.name(number)
                read = functools.partial(_sweep, message, name, place, self.reading)
                stamp = f"{time}, {len(message)}, {zlib.crc32(message)}"
                yield name, Loader(read, self.path, stamp)
                number += 1


def open_bag(path: Path, reading: Reading) -> Bag:
    """Look into a bag.

    Args:
        path: a `.mcap` or `.db3` file, or a folder with `metadata.yaml`.
        reading: how the sweeps are to be read.

    Raises:
        MissingPackageError: rosbags is not installed.
        CloudError: it is no bag, is damaged, has no point clouds, or several topics of them.

    """
    with _opened(path) as reader:
        sweeps: dict[str, int] = {}
        for each in reader.connections:
            if _is_cloud(each, each.topic):
                sweeps[each.topic] = sweeps.get(each.topic, 0) + each.msgcount
        others = sorted({f"{each.topic} ({each.msgtype})" for each in reader.connections})
    if not sweeps:
        raise CloudError(
            f"{path}: no topic of {KIND} in this bag, only {', '.join(others[:10]) or 'nothing'}"
        )
    topics = ", ".join(f"{topic} ({count:,} sweeps)" for topic, count in sweeps.items())
    topic = reading.topic
    if topic is None and len(sweeps) > 1:
        raise CloudError(f"{path}: point clouds of several topics: {topics}: name one (--topic)")
    if topic is not None and topic not in sweeps:
        raise CloudError(f"{path}: no point clouds of the topic {topic!r}, only {topics}")
    topic = next(iter(sweeps)) if topic is None else topic
    if not sweeps[topic]:
        raise CloudError(f"{path}: no message of the topic {topic} in this bag")
    return Bag(path, topic, sweeps[topic], reading)


def _is_cloud(connection: Any, topic: str) -> bool:
    return connection.msgtype == KIND and connection.topic == topic


class _File(io.BufferedReader):
    """A file of which no more is asked for than it has.

    rosbags believes what a record of mcap says of its own length, and Python makes room for that
    before it reads.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file."""
        if size is not None and size > AT_ONCE:
            size = max(min(size, os.fstat(self.fileno()).st_size - self.tell()), 0)
        return super().read(size)


class _Path(type(Path())):  # type: ignore[misc]
    """A path whose files are such."""

    def open(self, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        """As of any path."""
        if mode == "rb":
            return _File(io.FileIO(self))
        return super().open(mode, *arguments, **named)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A reader of rosbags."""
    module = required_package("rosbags.rosbag2", "ros", str(path))
    reader = module.Reader(_Path(path))
    try:
        reader.open()
    except Exception as error:  # Of three packages that unpack and decompress.
        raise CloudError(
            f"{path}: no ROS 2 bag, or damaged: {one_line(error)}. `mcap recover` and `ros2 bag "
            "reindex` mend bags whose recording broke off"
        ) from error
    try:
        yield reader
    finally:
        reader.close()


def _sweep(message: bytes, name: str, place: str, reading: Reading) -> Cloud:
    """The cloud of one message as it is serialised (CDR)."""
    types = _types(place)
    try:
        stored = _stored(types.deserialize_cdr(message, KIND), reading, place)
    except CloudError:
        raise
    except Exception as error:  # Made by a generated reader, of bytes that may be anything.
        raise CloudError(f"{place}: no {KIND}, or damaged: {one_line(error)}") from error
    return cloud_of(stored, name, place, reading)


def _types(place: str) -> Any:
    required_package("rosbags.typesys", "ros", place)
    return _typestore()


@functools.cache
def _typestore() -> Any:
    """What reads messages; the definition of PointCloud2 is the same in all of ROS 2."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)


def _stored(message: Any, reading: Reading, place: str) -> Stored:
    dtype = _dtype(message, place)
    height, width, row = int(message.height), int(message.width), int(message.row_step)
    data = np.asarray(message.data)
    # A single row may leave its step out, and the last one its end.
    if height == 1 or not row:
        row = width * dtype.itemsize
    wanted = (height - 1) * row + width * dtype.itemsize
    if width and height and (row < width * dtype.itemsize or wanted > len(data)):
        raise CloudError(
            f"{place}: {height:,} rows of {width:,} points of {dtype.itemsize} bytes, {row:,} "
            f"bytes a row, do not fit into {len(data):,} bytes"
        )
    points = np.zeros(0, dtype)
    if width and height:
        strides = (row, dtype.itemsize)
        points = np.ndarray((height, width), dtype, data.tobytes(), 0, strides).reshape(-1)
    fields = {name: points[name] for name in dtype.names or ()}
    native = {name: field.astype(field.dtype.newbyteorder("=")) for name, field in fields.items()}
    return stored_of_fields(native, reading.columns, place, "ROS PointCloud2")


def _dtype(message: Any, place: str) -> np.dtype:
    names, formats, offsets = [], [], []
    step = int(message.point_step)
    for field in message.fields:
        kind, count, offset = DATATYPES.get(field.datatype), int(field.count) or 1, field.offset
        end = 0 if kind is None else offset + np.dtype(kind).itemsize * count
        if kind is None or field.name in names or not 0 < end <= step:
            raise CloudError(
                f"{place}: field {field.name!r} of datatype {field.datatype} and {count} numbers "
                f"at byte {offset} of points of {step} bytes: unknown, there twice, or beyond them"
            )
        order = ">" if message.is_bigendian else "<"
        names.append(field.name)
        formats.append((order + kind, (count,)) if count > 1 else order + kind)
        offsets.append(offset)
    if not names:
        raise CloudError(f"{place}: points without fields")
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": step})
