"""Opening nuScenes' tables at their full size: `python -m benchmarks.tables`.

Writes made-up tables of the size of v1.0-trainval (34,149 samples, 2.6 million records of
`sample_data` and `ego_pose` each, 2.2 GB) into a temporary folder, and opens them in fresh
processes: for the first time, and from the cache. Memory is what is the process's own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import report

SAMPLES_PER_SCENE = 40
CAMERAS = ("FRONT", "FRONT_RIGHT", "BACK_RIGHT", "BACK", "BACK_LEFT", "FRONT_LEFT")
RADARS = ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "BACK_LEFT", "BACK_RIGHT")
CHANNELS = ("LIDAR_TOP", *(f"CAM_{c}" for c in CAMERAS), *(f"RADAR_{r}" for r in RADARS))
KEYFRAMES, RECORDS = 34_149, 2_600_000
MIB = 2**20

OPEN = """
import json, resource, sys, time
import psutil
from uov_jax.datasets.nuscenes_tables import NuScenesTables
before, start = psutil.Process().memory_info().rss, time.perf_counter()
tables = NuScenesTables(sys.argv[1], "v1.0-trainval")
keyframes = tables.keyframes(tables.scene_names)
opened = time.perf_counter() - start
own = psutil.Process().memory_full_info().uss
first = keyframes[0].cameras[0].path
start = time.perf_counter()
for keyframe in keyframes:
    for camera in keyframe.cameras:
        camera.path
walked = time.perf_counter() - start
import pickle
print(json.dumps({
    "keyframes": len(keyframes),
    "opened": opened,
    "walked": walked,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "before": before,
    "own": own,
    "sent": len(pickle.dumps(keyframes)),
}))
"""
WORKER = """
import json, pickle, sys
import psutil
import uov_jax.datasets.nuscenes_tables
before = psutil.Process().memory_full_info().uss
keyframes = pickle.load(open(sys.argv[1], "rb"))
for keyframe in keyframes:
    keyframe.lidar_path
