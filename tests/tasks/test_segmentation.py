"""Annotation-free training, fine-tuning and linear probing on tiny datasets, end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from benchmarks.memory import program_bytes
from tests.tasks.conftest import CAPACITY
from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax.checkpoints import state
from uov_jax.checkpoints.folder import read_arrays
from uov_jax.checkpoints.state_dict import model_to_state_dict, named_variables
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder
from uov_jax.models import MinkUNet
from uov_jax.superpoints.make import make_superpoints, prepare
from uov_jax.tasks.build import build_task
from uov_jax.training import loop, parallel, step
from uov_jax.training.optimizer import FROZEN, build_optimizer
from uov_jax.vocabulary import load_vocabulary

METRICS = {
    "miou",
    "miou_seen",
    "miou_unseen",
    "miou_absent_one",
    "frequency_weighted_iou",
    "accuracy",
}


def arrays_of(directory: Path, number: int) -> dict[str, np.ndarray]:
    return read_arrays(directory / "checkpoints" / str(number))


def test_annotation_free_training_scores_beside_its_pseudo_labels_and_fine_tuning_follows(
    tmp_path: Path, configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure("annotation_free_san")
    first = tmp_path / "annotation_free"
    result = loop.train(build_task(config), config, first)
    assert set(result.metrics) == METRICS | {"teacher_miou_seen", "teacher_agreement"}
    assert all(np.isfinite(value) for value in result.metrics.values())
    assert len(list((first / "pictures").glob("step_0000004_*.png"))) == 2
    out = capsys.readouterr().out
    assert (first / "tables" / "step_0000004.txt").read_text().strip() in out
    assert "teacher, seen" in out
    assert "Starting from random weights." in out

    config = configure("finetune_nuscenes")
    with config.unlocked():
        config.init.checkpoint = str(first)
    second = tmp_path / "finetune"
    result = loop.train(build_task(config), config, second)
    assert set(result.metrics) == METRICS
    # A head of the same classes is taken too.
    assert f"Weights of {first / 'checkpoints' / '4'}: loaded" in capsys.readouterr().out
    started = parameters_at_start(config)
    for name, array in arrays_of(first, 4).items():
        if name.startswith("parameters/"):
            np.testing.assert_array_equal(started[name.partition("/")[2]], array, err_msg=name)
    after = arrays_of(second, 4)
    assert not np.array_equal(
        after["parameters/block1.0.conv1.kernel"],
        arrays_of(first, 4)["parameters/block1.0.conv1.kernel"],
    )


def parameters_at_start(config: ConfigDict) -> dict[str, np.ndarray]:
    """What a run begins with."""
    task: Any = build_task(config)
    model = step.initial_model(task, config.seed)
    task.initialize(model)
    return model_to_state_dict(model)


def test_linear_probing_changes_the_last_layer_alone(tmp_path: Path, configure: Any) -> None:
    config = configure("linear_probing_nuscenes")
    result = loop.train(build_task(config), config, tmp_path)
    assert set(result.metrics) == METRICS
    before, after = parameters_at_start(config), arrays_of(tmp_path, 4)
    changed = set()
    for name, array in before.items():
        kind = "statistics" if "running_" in name or "num_batches" in name else "parameters"
        stored = after[f"{kind}/{name}"]
        if stored.tobytes() != array.astype(stored.dtype).tobytes():
            changed.add(name)
    # The smallest network has no bias there.
    assert changed == {"final.kernel"}
    # Nor does the optimiser keep anything of the trunk.
    kept = {name for name in after if name.startswith("optimizer/") and after[name].ndim}
    assert kept
    assert all(name.endswith("final.kernel") for name in kept)


def test_linear_probing_keeps_no_memory_for_the_trunks_gradients(configure: Any) -> None:
    """A step of probing takes hardly more memory than the prediction, one of tuning far more."""

    def bytes_of(recipe: str) -> tuple[int, int]:
        config = configure(recipe)
        task: Any = build_task(config)
        skeleton, parameters, statistics = state.split(step.initial_model(task, 0))
        groups = {name: task.parameter_group(name) for name in parameters}
        trained = {name: group for name, group in groups.items() if group != FROZEN}
        optimizer, rate = build_optimizer(
            config.optimizer.to_dict(), config.schedule.to_dict(), trained, 4, 2, 1
        )
        first = state.create(parameters, statistics, optimizer, trained)
        batch = next(iter(task.train_batches(1)))
        one = parallel.Parallel(jax.devices()[:1])
        run: Any = one.spread(step.training_step(task, skeleton, optimizer, rate))
        compiled = run.lower(one.replicate(first), one.shard(batch)).compile()
        sweep = jax.tree.map(lambda array: array[0], batch)
        inputs = {name: sweep[name] for name in ("features", "plan")}
        predict = program_bytes(state.prediction(skeleton), first, inputs)
        return predict.temporaries, compiled.memory_analysis().temp_size_in_bytes

    predict, probing = bytes_of("linear_probing_nuscenes")
    _, tuning = bytes_of("finetune_nuscenes")
    assert probing < 1.5 * predict
    assert tuning > 3 * probing


def test_semantickitti_is_read_trained_on_and_judged(
    tmp_path: Path, configure: Any, kitti: Path
) -> None:
    config = configure("finetune_semantickitti", root=str(kitti), train_split="00", val_split="val")
    with config.unlocked():
        config.total_steps = 3
    task: Any = build_task(config)
    assert (len(task.train), len(task.validation), len(task.classes)) == (3, 1, 20)
    result = loop.train(task, config, tmp_path)
    assert set(result.metrics) == METRICS - {"miou_seen", "miou_unseen"}
    assert "traffic-sign" in (tmp_path / "tables" / "step_0000003.txt").read_text()
    assert (tmp_path / "pictures" / "step_0000003_08_000000.png").is_file()


def one_hot_rows(task: Any, sample: dict[str, Any]) -> np.ndarray:
    """The output of a network that knows the class of every voxel's first point."""
    rows, first = np.unique(sample["inverse"], return_index=True)
    output = np.zeros((CAPACITY, len(task.classes)), np.float32)
    output[rows, sample["truth"][first]] = 9
    return output


