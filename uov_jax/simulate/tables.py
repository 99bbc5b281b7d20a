"""The JSON tables of a simulated drive, in nuScenes' schema with lidarseg's extension."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uov_jax.files import write_bytes
from uov_jax.simulate import sensors
from uov_jax.simulate.casting import World
from uov_jax.simulate.ground import MATERIALS
from uov_jax.simulate.keyframe import VERSION, DriveSettings, facts_path, lidarseg_name
from uov_jax.simulate.kinds import CATEGORIES, KIND

Record = dict[str, Any]
Tables = dict[str, list[Record]]

_ATTRIBUTES = (
    ("vehicle.moving", "Vehicle is moving."),
    ("vehicle.stopped", "Vehicle, with a driver/rider in/on it, is currently stationary."),
    ("vehicle.parked", "Vehicle is stationary (usually for longer duration)."),
    ("cycle.with_rider", "There is a rider on the bicycle or motorcycle."),
    ("cycle.without_rider", "There is no rider on the bicycle or motorcycle."),
    ("pedestrian.sitting_lying_down", "The human is sitting or lying down."),
    ("pedestrian.standing", "The human is standing."),
    ("pedestrian.moving", "The human is moving."),
)
_VISIBILITY = (("1", "v0-40"), ("2", "v40-60"), ("3", "v60-80"), ("4", "v80-100"))
_TABLES = (
    "attribute",
    "calibrated_sensor",
    "category",
    "ego_pose",
    "instance",
    "lidarseg",
    "log",
    "map",
    "sample",
    "sample_annotation",
    "sample_data",
    "scene",
    "sensor",
    "visibility",
)


def split_scenes(settings: DriveSettings) -> dict[str, list[str]]:
    """The last fifth of the scenes is for validation; a single scene is only for training."""
    names = [settings.scene_name(scene) for scene in range(settings.scenes)]
    held = 0 if settings.scenes == 1 else max(1, settings.scenes // 5)
    last = settings.scenes - held
    return {"sim_train": names[:last], "sim_val": names[last:]}


def map_name(settings: DriveSettings, scene: int) -> str:
    """File of a scene's map mask."""
    return f"maps/{settings.token('map', scene)}.png"


def write_map(output: Path, settings: DriveSettings, world: World, scene: int) -> None:
    """Write the mask of the driveable surface, 0.1 m a pixel, its first row the largest y."""
    road = np.array([material.kind == KIND["road"] for material in MATERIALS])
    mask = np.where(road[world.scene.layout.ground.material[::-1]], 255, 0).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    write_bytes(output / map_name(settings, scene), buffer.getvalue())


def write_tables(output: Path, settings: DriveSettings) -> None:
    """Write all tables and the splits from the facts that the finished keyframes left."""
    tables: Tables = {name: [] for name in _TABLES}
    _add_dictionaries(tables, settings)
    for scene in range(settings.scenes):
        _add_scene(tables, settings, output, scene)
    folder = output / VERSION
    splits = json.dumps(split_scenes(settings), indent=1)
    write_bytes(folder / "splits.json", splits.encode())
    for name, records in tables.items():
        write_bytes(folder / f"{name}.json", json.dumps(records, indent=0).encode())


def _add_dictionaries(tables: Tables, settings: DriveSettings) -> None:
    """What all scenes share: categories, attributes, sensors and their calibration."""
    for index, (name, description) in enumerate(CATEGORIES):
        tables["category"].append(
            {
                "token": settings.token("category", index),
                "name": name,
                "description": description,
                "index": index,
            }
        )
    for name, description in _ATTRIBUTES:
        token = settings.token("attribute", name)
        tables["attribute"].append({"token": token, "name": name, "description": description})
    for token, level in _VISIBILITY:
        description = f"visibility of whole object is between {level[1:].replace('-', ' and ')}%"
        tables["visibility"].append({"token": token, "level": level, "description": description})
    _add_sensor(
        tables, settings, "LIDAR_TOP", "lidar", sensors.LIDAR_POSITION, sensors.lidar_rotation(), []
    )
    for model in sensors.CAMERA_MODELS:
        intrinsic = model.intrinsic(settings.image_scale).tolist()
        _add_sensor(
            tables, settings, model.channel, "camera", model.position, model.rotation(), intrinsic
        )


def _add_sensor(
    tables: Tables,
    settings: DriveSettings,
    channel: str,
    modality: str,
    position: tuple[float, float, float],
    rotation: np.ndarray,
    intrinsic: list[list[float]],
) -> None:
    token = settings.token("sensor", channel)
    tables["sensor"].append({"token": token, "channel": channel, "modality": modality})
    tables["calibrated_sensor"].append(
        {
            "token": settings.token("calibrated_sensor", channel),
            "sensor_token": token,
            "translation": list(position),
            "rotation": sensors.quaternion(rotation),
            "camera_intrinsic": intrinsic,
        }
    )


