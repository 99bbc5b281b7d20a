"""Writers of the indoor datasets' own formats, for tests: byte for byte what the readers meet."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PLY_TYPES = {"u1": "uchar", "u2": "ushort", "i4": "int", "f4": "float", "f8": "double"}
SPLIT_LISTS = {"train": ["scene0000_00", "scene0001_00"], "val": ["scene0011_00"]}
# Some rows of the table that ScanNet's authors publish, with fewer columns.
LABEL_TABLE = [
    ("1", "wall", "1", "wall"),
    ("3", "floor", "2", "floor"),
    ("13", "cabinet", "3", "cabinet"),
    ("22", "office chair", "5", "chair"),
    ("2", "chair", "5", "chair"),
    ("8", "door", "8", "door"),
    ("27", "refrigerator", "24", "refridgerator"),
    ("139", "shower curtain", "28", "shower curtain"),
    ("82", "ceiling", "22", "ceiling"),
    ("1188", "coat rack", "39", "otherfurniture"),
    ("1163", "object", "40", "otherprop"),
    ("9999", "of no class", "", ""),
]


def cloud(points: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates and colours of a made-up room of 4 x 3 x 2.5 m."""
    rng = np.random.default_rng(seed)
    coords = (rng.random((points, 3)) * [4, 3, 2.5]).astype(np.float32)
    return coords, rng.integers(0, 256, (points, 3)).astype(np.uint8)


def write_ply(
    path: Path,
    fields: Mapping[str, np.ndarray],
    format: str = "binary_little_endian",
    faces: int = 2,
) -> Path:
    """Vertices, and faces after them, as ScanNet's meshes have them."""
    count = len(next(iter(fields.values())))
    order = ">" if format == "binary_big_endian" else "<"
    lines = ["ply", f"format {format} 1.0", "comment VCGLIB generated", f"element vertex {count}"]
    lines += [f"property {PLY_TYPES[v.dtype.str[1:]]} {name}" for name, v in fields.items()]
    lines += [f"element face {faces}", "property list uchar int vertex_indices", "end_header", ""]
    if format == "ascii":
        rows = zip(*fields.values(), strict=True)
        body = "".join(" ".join(str(value) for value in row) + "\n" for row in rows).encode()
        body += b"3 0 1 2\n" * faces
    else:
        dtype = [(name, values.dtype.newbyteorder(order)) for name, values in fields.items()]
        table = np.empty(count, dtype)
        for name, values in fields.items():
            table[name] = values
        body = table.tobytes() + struct.pack(f"{order}B3i", 3, 0, 1, 2) * faces
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join(lines).encode() + body)
    return path


def ply_fields(coords: np.ndarray, colors: np.ndarray) -> dict[str, np.ndarray]:
    """The properties of ScanNet's vertices."""
    fields = {name: coords[:, axis] for axis, name in enumerate("xyz")}
    fields |= {name: colors[:, axis] for axis, name in enumerate(("red", "green", "blue"))}
    return fields | {"alpha": np.full(len(coords), 255, np.uint8)}


def write_scene(root: Path, name: str, numbers: np.ndarray | None, seed: int = 0) -> None:
    """One scene of the raw release with NYU40's numbers; None for a test scene of 50 points."""
    folder = root / ("scans" if numbers is not None else "scans_test") / name
    coords, colors = cloud(50 if numbers is None else len(numbers), seed)
    fields = ply_fields(coords, colors)
    write_ply(folder / f"{name}_vh_clean_2.ply", fields)
    if numbers is not None:
        fields["label"] = numbers.astype(np.uint16)
        write_ply(folder / f"{name}_vh_clean_2.labels.ply", fields)