def test_points_are_judged_through_the_inverse_map(tmp_path: Path, configure: Any) -> None:
    task: Any = build_task(configure("annotation_free_san"))
    samples = [task._evaluation_sample(index) for index in range(2)]
    outputs = iter([one_hot_rows(task, sample) for sample in samples])
    metrics = task.evaluate(lambda inputs: next(outputs), tmp_path, 1)
    # Points that share a voxel with another class are all that is left wrong.
    assert metrics["miou"] > 0.9
    assert metrics["miou"] > metrics["teacher_miou_seen"]
    assert task.score(metrics) == metrics["miou"]


def test_without_true_labels_the_agreement_with_the_pseudo_labels_is_the_score(
    tmp_path: Path, configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_dataset(tmp_path / "data", lidarseg=False)
    vocabulary = load_vocabulary()
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    dumps = write_dumps(root / "dumps", keyframes, vocabulary)
    folder = prepare(keyframes, dumps, vocabulary, root / "labels", "native")
    list(make_superpoints(keyframes, dumps, vocabulary, folder))
    config = configure("annotation_free_san", root=str(root), labels=str(root / "labels"))
    task: Any = build_task(config)
    assert "no true labels of 'mini_val', so there is no mIoU" in capsys.readouterr().out
    output = np.random.default_rng(0).standard_normal((CAPACITY, 17)).astype(np.float32)
    metrics = task.evaluate(lambda inputs: output, tmp_path, 1)
    assert set(metrics) == {"teacher_agreement"}
    assert task.score(metrics) == metrics["teacher_agreement"]
    assert task.score({}) is None
    with pytest.raises(ValueError, match="none of 2 sweeps, .* so there is nothing to train"):
        build_task(configure("finetune_nuscenes", root=str(root)))


def test_of_partly_labelled_sweeps_the_labelled_ones_are_learned_from_and_judged(
    tmp_path: Path, configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    unlabelled = ("scene-0061-sample-0", "scene-0103-sample-1", "scene-0103-sample-2")
    root = write_dataset(tmp_path / "data", keyframes=3, unlabelled=unlabelled)
    task: Any = build_task(configure("finetune_nuscenes", root=str(root)))
    out = capsys.readouterr().out
    assert f"{root}: 1 of 3 sweeps of 'mini_train' have no labels: left out.\n" in out
    assert f"{root}: 2 of 3 sweeps of 'mini_val' have no labels: left out.\n" in out
    assert [task.train.token(i) for i in task.source.indices] == [
        "scene-0061-sample-1",
        "scene-0061-sample-2",
    ]
    output = np.random.default_rng(0).standard_normal((CAPACITY, 17)).astype(np.float32)
    metrics = task.evaluate(lambda inputs: output, tmp_path, 1)
    assert set(metrics) == METRICS
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"step_0000001_scene-0103-sample-0.png"}
    # A run is bound to the sweeps that it learns from.
    whole = build_task(configure("finetune_nuscenes", root=str(write_dataset(tmp_path / "whole"))))
    assert whole.identity()["training_sweeps"] != task.identity()["training_sweeps"]


def test_pseudo_labels_of_the_validation_split_are_not_needed(
    tmp_path: Path, dataset: Path, configure: Any
) -> None:
    vocabulary = load_vocabulary()
    keyframes = NuScenesTables(dataset, "v1.0-mini").keyframes("mini_train")
    dumps = DumpFolder(dataset / "dumps", vocabulary)
    folder = prepare(keyframes, dumps, vocabulary, tmp_path / "labels", "npy")
    list(make_superpoints(keyframes, dumps, vocabulary, folder))
    task: Any = build_task(configure("annotation_free_san", labels=str(tmp_path / "labels")))
    assert task.teacher_labels is None
    config = configure("annotation_free_san", labels=str(tmp_path / "labels"), val_split="")
    assert build_task(config).evaluate(lambda inputs: None, tmp_path, 1) == {}


def test_a_run_is_bound_to_its_sweeps_and_labels(tmp_path: Path, configure: Any) -> None:
    before = build_task(configure("annotation_free_san")).identity()
    assert build_task(configure("annotation_free_san")).identity() == before
    assert before["teacher"] == "tiny"
    other = build_task(configure("annotation_free_san", train_split="mini_val")).identity()
    assert {name for name in before if before[name] != other[name]} == {"training_sweeps"}


def test_one_scene_is_a_split(configure: Any) -> None:
    task: Any = build_task(configure("finetune_nuscenes", train_split="scene-0103"))
    assert {keyframe.scene for keyframe in task.train.keyframes} == {"scene-0103"}


def test_groups_of_parameters(configure: Any) -> None:
    tuning, probing = (
        build_task(configure(recipe)) for recipe in ("finetune_nuscenes", "linear_probing_nuscenes")
    )
    assert (tuning.title, probing.title) == ("Fine-tuning", "Linear probing")
    assert [task.parameter_group("final.bias") for task in (tuning, probing)] == ["head"] * 2
    assert tuning.parameter_group("block1.0.conv1.kernel") == "trunk"
    whole = nnx.eval_shape(lambda: MinkUNet(1, 17, variant="res16unet34c", rngs=nnx.Rngs(0)))
    groups = {name: probing.parameter_group(name) for name, _ in named_variables(whole)}
    assert {n for n, group in groups.items() if group == "head"} == {"final.kernel", "final.bias"}
    assert set(groups.values()) == {"head", FROZEN}


def test_what_does_not_fit_is_refused(tmp_path: Path, configure: Any) -> None:
    with pytest.raises(ValueError, match=r"config.data.dataset: expected one of .* 'waymo'"):
        build_task(configure("finetune_nuscenes", dataset="waymo"))
    with pytest.raises(FileNotFoundError, match=r"no pseudo labels here: make them with"):
        build_task(configure("annotation_free_san", labels=str(tmp_path)))
    config = configure("finetune_nuscenes")
    with config.unlocked():
        config.init.checkpoint = str(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"config\.init\.checkpoint = .*nowhere: there is"):
        loop.train(build_task(config), config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with config.unlocked():
        config.model.variant = "minkunet99"
    with pytest.raises(ValueError, match=r"config.model.variant: .* found 'minkunet99'"):
        build_task(config)
