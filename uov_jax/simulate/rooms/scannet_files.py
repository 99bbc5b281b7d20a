"""Simulated rooms in ScanNet's own formats: meshes, labels, recordings, and OpenScene's files."""

from __future__ import annotations

import dataclasses
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uov_jax.datasets.ply_file import ply_bytes
from uov_jax.files import write_atomically, write_bytes, write_text
from uov_jax.simulate.rooms.kinds import KINDS, NYU40_NAMES
from uov_jax.simulate.rooms.scan import Scan

IGNORED = 255  # OpenScene's label of points without a class
SENS_VERSION, JPEG, ZLIB_USHORT = 4, 2, 1
# Of a vertex.
CLOUD = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
CLOUD += [(name, "u1") for name in ("red", "green", "blue", "alpha")]
NO_FACES = ("element face 0", "property list uchar int vertex_indices")


@dataclasses.dataclass(frozen=True)
class FrameFiles:
    """One frame as it is kept: JPEG, depth uint16[h, w], pose float64[4, 4] or of infinities."""

    color: bytes
    depth: NDArray[np.uint16]
    pose: NDArray[np.float64]


def write_scans(folder: Path, scene: str, scan: Scan, aligned: NDArray[np.float64]) -> None:
    """A scene of the raw release: `SCENE_vh_clean_2.ply`, its labels, and its text file.

    The clouds have the vertices of a mesh and no faces.

    Args:
        folder: of the scene.
        scene: its name.
        scan: its points.
        aligned: float64[4, 4], turns the walls into the axes.

    """
    write_cloud(folder / f"{scene}_vh_clean_2.ply", scan)
    labelled = [*CLOUD, ("label", "<u2")]
    write_bytes(folder / f"{scene}_vh_clean_2.labels.ply", _ply(scan, labelled))
    numbers = " ".join(f"{value:.6f}" for value in aligned.ravel())
    write_text(folder / f"{scene}.txt", f"axisAlignment = {numbers}\nsceneType = simulated")


def write_cloud(path: Path, scan: Scan) -> None:
    """Points and colours alone, as any scanner's tool may write them."""
    write_bytes(path, _ply(scan, CLOUD))


def _ply(scan: Scan, fields: list[tuple[str, str]]) -> bytes:
    rows = np.zeros(len(scan.coords), np.dtype(fields))
    for axis, name in enumerate(("x", "y", "z")):
        rows[name] = scan.coords[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        rows[name] = scan.colors[:, channel]
    rows["alpha"] = 255
    if ("label", "<u2") in fields:
        rows["label"] = scan.nyu40
    return ply_bytes(rows, lists=NO_FACES)


def write_label_table(path: Path) -> None:
    """`scannetv2-labels.combined.tsv` of the names that simulated rooms have."""
    lines = ["id\traw_category\tcategory\tcount\tnyu40id\tnyu40class"]
    for number, kind in enumerate(KINDS[1:], start=1):
        nyu = NYU40_NAMES[kind.nyu40]
        lines.append(f"{number}\t{kind.name}\t{kind.name}\t1\t{kind.nyu40}\t{nyu}")
    write_text(path, "\n".join(lines))


def write_openscene(path: Path, scan: Scan) -> None:
    """OpenScene's `SCENE_vh_clean_2.pth`: coordinates, colours in -1..1 and labels from 0.

    The archive that torch.save makes of a tuple of arrays, which needs no storages and no torch.
    """
    labels = np.where(scan.labels > 0, scan.labels.astype(np.int64) - 1, IGNORED)
    content = (scan.coords, scan.colors.astype(np.float32) / np.float32(127.5) - 1, labels)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in (("data.pkl", pickle.dumps(content, protocol=2)), ("version", b"3\n")):
            archive.writestr(zipfile.ZipInfo(f"{path.stem}/{name}"), data)
    write_bytes(path, buffer.getvalue())


def write_sens(
    path: Path, frames: Sequence[FrameFiles], matrix: NDArray[np.float64], units: float
) -> None:
    """A recording `SCENE.sens`, version 4: every frame as JPEG and as deflated depth.

    Args:
        path: the file.
        frames: all of one size.
        matrix: float64[3, 3], intrinsics of colour and depth.
        units: of the depth per metre.

    """
    full, unit = np.eye(4, dtype="<f4"), np.eye(4, dtype="<f4")
    full[:3, :3] = matrix
    sensor = b"simulated"
    height, width = frames[0].depth.shape
    head = struct.pack("<IQ", SENS_VERSION, len(sensor)) + sensor
    head += (full.tobytes() + unit.tobytes()) * 2
    head += struct.pack("<iiIIIIf", JPEG, ZLIB_USHORT, width, height, width, height, units)
    head += struct.pack("<Q", len(frames))
    parts = [head]
    for number, frame in enumerate(frames):
        depth = zlib.compress(frame.depth.astype("<u2").tobytes(), 6)
        time = 33_333 * number
        parts.append(frame.pose.astype("<f4").tobytes())
        parts.append(struct.pack("<QQQQ", time, time, len(frame.color), len(depth)))
        parts += [frame.color, depth]
    parts.append(struct.pack("<Q", 0))  # no inertial measurements follow
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: [file.write(part) for part in parts])
