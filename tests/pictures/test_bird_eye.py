"""Pictures: the right colours in the right panel, files whole or absent, clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uov_jax.pictures.bird_eye import bird_eye
from uov_jax.pictures.panels import RIGHT, UNLABELLED, WRONG

COLORS = np.array([[0, 0, 0], [250, 10, 10], [10, 20, 250], [10, 200, 30]], np.uint8)


def cloud(number: int = 4000) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.uniform([-30, -30, -2, 0, 0], [30, 30, 3, 255, 31], (number, 5)).astype(
        np.float32
    )


def pixels(path: Path) -> np.ndarray:
    """The picture as int [height, width, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def panel_colors(path: Path, panels: int, candidates: np.ndarray) -> np.ndarray:
    """Bool [panels, candidates]: whether each colour fills pixels of each panel's drawing area."""
    image = pixels(path)
    area = image[int(0.2 * len(image)) : int(0.7 * len(image))]
    parts = np.array_split(area, panels, axis=1)
    distance = [np.abs(part[:, :, None] - candidates).max(-1) for part in parts]
    return np.array([(d <= 2).sum(axis=(0, 1)) > 800 for d in distance])


@pytest.mark.parametrize(("ahead", "axis"), [("y", 0), ("x", 1)])
def test_the_arrow_points_ahead(tmp_path: Path, ahead: str, axis: int) -> None:
    """It is longer along the way than across, and its tip is on the way's side of its middle."""
    points = np.full((1, 4), 40.0, np.float32)
    panels = {"truth": np.ones(1, np.uint8)}
    bird_eye(points, panels, COLORS, tmp_path / "a.png", ahead=ahead, radius=10.0, title="")
    black = np.argwhere(pixels(tmp_path / "a.png").max(-1) < 40)
    square = pixels(tmp_path / "a.png").shape[1] / 2
    arrow = black[np.abs(black - black.mean(0)).max(1) < square]
    # A triangle has its centre of mass nearer to its base than to its tip.
    low, high = arrow.min(0), arrow.max(0)
    beyond = (low + high) / 2 - arrow.mean(0)
    assert abs(beyond[axis]) > 3 * abs(beyond[1 - axis])
    assert (beyond[axis] < 0) == (ahead == "y")  # rows count down, columns to the right


def test_each_panel_has_its_labels_colours_and_errors_are_red(tmp_path: Path) -> None:
    points = cloud()
    truth = np.full(len(points), 2)
    prediction = np.where(points[:, 0] < 0, 2, 3)
    path = tmp_path / "sweep.png"
    # Given in another order than they are drawn in.
    panels = {"prediction": prediction, "teacher": np.zeros_like(truth), "truth": truth}
    bird_eye(points, panels, COLORS, path, names=("ignore", "car", "bus", "tree"))
    grey, right, wrong = (np.round(255 * np.array(c)) for c in (UNLABELLED, RIGHT, WRONG))
    found = panel_colors(path, 4, np.array([COLORS[2], COLORS[3], grey, right, wrong]))
    np.testing.assert_array_equal(
        found.astype(int),
        [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 1, 1]],
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["sweep.png"]


def test_forward_is_up_and_right_is_right(tmp_path: Path) -> None:
    points = cloud()
    label = np.where(points[:, 1] > 5, 1, np.where(points[:, 0] > 5, 2, 3))
    bird_eye(points, {"truth": label}, COLORS, tmp_path / "a.png")
    image = pixels(tmp_path / "a.png")

    def centre(color: np.ndarray) -> np.ndarray:
        area = image[: int(0.85 * len(image))]
        return np.argwhere(np.abs(area - color).max(-1) <= 2).mean(axis=0)

    ahead, right, rest = (centre(color) for color in COLORS[1:])
    assert ahead[0] < rest[0]
    assert right[1] > rest[1]


def test_without_truth_the_teacher_is_what_a_prediction_is_compared_with(tmp_path: Path) -> None:
    points = cloud(500)
    one = np.ones(500, np.uint8)
    both = {"teacher": one, "prediction": one}
    bird_eye(points, both, COLORS, tmp_path / "a.png")
    bird_eye(points, {"teacher": one}, COLORS, tmp_path / "b.png")
    wide, narrow = (pixels(tmp_path / name).shape for name in ("a.png", "b.png"))
    assert wide[1] == 3 * narrow[1]


@pytest.mark.parametrize("number", [0, 1])
def test_hardly_any_points_still_give_a_picture(tmp_path: Path, number: int) -> None:
    label = np.zeros(number, np.uint8)
    panels = {"truth": label, "prediction": label}
    bird_eye(cloud(number), panels, COLORS, tmp_path / "a.png")
    assert pixels(tmp_path / "a.png").shape[1] == 1500


def test_bird_eye_refuses_what_does_not_fit(tmp_path: Path) -> None:
    points = cloud(5)
    with pytest.raises(
        ValueError, match=r"'truth' has shape \(4,\), expected one class .* 5 points"
    ):
        bird_eye(points, {"truth": np.zeros(4, int)}, COLORS, tmp_path / "a.png")
    with pytest.raises(ValueError, match="'truth' holds classes 4 to 4, .* for 0 to 3"):
        bird_eye(points, {"truth": np.full(5, 4)}, COLORS, tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least one labelling"):
        bird_eye(points, {}, COLORS, tmp_path / "a.png")
    with pytest.raises(ValueError, match="2 names for 4 classes"):
        bird_eye(points, {"truth": np.zeros(5, int)}, COLORS, tmp_path / "a.png", names=("a", "b"))
    assert not list(tmp_path.iterdir())
