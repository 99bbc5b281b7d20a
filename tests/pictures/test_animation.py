"""Animations: one picture a frame in every format, labels above and over the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.pictures.animation import Frame, animate
from uov_jax.pictures.scene import DrawnScene
from uov_jax.vocabulary import load_vocabulary

COLORS = np.array([[0, 0, 0], [250, 10, 10], [10, 20, 250]], np.uint8)


def frames(count: int) -> list[Frame]:
    """Sweeps whose points are of class 1 in even frames and 2 in odd ones, without cameras."""
    generator = np.random.default_rng(0)
    points = generator.uniform(-30, 30, (500, 4)).astype(np.float32)
    return [Frame(points, {"truth": np.full(500, 1 + i % 2)}, None) for i in range(count)]


@pytest.mark.parametrize("ending", [".webp", ".gif", ".png"])
def test_every_frame_shows_its_labels(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"scene{ending}"
    assert animate(iter(frames(3)), COLORS, path, names=("ignore", "car", "bus")) == 3
    with Image.open(path) as image:
        assert image.n_frames == 3
        for number in range(3):
            image.seek(number)
            pixels = np.asarray(image.convert("RGB")).astype(int)[40:500]
            # Lossy formats blur colours of single points, but keep red from blue.
            redder = pixels[..., 0] - pixels[..., 2]
            counts = [(redder > 60).sum(), (redder < -60).sum()]
            assert counts[number % 2] > 500
            assert counts[1 - number % 2] < 50
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_cameras_stand_above_the_panels(tmp_path: Path, drawn_root: Path) -> None:
    vocabulary = load_vocabulary()
    keyframes = NuScenesTables(drawn_root, "v1.0-mini").keyframes(["scene-0061"])
    scene = DrawnScene(keyframes, vocabulary, predictions=drawn_root / "predicted")
    assert animate(iter(scene), vocabulary.colors, tmp_path / "scene.webp") == 2
    with Image.open(tmp_path / "scene.webp") as image:
        wide = image.size
    # Three cameras of 480 pixels in a row, above the panels.
    assert wide[0] == 3 * 480 + 2 * 4
    assert wide[1] > 270 + 350


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"scene.mp4: an animation is one of .webp, .gif, .png"):
        animate(iter(frames(1)), COLORS, tmp_path / "scene.mp4")
    with pytest.raises(ValueError, match=r"scene.gif: an animation needs at least one frame"):
        animate(iter([]), COLORS, tmp_path / "scene.gif")
    assert not list(tmp_path.iterdir())
