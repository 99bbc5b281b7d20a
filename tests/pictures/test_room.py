"""Pictures of rooms: the right colours in the right column, the ceiling and near walls cut away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import real_root
from tests.tiny_rooms import made_room
from uov_jax.errors import InputError
from uov_jax.pictures.canvas import PAPER
from uov_jax.pictures.panels import RIGHT, UNLABELLED, WRONG
from uov_jax.pictures.room import (
    CEILING,
    COLORS,
    below_ceiling,
    near_walls,
    room_columns,
    room_picture,
    room_views,
)
from uov_jax.pictures.room_query import heat, heat_range, room_query_picture
from uov_jax.vocabulary import load_vocabulary

PALETTE = load_vocabulary("scannet").colors
GREY, GREEN, RED = (np.round(255 * np.array(c)).astype(int) for c in (UNLABELLED, RIGHT, WRONG))


@pytest.fixture(scope="module")
def room() -> tuple[np.ndarray, np.ndarray]:
    """Points and classes of a made room with a ceiling of class 20."""
    points, classes = made_room(20_000)
    rng = np.random.default_rng(5)
    ceiling = rng.uniform((0, 0, 2.5), (4, 3, 2.5), (6000, 3)).astype(np.float32)
    return (
        np.concatenate([points, ceiling]),
        np.concatenate([classes, np.full(len(ceiling), 20, np.uint8)]),
    )


def counts(image: np.ndarray, color: np.ndarray) -> int:
    """Pixels of a colour, as bright as it is or darkened at edges."""
    value = image.astype(float)
    scale = value.max(axis=2, keepdims=True) / max(1, int(np.max(color)))
    near = np.abs(value - np.clip(scale, 0.44, 1) * color).max(axis=2) <= 3
    return int(np.count_nonzero(near & (value.max(axis=2) > 20)))


def test_columns_have_their_colours_and_headings(room: tuple[np.ndarray, np.ndarray]) -> None:
    points, truth = room
    prediction = truth.copy()
    prediction[:5000] = 9
    truth = truth.copy()
    truth[-100:] = 0
    own = np.full((len(points), 3), 77, np.uint8)
    shown = room_columns(points, {"prediction": prediction, "truth": truth}, PALETTE, own)
    judged = truth > 0
    wrong = np.mean(prediction[judged] != truth[judged])
    right, errors = f"{100 * (1 - wrong):.0f} % right", f"errors: {100 * wrong:.0f} %"
    assert list(shown) == [COLORS, "truth", f"prediction: {right}", errors]
    colors, drawn, _, differ = shown.values()
    assert (colors == 77).all()
    np.testing.assert_array_equal(drawn[judged], PALETTE[truth[judged]])
    np.testing.assert_array_equal(drawn[~judged], np.tile(GREY, (100, 1)))
    expected = np.where((prediction == truth)[:, None], GREEN, RED)
    np.testing.assert_array_equal(differ[judged], expected[judged])


def test_the_ceiling_is_cut_away_and_the_floor_is_seen(
    room: tuple[np.ndarray, np.ndarray],
) -> None:
    points, classes = room
    assert not below_ceiling(points)[classes == 20].any()
    assert below_ceiling(points)[points[:, 2] < CEILING - 0.05].all()
    for view in room_views(points, 300):
        seen = classes[view.point[view.point >= 0]]
        share = np.bincount(seen, minlength=21) / len(seen)
        assert share[20] == 0
        assert share[2] > 0.2  # floor
        assert share[4] > 0.05  # bed
        assert share[7] > 0.05  # table


def test_walls_before_the_camera_are_left_out_and_those_behind_stay(
    room: tuple[np.ndarray, np.ndarray],
) -> None:
    points, _ = room
    found = near_walls(points.astype(np.float64), azimuth=np.pi / 2)  # along y: from y = 0
    high = points[:, 2] > 0.2
    assert found[high & (points[:, 1] < 0.2)].all()
    assert not found[points[:, 1] > 0.5].any()
    assert not found[points[:, 2] < 0.1].any()
    line = np.zeros((10, 3))
    line[:, 0] = np.arange(10)
    assert not near_walls(line, 0.0).any()
    assert not near_walls(line[:2], 0.0).any()


def test_a_picture_has_every_column_twice_and_a_legend(
    tmp_path: Path, room: tuple[np.ndarray, np.ndarray]
) -> None:
    points, truth = room
    prediction = np.where(points[:, 0] < 2, truth, 9).astype(np.uint8)
    names = load_vocabulary("scannet").eval_classes
    path = tmp_path / "room.png"
    room_picture(
        points,
        {"truth": truth, "prediction": prediction},
        PALETTE,
        path,
        names=names,
        point_colors=np.full((len(points), 3), 77, np.uint8),
        width=240,
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["room.png"]
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    above = room_views(points, 240)[0].point.shape[0] // 2
    columns = [pixels[36 + 4 :, left : left + 240] for left in range(0, 4 * 244 - 4, 244)]
    assert pixels.shape[1] == 4 * 244 - 4
    for rows in (slice(40, above), slice(above + 8, above + 150)):  # below the headings
        own, true, predicted, errors = (column[rows] for column in columns)
        assert counts(own, np.full(3, 77)) > 2000
        assert counts(true, PALETTE[2]) > 2000
        assert counts(true, PALETTE[9]) == 0
        assert counts(predicted, PALETTE[9]) > 2000
        assert counts(errors, GREEN) > 500
        assert counts(errors, RED) > 500
    legend = pixels[-30:]
    for number in (1, 2, 4, 9):
        assert counts(legend, PALETTE[number]) > 100


def test_one_point_and_points_in_a_line_are_drawn(tmp_path: Path) -> None:
    for number in (1, 2, 30):
        points = np.zeros((number, 3), np.float32)
        points[:, 0] = np.arange(number)
        room_picture(
            points, {"truth": np.ones(number, np.uint8)}, PALETTE, tmp_path / "a.jpg", width=120
        )
        with Image.open(tmp_path / "a.jpg") as image:
            assert (np.asarray(image)[40:] != PAPER).any()


def test_refusals(tmp_path: Path) -> None:
    points, one = np.zeros((4, 3), np.float32), {"truth": np.ones(4, np.uint8)}
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match="at least one point"):
        room_picture(points[:0], {}, PALETTE, path)
    with pytest.raises(InputError, match="needs colours or a labelling"):
        room_picture(points, {}, PALETTE, path)
    with pytest.raises(InputError, match=r"colours of shape \(3, 3\), expected three for"):
        room_picture(points, one, PALETTE, path, point_colors=np.zeros((3, 3), np.uint8))
    with pytest.raises(InputError, match="panel 'truth' has shape"):
        room_picture(points, {"truth": np.ones(3, np.uint8)}, PALETTE, path)
    points[2, 1] = np.inf
    with pytest.raises(InputError, match="some are not finite"):
        room_picture(points, one, PALETTE, path)
    with pytest.raises(InputError, match="similarity of shape"):
        room_query_picture(points, points, np.zeros(3), np.zeros(0, int), path, title="a")
    assert not list(tmp_path.iterdir())


def test_a_query_marks_the_best_places_in_warm_colours(
    tmp_path: Path, room: tuple[np.ndarray, np.ndarray]
) -> None:
    points, classes = room
    similarity = np.where(classes == 4, 0.9, 0.1).astype(np.float32)
    similarity[classes == 2] = np.nan
    own = np.full((len(points), 3), 200, np.uint8)
    best = np.flatnonzero(classes == 4)[np.argmax(points[classes == 4, 2])]
    path = tmp_path / "bed.png"
    room_query_picture(points, own, similarity, np.array([best]), path, title="'bed'", width=300)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    heated = pixels[40:-40, 304:]
    hot = heat(np.array([0.9]), *heat_range(similarity), own[:1])[0]
    assert np.count_nonzero(np.abs(heated - hot.astype(int)).max(axis=2) <= 4) > 2000
    assert counts(heated, GREY) > 2000
    assert counts(pixels, np.array([0, 162, 255])) > 100  # rings


def test_heat_of_nothing_and_of_one_value() -> None:
    assert heat_range(np.full(3, np.nan)) == (0.0, 1.0)
    low, high = heat_range(np.full(3, 0.5, np.float32))
    assert low == 0.5 < high
    np.testing.assert_array_equal(heat(np.array([np.nan]), 0, 1)[0], GREY)


def test_a_real_room_is_drawn(tmp_path: Path) -> None:
    values = np.fromfile(real_root("scannet") / "scene0000_00.bin", np.float32).reshape(-1, 6)
    points, colors = values[:, :3], values[:, 3:].clip(0, 255).astype(np.uint8)
    room_picture(points, {}, PALETTE, tmp_path / "room.png", point_colors=colors, width=300)
    views = room_views(points, 300)
    for view in views:
        assert (view.point >= 0).mean() > 0.4
        assert len(np.unique(view.point)) > 5000
