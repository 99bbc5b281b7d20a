"""Datasets of other rigs than nuScenes': one camera, many, two sizes of images, another LiDAR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.dumps.test_write import OneSize
from tests.tasks.conftest import CAPACITY
from tests.tiny_dataset import Sizes, write_dataset
from uov_jax.datasets.keyframe import Rig
from uov_jax.datasets.lidar_file import NUSCENES_COLUMNS
from uov_jax.datasets.nuscenes_tables import Keyframes, NuScenesTables
from uov_jax.datasets.projection import project
from uov_jax.dumps.check import find_problems
from uov_jax.dumps.folder import DumpFolder
from uov_jax.dumps.statistics import DumpStatistics
from uov_jax.dumps.write import dump_keyframes
from uov_jax.errors import InputError
from uov_jax.evaluation.evaluate import EvaluationSettings, evaluate
from uov_jax.evaluation.judging import JudgedSweep
from uov_jax.input.tri_modal import NO_AUGMENTATION, TriModalSource
from uov_jax.pictures.animation import animate
from uov_jax.pictures.cameras import camera_picture
from uov_jax.pictures.judged import JudgedPictures
from uov_jax.pictures.masks import draw_masks
from uov_jax.pictures.scene import DrawnScene
from uov_jax.superpoints.make import make_superpoints, prepare
from uov_jax.tasks.build import build_judged_split, build_task
from uov_jax.training import loop
from uov_jax.vocabulary import load_vocabulary

SMALL, LARGE = (90, 160), (120, 150)
RIGS: dict[str, tuple[str, Sizes]] = {
    "one camera": ("LIDAR_TOP", {"CAM_AHEAD": SMALL}),
    "seventeen cameras": ("LIDAR_TOP", {f"CAM_{i:02d}": SMALL for i in range(17)}),
    "two sizes": ("LIDAR_TOP", {"CAM_FRONT": LARGE, "CAM_BACK": SMALL, "CAM_UP": LARGE}),
    "another LiDAR": ("LIDAR_FRONT", {"CAM_LEFT": SMALL, "CAM_RIGHT": SMALL}),
}
# Of the sweeps of that LiDAR, which has three more: an echo, a time and another intensity.
COLUMNS = {"LIDAR_FRONT": "_ x y z _ intensity ring _"}


@pytest.fixture(scope="module", params=list(RIGS))
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Dataset, dumps and pseudo labels of a rig: its root, the rig, the sizes, the keyframes."""
    lidar, sizes = RIGS[request.param]
    root = write_dataset(tmp_path_factory.mktemp("rig"), lidar=lidar, cameras=sizes)
    columns = NUSCENES_COLUMNS.with_names(COLUMNS.get(lidar, NUSCENES_COLUMNS.text))
    rig, vocabulary = Rig(lidar, tuple(sizes), columns), load_vocabulary()
    for path in (root / "samples" / lidar).iterdir():
        points = np.fromfile(path, np.float32).reshape(-1, 5)
        wide = np.full((len(points), len(columns.names)), -7e8, np.float32)
        for number, name in enumerate(NUSCENES_COLUMNS.names):
            wide[:, columns.names.index(name)] = points[:, number]
        wide.tofile(path)
    tables = NuScenesTables(root, "v1.0-mini", rig)
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    result = dump_keyframes(OneSize(175), keyframes, root / "dumps", vocabulary, batch=6)
    assert (result.written, result.failed) == (4, ())
    dumps = DumpFolder(root / "dumps", vocabulary)
    folder = prepare(keyframes, dumps, vocabulary, root / "labels", "native")
    list(make_superpoints(keyframes, dumps, vocabulary, folder))
    return root, rig, sizes, keyframes


def recipe(configure: Any, name: str, root: Path, rig: Rig) -> Any:
    fields: dict[str, Any] = {
        "lidar": rig.lidar,
        "cameras": rig.cameras,
        "columns": rig.columns.text,
    }
    if name == "tmp_san":
        fields["dumps"] = str(root / "dumps")
    if name == "annotation_free_san":
        fields["labels"] = str(root / "labels")
    return configure(name, root=str(root), **fields)


def points_by_camera(keyframes: Keyframes, number: int) -> list[np.ndarray]:
    """For each camera, bool[N]: which points lie in its image, each projected for itself."""
    keyframe = keyframes[number]
    points = keyframe.points()
    return [project(points, keyframe, view).visible for view in keyframe.cameras]


def test_dumps_and_samples_are_of_the_rigs_cameras(chain: Any) -> None:
    root, rig, sizes, keyframes = chain
    dumps = DumpFolder(root / "dumps", load_vocabulary())
    assert dumps.manifest.image_sizes == sizes
    assert find_problems(dumps, keyframes) == []
    assert keyframes[0].lidar_path.parent.name == rig.lidar
    seen = points_by_camera(keyframes, 0)
    sample = TriModalSource(keyframes, dumps, augmentation=NO_AUGMENTATION).sample(
        0, np.random.default_rng(0)
    )
    # Two masks an image without void: each pair is of one of them.
    assert len(sample.pair_superpoint) == sum(int(mask.sum()) for mask in seen)
    halves = sum(bool(part.any()) for part in halves_of(keyframes, 0))
    assert len(sample.superpoint_word) == halves
    crops = TriModalSource(keyframes, dumps).sample(1, np.random.default_rng(0))
    assert 0 < len(crops.pair_superpoint) <= sum(m.sum() for m in points_by_camera(keyframes, 1))


