"""A tiny dataset in nuScenes' format and dumps for it, written for tests without the simulator."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uov_jax.datasets.keyframe import CAMERAS, LIDAR, Keyframe
from uov_jax.dumps.file import CameraMasks, TeacherDump
from uov_jax.dumps.folder import DumpFolder, DumpManifest, image_sizes
from uov_jax.vocabulary import Vocabulary

HEIGHT, WIDTH = 90, 160
Tables = dict[str, list[dict[str, Any]]]
# Height and width of a camera's images, by its channel, in the order in which they look round.
Sizes = Mapping[str, tuple[int, int]]
NUSCENES: Sizes = dict.fromkeys(CAMERAS, (HEIGHT, WIDTH))


def write_dataset(
    root: Path,
    version: str = "v1.0-mini",
    scenes: tuple[str, ...] = ("scene-0061", "scene-0103"),
    keyframes: int = 2,
    points: int = 400,
    lidarseg: bool = True,
    change: Callable[[Tables], None] = lambda tables: None,
    own_splits: Mapping[str, Sequence[str]] | None = None,
    lidar: str = LIDAR,
    cameras: Sizes = NUSCENES,
    unlabelled: Collection[str] = (),
) -> Path:
    """Write tables, sweeps, labels and images under `root`; `change` may spoil the tables first.

    Samples that are `unlabelled` have neither a record nor a file of labels.
    """
    rng = np.random.default_rng(0)
    tables: Tables = {
        name: []
        for name in ("scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose")
    }
    if lidarseg:
        tables["lidarseg"] = []
    for channel in (lidar, *cameras):
        tables["sensor"].append({"token": f"sensor-{channel}", "channel": channel})
        tables["calibrated_sensor"].append(_calibration(channel, cameras))
    for scene in scenes:
        tokens = [f"{scene}-sample-{i}" for i in range(keyframes)]
        tables["scene"].append({"token": scene, "name": scene, "first_sample_token": tokens[0]})
        for number, token in enumerate(tokens):
            following = tokens[number + 1] if number + 1 < keyframes else ""
            tables["sample"].append({"token": token, "next": following})
            labelled = lidarseg and token not in unlabelled
            for channel in (lidar, *cameras):
                _add_sample_data(tables, token, channel, number, cameras.get(channel))
            if labelled:
                tables["lidarseg"].append(_label_record(f"{token}-{lidar}"))
            _write_files(root, token, points, lidar, cameras, labelled, rng)
    # A frame between keyframes, whose pose belongs to no keyframe.
    between = dict(tables["sample_data"][0], token="between", is_key_frame=False)
    tables["sample_data"].append(between | {"ego_pose_token": "nowhere"})
    change(tables)
    folder = root / version
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(records, indent=1))
    if own_splits:
        (folder / "splits.json").write_text(json.dumps(own_splits))
    return root


def write_dumps(
    root: Path, keyframes: list[Keyframe], vocabulary: Vocabulary, embedding_size: int = 16
) -> DumpFolder:
    """Write dumps of four masks (and void) a camera, with words, and unit text embeddings."""
    rng = np.random.default_rng(1)
    manifest = DumpManifest(
        teacher="tiny",
        weights_hash="0" * 64,
        vocabulary=vocabulary.name,
        vocabulary_hash=vocabulary.hash,
        embedding_size=embedding_size,
        image_sizes=image_sizes(keyframes),
    )
    text = rng.normal(size=(len(vocabulary), embedding_size))
    folder = DumpFolder.create(root, manifest, text)
    for keyframe in keyframes:
        cameras = tuple(
            random_masks(
                rng,
                view.channel,
                view.token,
                embedding_size,
                len(vocabulary),
                (view.height, view.width),
            )
            for view in keyframe.cameras
        )
        folder.write(TeacherDump("tiny", "0" * 64, vocabulary.hash, keyframe.token, cameras))
    return folder


def random_masks(
    rng: np.random.Generator,
    channel: str,
    token: str,
    embedding_size: int,
    num_words: int,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> CameraMasks:
    """Four vertical bands of ids 1..4 with some void in them, in an image of (height, width)."""
    height, width = size
    masks = np.repeat(np.arange(width)[None] * 4 // width + 1, height, axis=0).astype(np.uint16)
    masks[rng.random(masks.shape) < 0.05] = 0
    words = rng.integers(0, num_words, 4)
    return CameraMasks(channel, token, masks, words, rng.normal(size=(4, embedding_size)))


def _calibration(channel: str, cameras: Sizes) -> dict[str, Any]:
    if channel not in cameras:
        rotation, intrinsic = [1.0, 0.0, 0.0, 0.0], []
    else:
        # Cameras look along the horizon, nuScenes' 60 degrees apart; z forward, x right, y down.
        turn = np.radians(-360.0 / len(cameras) * list(cameras).index(channel)) / 2
        rotation = _product((np.cos(turn), 0, 0, np.sin(turn)), (0.5, -0.5, 0.5, -0.5))
        height, width = cameras[channel]
        intrinsic = [[width / 1.2, 0, width / 2], [0, width / 1.2, height / 2], [0, 0, 1]]
    return {
        "token": f"calibration-{channel}",
        "sensor_token": f"sensor-{channel}",
        "translation": [0.1, 0.2, 1.5],
        "rotation": rotation,
        "camera_intrinsic": intrinsic,
    }


def _product(a: tuple[float, ...], b: tuple[float, ...]) -> list[float]:
    w, x, y, z = a
    p, q, r, s = b
    return [
        float(w * p - x * q - y * r - z * s),
        float(w * q + x * p + y * s - z * r),
        float(w * r - x * s + y * p + z * q),
        float(w * s + x * r - y * q + z * p),
    ]


def _add_sample_data(
    tables: Tables, sample: str, channel: str, number: int, size: tuple[int, int] | None
) -> None:
    token = f"{sample}-{channel}"
    ending = "jpg" if size else "pcd.bin"
    height, width = size or (0, 0)
    tables["sample_data"].append(
        {
            "token": token,
            "sample_token": sample,
            "ego_pose_token": f"pose-{token}",
            "calibrated_sensor_token": f"calibration-{channel}",
            "is_key_frame": True,
            "height": height,
            "width": width,
            "filename": f"samples/{channel}/{token}.{ending}",
        }
    )
    moved = 0.2 if size else 0.0  # the vehicle moves between sweep and image
    tables["ego_pose"].append(
        {
            "token": f"pose-{token}",
            "translation": [400.0 + 5 * number + moved, 1100.0, 0.0],
            "rotation": [float(np.cos(0.4)), 0.0, 0.0, float(np.sin(0.4))],
        }
    )


def _label_record(sweep: str) -> dict[str, Any]:
    return {
        "token": sweep,
        "sample_data_token": sweep,
        "filename": f"lidarseg/{sweep}_lidarseg.bin",
    }


def _write_files(
    root: Path,
    sample: str,
    points: int,
    lidar: str,
    cameras: Sizes,
    labelled: bool,
    rng: np.random.Generator,
) -> None:
    for channel in (lidar, *cameras):
        (root / "samples" / channel).mkdir(parents=True, exist_ok=True)
    (root / "lidarseg").mkdir(exist_ok=True)
    sweep = np.zeros((points, 5), np.float32)
    radius, angle = rng.uniform(2, 30, points), rng.uniform(0, 2 * np.pi, points)
    sweep[:, 0], sweep[:, 1] = radius * np.cos(angle), radius * np.sin(angle)
    sweep[:, 2] = rng.uniform(-1.8, 2, points)
    sweep[:, 3] = rng.integers(0, 256, points)
    sweep.tofile(root / "samples" / lidar / f"{sample}-{lidar}.pcd.bin")
    if labelled:
        labels = rng.integers(0, 32, points).astype(np.uint8)
        labels.tofile(root / "lidarseg" / f"{sample}-{lidar}_lidarseg.bin")
    for channel, (height, width) in cameras.items():
        picture = rng.integers(0, 256, (height // 10, width // 10, 3)).astype(np.uint8)
        image = Image.fromarray(picture).resize((width, height))
        image.save(root / "samples" / channel / f"{sample}-{channel}.jpg")
