"""Predicted labels as files: what is written comes back, for every point in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from plyfile import PlyData

from tests.clouds.cloud_files import colored, sweep, write_ply, xyz_of
from uov_jax.clouds import (
    CloudError,
    read_cloud,
    read_label,
    write_arrays,
    write_colored,
    write_label,
)
from uov_jax.clouds.labels import is_prediction
from uov_jax.errors import MissingFileError

CLASSES = ["none", "car", "traffic cône"]
COLORS = np.array([[0, 0, 0], [255, 0, 1], [2, 200, 30]], np.uint8)


def test_a_label_a_point_as_semantickitti_has_them(tmp_path: Path) -> None:
    labels = np.arange(300, dtype=np.uint16)
    path = write_label(tmp_path / "new", "a", labels)
    assert path == tmp_path / "new" / "a.predicted.label"
    np.testing.assert_array_equal(np.fromfile(path, "<u4"), labels)
    np.testing.assert_array_equal(read_label(path, 300), labels)
    with pytest.raises(CloudError, match=r"a\.predicted\.label: 1,200 bytes, expected 1,204: four"):
        read_label(path, 301)
    with pytest.raises(MissingFileError, match=r"b: no such file of predicted labels of a cloud"):
        read_label(tmp_path / "b", 1)


@pytest.mark.parametrize(("classes", "dtype"), [(3, np.uint8), (256, np.uint8), (257, np.uint16)])
def test_arrays_with_the_names_of_the_classes(
    tmp_path: Path, classes: int, dtype: type[np.generic]
) -> None:
    names = [f"class {number}" for number in range(classes)]
    labels = np.arange(classes)[::-1]
    scores = np.linspace(0, 1, classes, dtype=np.float16)
    path = write_arrays(tmp_path, "a", labels, names, {"scores": scores})
    assert path == tmp_path / "a.predicted.npz"
    with np.load(path, allow_pickle=False) as found:
        np.testing.assert_array_equal(found["labels"], labels.astype(dtype), strict=True)
        assert found["classes"].tolist() == names
        np.testing.assert_array_equal(found["scores"], scores, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_in_the_colours_of_their_classes(tmp_path: Path, dtype: type[np.floating]) -> None:
    """As another program reads them, and as this one does."""
    fields = {name: values.astype(dtype) for name, values in sweep().items()}
    fields["x"] += dtype(5000)  # so that what the network sees is moved
    fields["x"][2] = np.nan
    cloud = read_cloud(write_ply(tmp_path / "a.ply", fields))
    assert cloud.offset[0] > 4900
    labels = np.random.default_rng(0).integers(1, 3, 40)
    labels[2] = 0
    path = write_colored(tmp_path / "new", cloud, labels, CLASSES, COLORS)
    assert path == tmp_path / "new" / "a.predicted.ply"
    found = PlyData.read(path)
    assert found.comments == ["class 0 none", "class 1 car", "class 2 traffic c?ne"]
    vertices = found["vertex"].data
    np.testing.assert_array_equal(xyz_of(vertices), xyz_of(fields), strict=True)
    np.testing.assert_array_equal(vertices["label"], labels)
    assert not cloud.finite[2]
    np.testing.assert_array_equal(vertices["intensity"], fields["intensity"].astype(np.float32))
    for channel, name in enumerate(("red", "green", "blue")):
        np.testing.assert_array_equal(vertices[name], COLORS[labels, channel], strict=True)
    again = read_cloud(path)
    np.testing.assert_array_equal(again.positions, cloud.positions, strict=True)
    np.testing.assert_array_equal(again.colors, COLORS[labels], strict=True)


def test_a_room_has_no_intensity(tmp_path: Path) -> None:
    cloud = read_cloud(write_ply(tmp_path / "a.ply", colored()))
    path = write_colored(tmp_path, cloud, np.ones(40, np.uint8), CLASSES, COLORS)
    assert read_cloud(path).intensity is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.predicted.ply", True),
        ("a.b.predicted.npz", True),
        ("a.predicted.label", True),
        ("a.ply", False),
        ("predicted.ply", False),
        ("a.predictedish.ply", False),
    ],
)
def test_predictions_are_known_by_their_names(name: str, expected: bool) -> None:
    assert is_prediction(Path(name)) == expected
