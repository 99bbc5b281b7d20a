"""The options that name a dataset in nuScenes' format, and opening what they name."""

from __future__ import annotations

import argparse
from pathlib import Path

from uov_jax.datasets.keyframe import CAMERAS, LIDAR, NUSCENES_RIG, Rig
from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS
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
    parser.add_argument(
        "--columns",
        default=NUSCENES_COLUMNS.text,
        metavar="NAMES",
        help="what the float32 columns of a sweep hold, _ for what is not used; "
        f"'{NUSCENES_COLUMNS.text}' by default",
    )


def rig_of_options(options: argparse.Namespace) -> Rig:
    """The sensors that the options name; InputError for a camera named twice or other columns."""
    columns = NUSCENES_COLUMNS.with_names(options.columns)
    return Rig(options.lidar, tuple(options.cameras), columns)


def open_tables(options: argparse.Namespace) -> NuScenesTables:
    """The tables of the dataset that the options name.

    Raises:
        InputError: as `rig_of_options`.
        DatasetMissingError: there is no such dataset.

    """
    return NuScenesTables(options.data, options.version, rig_of_options(options))


def rig_words(rig: Rig) -> list[str]:
    """The options that name a rig, for a command to type; none for nuScenes'."""
    words = [] if rig.lidar == NUSCENES_RIG.lidar else ["--lidar", rig.lidar]
    if rig.cameras != NUSCENES_RIG.cameras:
        words += ["--cameras", *rig.cameras]
    if rig.columns != NUSCENES_RIG.columns:
        words += ["--columns", rig.columns.text]
    return words
