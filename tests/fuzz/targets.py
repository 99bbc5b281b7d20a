"""The readers, each with valid files that are made by code: those that a fuzzer begins with."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pypcd4 import Encoding
from safetensors.numpy import save_file

from tests.clouds import cloud_files
from tests.datasets.indoor_files import (
    cloud,
    intrinsics_of,
    ply_fields,
    pose_at,
    sens_bytes,
    write_frames,
    write_lists,
    write_ply,
)
from tests.fuzz.rule import Reader, Target
from tests.tiny_dataset import random_masks, write_dataset
from tests.tiny_rooms import write_rooms
from uov_jax.checkpoints.files import load_state_dict_file
from uov_jax.clouds import AS_STORED, Reading, bag_file, clouds_in
from uov_jax.datasets import image_file
from uov_jax.datasets.extracted_frames import ExtractedFrames
from uov_jax.datasets.frames import read_color, read_depth
from uov_jax.datasets.keyframe import CameraView, Keyframe, Pose
from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS, SEMANTICKITTI_COLUMNS, read_points
from uov_jax.datasets.nuscenes import NuScenesLabelFormat, read_lidarseg
from uov_jax.datasets.nuscenes_index import read_tables
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.openscene_rooms import read_openscene
from uov_jax.datasets.ply_file import read_ply, vertex_colors, vertex_coords
from uov_jax.datasets.recordings import Recordings
from uov_jax.datasets.room_labels import RoomLabelFormat
from uov_jax.datasets.rooms import RoomStore, read_scene_labels
from uov_jax.datasets.s3dis_text import read_text_points
from uov_jax.datasets.scannet import read_label_table, read_split_lists
from uov_jax.datasets.semantickitti import read_classes
from uov_jax.datasets.sens_file import SensFile
from uov_jax.datasets.splits import read_own_splits
from uov_jax.dumps.file import TeacherDump, read_dump, write_dump
from uov_jax.dumps.folder import DumpFolder, DumpManifest
from uov_jax.dumps.reference import ReferenceDumpFolder
from uov_jax.files import write_npz, write_text
from uov_jax.fusion import openscene
from uov_jax.fusion.features import FeatureFolder, FeatureManifest, FeatureWriter
from uov_jax.fusion.frame_features import FileTeacher, read_features
from uov_jax.fusion.pseudo_labels import PseudoLabelFolder as RoomLabels
from uov_jax.fusion.pseudo_labels import PseudoLabelManifest as RoomLabelManifest
from uov_jax.fusion.pseudo_labels import PseudoLabelWriter, RoomLabelFacts
from uov_jax.fusion.word_embeddings import read_embeddings
from uov_jax.pickled import read_pickled
from uov_jax.superpoints.grouping import PointSuperpoints, Superpoints
from uov_jax.superpoints.labels import (
    PseudoLabelFolder,
    PseudoLabelManifest,
    read_reference_labels,
)
from uov_jax.vocabulary import Vocabulary, load_vocabulary, vocabulary_of_words

POINTS = 40
ROOM = "scene0000_00"


@functools.cache
def words() -> Vocabulary:
    return vocabulary_of_words(["car", "road", "tree"])


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


# Teachers' dumps.


def made_dump() -> TeacherDump:
    rng = generator()
    cameras = tuple(random_masks(rng, f"CAM_{n}", f"token-{n}", 3, 3, (8, 12)) for n in range(2))
    return TeacherDump("tiny", "0" * 64, words().hash, "key", cameras)


def look_at(dump: TeacherDump) -> None:
    for camera in dump.cameras:
        camera.lookup(np.array([0]), np.array([0]))
        camera.runs.areas(camera.num_masks)
        assert camera.masks.shape == camera.image_size


def write_dumps(folder: Path) -> None:
    sizes = {f"CAM_{n}": (8, 12) for n in range(2)}
    manifest = DumpManifest("tiny", "0" * 64, "words", words().hash, 3, sizes)
    DumpFolder.create(folder, manifest, generator().normal(size=(3, 3))).write(made_dump())


def read_dumps(folder: Path) -> None:
    dumps = DumpFolder(folder, words())
    assert dumps.text_embeddings is not None
    look_at(dumps.read("key"))


# The reference's files of an image; those of a teacher with three words.
REFERENCE = ("text_embedding.pt", "image.png", "image.json", "image.pt")


def write_reference(folder: Path) -> None:
    rows = np.concatenate([np.zeros((1, 4)), np.eye(3, 4)]).astype(np.float32)
    (folder / "text_embedding.pt").write_bytes(pickle.dumps(rows[1:], 2))
    (folder / "image.pt").write_bytes(pickle.dumps(rows[:3], 4))
    entries = [{"id": number, "category_id": number} for number in (1, 2)]
    (folder / "image.json").write_text(json.dumps(entries))
    masks = (np.arange(48) % 3).astype(np.uint8).reshape(6, 8)
    (folder / "image.png").write_bytes(encoded(Image.fromarray(masks), "PNG"))


def read_reference(folder: Path) -> None:
    still, nothing = keyframe().sensor_to_ego, np.eye(3)
    view = CameraView("CAM", "image", folder / "image.jpg", nothing, still, still, 8, 6)
    dumps = ReferenceDumpFolder(folder, words())
    look_at(dumps.read(dataclasses.replace(keyframe(), cameras=(view,))))


# Sweeps and their labels.


def write_sweep(path: Path, columns: int) -> None:
    points = generator().uniform(0, 1, (POINTS, columns)).astype("<f4")
    points[:, 4:] = 3
    path.write_bytes(points.tobytes())


def keyframe() -> Keyframe:
    still = Pose((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    return Keyframe("key", "scene", Path("sweep"), "sweep", still, still, (), None)


def write_superpoints(folder: Path) -> None:
    manifest = PseudoLabelManifest("tiny", "0" * 64, "words", words().hash)
    number = (np.arange(POINTS) % 4 - 1).astype(np.int32)
    nothing, word = np.zeros(0, np.int32), np.array([0, 2, -1], np.int32)
    points = PointSuperpoints(Superpoints(nothing, nothing, word, nothing), number, number >= 0)
    PseudoLabelFolder.create(folder, manifest, words()).write(keyframe(), points)


def write_codes(folder: Path) -> None:
    np.save(folder / "codes.npy", np.arange(POINTS, dtype=np.int32) % 3 * 100 + 2)


def write_bytes(name: str, content: bytes) -> Any:
    return lambda folder: (folder / name).write_bytes(content)


# Tables in nuScenes' format.

TABLES = ("scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose", "lidarseg")


def write_tables(folder: Path) -> None:
    write_dataset(folder, "v", ("scene-1",), keyframes=2, own_splits={"tiny": ["scene-1"]})


def read_keyframes(folder: Path) -> None:
    tables = NuScenesTables(folder, "v")
    tables._index = read_tables(folder / "v")  # without the cache in the user's home
    for each in tables.keyframes("tiny"):
        assert each.lidar_path
        for camera in each.cameras:
            assert camera.ego_to_global.matrix.shape == (3, 3)


# Pickles.


def nested() -> dict[str, Any]:
    many = np.arange(6, dtype=np.float32).reshape(2, 3)
    return {"a": many, "b": [1, 2.5, None, True, "text", b"bytes"], "c": {"d": (many, many[0])}}


def torch_archive(root: str = "archive") -> dict[str, bytes]:
    """What torch.save would write of {"weight": a tensor [2, 3]}, entry by entry."""
    code = b"".join(
        [
            b"\x80\x02}X\x06\0\0\0weight",
            b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage",
            b"ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQ",
            b"K\0K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtRs.",
        ]
    )
    numbers = np.arange(6, dtype="<f4").tobytes()
    return {
        f"{root}/data.pkl": code,
        f"{root}/byteorder": b"little",
        f"{root}/data/0": numbers,
        f"{root}/version": b"3\n",
    }


def write_torch(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in torch_archive().items():
            archive.writestr(zipfile.ZipInfo(name), content)


def torch_sequence() -> bytes:
    """The same as torch.save wrote it before 1.6."""
    head = b"".join(pickle.dumps(n, 2) for n in (0x1950A86A20F9469CFC6C, 1001, {}))
    code = torch_archive()["archive/data.pkl"].replace(b"K\x06tQ", b"K\x06NtQ")
    return head + code + pickle.dumps(["0"], 2) + struct.pack("<q", 6) + bytes(24)


def write_room_pickle(folder: Path) -> None:
    coords, colors = cloud(POINTS)
    content = (coords, colors.astype(np.float32) / np.float32(127.5) - 1, np.zeros(POINTS, int))
    (folder / "room.pth").write_bytes(pickle.dumps(content, 2))


def write_published_features(folder: Path) -> None:
    seen = np.arange(POINTS) % 2 == 0
    content = {"feat": np.ones((POINTS // 2, 3), np.float16), "mask_full": seen}
    (folder / "room.pt").write_bytes(pickle.dumps(content, 4))


# Stores of rooms and of features.

ROOM_FILES = (
    *("rooms.json", f"rooms/{ROOM}/room.json", f"rooms/{ROOM}/coords.npy"),
    *(f"rooms/{ROOM}/colors.npy", f"rooms/{ROOM}/labels.npy", "splits/train.txt"),
    "scene_labels.txt",
)
PLAIN_FEATURES = (
    *("fused.json", "text_embeddings.npz", f"{ROOM}/fused.json", f"{ROOM}/views.npy"),
    *(f"{ROOM}/features.npy", f"{ROOM}/same.npy"),
)
PACKED_FEATURES = (
    *("fused.json", "text_embeddings.npz", f"{ROOM}/fused.json", f"{ROOM}/views.npy"),
    *(f"{ROOM}/features.zst", f"{ROOM}/blocks.npy"),
)


@functools.cache
def scannet() -> Vocabulary:
    return load_vocabulary("scannet")


def write_store(folder: Path) -> None:
    write_rooms(folder, scannet(), splits={"train": (ROOM,)}, points=POINTS)
    (folder / "scene_labels.txt").write_text(f"# by hand\n{ROOM}: bed, table\n")


def read_store(folder: Path) -> None:
    store = RoomStore(folder, scannet())
    for name in store.split("train"):
        room = store.room(name)
        assert len(room.coords) == len(room.colors)
        assert store.scene_classes(name) is not None
    assert store.identity([ROOM])


def write_fused(folder: Path, compress: bool) -> None:
    manifest = FeatureManifest("tiny", "", 4, "scannet", "words", words().hash)
    writer = FeatureWriter(folder, manifest, np.eye(3, 4, dtype=np.float32), compress=compress)
    features = generator().normal(size=(POINTS // 2, 4)).astype(np.float16)
    features[5:] = features[: POINTS // 2 - 5] if not compress else features[5:]
    writer.write(ROOM, (np.arange(POINTS) % 2).astype(np.uint16), features)


def read_fused(folder: Path) -> None:
    features = FeatureFolder(folder, words())
    assert features.text_embeddings.dtype == np.float32
    room = features.room(ROOM, POINTS)
    room.read(np.array([0, 3], np.int64)[: room.stored.rows])
    assert features.identity([ROOM])


def write_room_labels(folder: Path) -> None:
    names = "teacher weights kind dataset features words".split()
    manifest = RoomLabelManifest(*names, words().hash, True)
    facts = RoomLabelFacts(POINTS, (1, 2), np.zeros((4, 4), np.int64))
    labels = (np.arange(POINTS) % 4).astype(np.uint8)
    PseudoLabelWriter(folder, manifest).write(ROOM, labels, np.zeros(POINTS, np.float16), facts)


def read_room_labels(folder: Path) -> None:
    labels = RoomLabels(folder, words())
    assert len(labels.labels(ROOM, POINTS)) == POINTS
    assert labels.identity([ROOM])


def write_frame(folder: Path) -> None:
    masks = np.arange(12, dtype=np.uint16).reshape(3, 4) % 3
    write_npz(folder / "1.npz", {"masks": masks, "embeddings": np.ones((2, 4), np.float16)})


def write_teacher(folder: Path) -> None:
    facts = {"name": "tiny", "embedding_size": 4, "vocabulary_hash": words().hash}
    write_text(folder / "teacher.json", json.dumps(facts))
    write_npz(folder / "text_embeddings.npz", {"embeddings": np.eye(3, 4, dtype=np.float32)})


# Scans of interiors, pictures.


def write_mesh(folder: Path, format: str) -> None:
    fields = ply_fields(*cloud(POINTS)) | {"label": np.arange(POINTS, dtype=np.uint16)}
    write_ply(folder / "room.ply", fields, format)


def read_mesh(folder: Path) -> None:
    path = folder / "room.ply"
    vertices = read_ply(path)
    assert len(vertex_coords(vertices, path)) == len(vertices)
    vertex_colors(vertices, path)


def text_points() -> bytes:
    coords, colors = cloud(POINTS)
    rows = zip(coords.tolist(), colors.tolist(), strict=True)
    return b"".join(b"%g %g %g %d %d %d\n" % (*p, *c) for p, c in rows)


def write_recording(folder: Path) -> None:
    rng = generator()
    colors = [rng.integers(0, 256, (6, 8, 3)).astype(np.uint8) for _ in range(2)]
    depths = [rng.integers(0, 5000, (3, 4)).astype(np.uint16) for _ in range(2)]
    poses = [pose_at(0, 0), pose_at(1, 0)]
    (folder / "room.sens").write_bytes(sens_bytes(poses, colors, depths, intrinsics_of((3, 4))))


def read_recording(folder: Path) -> None:
    with SensFile(folder / "room.sens") as recording:
        for frame in recording.frames(2):
            frame.depth()
            frame.color()


FRAMES = ("r/color/0.jpg", "r/depth/0.png", "r/pose/0.txt", "r/intrinsics.txt")


def write_one_frame(folder: Path) -> None:
    write_frames(folder, "r", (0,), (6, 8))


def read_frames(folder: Path) -> None:
    for frame in ExtractedFrames(folder, say=lambda _: None).frames("r"):
        read_color(frame)
        read_depth(frame)


def write_points(folder: Path) -> None:
    coords, colors = cloud(POINTS)
    labels = np.arange(POINTS) % 20
    write_npz(folder / "room.npz", {"coords": coords, "colors": colors, "labels": labels})


def encoded(image: Image.Image, format: str) -> bytes:
    content = io.BytesIO()
    image.save(content, format)
    return content.getvalue()


def picture(format: str) -> bytes:
    pixels = generator().integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return encoded(Image.fromarray(pixels), format)


def depth_picture() -> bytes:
    return encoded(Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8)), "PNG")


# Clouds of any format.

AS_FLOATS = Reading(columns="x y z intensity")


def write_las(folder: Path, compress: bool, minor: int) -> None:
    rng = generator()
    numbers = rng.integers(-50_000, 50_000, (POINTS, 3)).astype(np.int32)
    others = rng.integers(0, 2**16, (POINTS, 4)).astype(np.uint16)
    content = cloud_files.las_bytes(numbers, others[:, 0], others[:, 1:], minor=minor)
    if compress:
        cloud_files.write_laz(folder / "a.laz", content, folder)
    else:
        (folder / "a.las").write_bytes(content)


def write_cloud_archive(folder: Path) -> None:
    fields = cloud_files.sweep(POINTS)
    content = {"points": cloud_files.xyz_of(fields), "intensity": fields["intensity"]}
    write_npz(folder / "a.npz", content)


def messages() -> dict[str, list[bytes]]:
    return {"/points": [cloud_files.cloud_message(cloud_files.sweep(POINTS)) for _ in range(2)]}


def write_message(folder: Path) -> None:
    (folder / "message").write_bytes(messages()["/points"][0])


def read_message(folder: Path) -> None:
    content = (folder / "message").read_bytes()
    bag_file._sweep(content, "a", "a message", AS_STORED)


def clouds_of(name: str, reading: Reading) -> Any:
    def read(folder: Path) -> None:
        for _, load in clouds_in(folder / name, reading):
            cloud = load()
            assert cloud.xyz.shape == (len(cloud.finite), 3)

    return read


def cloud_reader(
    name: str, path: str, write: Any, reading: Reading = AS_STORED, zipped: bool = False
) -> Reader:
    return Reader(name, (path,), write, clouds_of(path, reading), zipped=zipped)


# Texts.


def vocabulary_text() -> bytes:
    groups = [{"raw_index": 1, "eval_class": 1, "words": ["car", "van"], "thing": True}]
    content = {"eval_classes": ["ignore", "car"], "groups": groups, "ground": ["car"]}
    return json.dumps(content | {"colors": [[0, 0, 0], [1, 2, 3]], "name": "own"}).encode()


def superpoints_beside(folder: Path) -> PseudoLabelFolder:
    """The folder whose manifest is whole."""
    manifest = PseudoLabelManifest("tiny", "0" * 64, "words", words().hash)
    return PseudoLabelFolder.create(folder, manifest, words())


def write_safetensors(path: Path) -> None:
    save_file({"a.kernel": np.ones((2, 3), np.float32)}, path)


LISTS = tuple(f"scannetv2_{split}.txt" for split in ("train", "val"))
TABLE = "scannetv2-labels.combined.tsv"

TARGETS: dict[str, Target] = {
    "dumps": Target(
        (
            Reader(
                "dump",
                ("key.npz",),
                lambda folder: write_dump(folder / "key.npz", made_dump()),
                lambda folder: look_at(read_dump(folder / "key.npz")),
                zipped=True,
            ),
            Reader(
                "dump folder",
                ("dump.json", "text_embeddings.npz", "key.npz"),
                write_dumps,
                read_dumps,
            ),
            Reader("reference dump", REFERENCE, write_reference, read_reference),
        )
    ),
    "sweeps": Target(
        (
            Reader(
                "nuscenes",
                ("sweep.pcd.bin",),
                lambda folder: write_sweep(folder / "sweep.pcd.bin", 5),
                lambda folder: read_points(folder / "sweep.pcd.bin", NUSCENES_COLUMNS),
            ),
            Reader(
                "kitti",
                ("sweep.bin",),
                lambda folder: write_sweep(folder / "sweep.bin", 4),
                lambda folder: read_points(folder / "sweep.bin", SEMANTICKITTI_COLUMNS),
            ),
        )
    ),
    "labels": Target(
        (
            Reader(
                "lidarseg",
                ("l.bin",),
                write_bytes("l.bin", bytes(range(20)) * 2),
                lambda folder: read_lidarseg(folder / "l.bin", POINTS),
            ),
            Reader(
                "predicted lidarseg",
                ("l.bin",),
                write_bytes("l.bin", bytes(range(10)) * 4),
                lambda folder: NuScenesLabelFormat([], "val").read(folder / "l.bin", POINTS),
            ),
            Reader(
                "kitti labels",
                ("l.label",),
                write_bytes("l.label", np.full(POINTS, 70, "<u4").tobytes()),
                lambda folder: read_classes(folder / "l.label", POINTS),
            ),
            Reader(
                "superpoints",
                ("superpoints.json", "key.npz"),
                write_superpoints,
                lambda folder: PseudoLabelFolder(folder, words()).labels(keyframe(), POINTS),
            ),
            Reader(
                "superpoint file",
                ("key.npz",),
                write_superpoints,
                lambda folder: superpoints_beside(folder).labels(keyframe(), POINTS),
                zipped=True,
            ),
            Reader(
                "reference labels",
                ("codes.npy",),
                write_codes,
                lambda folder: read_reference_labels(folder / "codes.npy", POINTS),
            ),
            Reader(
                "predicted classes of a room",
                ("room.txt",),
                write_bytes("room.txt", b"1\n2\n" * (POINTS // 2)),
                lambda folder: RoomLabelFormat([ROOM], words()).read(folder / "room.txt", POINTS),
            ),
        )
    ),
    "tables": Target(
        (
            Reader(
                "tables",
                (*(f"v/{name}.json" for name in TABLES), "v/splits.json"),
                write_tables,
                read_keyframes,
            ),
        )
    ),
    "pickles": Target(
        (
            *(
                Reader(
                    f"protocol {protocol}",
                    ("a.pkl",),
                    write_bytes("a.pkl", pickle.dumps(nested(), protocol)),
                    lambda folder: read_pickled(folder / "a.pkl"),
                )
                for protocol in (0, 2, 5)
            ),
            Reader(
                "torch",
                ("a.pt",),
                lambda folder: write_torch(folder / "a.pt"),
                lambda folder: read_pickled(folder / "a.pt"),
                zipped=True,
            ),
            Reader(
                "torch sequence",
                ("a.pt",),
                write_bytes("a.pt", torch_sequence()),
                lambda folder: read_pickled(folder / "a.pt"),
            ),
            Reader(
                "openscene room",
                ("room.pth",),
                write_room_pickle,
                lambda folder: read_openscene(folder / "room.pth", scannet()),
            ),
            Reader(
                "openscene features",
                ("room.pt",),
                write_published_features,
                lambda folder: openscene.read_file(folder / "room.pt", POINTS),
            ),
        )
    ),
    "checkpoints": Target(
        (
            Reader(
                "npz",
                ("a.npz",),
                lambda folder: write_npz(folder / "a.npz", {"a.kernel": np.ones((2, 3))}),
                lambda folder: load_state_dict_file(folder / "a.npz"),
                zipped=True,
            ),
            Reader(
                "torch",
                ("a.pth",),
                lambda folder: write_torch(folder / "a.pth"),
                lambda folder: load_state_dict_file(folder / "a.pth"),
                zipped=True,
            ),
            Reader(
                "safetensors",
                ("a.safetensors",),
                lambda folder: write_safetensors(folder / "a.safetensors"),
                lambda folder: load_state_dict_file(folder / "a.safetensors"),
            ),
        )
    ),
    "rooms": Target((Reader("store", ROOM_FILES, write_store, read_store),)),
    "features": Target(
        (
            Reader("plain", PLAIN_FEATURES, lambda f: write_fused(f, False), read_fused),
            Reader("packed", PACKED_FEATURES, lambda f: write_fused(f, True), read_fused),
            Reader(
                "room labels",
                ("pseudo_labels.json", f"{ROOM}/labels.json", f"{ROOM}/labels.npy"),
                write_room_labels,
                read_room_labels,
            ),
            Reader(
                "frame",
                ("1.npz",),
                write_frame,
                lambda folder: read_features(folder / "1.npz", 4),
                zipped=True,
            ),
            Reader(
                "grid",
                ("1.npy",),
                lambda folder: np.save(folder / "1.npy", np.ones((4, 2, 3), np.float16)),
                lambda folder: read_features(folder / "1.npy", 4),
            ),
            Reader(
                "teacher",
                ("teacher.json", "text_embeddings.npz"),
                write_teacher,
                lambda folder: FileTeacher(folder).text_embeddings(words()),
            ),
            Reader(
                "words",
                ("text_embeddings.npz",),
                write_teacher,
                lambda folder: read_embeddings(folder / "text_embeddings.npz"),
                zipped=True,
            ),
        )
    ),
    "scans": Target(
        (
            *(
                Reader(
                    f"ply {format}",
                    ("room.ply",),
                    functools.partial(write_mesh, format=format),
                    read_mesh,
                )
                for format in ("ascii", "binary_little_endian", "binary_big_endian")
            ),
            Reader(
                "s3dis text",
                ("a.txt",),
                write_bytes("a.txt", text_points()),
                lambda folder: read_text_points(folder / "a.txt"),
            ),
            Reader("recording", ("room.sens",), write_recording, read_recording),
            Reader("frames", FRAMES, write_one_frame, read_frames),
            Reader(
                "archive of points",
                ("room.npz",),
                write_points,
                lambda folder: Recordings(folder, scannet()).read("room"),
                zipped=True,
            ),
        )
    ),
    "images": Target(
        (
            *(
                Reader(
                    format,
                    (f"a.{format}",),
                    write_bytes(f"a.{format}", picture(format)),
                    lambda folder, format=format: image_file.read_image(folder / f"a.{format}"),
                )
                for format in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "PPM")
            ),
            Reader(
                "depth",
                ("d.png",),
                write_bytes("d.png", depth_picture()),
                lambda folder: image_file.read_depth_image(folder / "d.png"),
            ),
        )
    ),
    "texts": Target(
        (
            Reader(
                "label table",
                (TABLE,),
                write_lists,
                lambda folder: read_label_table(folder / TABLE, scannet()),
            ),
            Reader("split lists", LISTS, write_lists, read_split_lists),
            Reader(
                "scene labels",
                ("scene_labels.txt",),
                write_bytes("scene_labels.txt", b"# by hand\nroom_1: wall, bed\nroom_2: chair\n"),
                lambda folder: read_scene_labels(
                    folder / "scene_labels.txt", scannet().eval_classes, ["room_1", "room_2"]
                ),
            ),
            Reader(
                "vocabulary",
                ("own.json",),
                write_bytes("own.json", vocabulary_text()),
                lambda folder: load_vocabulary(folder / "own.json"),
            ),
            Reader(
                "own splits",
                ("splits.json",),
                write_bytes("splits.json", b'{"train": ["scene-1"], "val": []}'),
                lambda folder: read_own_splits(folder / "splits.json"),
            ),
        )
    ),
    "clouds": Target(
        (
            cloud_reader("columns", "a.bin", lambda f: write_sweep(f / "a.bin", 4), AS_FLOATS),
            *(
                cloud_reader(
                    f"pcd {encoding.name}",
                    "a.pcd",
                    lambda f, encoding=encoding: cloud_files.write_pcd(
                        f / "a.pcd", cloud_files.sweep(POINTS), encoding
                    ),
                )
                for encoding in Encoding
            ),
            cloud_reader(
                "ply",
                "a.ply",
                lambda f: cloud_files.write_ply(f / "a.ply", cloud_files.colored(POINTS)),
            ),
            cloud_reader(
                "table",
                "a.npy",
                lambda f: np.save(
                    f / "a.npy", cloud_files.table_of(cloud_files.sweep(POINTS), "x y z intensity")
                ),
                AS_FLOATS,
            ),
            cloud_reader("archive", "a.npz", write_cloud_archive, zipped=True),
            Reader("openscene", ("room.pth",), write_room_pickle, clouds_of("room.pth", AS_STORED)),
            *(
                cloud_reader(
                    f"las 1.{minor}",
                    "a.las",
                    functools.partial(write_las, compress=False, minor=minor),
                )
                for minor in (2, 4)
            ),
            *(
                cloud_reader(
                    f"laz 1.{minor}",
                    "a.laz",
                    functools.partial(write_las, compress=True, minor=minor),
                )
                for minor in (2, 4)
            ),
            Reader("message", ("message",), write_message, read_message),
            cloud_reader(
                "mcap", "a.mcap", lambda f: cloud_files.write_mcap(f / "a.mcap", messages())
            ),
            cloud_reader(
                "sqlite", "a.db3", lambda f: cloud_files.write_db3(f / "a.db3", messages())
            ),
        )
    ),
}
