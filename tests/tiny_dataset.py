"""A tiny dataset in nuScenes' format and dumps for it, written for tests without the simulator."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uov_jax.datasets.keyframe import CAMERAS, LIDAR, Keyframe
from uov_jax.dumps.file import CameraMasks, TeacherDump
from uov_jax.dumps.folder import DumpFolder, DumpManifest
from uov_jax.vocabulary import Vocabulary

HEIGHT, WIDTH = 90, 160
Tables = dict[str, list[dict[str, Any]]]


def write_dataset(
    root: Path,
    version: str = "v1.0-mini",
    scenes: tuple[str, ...] = ("scene-0061", "scene-0103"),
    keyframes: int = 2,
    points: int = 400,
    lidarseg: bool = True,
    change: Callable[[Tables], None] = lambda tables: None,
    own_splits: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write tables, sweeps, labels and images under `root`; `change` may spoil the tables first."""
    rng = np.random.default_rng(0)
    tables: Tables = {
        name: []
        for name in ("scene", "sample", "sample_data", "sensor", "calibrated_sensor", "ego_pose")
    }
    if lidarseg:
        tables["lidarseg"] = []
    for channel in (LIDAR, *CAMERAS):
        tables["sensor"].append({"token": f"sensor-{channel}", "channel": channel})
        tables["calibrated_sensor"].append(_calibration(channel))
    for scene in scenes:
        tokens = [f"{scene}-sample-{i}" for i in range(keyframes)]
        tables["scene"].append({"token": scene, "name": scene, "first_sample_token": tokens[0]})
        for number, token in enumerate(tokens):
            following = tokens[number + 1] if number + 1 < keyframes else ""
            tables["sample"].append({"token": token, "next": following})
            for channel in (LIDAR, *CAMERAS):
                _add_sample_data(tables, root, token, channel, number)
            _write_files(root, token, points, lidarseg, rng)
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
        image_size=(HEIGHT, WIDTH),
    )
    text = rng.normal(size=(len(vocabulary), embedding_size))
    folder = DumpFolder.create(root, manifest, text)
    for keyframe in keyframes:
        cameras = tuple(
            random_masks(rng, view.channel, view.token, embedding_size, len(vocabulary))
            for view in keyframe.cameras
        )
        folder.write(TeacherDump("tiny", "0" * 64, vocabulary.hash, keyframe.token, cameras))
    return folder


def random_masks(
    rng: np.random.Generator, channel: str, token: str, embedding_size: int, num_words: int
) -> CameraMasks:
    """Four vertical bands of ids 1..4 with some void in them."""
    masks = np.repeat(np.arange(WIDTH)[None] * 4 // WIDTH + 1, HEIGHT, axis=0).astype(np.uint16)
    masks[rng.random(masks.shape) < 0.05] = 0
    words = rng.integers(0, num_words, 4)
    return CameraMasks(channel, token, masks, words, rng.normal(size=(4, embedding_size)))


def _calibration(channel: str) -> dict[str, Any]:
    if channel == LIDAR:
        rotation, intrinsic = [1.0, 0.0, 0.0, 0.0], []
    else:
        # Cameras look along the horizon, 60 degrees apart; z forward, x right, y down.
        turn = np.radians(-60.0 * CAMERAS.index(channel)) / 2
        rotation = _product((np.cos(turn), 0, 0, np.sin(turn)), (0.5, -0.5, 0.5, -0.5))
        intrinsic = [[WIDTH / 1.2, 0, WIDTH / 2], [0, WIDTH / 1.2, HEIGHT / 2], [0, 0, 1]]
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


def _add_sample_data(tables: Tables, root: Path, sample: str, channel: str, number: int) -> None:
    token = f"{sample}-{channel}"
    ending = "pcd.bin" if channel == LIDAR else "jpg"
    tables["sample_data"].append(
        {
            "token": token,
            "sample_token": sample,
            "ego_pose_token": f"pose-{token}",
            "calibrated_sensor_token": f"calibration-{channel}",
            "is_key_frame": True,
            "height": 0 if channel == LIDAR else HEIGHT,
            "width": 0 if channel == LIDAR else WIDTH,
            "filename": f"samples/{channel}/{token}.{ending}",
        }
    )
    moved = 0.0 if channel == LIDAR else 0.2  # the vehicle moves between sweep and image
    tables["ego_pose"].append(
        {
            "token": f"pose-{token}",
            "translation": [400.0 + 5 * number + moved, 1100.0, 0.0],
            "rotation": [float(np.cos(0.4)), 0.0, 0.0, float(np.sin(0.4))],
        }
    )
    if channel == LIDAR and "lidarseg" in tables:
        tables["lidarseg"].append(
            {
                "token": token,
                "sample_data_token": token,
                "filename": f"lidarseg/{token}_lidarseg.bin",
            }
        )


def _write_files(
    root: Path, sample: str, points: int, lidarseg: bool, rng: np.random.Generator
) -> None:
    for channel in (LIDAR, *CAMERAS):
        (root / "samples" / channel).mkdir(parents=True, exist_ok=True)
    (root / "lidarseg").mkdir(exist_ok=True)
    sweep = np.zeros((points, 5), np.float32)
    radius, angle = rng.uniform(2, 30, points), rng.uniform(0, 2 * np.pi, points)
    sweep[:, 0], sweep[:, 1] = radius * np.cos(angle), radius * np.sin(angle)
    sweep[:, 2] = rng.uniform(-1.8, 2, points)
    sweep[:, 3] = rng.integers(0, 256, points)
    sweep.tofile(root / "samples" / LIDAR / f"{sample}-{LIDAR}.pcd.bin")
    if lidarseg:
        labels = rng.integers(0, 32, points).astype(np.uint8)
        labels.tofile(root / "lidarseg" / f"{sample}-{LIDAR}_lidarseg.bin")
    for channel in CAMERAS:
        picture = rng.integers(0, 256, (HEIGHT // 10, WIDTH // 10, 3)).astype(np.uint8)
        image = Image.fromarray(picture).resize((WIDTH, HEIGHT))
        image.save(root / "samples" / channel / f"{sample}-{channel}.jpg")
