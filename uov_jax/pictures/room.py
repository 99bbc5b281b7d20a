"""Rooms with their labels: from above with the ceiling cut away, and in perspective."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.spatial import ConvexHull, QhullError

from uov_jax.errors import InputError
from uov_jax.evaluation.confusion import class_names
from uov_jax.pictures import canvas
from uov_jax.pictures.panels import REFERENCES, UNLABELLED
from uov_jax.pictures.splatting import Camera, View, look, spacing_of

COLORS = "colours"  # the panel of what the room looks like
WIDTH = 620  # pixels of a panel
CEILING = 2.05  # metres above the floor, where a room is cut
ELEVATION = 50.0  # degrees by which the camera looks down
NEAR_WALL = 0.3  # metres of the walls between camera and room that are left out
FACING = -0.3  # cosine to the camera's way below which a wall faces it
ABOVE_FLOOR = 0.15  # metres of them that stay
FIELD = 45.0  # degrees across
_MARGIN = 1.06
_GAP = 4
_GREY = np.round(255 * np.array(UNLABELLED)).astype(np.uint8)


def room_picture(
    points: np.ndarray,
    panels: Mapping[str, np.ndarray],
    colors: np.ndarray,
    path: str | os.PathLike[str],
    *,
    point_colors: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    width: int = WIDTH,
) -> None:
    """Draw a room twice a column: from above, and in perspective below that.

    The columns are the room's own colours, then the labellings, then the errors.

    Args:
        points: float32[N, 3], metres, z upward.
        panels: integers [N] of classes by name, as for `pictures.bird_eye`; none draws the colours
            alone. Class 0 is unlabelled and grey.
        colors: uint8[C, 3], RGB of every class.
        path: .png or .jpg; written to a temporary name and renamed.
        point_colors: uint8[N, 3], what the room looks like; None leaves that column out.
        names: of all C classes, for the legend; None numbers them.
        title: heading; None takes the file's stem.
        width: of a column in pixels.

    Raises:
        InputError: there is nothing to draw, no point, or a panel does not fit the points.

    """
    path = Path(path)
    shown = room_columns(points, panels, colors, point_colors)
    names = class_names(len(colors), names)
    rows = compose(room_views(points, width), shown)
    parts = [canvas.heading(path.stem if title is None else title, rows.width), rows]
    if panels:
        parts.append(_legend(panels, names, colors, rows.width))
    canvas.save(canvas.stack(parts, _GAP), path, **_options(path))


def compose(views: Sequence[View], shown: Mapping[str, np.ndarray]) -> Image.Image:
    """Views one below the other, in a column for each of the colours uint8[N, 3] by its heading."""
    columns = []
    for heading, shades in shown.items():
        images = [view.image(shades) for view in views]
        canvas.caption(ImageDraw.Draw(images[0]), (12, 10), heading)
        columns.append(canvas.stack(images, _GAP))
    return canvas.beside(columns, _GAP)


def room_columns(
    points: np.ndarray,
    panels: Mapping[str, np.ndarray],
    colors: np.ndarray,
    point_colors: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """uint8[N, 3], the colours of the points, by the heading of each column.

    Raises:
        InputError: as `room_picture`.

    """
    if not len(points):
        raise InputError("a picture of a room needs at least one point")
    found: dict[str, np.ndarray] = {}
    if point_colors is not None:
        if np.shape(point_colors) != (len(points), 3):
            raise InputError(
                f"colours of shape {np.shape(point_colors)}, expected three for each of "
                f"{len(points)} points"
            )
        found[COLORS] = point_colors
    elif not panels:
        raise InputError("a picture of a room needs colours or a labelling")
    if panels:
        for name, (shades, drawn) in canvas.panel_colors(points, panels, colors).items():
            heading = _heading(name, panels)
            found[heading] = np.where(drawn[:, None], shades, _GREY).astype(np.uint8)
    return found


def room_views(points: np.ndarray, width: int = WIDTH) -> tuple[View, View]:
    """A room from above and in perspective, both cut below the ceiling.

    Raises:
        InputError: a point is nowhere.

    """
    points = np.asarray(points, np.float64)
    if not np.isfinite(points).all():
        raise InputError("a picture of a room needs points that are somewhere: some are not finite")
    open_room = np.flatnonzero(below_ceiling(points))
    inside = points[open_room]
    spacing = spacing_of(inside)
    turn = _direction(inside)
    camera, height = _from_above(inside, turn, width)
    above = look(inside, camera, width, height, spacing)
    azimuth = turn + np.pi / 4 + np.pi
    kept = ~near_walls(inside, azimuth)
    camera, height = _perspective(inside, azimuth, width)
    slanted = look(inside[kept], camera, width, height, spacing)
    return _renamed(above, open_room), _renamed(slanted, open_room[kept])


def below_ceiling(points: np.ndarray) -> np.ndarray:
    """bool[N]: the points that are drawn; all of a room that is no higher than it is cut."""
    floor = np.percentile(points[:, 2], 1)
    return points[:, 2] <= floor + CEILING


def near_walls(points: np.ndarray, azimuth: float) -> np.ndarray:
    """bool[N]: the outermost points between the room and a camera that looks that way.

    Args:
        points: float64[N, 3].
        azimuth: direction in the plane in which the camera looks, radians from x to y.

    """
    ahead = np.array([np.cos(azimuth), np.sin(azimuth)])
    found = np.zeros(len(points), bool)
    try:
        hull = ConvexHull(points[:, :2])
    except (QhullError, ValueError):
        return found  # Fewer than three points, or all in one line.
    floor = np.percentile(points[:, 2], 1)
    ends = points[hull.simplices, :2]
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    for (x, y, offset), length in zip(hull.equations, lengths, strict=True):
        # Short sides are corners, which face anywhere.
        if length > NEAR_WALL and x * ahead[0] + y * ahead[1] < FACING:
            found |= points[:, 0] * x + points[:, 1] * y + offset > -NEAR_WALL
    return found & (points[:, 2] > floor + ABOVE_FLOOR)


def _direction(points: np.ndarray) -> float:
    """Radians from x to a wall: the direction in which the smallest box around the room lies."""
    angles = np.radians(np.arange(0, 90, 1.0))
    axes = np.stack([np.cos(angles), np.sin(angles)])
    along = points[:, :2] @ axes
    across = points[:, :2] @ np.stack([-axes[1], axes[0]])
    # Percentiles, because a few points seen through a window make no wall.
    ends = [np.percentile(values, [1, 99], axis=0) for values in (along, across)]
    sizes = [high - low for low, high in ends]
    best = int(np.argmin(sizes[0] * sizes[1]))
    turn = float(angles[best])
    return turn if sizes[0][best] >= sizes[1][best] else turn + np.pi / 2


def _from_above(points: np.ndarray, turn: float, width: int) -> tuple[Camera, int]:
    """A camera that looks down, the room's long side across, and the height of its image."""
    right = np.array([np.cos(turn), np.sin(turn), 0.0])
    down = np.array([np.sin(turn), -np.cos(turn), 0.0])
    rotation = np.stack([right, down, [0.0, 0.0, -1.0]])
    places = points @ rotation.T
    low, high = places[:, :2].min(axis=0), places[:, :2].max(axis=0)
    extent = np.maximum(high - low, 0.5) * _MARGIN
    focal = width / extent[0]
    height = int(np.clip(round(focal * extent[1]), width // 3, 2 * width))
    focal = min(focal, height / extent[1])
    position = rotation.T @ np.array([*(low + high) / 2, places[:, 2].min() - 1.0])
    return Camera(rotation, position, focal, (width / 2, height / 2), False), height


def _perspective(points: np.ndarray, azimuth: float, width: int) -> tuple[Camera, int]:
    """A camera that looks at the middle of the room from outside and above, all of it in sight."""
    down_angle = np.radians(ELEVATION)
    ahead = np.array(
        [
            np.cos(azimuth) * np.cos(down_angle),
            np.sin(azimuth) * np.cos(down_angle),
            -np.sin(down_angle),
        ]
    )
    right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
    rotation = np.stack([right, np.cross(ahead, right), ahead])
    focal = width / (2 * np.tan(np.radians(FIELD / 2)))
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    places = (points - middle) @ rotation.T
    # Far enough away that every point lies within the image's sides.
    reach = np.abs(places[:, 0]) * _MARGIN * focal / (width / 2) - places[:, 2]
    position = middle - ahead * max(float(reach.max()), 1.0)
    camera = Camera(rotation, position, focal, (width / 2, 0.0), True)
    rows = camera.project(points)[0][:, 1]
    low, high = rows.min(), rows.max()
    height = int(np.clip(round((high - low) * _MARGIN), width // 3, 2 * width))
    centre = (width / 2, height / 2 - (low + high) / 2)
    return Camera(rotation, position, focal, centre, True), height


def _renamed(view: View, rows: np.ndarray) -> View:
    """The view of some points as one of all, of which they are these rows."""
    return View(np.append(rows, -1)[view.point], view.shade)


def _heading(name: str, panels: Mapping[str, np.ndarray]) -> str:
    """A column's name and what is known of it, such as "prediction: 71 % right"."""
    errors = name not in panels
    reference = next((known for known in REFERENCES if known in panels), None)
    if reference is None or name == reference or not (errors or reference == "truth"):
        return name
    true = np.asarray(panels[reference])
    judged = true > 0
    if not judged.any():
        return name
    right = np.mean(np.asarray(panels["prediction" if errors else name])[judged] == true[judged])
    return f"{name}: {100 * (1 - right):.0f} %" if errors else f"{name}: {100 * right:.0f} % right"


def _legend(
    panels: Mapping[str, np.ndarray], names: Sequence[str], colors: np.ndarray, width: int
) -> Image.Image:
    table = np.concatenate([colors, [_GREY]])
    present = canvas.present_classes(panels)
    if any((np.asarray(label) == 0).any() for label in panels.values()):
        present.append(len(colors))
    return canvas.legend([*names, "unlabelled"], table, present, width)


def _options(path: Path) -> dict[str, int]:
    return {"quality": 90, "subsampling": 0} if path.suffix == ".jpg" else {}
