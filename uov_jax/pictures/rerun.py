"""Recordings for the Rerun viewer: scans, camera images and labels, one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uov_jax.datasets.keyframe import CameraView, Keyframe
from uov_jax.datasets.projection import lidar_to_cameras
from uov_jax.errors import InputError, MissingPackageError
from uov_jax.evaluation.confusion import class_names
from uov_jax.files import replacing
from uov_jax.pictures import canvas
from uov_jax.pictures.animation import Frame

TIMELINE, ROOMS = "keyframe", "room"
SWEEP_RADIUS, ROOM_RADIUS = 0.04, 0.012  # metres


def write_recording(
    frames: Iterable[Frame],
    colors: np.ndarray,
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
) -> int:
    """Write a `.rrd` file: `rerun FILE` shows it.

    Everything is in the LiDAR's frame: `world/truth`, `world/teacher`, `world/prediction` and
    `world/errors` are the points with their classes, `world/colours` what a room looks like,
    `world/CAM_FRONT` and so on the cameras at their places with their images, as JPEGs.

    Args:
        frames: of one scene, in the order of time; or rooms.
        colors: uint8[C, 3], RGB of every class.
        path: the file; written to a temporary name and renamed.
        names: of all C classes; None numbers them.

    Returns:
        The number of frames.

    Raises:
        MissingPackageError: rerun-sdk is not installed; says how to install it.
        InputError: labels that do not fit their points, or no frame.

    """
    path = Path(path)
    rr = require_rerun()
    names = class_names(len(colors), names)
    with replacing(path, durable=False) as temporary:
        recording = rr.RecordingStream(f"uov_jax-{path.stem}")
        with recording:
            recording.save(temporary)
            context = [
                rr.AnnotationInfo(id=i, label=name.replace("_", " "), color=color.tolist())
                for i, (name, color) in enumerate(zip(names, colors, strict=True))
            ]
            rr.log("world", rr.AnnotationContext(context), static=True)
            rr.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
            count = 0
            for count, frame in enumerate(frames, start=1):
                rr.set_time(TIMELINE if frame.colors is None else ROOMS, sequence=count)
                _log_points(rr, frame, colors)
                if frame.keyframe is not None:
                    for view in frame.keyframe.cameras:
                        _log_camera(rr, frame.keyframe, view)
            recording.flush()
        recording.disconnect()
        if not count:
            raise InputError(f"{path}: a recording needs at least one frame")
    return count


def require_rerun() -> Any:
    """The package rerun; MissingPackageError says how to install it."""
    try:
        import rerun
    except ImportError as error:
        raise MissingPackageError(
            f"recordings for the Rerun viewer need the package rerun-sdk ({error}): "
            "pip install 'uov-jax[rerun]', or pip install rerun-sdk"
        ) from error
    return rerun


def _log_points(rr: Any, frame: Frame, colors: np.ndarray) -> None:
    radii = SWEEP_RADIUS if frame.colors is None else ROOM_RADIUS
    if frame.colors is not None:
        rr.log("world/colours", rr.Points3D(frame.points, colors=frame.colors, radii=radii))
        if not frame.panels:
            return
    for name, (shades, drawn) in canvas.panel_colors(frame.points, frame.panels, colors).items():
        points = frame.points[drawn, :3]
        if name in frame.panels:
            classes = np.asarray(frame.panels[name])[drawn].astype(np.uint16)
            rr.log(f"world/{name}", rr.Points3D(points, class_ids=classes, radii=radii))
        else:
            rr.log(f"world/{name}", rr.Points3D(points, colors=shades[drawn], radii=radii))


def _log_camera(rr: Any, keyframe: Keyframe, view: CameraView) -> None:
    (rotation,), (translation,) = lidar_to_cameras(keyframe, [view])
    place = f"world/{view.channel}"
    # Of the camera in the LiDAR's frame: the inverse motion.
    rr.log(place, rr.Transform3D(mat3x3=rotation.T, translation=-rotation.T @ translation))
    rr.log(
        place,
        rr.Pinhole(image_from_camera=view.intrinsic, width=view.width, height=view.height),
    )
    rr.log(f"{place}/image", rr.EncodedImage(path=view.path))
