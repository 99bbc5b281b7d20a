"""Evaluation of annotation-free and fine-tuned networks, on both datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from tests.datasets.devkit import check_with_devkit, small_drive
from uov_jax.afi import NUSCENES_GROUND, FlatInteraction, smooth_labels
from uov_jax.checkpoints.files import save_state_dict_file
from uov_jax.checkpoints.state_dict import model_to_state_dict
from uov_jax.datasets.lidar_file import SEMANTICKITTI_COLUMNS, read_points
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.datasets.semantickitti import read_classes
from uov_jax.dumps.reference import open_dumps
from uov_jax.evaluation.evaluate import EvaluationResult, EvaluationSettings, evaluate
from uov_jax.evaluation.judging import NOT_FINITE
from uov_jax.pictures.judged import JudgedPictures
from uov_jax.superpoints.make import make_superpoints, prepare
from uov_jax.tasks.build import build_judged_split, build_task
from uov_jax.tasks.segmentation import best_class, class_probabilities
from uov_jax.tasks.segmentation_evaluation import SegmentationSplit
from uov_jax.training import loop
from uov_jax.vocabulary import load_vocabulary

VOXELS = {"voxel_size": 0.1, "cylindrical_coordinates": True}


def judge(
    config: ConfigDict, network: Path, directory: Path, split: str | None = None, **settings: Any
) -> EvaluationResult:
    chosen = EvaluationSettings(
        **{"pictures": 0, "workers": 1, "compilation_cache": config.run.compilation_cache}
        | settings
    )
    return evaluate(
        build_judged_split(config, split),
        {"network": network},
        directory,
        chosen,
        config,
        JudgedPictures(),
    )


def test_scores_are_those_that_training_ended_with(
    tmp_path: Path, configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two ways to the same numbers, the pseudo labels' beside the network's."""
    config = configure("annotation_free_san")
    trained = loop.train(build_task(config), config, tmp_path / "run").metrics
    result = judge(config, tmp_path / "run", tmp_path / "scores", afi=(None,))
    assert list(result.scores.columns) == ["network", "network + AFI", "teacher, seen"]
    network, teacher = (result.scores.columns[name] for name in ("network", "teacher, seen"))
    assert network.everywhere.mean_iou() == trained["miou"]
    assert network.everywhere.accuracy() == trained["accuracy"]
    assert network.matrices["seen"].mean_iou() == trained["miou_seen"]
    assert network.matrices["unseen"].mean_iou() == trained["miou_unseen"]
    assert teacher.everywhere.mean_iou() == trained["teacher_miou_seen"]
    assert "Segmentation as trained by annotation_free: 1 network(s) on 2 of 2" in (
        capsys.readouterr().out
    )
    # The same network as a fine-tuned one has no pseudo labels beside it.
    config = configure("finetune_nuscenes")
    again = judge(config, tmp_path / "run", tmp_path / "again")
    assert list(again.scores.columns) == ["network"]
    np.testing.assert_array_equal(again.scores.columns["network"].counts(), network.counts())


