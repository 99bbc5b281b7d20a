"""The options that name a dataset in nuScenes' format, and opening what they name."""

from __future__ import annotations

import argparse
from pathlib import Path

from uov_jax.datasets.keyframe import CAMERAS, LIDAR, NUSCENES_RIG, Rig
from uov_jax.datasets.nuscenes_tables import NuScenesTables


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """The options that name a dataset and the sensors to take of it."""
    parser.add_argument("--data", required=True, type=Path, help="root of the dataset")
    parser.add_argument("--version", default="v1.0-trainval", help="folder of its tables")
    parser.add_argument("--lidar", default=LIDAR, help=f"channel of the sweeps; {LIDAR} by default")
    parser.add_argument(
        "--cameras",
        nargs="+",
        default=CAMERAS,
        metavar="CHANNEL",
        help="channels of the cameras, a later one's masks over an earlier one's; by default "
        + " ".join(CAMERAS),
    )


def open_tables(options: argparse.Namespace) -> NuScenesTables:
    """The tables of the dataset that the options name.

    Raises:
        InputError: a camera is named twice.
        DatasetMissingError: there is no such dataset.

    """
    rig = Rig(options.lidar, tuple(options.cameras))
    return NuScenesTables(options.data, options.version, rig)


def rig_words(rig: Rig) -> list[str]:
    """The options that name a rig, for a command to type; none for nuScenes'."""
    words = [] if rig.lidar == NUSCENES_RIG.lidar else ["--lidar", rig.lidar]
    return words if rig.cameras == NUSCENES_RIG.cameras else [*words, "--cameras", *rig.cameras]
