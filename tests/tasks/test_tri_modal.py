"""Tri-modal pre-training on a tiny dataset in nuScenes' format, and what it refuses."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax.checkpoints.folder import read_arrays
from uov_jax.checkpoints.run import RunCheckpoints
from uov_jax.config import load_config
from uov_jax.datasets import projection
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.errors import UserError
from uov_jax.sparse import DeferredPlan
from uov_jax.tasks import recipe_batches
from uov_jax.tasks.build import build_task
from uov_jax.tasks.tri_modal import TriModalPretraining
from uov_jax.training import broken_step
from uov_jax.training.broken_step import BrokenStep
from uov_jax.training.loop import train
from uov_jax.training.parallel import Parallel
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
# Scattered points fill the coarse levels, which hold a small share of this.
CAPACITY = 2560


def tiny_config(root: Path, cache: Path) -> ConfigDict:
    """The published recipe on the tiny dataset with the family's smallest network."""
    sys.path.insert(0, str(ROOT))
    config = load_config(str(ROOT / "configs" / "tmp_san.py"))
    sys.path.pop(0)
    with config.unlocked():
        config.batch_size = 1
        config.total_steps = 4
        config.model.variant = "minkunet14a"
        config.data.update(
            root=str(root),
            version="v1.0-mini",
            train_split="mini_train",
            val_split="mini_val",
            dumps=str(root / "dumps"),
            voxels=(CAPACITY, CAPACITY),
            pairs=(1024, 1024),
            superpoints=(64, 64),
            workers=1,
        )
        config.optimizer.learning_rate = 0.05
        config.run.update(log_every_steps=1, tensorboard=False, compilation_cache=str(cache))
    return config


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_dataset(tmp_path_factory.mktemp("dataset"))
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    write_dumps(root / "dumps", keyframes, load_vocabulary())
    return root