def _add_scene(tables: Tables, settings: DriveSettings, output: Path, scene: int) -> None:
    """A scene, its log and map, its samples and what they hold."""
    log = settings.token("log", scene)
    name, layout = settings.scene_name(scene), settings.layout_name(scene)
    tables["log"].append(
        {
            "token": log,
            "logfile": name,
            "vehicle": "simulated",
            "date_captured": "2023-11-14",
            "location": f"simulated-{layout}",
        }
    )
    tables["map"].append(
        {
            "category": "semantic_prior",
            "token": settings.token("map", scene),
            "filename": map_name(settings, scene),
            "log_tokens": [log],
        }
    )
    count = settings.keyframes
    samples = [settings.token("sample", scene, keyframe) for keyframe in range(count)]
    tables["scene"].append(
        {
            "token": settings.token("scene", scene),
            "log_token": log,
            "nbr_samples": count,
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": name,
            "description": f"Simulated drive, {layout}",
        }
    )
    seen: dict[int, list[Record]] = {}
    for keyframe in range(count):
        path = facts_path(output, settings, scene, keyframe)
        facts = json.loads(path.read_text("utf-8"))
        tables["sample"].append(
            {
                "token": samples[keyframe],
                "timestamp": facts["data"][0]["timestamp"],
                "prev": _neighbour(samples, keyframe - 1),
                "next": _neighbour(samples, keyframe + 1),
                "scene_token": settings.token("scene", scene),
            }
        )
        for data in facts["data"]:
            _add_sample_data(tables, settings, scene, keyframe, data)
        for item in facts["objects"]:
            record = _annotation(settings, scene, keyframe, item)
            seen.setdefault(item["instance"], []).append(record)
            tables["sample_annotation"].append(record)
            item_raw = item["raw"]
            record["_raw"] = item_raw
    _add_instances(tables, settings, scene, seen)


def _neighbour(tokens: list[str], index: int) -> str:
    return tokens[index] if 0 <= index < len(tokens) else ""


def _add_sample_data(
    tables: Tables, settings: DriveSettings, scene: int, keyframe: int, data: Record
) -> None:
    channel = data["channel"]
    tokens = [settings.token(channel, scene, other) for other in range(settings.keyframes)]
    token, lidar = tokens[keyframe], channel == "LIDAR_TOP"
    pose = settings.token("ego_pose", channel, scene, keyframe)
    width, height = (0, 0) if lidar else settings.image_size
    tables["ego_pose"].append(
        {
            "token": pose,
            "timestamp": data["timestamp"],
            "rotation": data["rotation"],
            "translation": data["translation"],
        }
    )
    tables["sample_data"].append(
        {
            "token": token,
            "sample_token": settings.token("sample", scene, keyframe),
            "ego_pose_token": pose,
            "calibrated_sensor_token": settings.token("calibrated_sensor", channel),
            "timestamp": data["timestamp"],
            "fileformat": "pcd" if lidar else "jpg",
            "is_key_frame": True,
            "height": height,
            "width": width,
            "filename": data["filename"],
            "prev": _neighbour(tokens, keyframe - 1),
            "next": _neighbour(tokens, keyframe + 1),
        }
    )
    if lidar:
        tables["lidarseg"].append(
            {"token": token, "sample_data_token": token, "filename": lidarseg_name(token)}
        )


def _annotation(settings: DriveSettings, scene: int, keyframe: int, item: Record) -> Record:
    attribute = item["attribute"]
    return {
        "token": settings.token("annotation", scene, keyframe, item["instance"]),
        "sample_token": settings.token("sample", scene, keyframe),
        "instance_token": settings.token("instance", scene, item["instance"]),
        "visibility_token": str(item["visibility"]),
        "attribute_tokens": [settings.token("attribute", attribute)] if attribute else [],
        "translation": item["translation"],
        "size": item["size"],
        "rotation": item["rotation"],
        "prev": "",
        "next": "",
        "num_lidar_pts": item["points"],
        "num_radar_pts": 0,
    }


def _add_instances(
    tables: Tables, settings: DriveSettings, scene: int, seen: dict[int, list[Record]]
) -> None:
    """One record for every object seen, and the links between its annotations."""
    for instance, records in sorted(seen.items()):
        raws = [record.pop("_raw") for record in records]
        tokens = [record["token"] for record in records]
        for index, record in enumerate(records):
            record["prev"] = _neighbour(tokens, index - 1)
            record["next"] = _neighbour(tokens, index + 1)
        tables["instance"].append(
            {
                "token": settings.token("instance", scene, instance),
                "category_token": settings.token("category", raws[0]),
                "nbr_annotations": len(records),
                "first_annotation_token": tokens[0],
                "last_annotation_token": tokens[-1],
            }
        )