def test_pseudo_labels_of_another_split_are_not_needed(
    tmp_path: Path, dataset: Path, configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary = load_vocabulary()
    dumps = open_dumps(dataset / "dumps", vocabulary)
    keyframes = NuScenesTables(dataset, "v1.0-mini").keyframes("mini_train")
    list(
        make_superpoints(
            keyframes,
            dumps,
            vocabulary,
            prepare(keyframes, dumps, vocabulary, tmp_path / "labels", "native"),
        )
    )
    config = configure("annotation_free_san", labels=str(tmp_path / "labels"))
    evaluation = build_judged_split(config)
    assert evaluation.sample(0)["teacher_label"] is None
    assert "2 of 2 keyframes have no pseudo labels" in capsys.readouterr().out
    assert build_judged_split(config, "mini_train").sample(0)["teacher_label"] is not None
    with config.unlocked():
        config.data.labels = str(tmp_path / "nowhere")
    assert build_judged_split(config).sample(0)["teacher_label"] is None
    assert "not judged beside the network: " in capsys.readouterr().out


def test_afi_knows_the_ground_of_nuscenes_alone(configure: Any, kitti: Path) -> None:
    generator = np.random.default_rng(0)
    points = (20 * generator.standard_normal((70_000, 4))).astype(np.float32)
    # Ground in the ring where nuScenes' is looked for, of a class that is none of its grounds.
    near = np.linalg.norm(points[:, :2], axis=1) < 5
    points[near, 2] = -1.8
    classes = generator.integers(1, 17, len(points)).astype(np.uint8)
    nuscenes = build_judged_split(configure("finetune_nuscenes"))
    found = nuscenes.smooth(points, classes)
    expected = smooth_labels(points[:, :3], classes, ground=NUSCENES_GROUND)
    np.testing.assert_array_equal(found, expected)
    config = configure("finetune_semantickitti", root=str(kitti), train_split="00", val_split="val")
    found = build_judged_split(config).smooth(points, classes)
    denser = FlatInteraction(points=65_536)
    expected = smooth_labels(points[:, :3], classes, denser, num_classes=20)
    np.testing.assert_array_equal(found, expected)


def test_probabilities_are_of_the_classes_that_may_be() -> None:
    logits = jnp.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    found = np.asarray(class_probabilities(logits))
    expected = [[0, 1 / (1 + np.e), np.e / (1 + np.e)], [0, 1 / (1 + np.exp(-4)), 0.0179862]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(found.argmax(axis=1), best_class(logits))
    every = np.asarray(class_probabilities(logits, predict_ignored=True))
    np.testing.assert_allclose(every, jax.nn.softmax(logits, axis=1), rtol=1e-6)


def test_class_0_is_the_best_only_where_it_may_be() -> None:
    logits = jnp.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    assert best_class(logits).tolist() == [2, 1]
    assert best_class(logits, predict_ignored=True).tolist() == [0, 1]
    assert best_class(logits).dtype == jnp.uint8
    broken = logits.at[1, 0].set(jnp.nan)
    assert best_class(broken).tolist() == [2, NOT_FINITE]


def test_semantickitti_is_judged_without_cameras(
    tmp_path: Path, configure: Any, kitti: Path
) -> None:
    config = configure("finetune_semantickitti", root=str(kitti), train_split="00", val_split="val")
    evaluation = build_judged_split(config)
    assert (len(evaluation), len(evaluation.classes)) == (1, 20)
    assert evaluation.keyframe(0) is None
    sample = evaluation.sample(0)
    assert sample["seen"] is None
    assert sample["teacher_label"] is None
    with config.unlocked():
        config.total_steps = 1
    trained = loop.train(build_task(config), config, tmp_path / "run").metrics
    result = judge(config, tmp_path / "run", tmp_path / "scores", pictures=1)
    assert result.scores.columns["network"].everywhere.mean_iou() == trained["miou"]
    assert (tmp_path / "scores" / "pictures" / "08_000000_network.png").is_file()
    config = configure("finetune_nuscenes", dataset="waymo")
    with pytest.raises(ValueError, match=r"config.data.dataset: expected one of .* 'waymo'"):
        build_judged_split(config)
    with config.unlocked():
        config.model.variant = "minkunet99"
    with pytest.raises(ValueError, match=r"config.model.variant: .* found 'minkunet99'"):
        build_judged_split(config)


def test_a_submission_of_an_annotation_free_network_passes_the_devkits_own_check(
    tmp_path: Path, configure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulated drive, its superpoints, a step of training, and what the server would get."""
    root = small_drive(tmp_path / "drive")
    vocabulary = load_vocabulary()
    keyframes = NuScenesTables(root, "v1.0-sim").keyframes("sim_train")
    dumps = open_dumps(root / "dumps" / "simulated", vocabulary)
    folder = prepare(keyframes, dumps, vocabulary, tmp_path / "labels", "native")
    list(make_superpoints(keyframes, dumps, vocabulary, folder))
    config = configure(
        "annotation_free_san",
        root=str(root),
        version="v1.0-sim",
        train_split="sim_train",
        val_split="",
        labels=str(folder.root),
        voxels=(36_000, 36_000),
    )
    with config.unlocked():
        config.total_steps = 1
    loop.train(build_task(config), config, tmp_path / "run")
    result = judge(config, tmp_path / "run", tmp_path / "out", "sim_val", submission=True)
    assert result.finished
    submission = tmp_path / "out" / "predictions" / "network"
    assert submission.with_suffix(".zip") in result.written
    # The server knows the split as "val".
    for part in (submission, submission / "lidarseg"):
        (part / "sim_val").rename(part / "val")
    check_with_devkit(root, submission, monkeypatch)


class Pointwise(nnx.Module):
    """A network without neighbours, which compiles at once."""

    def __init__(self, num_classes: int) -> None:
        self.kernel = nnx.Param(10 * jax.random.normal(jax.random.key(0), (1, num_classes)))

    def __call__(self, features: jax.Array, plan: Any) -> jax.Array:
        del plan
        return jnp.sin(features * self.kernel[...])


def test_predictions_of_a_real_semantickitti_scan_pass_the_submission_format_and_back(
    tmp_path: Path, configure: Any, real_semantickitti: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        SegmentationSplit,
        "build_model",
        lambda self, rngs, axis_name: Pointwise(len(self.classes)),
    )
    tensors = model_to_state_dict(Pointwise(20))
    network = save_state_dict_file(tmp_path / "network.npz", tensors, VOXELS)
    scan = sorted(real_semantickitti.rglob("velodyne/*.bin"))[0]
    sequence = scan.parents[1].name
    config = configure(
        "finetune_semantickitti",
        root=str(real_semantickitti),
        val_split=sequence,
        voxels=(96_000, 96_000),
    )
    evaluation = build_judged_split(config)
    assert len(evaluation) == 1
    result = judge(config, network, tmp_path / "out", submission=True, afi=(None,))
    points = read_points(scan, SEMANTICKITTI_COLUMNS)
    sample = evaluation.sample(0)
    output = Pointwise(20)(jnp.asarray(sample["inputs"]["features"]), None)
    plain = np.asarray(evaluation.classify(output))[sample["inverse"]]
    assert len(np.unique(plain)) > 5
    for name, expected in {
        "network": plain,
        "network_AFI": evaluation.smooth(points, plain),
    }.items():
        folder = tmp_path / "out" / "predictions" / name
        assert folder.with_suffix(".zip") in result.written
        file = folder / "sequences" / sequence / "predictions" / f"{scan.stem}.label"
        np.testing.assert_array_equal(read_classes(file, len(points)), expected)