print(json.dumps({"own": psutil.Process().memory_full_info().uss - before}))
"""
SEND = """
import pickle, sys
from uov_jax.datasets.nuscenes_tables import NuScenesTables
tables = NuScenesTables(sys.argv[1], "v1.0-trainval")
pickle.dump(tables.keyframes(tables.scene_names), open(sys.argv[2], "wb"))
"""


def token(*parts: object) -> str:
    """A token as nuScenes has them: 32 hexadecimal digits."""
    return hashlib.md5("-".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


def write_tables(root: Path, keyframes: int = KEYFRAMES, records: int = RECORDS) -> int:
    """Write tables of so many samples and records below `root`; returns their bytes."""
    folder = root / "v1.0-trainval"
    folder.mkdir(parents=True)
    scenes = -(-keyframes // SAMPLES_PER_SCENE)
    channels = keyframes * len(CHANNELS)
    _write(folder / "scene.json", (_scene(number) for number in range(scenes)))
    _write(folder / "sample.json", (_sample(number, keyframes) for number in range(keyframes)))
    _write(folder / "sensor.json", map(_sensor, CHANNELS))
    calibrations = ((scene, channel) for scene in range(scenes) for channel in CHANNELS)
    _write(folder / "calibrated_sensor.json", (_calibration(*each) for each in calibrations))
    frames = [
        (sample, channel, frame)
        for sample in range(keyframes)
        for number, channel in enumerate(CHANNELS, sample * len(CHANNELS))
        # As many of each key frame's channels as the number of records asks for, spread evenly.
        for frame in range((number + 1) * records // channels - number * records // channels)
    ]
    _write(folder / "sample_data.json", (_sample_data(*frame) for frame in frames))
    _write(folder / "ego_pose.json", (_ego_pose(*frame) for frame in frames))
    _write(folder / "lidarseg.json", map(_lidarseg, range(keyframes)))
    return sum(path.stat().st_size for path in folder.iterdir())


def _write(path: Path, records: Iterator[dict[str, object]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n")
        for number, record in enumerate(records):
            # As the dataset's own files are written.
            file.write(",\n" * bool(number) + json.dumps(record, indent=0))
        file.write("\n]")


def _scene(number: int) -> dict[str, object]:
    first = token("sample", number * SAMPLES_PER_SCENE)
    return {"token": token("scene", number), "name": f"scene-{number:04d}",
            "description": "Parked cars, a bus {stop}, turn left", "nbr_samples": SAMPLES_PER_SCENE,
            "first_sample_token": first}  # fmt: skip


def _sample(number: int, total: int) -> dict[str, object]:
    last = (number + 1) % SAMPLES_PER_SCENE == 0 or number + 1 == total
    return {"token": token("sample", number), "timestamp": 1_532_402_927_647_951 + number,
            "prev": "", "next": "" if last else token("sample", number + 1),
            "scene_token": token("scene", number // SAMPLES_PER_SCENE)}  # fmt: skip


def _sensor(channel: str) -> dict[str, object]:
    modality = {"L": "lidar", "C": "camera", "R": "radar"}[channel[0]]
    return {"token": token("sensor", channel), "channel": channel, "modality": modality}


def _calibration(scene: int, channel: str) -> dict[str, object]:
    intrinsic = [[1266.4, 0.0, 816.2], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]]
    return {"token": token("calibration", scene, channel), "sensor_token": token("sensor", channel),
            "translation": [1.7, 0.0158, 1.51], "rotation": [0.5, -0.5, 0.5, -0.5],
            "camera_intrinsic": intrinsic if channel[0] == "C" else []}  # fmt: skip


def _sample_data(sample: int, channel: str, frame: int) -> dict[str, object]:
    is_camera = channel[0] == "C"
    stem = (
        f"n015-2018-07-24-11-22-45+0800__{channel}__{1_532_402_927_612_460 + sample * 50 + frame}"
    )
    folder = "sweeps" if frame else "samples"
    return {
        "token": token("data", sample, channel, frame),
        "sample_token": token("sample", sample),
        "ego_pose_token": token("pose", sample, channel, frame),
        "calibrated_sensor_token": token("calibration", sample // SAMPLES_PER_SCENE, channel),
        "timestamp": 1_532_402_927_612_460 + sample,
        "fileformat": "jpg" if is_camera else "pcd",
        "is_key_frame": not frame,
        "height": 900 if is_camera else 0,
        "width": 1600 if is_camera else 0,
        "filename": f"{folder}/{channel}/{stem}.{'jpg' if is_camera else 'pcd.bin'}",
        "prev": token("data", sample, channel, frame - 1),
        "next": token("data", sample, channel, frame + 1),
    }


def _ego_pose(sample: int, channel: str, frame: int) -> dict[str, object]:
    return {"token": token("pose", sample, channel, frame), "timestamp": 1_532_402_927_612_460,
            "rotation": [0.5720320396729045, -0.0016977771610471074, 0.011798001930183783,
                         -0.8201446642457809],
            "translation": [411.3039349 + sample, 1180.8903791, 0.0]}  # fmt: skip


def _lidarseg(sample: int) -> dict[str, object]:
    data = token("data", sample, "LIDAR_TOP", 0)
    return {"token": data, "sample_data_token": data,
            "filename": f"lidarseg/v1.0-trainval/{data}_lidarseg.bin"}  # fmt: skip


def run(program: str, *arguments: str, cache: Path) -> str:
    """What a program prints, in a process of its own."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def measure(folder: Path, say: Callable[[str], object] = print) -> None:
    """Write the tables, open them twice and send them to a worker."""
    start = time.perf_counter()
    size = write_tables(folder / "data")
    say(f"wrote {size / 1e9:.2f} GB of tables in {time.perf_counter() - start:.0f} s")
    data, cache = str(folder / "data"), folder / "cache"
    for which in ("first", "second"):
        found = json.loads(run(OPEN, data, cache=cache))
        say(
            f"{which} open: {found['opened']:.2f} s, {found['keyframes']:,} keyframes, peak "
            f"{found['peak'] / MIB:.0f} MiB ({found['before'] / MIB:.0f} before), then "
            f"{found['own'] / MIB:.0f} MiB of its own; all files and cameras named in "
            f"{found['walked']:.2f} s; {found['sent']:,} bytes to send them to a process"
        )
    sent = str(folder / "keyframes.pickle")
    run(SEND, data, sent, cache=cache)
    own = json.loads(run(WORKER, sent, cache=cache))["own"]
    index = sum(path.stat().st_size for path in cache.rglob("*.npy"))
    say(f"a worker with all keyframes: {own / MIB:.1f} MiB more of its own")
    say(f"the index in the cache: {index / MIB:.0f} MiB")


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder to leave the tables in")
    options = parser.parse_args()
    print(", ".join(f"{key} {value}" for key, value in report.machine().items()))
    if options.keep is not None:
        measure(options.keep)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder))


if __name__ == "__main__":
    main()
