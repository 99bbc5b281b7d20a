"""Writers of clouds' formats for tests: byte for byte, or with other packages than the readers'."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import laspy
import numpy as np
from mcap.writer import Writer
from plyfile import PlyData, PlyElement
from pypcd4 import Encoding, PointCloud

POINTS = 40
KIND = "sensor_msgs/msg/PointCloud2"
DATATYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
PCD_TYPES = {"f": "F", "i": "I", "u": "U"}


def sweep(points: int = POINTS, seed: int = 0) -> dict[str, np.ndarray]:
    """x, y, z, intensity and ring of a made-up sweep, float32 and uint16 [points]."""
    rng = np.random.default_rng(seed)
    fields = {name: rng.normal(0, 20, points).astype(np.float32) for name in "xyz"}
    fields["intensity"] = (rng.random(points) * 255).astype(np.float32)
    return fields | {"ring": rng.integers(0, 32, points).astype(np.uint16)}


def colored(points: int = POINTS, seed: int = 0) -> dict[str, np.ndarray]:
    """x, y, z float32 and red, green, blue uint8 [points] of a made-up room."""
    rng = np.random.default_rng(seed)
    fields = {name: rng.random(points).astype(np.float32) * 4 for name in "xyz"}
    for name in ("red", "green", "blue"):
        fields[name] = rng.integers(0, 256, points).astype(np.uint8)
    return fields


def xyz_of(fields: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.stack([fields[name] for name in "xyz"], axis=1)


def colors_of(fields: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.stack([fields[name] for name in ("red", "green", "blue")], axis=1)


def table_of(fields: Mapping[str, np.ndarray], names: str) -> np.ndarray:
    """float32[N, columns]: columns by their names, zeros for "_"."""
    zeros = np.zeros(len(fields["x"]), np.float32)
    return np.stack([fields.get(name, zeros) for name in names.split()], axis=1).astype(np.float32)


def records(fields: Mapping[str, np.ndarray], order: str = "=") -> np.ndarray:
    """Structured [N] of fields [N] or [N, k]."""
    dtype = [(n, v.dtype.newbyteorder(order), v.shape[1:]) for n, v in fields.items()]
    rows = np.empty(len(next(iter(fields.values()))), dtype)
    for name, values in fields.items():
        rows[name] = values
    return rows


def pcd_bytes(
    fields: Mapping[str, np.ndarray], encoding: str = "binary", height: int = 1, **changes: str
) -> bytes:
    """A PCD file by hand, ASCII or binary; `changes` are other entries of its header."""
    count = len(next(iter(fields.values())))
    entries = {
        "VERSION": "0.7",
        "FIELDS": " ".join(
            name.rstrip("0123456789") if name[0] == "_" else name for name in fields
        ),
        "SIZE": " ".join(str(v.dtype.itemsize) for v in fields.values()),
        "TYPE": " ".join(PCD_TYPES[v.dtype.kind] for v in fields.values()),
        "COUNT": " ".join(str(v[0].size if count else 1) for v in fields.values()),
        "WIDTH": str(count // height),
        "HEIGHT": str(height),
        "VIEWPOINT": "0 0 0 1 0 0 0",
        "POINTS": str(count),
        "DATA": encoding,
    } | changes
    head = "# .PCD v0.7 - Point Cloud Data file format\n"
    head += "".join(f"{name} {value}\n" for name, value in entries.items() if value)
    rows = records(fields, "<")
    body = rows.tobytes()
    if encoding == "ascii":
        # As many digits as tell every number from its neighbours, and more.
        columns = [v.reshape(count, -1) for v in fields.values()]
        numbers = zip(*(column.tolist() for v in columns for column in v.T), strict=True)
        body = "".join(" ".join(map(repr, row)) + "\n" for row in numbers).encode()
    return head.encode() + body


def write_pcd(path: Path, fields: Mapping[str, np.ndarray], encoding: Encoding) -> Path:
    """A PCD file with pypcd4."""
    arrays = list(fields.values())
    types = [values.dtype.type for values in arrays]
    PointCloud.from_points(arrays, list(fields), types).save(path, encoding=encoding)
    return path


def write_ply(
    path: Path, fields: Mapping[str, np.ndarray], text: bool = False, order: str = "<"
) -> Path:
    """A PLY file with plyfile."""
    element = PlyElement.describe(records(fields), "vertex")
    PlyData([element], text=text, byte_order=order).write(path)
    return path


def las_bytes(
    numbers: np.ndarray,
    intensity: np.ndarray,
    colors: np.ndarray,
    minor: int = 2,
    scale: float = 0.001,
    offset: Sequence[float] = (0.0, 0.0, 0.0),
) -> bytes:
    """A LAS file by hand, 1.2 with point format 3 or 1.4 with point format 7.

    Args:
        numbers: int32[N, 3], positions in units of `scale` from `offset`.
        intensity: uint16[N].
        colors: uint16[N, 3].
        minor: 2 or 4.
        scale: metres.
        offset: metres.

    """
    new = minor >= 4
    size, kind = (375, 7) if new else (227, 3)
    body = b""
    for (x, y, z), light, rgb in zip(numbers, intensity, colors, strict=True):
        place = struct.pack("<3iH", x, y, z, light)
        rest = struct.pack("<BBBBhHd", 17, 0, 2, 0, 0, 1, 7.5)
        if not new:
            rest = struct.pack("<BBbBHd", 9, 2, 0, 0, 1, 7.5)
        body += place + rest + struct.pack("<3H", *rgb)
    width = len(body) // max(len(numbers), 1) or 34
    head = b"LASF" + struct.pack("<HH16sBB", 0, 0, bytes(16), 1, minor)
    head += struct.pack("<32s32sHHHII", b"by hand", b"by hand", 1, 2024, size, size, 0)
    head += struct.pack("<BHI5I", kind, width, 0 if new else len(numbers), 0, 0, 0, 0, 0)
    head += struct.pack("<3d3d6d", *[scale] * 3, *offset, *[0.0] * 6)
    if new:
        head += struct.pack("<QQIQ15Q", 0, 0, 0, len(numbers), len(numbers), *[0] * 14)
    assert len(head) == size
    return head + body


def write_laz(path: Path, las: bytes, folder: Path) -> Path:
    """The same points compressed, with LASzip."""
    plain = folder / f"{path.stem}-plain.las"
    plain.write_bytes(las)
    laspy.read(plain).write(path, laz_backend=laspy.LazBackend.Laszip)
    plain.unlink()
    return path


def cloud_message(
    fields: Mapping[str, np.ndarray],
    rows: int = 1,
    order: str = "<",
    gap: int = 0,
    margin: int = 0,
    **changes: int,
) -> bytes:
    """A PointCloud2 as ROS serialises it (CDR, little-endian), by hand.

    Args:
        fields: arrays [N] or [N, k].
        rows: of the message; its points are in them one after the other.
        order: of the points' own bytes.
        gap: bytes before every field but the first.
        margin: bytes after every row.
        changes: other numbers of the message: height, width, point_step, row_step, datatype.

    """
    offsets, step = {}, 0
    for name, values in fields.items():
        offsets[name] = step + (gap if step else 0)
        step = offsets[name] + values[:1].nbytes if len(values) else step + values.dtype.itemsize
    count = len(next(iter(fields.values())))
    points = np.zeros((count, step), np.uint8)
    for name, values in fields.items():
        plain = np.ascontiguousarray(values, values.dtype.newbyteorder(order))
        if count:
            raw = plain.view(np.uint8).reshape(count, -1)
            points[:, offsets[name] : offsets[name] + raw.shape[1]] = raw
    width = count // rows
    data = b"".join(row.tobytes() + bytes(margin) for row in points.reshape(rows, width, step))
    sizes = {
        "height": rows,
        "width": width,
        "point_step": step,
        "row_step": width * step + margin,
    } | changes
    out = bytearray()

    def number(code: str, value: int) -> None:
        size = struct.calcsize(code)
        out.extend(bytes(-len(out) % size) + struct.pack("<" + code, value))

    def text(value: str) -> None:
        number("I", len(value) + 1)
        out.extend(value.encode() + b"\0")

    number("i", 12)
    number("I", 345)
    text("lidar")
    number("I", sizes["height"])
    number("I", sizes["width"])
    number("I", len(fields))
    for name, values in fields.items():
        text(name)
        number("I", offsets[name])
        number("B", changes.get("datatype", DATATYPES[values.dtype.str[1:]]))
        number("I", values[0].size if count else 1)
    number("B", order == ">")
    number("I", sizes["point_step"])
    number("I", sizes["row_step"])
    number("I", len(data))
    out.extend(data)
    number("B", 0)
    return b"\0\1\0\0" + bytes(out)


Messages = Mapping[str, Sequence[bytes]]  # by topic


def write_mcap(path: Path, topics: Messages, kind: str = KIND, **options: Any) -> Path:
    """A ROS 2 bag with mcap's own package; stamps 1000, 2000, ... for each topic."""
    with path.open("wb") as file:
        writer = Writer(file, **options)
        writer.start(profile="ros2", library="by hand")
        schema = writer.register_schema(name=kind, encoding="ros2msg", data=b"")
        for topic, messages in topics.items():
            channel = writer.register_channel(topic=topic, message_encoding="cdr", schema_id=schema)
            for number, data in enumerate(messages, start=1):
                writer.add_message(channel, 1000 * number, data, 1000 * number)
        writer.finish()
    return path


