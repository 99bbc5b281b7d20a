"""One simulated keyframe: casting it, and the files and facts that it leaves behind."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uov_jax.dumps.file import TeacherDump
from uov_jax.dumps.folder import DumpFolder
from uov_jax.errors import InputError
from uov_jax.files import write_bytes
from uov_jax.simulate import sensors
from uov_jax.simulate.camera import RAY_STEP, View, encode_pixels, look
from uov_jax.simulate.casting import World
from uov_jax.simulate.kinds import KIND, KINDS
from uov_jax.simulate.layout import LAYOUTS
from uov_jax.simulate.lidar import Sweep, sweep
from uov_jax.simulate.scene import KEYFRAME_INTERVAL, SceneObject, make_scene
from uov_jax.simulate.teacher import NAME, SimulatedTeacher

VERSION = "v1.0-sim"
FORMAT = 2  # raise it whenever the same settings would give other files
FIRST_TIMESTAMP = 1_700_000_000_000_000  # microseconds
JPEG_QUALITY = 80
FACTS = Path(".simulation")


@dataclass(frozen=True)
class DriveSettings:
    """What decides every byte of a simulated drive."""

    scenes: int
    keyframes: int
    seed: int
    image_scale: float = 1.0
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        if self.scenes < 1 or self.keyframes < 1:
            raise InputError(
                f"a drive needs at least one scene of one keyframe, found {self.scenes} scenes "
                f"of {self.keyframes}"
            )
        if self.seed < 0:
            raise InputError(f"the seed must not be negative, found {self.seed}")
        width, height = self.image_size
        if not 0 < self.image_scale <= 1 or width % RAY_STEP or height % RAY_STEP:
            raise InputError(
                f"image_scale {self.image_scale} gives images of {width} x {height} pixels, "
                f"expected at most 1600 x 900 and even numbers"
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the images."""
        return round(sensors.WIDTH * self.image_scale), round(sensors.HEIGHT * self.image_scale)

    def token(self, *parts: object) -> str:
        """A token of 32 hexadecimal digits for a thing of this drive."""
        text = "/".join(str(part) for part in (*asdict(self).values(), *parts))
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    def scene_name(self, scene: int) -> str:
        """Name of a scene, counted from 0."""
        return f"sim-{scene + 1:04d}"

    def layout_name(self, scene: int) -> str:
        """Layout of a scene; shifted every round, so that validation scenes vary as well."""
        return LAYOUTS[(scene + scene // len(LAYOUTS)) % len(LAYOUTS)]

    def generator(self, *parts: int) -> np.random.Generator:
        """The random numbers of one part, the same in whatever order parts are made."""
        return np.random.default_rng([self.seed, *parts])

    def timestamp(self, scene: int, seconds: float) -> int:
        """Microseconds of a moment of a scene; scenes lie ten minutes apart."""
        return FIRST_TIMESTAMP + scene * 600_000_000 + round(seconds * 1e6)


def make_world(settings: DriveSettings, scene: int) -> World:
    """The world of one scene of a drive."""
    generator = settings.generator(scene)
    return World(make_scene(settings.layout_name(scene), generator, settings.keyframes))


def keyframe_time(keyframe: int) -> float:
    """Seconds into the scene at which a keyframe's sweep ends."""
    return 0.1 + KEYFRAME_INTERVAL * keyframe


def facts_path(output: Path, settings: DriveSettings, scene: int, keyframe: int) -> Path:
    """The file that says that a keyframe is finished, with what the tables need of it."""
    return output / FACTS / f"{settings.token('sample', scene, keyframe)}.json"


def write_keyframe(
    output: Path,
    settings: DriveSettings,
    world: World,
    scene: int,
    keyframe: int,
    teacher: SimulatedTeacher,
    dumps: DumpFolder,
) -> None:
    """Cast one keyframe and write its sweep, labels, images and teacher dump, then its facts."""
    end = keyframe_time(keyframe)
    lidar = sweep(world, end, settings.generator(scene, 1 + keyframe, 0))
    sample = settings.token("sample", scene, keyframe)
    lidar_token = settings.token("LIDAR_TOP", scene, keyframe)
    data = [_sensor_facts(settings, world, scene, keyframe, "LIDAR_TOP", end)]
    write_bytes(output / data[0]["filename"], lidar.points.tobytes())
    write_bytes(output / lidarseg_name(lidar_token), lidar.raw.tobytes())
    width, height = settings.image_size
    views: list[View] = []
    cameras = []
    for number, model in enumerate(sensors.CAMERA_MODELS):
        generator = settings.generator(scene, 1 + keyframe, 1 + number)
        time = end + model.trigger()
        view = look(world, model, width, height, time)
        facts = _sensor_facts(settings, world, scene, keyframe, model.channel, time)
        buffer = io.BytesIO()
        encode_pixels(view.color, generator).save(buffer, "JPEG", quality=JPEG_QUALITY)
        write_bytes(output / facts["filename"], buffer.getvalue())
        token = settings.token(model.channel, scene, keyframe)
        cameras.append(teacher.segment(view, model.channel, token, generator))
        views.append(view)
        data.append(facts)
    dumps.write(
        TeacherDump(NAME, teacher.settings.hash, teacher.vocabulary.hash, sample, tuple(cameras))
    )
    facts = {"data": data, "objects": _object_facts(settings, world, lidar, views, end)}
    path = facts_path(output, settings, scene, keyframe)
    write_bytes(path, json.dumps(facts).encode())


def lidarseg_name(lidar_token: str) -> str:
    """File of the point labels of a sweep."""
    return f"lidarseg/{VERSION}/{lidar_token}_lidarseg.bin"


def map_origin(world: World) -> NDArray[np.float64]:
    """What is added to local positions so that the map's lower left corner is the origin."""
    ground = world.scene.layout.ground
    return np.array([-ground.x0, -ground.y0, 0.0])


def _sensor_facts(
    settings: DriveSettings, world: World, scene: int, keyframe: int, channel: str, time: float
) -> dict[str, Any]:
    """Name of a sensor's file, its time and the ego's pose then."""
    stamp = settings.timestamp(scene, time)
    rotation, translation = world.scene.ego.pose(time)
    ending = "pcd.bin" if channel == "LIDAR_TOP" else "jpg"
    name = settings.scene_name(scene)
    return {
        "channel": channel,
        "timestamp": stamp,
        "filename": f"samples/{channel}/{name}__{channel}__{stamp}.{ending}",
        "translation": (translation + map_origin(world)).tolist(),
        "rotation": sensors.quaternion(rotation),
    }


def _object_facts(
    settings: DriveSettings, world: World, lidar: Sweep, views: list[View], end: float
) -> list[dict[str, Any]]:
    """Boxes of the objects that the LiDAR or a camera sees, as `sample_annotation` has them."""
    objects = world.scene.objects
    points = np.bincount(lidar.instance, minlength=len(objects) + 1)
    pixels = np.zeros(len(objects) + 1, np.int64)
    for view in views:
        pixels += np.bincount(view.instance.ravel(), minlength=len(objects) + 1)
    facts = []
    for item in objects:
        seen = int(points[item.instance])
        if not seen and not pixels[item.instance]:
            continue
        rotation, translation = item.motion.pose(end)
        low, high = np.array(item.low), np.array(item.high)
        center = rotation @ (0.5 * (low + high)) + translation + map_origin(world)
        length, width, height = high - low
        distance = float(np.linalg.norm(translation - world.scene.ego.pose(end)[1]))
        facts.append(
            {
                "instance": item.instance,
                "raw": KINDS[KIND[item.kind]].raw,
                "translation": center.tolist(),
                "size": [float(width), float(length), float(height)],
                "rotation": sensors.quaternion(rotation),
                "points": seen,
                "visibility": _visibility(int(pixels[item.instance]), distance, item, settings),
                "attribute": _attribute(item),
            }
        )
    return facts


def _visibility(pixels: int, distance: float, item: SceneObject, settings: DriveSettings) -> int:
    """Level 1..4 (0-40, 40-60, 60-80, 80-100 %): the share of the silhouette that cameras see."""
    low, high = np.array(item.low), np.array(item.high)
    length, width, height = high - low
    focal = 1260.0 * settings.image_scale / RAY_STEP
    silhouette = 0.45 * (length + width) * height * (focal / max(distance, 2.0)) ** 2
    share = pixels / max(silhouette, 1.0)
    return 1 + int(np.searchsorted([0.4, 0.6, 0.8], share))


def _attribute(item: SceneObject) -> str:
    """Name of nuScenes' attribute of an object, "" where its class has none."""
    raw = KINDS[KIND[item.kind]].raw
    if raw in (14, 21):
        return "cycle.with_rider" if item.ridden else "cycle.without_rider"
    if raw in (2, 3, 4, 6):
        return "pedestrian.moving" if item.moving else "pedestrian.standing"
    if raw in (15, 16, 17, 18, 19, 20, 22, 23):
        return "vehicle.moving" if item.moving else "vehicle.parked"
    return ""