@pytest.fixture
def config(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> ConfigDict:
    cache = tmp_path_factory.getbasetemp() / "compilation_cache"
    return tiny_config(dataset, cache)


class StopAfter(TriModalPretraining):
    """Asks for a stop when the batch of a step is fetched."""

    def train_batches(self, num_devices: int) -> Any:
        batches = super().train_batches(num_devices)
        return _Signalling(batches, 2)


class _Signalling:
    def __init__(self, batches: Any, step: int) -> None:
        self.steps_per_epoch = batches.steps_per_epoch
        self._batches, self._step = batches, step

    def starting_at(self, step: int) -> Any:
        self._iterator = self._batches.starting_at(step)
        return self

    @property
    def wait_seconds(self) -> float:
        return self._iterator.wait_seconds

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        self._step -= 1
        if not self._step:
            os.kill(os.getpid(), signal.SIGTERM)
        return next(self._iterator)


def test_it_trains_scores_draws_and_resumes_to_the_same_bits(
    tmp_path: Path, config: ConfigDict, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(build_task(config), config, tmp_path / "whole")
    assert {
        "validation_loss",
        "validation_image_loss",
        "validation_text_loss",
        "zero_shot_miou",
        "zero_shot_miou_seen",
        "zero_shot_miou_unseen",
        "teacher_miou_seen",
        "teacher_agreement",
    } == set(result.metrics)
    assert all(np.isfinite(value) for value in result.metrics.values())
    assert len(list((tmp_path / "whole" / "pictures").glob("step_0000004_*.png"))) == 2
    table = (tmp_path / "whole" / "tables" / "step_0000004.txt").read_text()
    assert "teacher, seen" in table
    assert table.strip() in capsys.readouterr().out
    stopped = train(StopAfter(config), config, tmp_path / "resumed")
    assert stopped.step == 2
    # Where maps are built changes no bit, and a run may change it.
    config.data.plans = "device"
    batch = next(build_task(config).train_batches(1).starting_at(0))
    assert isinstance(batch["plan"], DeferredPlan)
    train(build_task(config), config, tmp_path / "resumed")
    whole, resumed = (
        read_arrays(tmp_path / name / "checkpoints" / "4") for name in ("whole", "resumed")
    )
    for name, array in whole.items():
        np.testing.assert_array_equal(resumed[name], array, err_msg=name)


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("plans", ["host", "device"])
def test_a_broken_step_is_replayed_with_the_kept_batch_wherever_its_plans_were_built(
    tmp_path: Path,
    config: ConfigDict,
    monkeypatch: pytest.MonkeyPatch,
    plans: str,
    micro_batches: int,
) -> None:
    """By `auto`, which is "device" on a GPU and "host" on a CPU: each is kept, and replayed."""
    config.batch_size = config.accumulate_steps = micro_batches
    config.sweeps_per_shard = 1
    monkeypatch.setattr(recipe_batches, "defers_plans", lambda: plans == "device")
    batch = next(build_task(config).train_batches(1).starting_at(0))
    facts = BrokenStep(step=1, seed=0, devices=1, processes=1, what="loss", value="nan")
    folder = facts.folder(tmp_path)
    checkpoints = RunCheckpoints(tmp_path, config.to_dict(), {})
    checkpoints.save_beside(folder / broken_step.STATE, 0, {"a": np.zeros(1)})
    checkpoints.close()
    broken_step.keep(folder, facts, batch, 0)
    monkeypatch.setattr(recipe_batches, "defers_plans", lambda: plans != "device")
    task = build_task(broken_step.recipe_of(folder))
    found, other = broken_step._batch_of(task, facts, folder, Parallel())
    assert other is None
    assert jax.tree.structure(found) == jax.tree.structure(batch)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(batch), strict=True):
        np.testing.assert_array_equal(a, b)


def test_without_labels_and_words_only_the_loss_is_evaluated(
    tmp_path: Path, dataset: Path, config: ConfigDict
) -> None:
    with config.unlocked():
        config.loss.update(text_weight=0.0, image_weight=1.0)
    task: Any = build_task(config)
    output = np.random.default_rng(0).standard_normal((CAPACITY, 16)).astype(np.float32)
    metrics = task.evaluate(lambda inputs: output, tmp_path, 1)
    assert set(metrics) == {"validation_loss", "validation_image_loss"}
    assert task.score(metrics) == -metrics["validation_loss"]
    assert task.identity()["vocabulary"] == ""
    assert not list(tmp_path.iterdir())


def test_without_true_labels_there_is_no_zero_shot_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_dataset(tmp_path / "data", lidarseg=False)
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    write_dumps(root / "dumps", keyframes, load_vocabulary())
    task: Any = build_task(tiny_config(root, tmp_path / "cache"))
    assert "no true labels of 'mini_val'" in capsys.readouterr().out
    output = np.random.default_rng(0).standard_normal((CAPACITY, 16)).astype(np.float32)
    metrics = task.evaluate(lambda inputs: output, tmp_path, 1)
    assert "zero_shot_miou" not in metrics
    assert 0.0 <= metrics["teacher_agreement"] <= 1.0
    assert not (tmp_path / "tables").exists()


def test_pretraining_needs_no_labels_and_judges_the_labelled_sweeps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unlabelled = ("scene-0061-sample-1", "scene-0103-sample-0")
    root = write_dataset(tmp_path / "data", unlabelled=unlabelled)
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    write_dumps(root / "dumps", keyframes, load_vocabulary())
    task: Any = build_task(tiny_config(root, tmp_path / "cache"))
    assert len(task.source) == 2
    assert (
        f"{root}: 1 of 2 sweeps of 'mini_val' have no labels: left out of the zero-shot score, "
        "though not of the loss.\n" in capsys.readouterr().out
    )
    output = np.random.default_rng(0).standard_normal((CAPACITY, 16)).astype(np.float32)
    metrics = task.evaluate(lambda inputs: output, tmp_path, 1)
    task.validation = task.validation[1:]
    labelled = task.evaluate(lambda inputs: output, tmp_path, 2)
    assert metrics["zero_shot_miou"] == labelled["zero_shot_miou"]
    assert metrics["validation_loss"] != labelled["validation_loss"]


def test_a_perfect_network_scores_one(tmp_path: Path, config: ConfigDict) -> None:
    task: Any = build_task(config)
    task.validation = task.validation[:1]
    sample = task._evaluation_sample(task.validation[0])
    truth = sample["truth"][np.unique(sample["inverse"], return_index=True)[1]]
    word_of_class = [task.vocabulary.words_of_class(c)[0] for c in range(17)]
    output = np.zeros((CAPACITY, 16), np.float32)
    output[: len(truth)] = task.text[[word_of_class[c] for c in truth]]
    metrics = task.evaluate(lambda inputs: output, tmp_path, 1)
    # Points that share a voxel with another class are all that is left wrong.
    assert metrics["zero_shot_miou"] > 0.9
    assert metrics["zero_shot_miou"] > metrics["teacher_miou_seen"]


def test_missing_label_files_are_found_at_the_start(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "data")
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    write_dumps(root / "dumps", keyframes, load_vocabulary())
    label_file = keyframes[-1].lidarseg_path
    assert label_file is not None
    label_file.unlink()
    with pytest.raises(FileNotFoundError, match=r"_lidarseg.bin: 1 of 2 label files are missing"):
        build_task(tiny_config(root, tmp_path / "cache"))


def test_a_run_is_bound_to_its_keyframes_and_words(config: ConfigDict) -> None:
    before = build_task(config).identity()
    assert build_task(config).identity() == before
    with config.unlocked():
        config.data.train_split = "mini_val"
    other = build_task(config).identity()
    assert {name for name in before if before[name] != other[name]} == {"training_keyframes"}
    task: Any = build_task(config)
    task.text = task.text + np.float32(1)
    assert task.identity()["text_embeddings"] != other["text_embeddings"]


@pytest.mark.parametrize("scale", [(1.1, 0.9), (0.0, 1.0), (1.0,), ("a", "b")])
def test_a_scale_that_is_none_is_refused(config: ConfigDict, scale: tuple[Any, ...]) -> None:
    with config.unlocked():
        config.data.scale = scale
    with pytest.raises(ValueError, match="scale of the sweeps: expected None or two numbers"):
        build_task(config)


def test_the_crop_looks_masks_up_as_the_config_says(config: ConfigDict) -> None:
    task: Any = build_task(config)
    assert not task.source.augmentation.crop.at_small_pixel
    with config.unlocked():
        config.data.crop_lookup_at_small_pixel = True
    task = build_task(config)
    assert task.source.augmentation.crop.at_small_pixel


def test_what_does_not_fit_is_refused(config: ConfigDict, tmp_path: Path) -> None:
    with config.unlocked():
        config.model.out_channels = 768
    with pytest.raises(ValueError, match=r"out_channels = 768, but the embeddings in .* have 16"):
        build_task(config)
    with config.unlocked():
        config.model.out_channels = 16
        config.model.variant = "minkunet99"
    with pytest.raises(ValueError, match=r"config.model.variant: .* found 'minkunet99'"):
        build_task(config)
    with config.unlocked():
        config.data.root = str(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no nuScenes dataset .*(\n.*)*simulate.py"):
        build_task(config)
    with config.unlocked():
        config.task = "tpm"
    with pytest.raises(
        ValueError,
        match="config.task: expected one of .*, found 'tpm'",
    ):
        build_task(config)


def test_a_sweep_that_is_too_large_ends_the_run_and_a_larger_size_goes_on(
    tmp_path: Path, dataset: Path
) -> None:
    """What was trained before is saved; the field that the message names may be changed."""
    root = write_dataset(tmp_path / "data")
    config = tiny_config(root, tmp_path / "cache")
    with config.unlocked():
        config.data.val_split, config.data.dumps = "", str(dataset / "dumps")
        config.data.pairs = (8192, 8192)
    # The sweep of the second step, on its own in its batch.
    second = next(iter(build_task(config).train_batches(1).steps.indices(1).ravel()))
    sweep = NuScenesTables(root, "v1.0-mini").keyframes("mini_train")[int(second)].lidar_path
    points = np.tile(np.fromfile(sweep, np.float32).reshape(-1, 5), (5, 1))
    points[:, :3] += np.random.default_rng(0).uniform(-3, 3, (len(points), 3))
    points.astype(np.float32).tofile(sweep)
    with pytest.raises(UserError, match=r"raise the second number of config\.data\.voxels, which"):
        train(build_task(config), config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["1"]
    with config.unlocked():
        config.data.voxels = (CAPACITY, 10 * CAPACITY)
    resumed = train(build_task(config), config, tmp_path / "run")
    assert resumed.finished
    train(build_task(config), config, tmp_path / "whole")
    found, expected = (read_arrays(tmp_path / d / "checkpoints" / "4") for d in ("run", "whole"))
    for name, array in expected.items():
        # Other padding in the first step: sums of the same numbers in another order.
        np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-5, err_msg=name)


def test_validation_reads_and_projects_every_keyframe_once(
    tmp_path: Path, config: ConfigDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    projected: list[str] = []
    task = build_task(config)
    assert isinstance(task, TriModalPretraining)
    original = task.dumps.read
    monkeypatch.setattr(task.dumps, "read", lambda k: (read.append(k.token), original(k))[1])
    # Wherever the projection is called from.
    pair = projection.pair_points
    for module in [m for n, m in sys.modules.items() if n.startswith("uov_jax.")]:
        if getattr(module, "pair_points", None) is pair:
            monkeypatch.setattr(
                module,
                "pair_points",
                lambda points, k: (projected.append(k.token), pair(points, k))[1],
            )
    outputs = np.zeros((CAPACITY, task.dumps.embedding_size), np.float32)
    task.evaluate(lambda inputs: outputs, tmp_path, 1)
    tokens = [keyframe.token for keyframe in task.validation]
    assert sorted(read) == sorted(projected) == sorted(tokens)