def write_db3(path: Path, topics: Messages, kind: str = KIND) -> Path:
    """A ROS 2 bag of sqlite3, as Humble writes it."""
    bag = sqlite3.connect(path)
    bag.executescript(
        "CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);"
        "INSERT INTO schema VALUES (3, 'humble');"
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL,"
        " serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL);"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL,"
        " timestamp INTEGER NOT NULL, data BLOB NOT NULL);"
    )
    for number, (topic, messages) in enumerate(topics.items(), start=1):
        bag.execute("INSERT INTO topics VALUES (?, ?, ?, 'cdr', '')", (number, topic, kind))
        for stamp, data in enumerate(messages, start=1):
            row = (number, 1000 * stamp, data)
            bag.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", row)
    bag.commit()
    bag.close()
    return path


def write_bag(folder: Path, topics: Messages, files: int = 1) -> Path:
    """A bag that is a folder: sqlite3 files with `metadata.yaml`; each has every topic."""
    folder.mkdir(parents=True)
    names = [f"{folder.name}_{number}.db3" for number in range(files)]
    for number, name in enumerate(names):
        parts = {
            topic: messages[number * len(messages) // files : (number + 1) * len(messages) // files]
            for topic, messages in topics.items()
        }
        write_db3(folder / name, parts)
    lines = [
        "rosbag2_bagfile_information:",
        "  version: 5",
        "  storage_identifier: sqlite3",
        "  relative_file_paths:",
        *(f"    - {name}" for name in names),
        "  duration: {nanoseconds: 1000}",
        "  starting_time: {nanoseconds_since_epoch: 1000}",
        f"  message_count: {sum(map(len, topics.values()))}",
        "  compression_format: ''",
        "  compression_mode: ''",
        "  topics_with_message_count:",
    ]
    for topic, messages in topics.items():
        lines += [
            f"    - message_count: {len(messages)}",
            f"      topic_metadata: {{name: {topic}, type: {KIND}, serialization_format: cdr, "
            "offered_qos_profiles: ''}",
        ]
    (folder / "metadata.yaml").write_text("\n".join(lines) + "\n")
    return folder