def write_lists(root: Path, lists: Mapping[str, Sequence[str]] = SPLIT_LISTS) -> None:
    """ScanNet's split lists and label table."""
    root.mkdir(parents=True, exist_ok=True)
    for split, names in lists.items():
        (root / f"scannetv2_{split}.txt").write_text("\n".join(names) + "\n")
    head = ("id", "raw_category", "nyu40id", "nyu40class")
    rows = ["\t".join(row) for row in [head, *LABEL_TABLE]]
    (root / "scannetv2-labels.combined.tsv").write_text("\n".join(rows) + "\n")


def write_scannet(root: Path) -> dict[str, np.ndarray]:
    """Three scenes of the raw release with lists and table; NYU40's numbers of every scene."""
    write_lists(root)
    rng = np.random.default_rng(5)
    known = [0, *sorted({int(row[2]) for row in LABEL_TABLE if row[2]})]
    numbers = {}
    for seed, name in enumerate(name for names in SPLIT_LISTS.values() for name in names):
        numbers[name] = rng.choice(known, 60 + seed)
        write_scene(root, name, numbers[name], seed)
    return numbers


def openscene_pickle(content: Any) -> bytes:
    """A pickle of protocol 2 with numpy's old module name, as OpenScene's files hold it."""
    data = pickle.dumps(content, protocol=2)
    old, new = b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"
    data = data.replace(new, old)
    assert b"_codecs" in data
    assert b"numpy._core" not in data
    return data


def write_openscene(
    path: Path, points: int = 40, labels: bool = True, seed: int = 0
) -> tuple[np.ndarray, ...]:
    """A `.pth` file of OpenScene's; coordinates, colours in -1..1 and labels that it holds."""
    coords, colors = cloud(points, seed)
    parts = [coords, (colors / np.float32(127.5) - 1).astype(np.float32)]
    if labels:
        rng = np.random.default_rng(seed + 100)
        parts.append(rng.choice([*range(20), 255, -100], points).astype(np.float64))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(openscene_pickle(tuple(parts)))
    return tuple(parts)


def sens_bytes(
    poses: Sequence[np.ndarray],
    colors: Sequence[np.ndarray],
    depths: Sequence[np.ndarray],
    intrinsic: np.ndarray,
    color_kind: int = 2,
    depth_kind: int = 1,
    depth_units: float = 1000.0,
    version: int = 4,
) -> bytes:
    """A recording: SensorStream, version 4."""
    name = b"StructureSensor"
    color_intrinsic = intrinsic.copy()
    color_intrinsic[0] *= colors[0].shape[1] / depths[0].shape[1]
    color_intrinsic[1] *= colors[0].shape[0] / depths[0].shape[0]
    identity = np.eye(4, dtype="<f4")
    parts = [struct.pack("<IQ", version, len(name)), name]
    for matrix in (color_intrinsic, identity, intrinsic, identity):
        parts.append(matrix.astype("<f4").tobytes())
    (height, width), (depth_height, depth_width) = colors[0].shape[:2], depths[0].shape
    parts.append(struct.pack("<2i", color_kind, depth_kind))
    parts.append(struct.pack("<4I", width, height, depth_width, depth_height))
    parts.append(struct.pack("<fQ", depth_units, len(poses)))
    for number, (pose, color, depth) in enumerate(zip(poses, colors, depths, strict=True)):
        image = io.BytesIO()
        Image.fromarray(color).save(image, "JPEG" if color_kind == 2 else "PNG", quality=95)
        raw = depth.astype("<u2").tobytes()
        stored = zlib.compress(raw) if depth_kind == 1 else raw
        parts.append(pose.astype("<f4").tobytes())
        sizes = (33_000 * number, 33_000 * number + 7, len(image.getvalue()), len(stored))
        parts += [struct.pack("<4Q", *sizes), image.getvalue(), stored]
    parts.append(struct.pack("<Q", 3) + bytes(120))  # what the inertial sensor said
    return b"".join(parts)


