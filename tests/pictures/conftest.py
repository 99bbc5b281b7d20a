"""A drawn scene: two keyframes with dumps and predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax.datasets.nuscenes import NuScenesLabelFormat
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.submission import write_labels
from uov_jax.vocabulary import load_vocabulary


@pytest.fixture(scope="module")
def drawn_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of two keyframes with dumps, and predictions of class 4 everywhere."""
    root = write_dataset(tmp_path_factory.mktemp("dataset"), scenes=("scene-0061",))
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes(["scene-0061"])
    write_dumps(root / "dumps", keyframes, load_vocabulary())
    files = NuScenesLabelFormat(keyframes, "val")
    for index, keyframe in enumerate(keyframes):
        number = len(keyframe.points())
        write_labels(files, root / "predicted", index, np.full(number, 4, np.uint8))
    return root