def halves_of(keyframes: Keyframes, number: int) -> list[np.ndarray]:
    """For each camera and each of its masks, bool[N]: the points on it."""
    keyframe = keyframes[number]
    points = keyframe.points()
    found = []
    for view in keyframe.cameras:
        projection = project(points, keyframe, view)
        with np.errstate(invalid="ignore"):
            left = np.round(projection.uv[:, 0]) < view.width // 2
        found += [projection.visible & left, projection.visible & ~left]
    return found


def test_pseudo_labels_are_those_of_the_last_camera(chain: Any, configure: Any) -> None:
    root, rig, _, keyframes = chain
    vocabulary = load_vocabulary()
    task: Any = build_task(recipe(configure, "annotation_free_san", root, rig))
    assert task.pseudo_labels.manifest.rig == rig
    assert task.identity()["cameras"] == ", ".join(rig.cameras)
    assert task.identity()["lidar"] == rig.lidar
    number = np.full(400, -1)
    for camera, (left, right) in enumerate(zip(*(iter(halves_of(keyframes, 0)),) * 2, strict=True)):
        number[left], number[right] = 2 * camera, 2 * camera + 1
    # Words 3 and 4 of the dictionary for the left and the right half of every image.
    classes = np.append(np.tile(vocabulary.word_eval_class[[3, 4]], len(rig.cameras)), 0)
    np.testing.assert_array_equal(task.pseudo_labels.labels(keyframes[0], 400), classes[number])
    seen = np.any(points_by_camera(keyframes, 0), axis=0)
    points = keyframes[0].points()
    np.testing.assert_array_equal(task.train.seen(0, points), seen)
    judged = build_judged_split(recipe(configure, "annotation_free_san", root, rig))
    seen = np.any(points_by_camera(keyframes, 2), axis=0)
    np.testing.assert_array_equal(judged.sample(0)["seen"], seen)


def test_pictures_show_all_cameras_in_their_proportions(chain: Any, tmp_path: Path) -> None:
    root, _, sizes, keyframes = chain
    vocabulary = load_vocabulary()
    scene = DrawnScene(keyframes[:2], vocabulary, root / "dumps")
    frame = scene[0]
    camera_picture(
        frame.points, frame.panels, keyframes[0], vocabulary.colors, tmp_path / "a.png", width=160
    )
    beside = min(len(sizes), 6)
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == beside * 160 + (beside - 1) * 4
        rows = 2 * -(-len(sizes) // 6)  # of truth and teacher
        tallest = max(round(height * 160 / width) for height, width in sizes.values())
        assert image.height > rows * (tallest + 4)
    assert animate(iter(scene), vocabulary.colors, tmp_path / "a.webp") == 2
    dumps = DumpFolder(root / "dumps", vocabulary)
    draw_masks(keyframes[0], dumps.read(keyframes[0]), vocabulary, tmp_path / "m.jpg")
    widths = [round(min(800 / width, 450 / height) * width) for height, width in sizes.values()]
    with Image.open(tmp_path / "m.jpg") as image:
        rows = [widths[first : first + 3] for first in range(0, len(widths), 3)]
        assert image.width == max(sum(row) + 6 * (len(row) - 1) for row in rows)
        assert image.height == 450 * len(rows) + 6 * (len(rows) - 1)
    statistics = DumpStatistics(vocabulary)
    statistics.add(
        list(dumps.read(keyframes[0]).cameras),
        np.full(400, -1, np.int32),
        np.zeros(400, bool),
        np.zeros(0, np.int32),
        np.zeros(0, np.int32),
        None,
    )
    assert statistics.images == len(sizes)
    assert statistics.pixels == sum(height * width for height, width in sizes.values())


@pytest.mark.parametrize("chain", ["one camera"], indirect=True)
def test_networks_are_trained_and_judged(chain: Any, configure: Any, tmp_path: Path) -> None:
    """One step of pre-training, of the smallest network, and an evaluation with pictures."""
    root, rig, _, _ = chain
    config = recipe(configure, "tmp_san", root, rig)
    with config.unlocked():
        config.total_steps = 1
        config.run.picture_keyframes = 1
    metrics = loop.train(build_task(config), config, tmp_path / "run").metrics
    assert np.isfinite(metrics["validation_loss"])
    split = build_judged_split(config)
    settings = EvaluationSettings(pictures=1, workers=1)
    result = evaluate(
        split, {"net": tmp_path / "run"}, tmp_path / "out", settings, config, JudgedPictures()
    )
    scores = result.scores.columns["net"]
    assert scores.everywhere.mean_iou() == metrics["zero_shot_miou"]
    assert scores.matrices["seen"].mean_iou() == metrics["zero_shot_miou_seen"]
    assert len(list((tmp_path / "out" / "pictures").glob("*_cameras.jpg"))) == 1


def test_fine_tuning_needs_no_camera(configure: Any, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data", lidar="LIDAR_FRONT", cameras={})
    rig = Rig("LIDAR_FRONT", ())
    config = recipe(configure, "finetune_nuscenes", root, rig)
    task: Any = build_task(config)
    output = np.random.default_rng(0).standard_normal((CAPACITY, 17)).astype(np.float32)
    metrics = task.evaluate(lambda inputs: output, tmp_path, 1)
    assert "miou" in metrics
    assert "miou_seen" not in metrics
    split = build_judged_split(config)
    sample = split.sample(0)
    assert sample["seen"] is None
    sweep = JudgedSweep(sample, {"network": np.ones(400, np.uint8)})
    JudgedPictures().sweep(split, 0, sweep, tmp_path / "out")
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert names == ["scene-0103-sample-0_network.png"]
    with pytest.raises(InputError, match="config.data.cameras: names no camera, and here they"):
        build_judged_split(recipe(configure, "tmp_san", root, rig))
