"""The confusion matrix as a picture: dark where the counts are, and whole or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.pictures.confusion import confusion_picture

NAMES = ("ignore", "car", "bus_stop", "tree")


def darkness(path: Path) -> np.ndarray:
    """Bool [height, width]: pixels in the darkest blues, which only shares near 100 % have."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return (pixels[..., 2] - pixels[..., 0] > 60) & (pixels[..., 0] < 60)


def test_rows_are_shares_of_the_true_class(tmp_path: Path) -> None:
    """A class of ten points and one of a thousand are equally dark on their diagonal."""
    matrix = ConfusionMatrix(4, NAMES)
    matrix.add(np.array([1] * 10 + [2] * 1000), np.array([1] * 10 + [2] * 1000))
    confusion_picture(matrix, tmp_path / "a.png", title="network")
    rows, columns = np.nonzero(darkness(tmp_path / "a.png"))
    upper = rows < (rows.min() + rows.max()) / 2
    left = columns < (columns.min() + columns.max()) / 2
    # Two cells of the same size, from the upper left to the lower right.
    assert (upper == left).mean() > 0.99
    assert abs(upper.mean() - 0.5) < 0.05
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_the_column_of_class_0_is_there_only_if_it_was_predicted(tmp_path: Path) -> None:
    matrix = ConfusionMatrix(4, NAMES)
    matrix.add(np.array([1, 2, 3]), np.array([1, 2, 3]))
    confusion_picture(matrix, tmp_path / "a.png")
    matrix.add(np.array([1] * 200), np.array([0] * 200))
    confusion_picture(matrix, tmp_path / "b.png")
    first, second = (darkness(tmp_path / name) for name in ("a.png", "b.png"))
    # Class 1 is dark in a column of its own now, the first one, and columns are narrower.
    assert first.sum() > second.sum() > 0
    assert np.nonzero(second)[1].min() <= np.nonzero(first)[1].min()


def test_an_empty_matrix_has_a_picture_too(tmp_path: Path) -> None:
    confusion_picture(ConfusionMatrix(), tmp_path / "a.png")
    assert not darkness(tmp_path / "a.png").any()
