"""LAS and LAZ files, read with laspy and lazrs.

Both believe a header's numbers; those that decide how much is read or made are looked at before.
Facts of the format: the LAS specification of the ASPRS, version 1.4 R15.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.clouds.cloud import CloudError, Reading, Stored
from uov_jax.clouds.fields import stored_of_fields
from uov_jax.clouds.packages import one_line, required_package
from uov_jax.datasets.lidar_file import COLORS, POSITION, other_format
from uov_jax.files import read_bytes

SHORTEST = 227  # bytes of the header of version 1.0
VLR_BYTES = 54  # of the shortest variable length record
COMPRESSED = 0x80  # in the number of a point format
AT_ONCE = 2**26  # bytes of points
# Layers of compressed points by their format, each extra byte being one more: from format 6 on, a
# chunk says after its first point how many points it has, and how many bytes every layer.
LAYERS = {6: 9, 7: 10, 8: 11, 9: 10, 10: 12}


def read_las(path: Path, reading: Reading) -> Stored:
    """The points of a LAS or LAZ file.

    Raises:
        MissingPackageError: laspy, or for LAZ lazrs, is not installed.
        CloudError: it is no such file, damaged, or its header is of another file.

    """
    laspy = required_package("laspy", "las", str(path))
    content = read_bytes(path)
    points, compressed = _checked(path, content)
    if not points:
        raise CloudError(f"{path}: no points in it, says its header (LAS)")
    if compressed:
        required_package("lazrs", "las", str(path))
    try:
        with laspy.LasReader(
            io.BytesIO(content), laz_backend=laspy.LazBackend.Lazrs, read_evlrs=False
        ) as file:
            if compressed:
                _check_chunks(path, content, file.header, points)
            columns = _columns(file)
            version = f"{file.header.version}, point format {file.header.point_format.id}"
    except CloudError:
        raise
    except Exception as error:  # Of two packages, with errors of their own for every damage.
        raise CloudError(
            f"{path}: damaged, or not as the LAS specification says: {one_line(error)}"
        ) from error
    found = len(columns["x"])
    if found != points:
        raise CloudError(
            f"{path}: {found:,} points, but the header says {points:,}: cut off, or damaged"
        )
    form = f"{'LAZ' if compressed else 'LAS'} {version}"
    return stored_of_fields(columns, reading.columns, str(path), form)


def _columns(file: Any) -> dict[str, np.ndarray]:
    """Positions float64, intensity and colours uint16, and numbers in extra fields, [N] each."""
    known = set(file.header.point_format.dimension_names)
    extra = list(file.header.point_format.extra_dimension_names)
    names = [*POSITION, "intensity", *(name for name in COLORS if name in known), *extra]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for points in file.chunk_iterator(AT_ONCE):
        for name in names:
            parts[name].append(
                np.array(getattr(points, name) if name in POSITION else points[name])
            )
    return {name: np.concatenate(some) for name, some in parts.items()}


def _checked(path: Path, content: bytes) -> tuple[int, bool]:
    """The points that a file says it has, and whether they are compressed."""
    if content[:4] != b"LASF":
        other = other_format(content)
        raise CloudError(
            f"{path}: not a LAS or LAZ file{f' but {other}' if other else ''}: it begins with "
            f"{content[:4]!r}, expected b'LASF'"
        )
    if len(content) < SHORTEST:
        raise CloudError(f"{path}: {len(content)} bytes are no header of a LAS file: cut off")
    minor = content[25]
    size, begin, records, kind, width, points = struct.unpack_from("<HIIBHI", content, 94)
    if minor >= 4 and len(content) >= 255:
        (points,) = struct.unpack_from("<Q", content, 247)
    if not SHORTEST <= size <= begin <= len(content) or records * VLR_BYTES > begin - size:
        raise CloudError(
            f"{path}: the header says that {records:,} records follow its {size:,} bytes and that "
            f"points begin at byte {begin:,} of {len(content):,}: cut off, or of another file"
        )
    compressed = bool(kind & COMPRESSED)
    if not compressed and points * width > len(content) - begin:
        raise CloudError(
            f"{path}: {points:,} points of {width} bytes need {points * width:,}, found "
            f"{len(content) - begin:,}: cut off, or the header is of another file"
        )
    return points, compressed


def _check_chunks(path: Path, content: bytes, header: Any, points: int) -> None:
    """Refuse a LAZ file whose chunks do not fit into it, or have another number of points."""
    import lazrs

    width, begin = header.point_format.size, header.offset_to_point_data
    record = lazrs.LazVlr(header.vlrs[header.vlrs.index("LasZipVlr")].record_data)
    chunks, fits = _number_of_chunks(content, begin), record.item_size() == width
    # The first point of a chunk is not compressed.
    if fits and 0 < chunks * width <= len(content):
        file = io.BytesIO(content)
        file.seek(begin)
        table = lazrs.read_chunk_table(file, record)
        most = sum(count for count, _ in table)
        least = most if record.uses_variable_size_chunks() else 0
        layers = LAYERS.get(header.point_format.id, 0)
        if layers:
            layers += header.point_format.num_extra_bytes
            least = most = _points_of_layers(content, begin + 8, width, layers, table)
        if least <= points <= most:
            return
    raise CloudError(
        f"{path}: {points:,} points of {width} bytes do not go with {chunks:,} compressed chunks "
        f"of points of {record.item_size()} bytes in {len(content):,} bytes: cut off, or damaged"
    )


def _number_of_chunks(content: bytes, begin: int) -> int:
    """What the table says that the beginning of the points, or the file's end, leads to; else 0."""
    if begin + 8 > len(content):
        return 0
    (table,) = struct.unpack_from("<q", content, begin)
    if table == -1:
        (table,) = struct.unpack_from("<q", content, len(content) - 8)
    if not begin <= table <= len(content) - 8:
        return 0
    return int(struct.unpack_from("<2I", content, table)[1])


def _points_of_layers(
    content: bytes, place: int, width: int, layers: int, table: list[tuple[int, int]]
) -> int:
    """The points of all chunks by their own numbers; -1 if a layer is larger than its chunk."""
    points = 0
    for _, size in table:
        head = width + 4 * (1 + layers)
        if head > size or place + size > len(content):
            return -1
        count, *sizes = struct.unpack_from(f"<{1 + layers}I", content, place + width)
        if sum(sizes) > size - head:
            return -1
        points, place = points + count, place + size
    return points
