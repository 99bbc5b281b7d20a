"""Pictures of queries: what fits is dark, places are marked, words have their colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uov_jax.pictures.query import (
    DISTINCT,
    MARK,
    CameraPanel,
    similarity_picture,
    word_picture,
)
from uov_jax.vocabulary import load_vocabulary


def cloud(number: int = 6000) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.uniform([-30, -30, -2], [30, 30, 3], (number, 3)).astype(np.float32)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def covered(area: np.ndarray, color: np.ndarray) -> int:
    return int((np.abs(area - color).max(axis=-1) <= 3).sum())


def test_what_fits_is_dark_and_the_best_places_are_marked(tmp_path: Path) -> None:
    points = cloud()
    similarity = np.where(points[:, 0] > 0, 0.5, 0.1) + 0.01 * points[:, 1] / 30
    path = tmp_path / "query.png"
    similarity_picture(points, similarity, np.array([int(similarity.argmax())]), path, title="car")
    image = pixels(path)
    panel = image[200:750, :560].mean(axis=-1)
    left, right = panel[:, :250], panel[:, 330:]
    assert (right < 90).mean() > 20 * max((left < 90).mean(), 1e-4)
    mark = np.array([int(MARK[i : i + 2], 16) for i in (1, 3, 5)])
    assert covered(image, mark) > 100
    assert [entry.name for entry in tmp_path.iterdir()] == ["query.png"]


def test_points_are_drawn_over_the_camera_image(tmp_path: Path) -> None:
    points = cloud(100)
    generator = np.random.default_rng(1)
    camera = CameraPanel(
        "CAM_FRONT",
        np.full((90, 160, 3), 200, np.uint8),
        np.arange(50),
        generator.uniform(5, 155, 50),
        generator.uniform(5, 85, 50),
    )
    alone, beside = tmp_path / "alone.png", tmp_path / "beside.png"
    similarity = np.linspace(0, 1, 100)
    similarity_picture(points, similarity, np.array([7, 99]), alone, title="car")
    similarity_picture(points, similarity, np.array([7, 99]), beside, title="car", camera=camera)
    assert pixels(beside).shape[1] > 2 * pixels(alone).shape[1]
    part = pixels(beside)[100:700, 800:1900]
    assert covered(part, np.full(3, 216)) > 10_000  # the image, paler
    assert (part.max(axis=-1) - part.min(axis=-1) > 60).sum() > 500  # the points


@pytest.mark.parametrize("number", [0, 1])
def test_empty_and_tiny_sweeps_are_drawn(tmp_path: Path, number: int) -> None:
    points = cloud(number)
    nothing = np.zeros(0, np.int64)
    similarity_picture(points, np.zeros(number), nothing, tmp_path / "a.png", title="car")
    word_picture(
        points, np.zeros(number, np.int64), load_vocabulary(), tmp_path / "b.png", title="words"
    )
    assert len(list(tmp_path.iterdir())) == 2


def test_other_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"similarity of shape \(9,\), expected .* 10 points"):
        similarity_picture(
            cloud(10), np.zeros(9), np.zeros(0, int), tmp_path / "a.png", title="car"
        )
    assert not list(tmp_path.iterdir())


def test_frequent_words_and_their_classes_have_their_colours(tmp_path: Path) -> None:
    vocabulary = load_vocabulary()
    points = cloud()
    car, tree = vocabulary.index("car"), vocabulary.index("tree")
    words = np.where(points[:, 1] > 10, car, tree)
    path = tmp_path / "words.png"
    word_picture(points, words, vocabulary, path, title="words")
    image = pixels(path)
    middle = image.shape[1] // 2
    first, second = np.round(255 * DISTINCT[:2])
    assert covered(image[:, :middle], first) > covered(image[:, :middle], second) > 1000
    classes = vocabulary.colors[vocabulary.word_eval_class[[tree, car]]].astype(int)
    for color in classes:
        assert covered(image[:, middle:], color) > 1000