def pose_at(x: float, y: float, z: float = 1.2, degrees: float = 0.0) -> np.ndarray:
    """Camera to world of a camera that looks along the floor."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    pose = np.eye(4)
    # Columns: the camera's x, y (down) and z (forward) in the world.
    pose[:3, :3] = np.array([[sine, 0, cosine], [-cosine, 0, sine], [0, -1, 0]])
    pose[:3, 3] = x, y, z
    return pose


def write_matrix(path: Path, matrix: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savetxt(path, matrix, fmt="%f")


def write_image(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def write_frames(
    root: Path,
    room: str,
    numbers: Sequence[int] = (0, 20, 100),
    size: tuple[int, int] = (24, 32),
    depth: bool = True,
    intrinsics: bool = True,
) -> None:
    """Frames in OpenScene's layout."""
    height, width = size
    rng = np.random.default_rng(3)
    for number in numbers:
        color = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        write_image(root / room / "color" / f"{number}.jpg", color)
        if depth:
            millimetres = rng.integers(0, 4000, size).astype(np.uint16)
            write_image(root / room / "depth" / f"{number}.png", millimetres)
        write_matrix(root / room / "pose" / f"{number}.txt", pose_at(number / 100, 1, 1.5, number))
    if intrinsics:
        write_matrix(root / room / "intrinsics.txt", intrinsics_of(size))


def intrinsics_of(size: tuple[int, int]) -> np.ndarray:
    height, width = size
    matrix = np.eye(4)
    matrix[0, 0], matrix[1, 1] = 0.9 * width, 0.9 * width
    matrix[0, 2], matrix[1, 2] = (width - 1) / 2, (height - 1) / 2
    return matrix


def write_s3dis_object(root: Path, room: str, name: str, points: int, seed: int = 0) -> np.ndarray:
    """One object's text file of a room such as "Area_1/office_1"; its numbers [N, 6]."""
    coords, colors = cloud(points, seed)
    numbers = np.concatenate([np.round(coords.astype(float), 3), colors], axis=1)
    lines = [f"{x:.3f} {y:.3f} {z:.3f} {r:.0f} {g:.0f} {b:.0f}" for x, y, z, r, g, b in numbers]
    path = root / room / "Annotations" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return numbers


def write_s3dis(root: Path) -> Path:
    """Rooms of three areas, two of them called alike."""
    for number, (room, objects) in enumerate(
        {
            "Area_1/office_1": ("ceiling_1", "chair_2", "chair_10", "stairs_1"),
            "Area_2/WC_1": ("wall_1", "clutter_1"),
            "Area_5/office_1": ("floor_1", "bookcase_1"),
        }.items()
    ):
        for more, name in enumerate(objects):
            write_s3dis_object(root, room, name, 30 + more, seed=10 * number + more)
    return root


def write_2d3ds_frame(
    root: Path,
    folder: str,
    room: str,
    pose: np.ndarray,
    frame: int = 0,
    changed: Mapping[str, Any] | None = None,
) -> str:
    """One image of 2D-3D-S from camera to world; the beginning of its files' names."""
    stem = f"camera_0a{frame}_{room}_frame_{frame}_domain"
    data = root / folder / "data"
    inverse = np.linalg.inv(pose)
    content = {
        "camera_k_matrix": [[1039.2, 0, 540.0], [0, 1039.2, 540.0], [0, 0, 1]],
        "camera_rt_matrix": inverse[:3].tolist(),
        "camera_location": pose[:3, 3].tolist(),
        "room": room,
        "frame_num": frame,
    }
    (data / "pose").mkdir(parents=True, exist_ok=True)
    (data / "pose" / f"{stem}_pose.json").write_text(json.dumps(content | dict(changed or {})))
    depth = np.full((1080, 1080), 65535, np.uint16)
    depth[:540] = 1024
    write_image(data / "depth" / f"{stem}_depth.png", depth)
    write_image(data / "rgb" / f"{stem}_rgb.png", np.full((1080, 1080, 3), 90, np.uint8))
    return stem
