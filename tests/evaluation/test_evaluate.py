"""Evaluation of networks side by side, on a tiny dataset in nuScenes' format."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax import afi
from uov_jax.checkpoints.agreement import CheckpointMismatchError
from uov_jax.checkpoints.files import StoredNetwork, save_state_dict_file
from uov_jax.checkpoints.load import NetworkMismatchError, load_network
from uov_jax.checkpoints.state_dict import model_to_state_dict, named_variables
from uov_jax.checkpoints.transfer import import_checkpoint
from uov_jax.config import load_config
from uov_jax.datasets.nuscenes import NuScenesLabelFormat, read_lidarseg
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.errors import InputError, NotFiniteError
from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.evaluate import (
    EvaluationResult,
    EvaluationSettings,
    column_names,
    evaluate,
)
from uov_jax.evaluation.progress import EvaluationProgressError
from uov_jax.models import build_model
from uov_jax.pictures.judged import JudgedPictures
from uov_jax.tasks.build import build_judged_split
from uov_jax.tasks.tri_modal_evaluation import ZeroShotSplit
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
CAPACITY = 2560
VOXELS = {"voxel_size": 0.1, "cylindrical_coordinates": True}
QUIET = EvaluationSettings(pictures=0, workers=1)
SCENES = ("scene-0061", "scene-0103")  # of mini_train, of mini_val


def tiny_config(root: Path, cache: Path) -> ConfigDict:
    sys.path.insert(0, str(ROOT))
    config = load_config(str(ROOT / "configs" / "tmp_san.py"))
    sys.path.pop(0)
    with config.unlocked():
        config.model.variant = "minkunet14a"
        config.data.update(
            root=str(root),
            version="v1.0-mini",
            val_split="mini_val",
            dumps=str(root / "dumps"),
            voxels=(CAPACITY, CAPACITY),
            workers=1,
        )
        config.run.compilation_cache = str(cache)
    return config


def write_all(root: Path, keyframes: int = 3, **settings: Any) -> Path:
    """A dataset with dumps of all its keyframes."""
    write_dataset(root, scenes=SCENES, keyframes=keyframes, **settings)
    tables = NuScenesTables(root, "v1.0-mini")
    write_dumps(root / "dumps", tables.keyframes(SCENES), load_vocabulary())
    return root


class Pointwise(nnx.Module):
    """A network without neighbours, which compiles at once."""

    def __init__(self, rngs: nnx.Rngs, out_channels: int = 16) -> None:
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (1, out_channels)))

    def __call__(self, features: jax.Array, plan: Any) -> jax.Array:
        return jnp.sin(features * self.kernel[...])


class PointwiseEvaluation(ZeroShotSplit):
    """The evaluation with that network."""

    def build_model(self, rngs: nnx.Rngs, axis_name: str | None) -> nnx.Module:
        return Pointwise(rngs, self.dumps.embedding_size)


def weights(seed: int) -> dict[str, np.ndarray]:
    """A network of the family; its shapes are known without drawing first weights."""
    model = nnx.eval_shape(lambda: build_model("minkunet14a", 1, 16, rngs=nnx.Rngs(0)))
    generator = np.random.default_rng(seed)
    found = {}
    for name, variable in named_variables(model):
        value = variable.get_value()
        found[name] = (0.1 * generator.standard_normal(value.shape)).astype(np.float32)
        if name.endswith(("running_var", "bn.weight")):
            found[name] = np.ones(value.shape, np.float32)
        if name.endswith("tracked"):
            found[name] = np.zeros(value.shape, np.int64)
    return found


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two pointwise networks."""
    folder = tmp_path_factory.mktemp("networks")
    found = {}
    for seed, name in enumerate(("first", "second")):
        tensors = model_to_state_dict(Pointwise(nnx.Rngs(seed)))
        found[name] = save_state_dict_file(folder / f"{name}.npz", tensors, VOXELS)
    return found


@pytest.fixture
def config(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> ConfigDict:
    return tiny_config(dataset, tmp_path_factory.getbasetemp() / "compilation_cache")


def judge(
    config: ConfigDict, networks: dict[str, Path], directory: Path, **settings: Any
) -> EvaluationResult:
    chosen = dataclasses.replace(QUIET, **settings)
    evaluation = PointwiseEvaluation(config, config.data.val_split)
    return evaluate(evaluation, networks, directory, chosen, config, JudgedPictures())


def test_scores_are_those_of_the_written_labels(
    tmp_path: Path, config: ConfigDict, capsys: Any
) -> None:
    """With a network of the family, from a run's directory and from a file."""
    import_checkpoint(StoredNetwork(Path("first.pt"), weights(0), VOXELS), tmp_path / "first")
    second = save_state_dict_file(tmp_path / "second.npz", weights(1), VOXELS)
    networks = {"first": tmp_path / "first", "second": second}
    settings = dataclasses.replace(QUIET, predictions=True)
    result = evaluate(
        build_judged_split(config), networks, tmp_path, settings, config, JudgedPictures()
    )
    assert result.finished
    assert list(result.scores.columns) == ["first", "second", "teacher, seen"]
    keyframes = NuScenesTables(Path(config.data.root), "v1.0-mini").keyframes("mini_val")
    vocabulary = load_vocabulary()
    for name in networks:
        matrix = ConfusionMatrix(17, vocabulary.eval_classes)
        near = ConfusionMatrix(17, vocabulary.eval_classes)
        for keyframe in keyframes:
            points = keyframe.points()
            assert keyframe.lidarseg_path is not None
            raw = read_lidarseg(keyframe.lidarseg_path, len(points))
            truth = vocabulary.raw_to_eval[raw]
            file = tmp_path / "predictions" / name / "lidarseg" / "mini_val"
            found = np.fromfile(file / f"{keyframe.lidar_token}_lidarseg.bin", np.uint8)
            assert found.min() >= 1
            matrix.add(truth, found)
            close = np.linalg.norm(points[:, :2], axis=1) < 10
            near.add(truth[close], found[close])
        np.testing.assert_array_equal(result.scores.columns[name].everywhere.counts, matrix.counts)
        np.testing.assert_array_equal(
            result.scores.columns[name].matrices["0-10 m"].counts, near.counts
        )
        assert (tmp_path / "confusion" / f"{name}.csv").read_text() == matrix.to_csv()
    first, second = (result.scores.columns[name].everywhere.counts for name in networks)
    assert not np.array_equal(first, second)
    out = capsys.readouterr().out
    assert (tmp_path / "scores.txt").read_text().strip() in out
    assert "s a sweep over 2 sweeps" in out
    assert "the 6,019 sweeps of nuScenes lidarseg's validation split take" in out


def test_pictures_show_networks_over_images_and_from_above(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path], capsys: Any
) -> None:
    judge(config, networks, tmp_path, keyframes=1)
    judge(config, networks, tmp_path, pictures=1, keyframes=1)
    assert "Of 1 sweeps that were judged before there are no pictures" in capsys.readouterr().out
    assert not (tmp_path / "pictures").exists()
    (tmp_path / "progress.npz").unlink()
    judge(config, networks, tmp_path, pictures=1, keyframes=1)
    judge(config, networks, tmp_path, pictures=1, keyframes=1)
    assert "there are no pictures" not in capsys.readouterr().out
    token = "scene-0103-sample-0"
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {
        f"{token}_{name}{ending}" for name in networks for ending in (".png", "_cameras.jpg")
    }
    with Image.open(tmp_path / "pictures" / f"{token}_first_cameras.jpg") as image:
        assert image.width > 6 * 480


def test_a_cut_off_image_costs_its_picture_alone(
    tmp_path: Path, networks: dict[str, Path], capsys: Any
) -> None:
    root = write_all(tmp_path / "data")
    images = sorted((root / "samples" / "CAM_FRONT").glob("scene-0103*"))
    images[0].write_bytes(images[0].read_bytes()[:300])
    config = tiny_config(root, tmp_path / "cache")
    whole = judge(config, networks, tmp_path / "without", pictures=0)
    result = judge(config, networks, tmp_path / "out", pictures=3)
    assert result.finished
    assert (tmp_path / "out" / "scores.txt").read_text() == (
        tmp_path / "without" / "scores.txt"
    ).read_text()
    assert whole.written == tuple(
        tmp_path / "without" / path.relative_to(tmp_path / "out") for path in result.written
    )
    out = capsys.readouterr().out
    assert out.count("is left out") == 1
    assert f"is left out: {images[0]}: corrupt or truncated image" in out
    assert len(list((tmp_path / "out" / "pictures").glob("*_cameras.jpg"))) == 2 * len(networks)


def test_outputs_that_are_not_finite_are_an_error_that_names_network_and_sweep(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path]
) -> None:
    """The weights are finite: intensity times an infinite product of theirs is not."""
    tensors = model_to_state_dict(Pointwise(nnx.Rngs(0)))
    kernel = np.full_like(tensors["kernel"], 3e38)
    broken = save_state_dict_file(tmp_path / "broken.npz", {"kernel": kernel}, VOXELS)
    both = {"first": networks["first"], "broken": broken}
    with pytest.raises(NotFiniteError, match=r"broken: outputs of [\d,]+ .*scene-0103-sample-0"):
        judge(config, both, tmp_path / "out")
    assert not (tmp_path / "out" / "scores.txt").exists()


def test_an_evaluation_that_was_stopped_goes_on_to_the_same_counts(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path], capsys: Any
) -> None:
    whole = judge(config, networks, tmp_path / "whole")

    class StopsAtTheSecond(PointwiseEvaluation):
        def sample(self, index: int) -> dict[str, Any]:
            if index == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().sample(index)

    directory = tmp_path / "stopped"
    settings = dataclasses.replace(QUIET, workers=0)
    evaluation = StopsAtTheSecond(config, "mini_val")
    stopped = evaluate(evaluation, networks, directory, settings, config, JudgedPictures())
    assert (stopped.sweeps, stopped.signal) == (2, signal.SIGTERM)
    assert "Type the same command again" in capsys.readouterr().out
    resumed = judge(config, networks, directory)
    assert resumed.finished
    assert "Going on after 2 sweeps" in capsys.readouterr().out
    for name, scores in whole.scores.columns.items():
        np.testing.assert_array_equal(resumed.scores.columns[name].counts(), scores.counts())
    again = judge(config, networks, directory)
    assert again.finished
    assert "judged already" in capsys.readouterr().out
    np.testing.assert_array_equal(
        again.scores.columns["first"].counts(), whole.scores.columns["first"].counts()
    )


def test_the_same_folders_typed_in_another_way_are_the_same(
    tmp_path: Path,
    config: ConfigDict,
    networks: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    judge(config, networks, tmp_path / "out")
    root = Path(config.data.root)
    monkeypatch.chdir(root.parent)
    with config.unlocked():
        config.data.root = root.name
        config.data.dumps = f"./{root.name}/dumps"
    relative = {name: Path(os.path.relpath(path)) for name, path in networks.items()}
    capsys.readouterr()
    assert judge(config, relative, tmp_path / "out").finished
    assert "judged already" in capsys.readouterr().out


def test_another_evaluation_is_not_gone_on_with(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path]
) -> None:
    judge(config, networks, tmp_path, keyframes=1)
    with pytest.raises(EvaluationProgressError, match=r"with keyframes = 1 .*, now it is None"):
        judge(config, networks, tmp_path)
    with pytest.raises(EvaluationProgressError, match=r"with checkpoint second = .*Name another"):
        judge(config, {"first": networks["first"]}, tmp_path, keyframes=1)
    (tmp_path / "progress.npz").write_bytes(b"PK nonsense")
    with pytest.raises(EvaluationProgressError, match=r"progress.npz: not readable .* delete it"):
        judge(config, networks, tmp_path, keyframes=1)


def test_class_0_is_forbidden_unless_the_recipe_lets_it_through(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path]
) -> None:
    one = {"first": networks["first"]}
    forbidden = judge(config, one, tmp_path / "forbidden").scores.columns["first"].everywhere
    assert forbidden.counts[:, 0].sum() == 0
    with config.unlocked():
        config.run.predict_ignored = True
    allowed = judge(config, one, tmp_path / "allowed").scores.columns["first"].everywhere
    assert allowed.counts[:, 0].sum() > 0
    assert allowed.points == forbidden.points
    # What became class 0 is a miss, everything else stays.
    assert allowed.accuracy() <= forbidden.accuracy()
    assert (allowed.counts[:, 1:] <= forbidden.counts[:, 1:]).all()
    with pytest.raises(ValueError, match=r"_lidarseg.bin: class 0 of point .* takes 1 to 16 alone"):
        judge(config, one, tmp_path / "submission", submission=True)


def test_a_submission_is_of_the_whole_split(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path]
) -> None:
    with pytest.raises(ValueError, match="needs all 3 sweeps of the split, not 2"):
        judge(config, networks, tmp_path, submission=True, keyframes=2)
    with pytest.raises(ValueError, match="keyframes: at least 1, found 0"):
        judge(config, networks, tmp_path, keyframes=0)
    result = judge(config, networks, tmp_path, submission=True)
    archives = [path for path in result.written if path.suffix == ".zip"]
    assert archives == [tmp_path / "predictions" / f"{name}.zip" for name in networks]
    assert all(path.is_file() for path in archives)


def test_without_labels_there_are_predictions_but_no_score(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path], capsys: Any
) -> None:
    root = write_all(tmp_path / "data", lidarseg=False)
    for file in (root / "dumps").glob("scene-0103*"):
        file.unlink()
    with config.unlocked():
        config.data.update(root=str(root), dumps=str(root / "dumps"))
    result = judge(config, networks, tmp_path / "out", predictions=True)
    assert result.finished
    out = capsys.readouterr().out
    assert "no true labels, so there is no score" in out
    assert "The teacher is not judged beside the network" in out
    assert len(list((tmp_path / "out").rglob("*_lidarseg.bin"))) == 2 * 3
    assert f"Wrote\n  {tmp_path / 'out' / 'predictions'}\n" in out
    assert not (tmp_path / "out" / "scores.txt").exists()


def test_memory_does_not_grow_with_the_number_of_sweeps(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path]
) -> None:
    root = write_dataset(tmp_path / "data", scenes=SCENES, keyframes=40)
    with config.unlocked():
        config.data.root = str(root)
    held = []

    class Watched(PointwiseEvaluation):
        def sample(self, index: int) -> dict[str, Any]:
            if index in (10, 39):
                gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
            return super().sample(index)

    evaluation = Watched(config, "mini_val")
    settings = dataclasses.replace(QUIET, workers=0, predictions=True)
    tracemalloc.start()
    evaluate(evaluation, networks, tmp_path / "out", settings, config, JudgedPictures())
    tracemalloc.stop()
    # The first sweep is looked at once before, for the labels that there are.
    assert len(held) == 41
    sample = PointwiseEvaluation.sample(evaluation, 0)
    arrays = jax.tree.leaves(sample["inputs"]) + [sample["points"]]
    # The first sweeps also fill caches. After that not even a fifth of one sweep may be kept.
    assert held[-1] < held[10] + sum(array.nbytes for array in arrays) / 5


def test_labels_that_come_in_between_are_refused(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(config, networks, tmp_path / "out")
    for labelled, message in (
        ([], r"labels = \['truth', .* is there, now it is \['teacher_label'\]"),
        (
            [0, 2],
            r"labels = \['truth', .* is there, now it is \['truth of 2 sweeps', 'teacher_label'",
        ),
    ):
        monkeypatch.setattr(
            PointwiseEvaluation, "has_labels", lambda self, index, those=labelled: index in those
        )
        with pytest.raises(EvaluationProgressError, match=message):
            judge(config, networks, tmp_path / "out")


def test_of_partly_labelled_sweeps_the_labelled_ones_are_judged(
    tmp_path: Path, networks: dict[str, Path], capsys: Any
) -> None:
    """Predictions are written for all of them, with the same scores."""
    unlabelled = ("scene-0103-sample-0", "scene-0103-sample-2")
    root = write_all(tmp_path / "data", keyframes=4, unlabelled=unlabelled)
    config = tiny_config(root, tmp_path / "cache")
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes, vocabulary = tables.keyframes("mini_val"), load_vocabulary()
    points = 0
    for keyframe in keyframes:
        assert (keyframe.lidarseg_path is None) == (keyframe.token in unlabelled)
        if keyframe.lidarseg_path is not None:
            points += int(
                (vocabulary.raw_to_eval[read_lidarseg(keyframe.lidarseg_path, 400)] > 0).sum()
            )
    judged = judge(config, networks, tmp_path / "judged", pictures=9)
    assert (judged.sweeps, judged.scores.labelled_sweeps) == (2, 2)
    out = capsys.readouterr().out
    assert "2 network(s) on 2 of 4 sweeps" in out
    assert "2 of 4 sweeps have no true labels: left out.\n" in out
    assert judged.scores.columns["first"].everywhere.points == points
    drawn = {path.name for path in (tmp_path / "judged" / "pictures").glob("*_first.png")}
    assert drawn == {f"scene-0103-sample-{i}_first.png" for i in (1, 3)}
    predicted = judge(config, networks, tmp_path / "predicted", predictions=True, pictures=4)
    assert (predicted.sweeps, predicted.scores.labelled_sweeps) == (4, 2)
    out = capsys.readouterr().out
    assert "2 of 4 sweeps have no true labels: their labels are predicted, the scores are of" in out
    assert len(list((tmp_path / "predicted").rglob("first/**/*_lidarseg.bin"))) == 4
    for name, scores in judged.scores.columns.items():
        np.testing.assert_array_equal(predicted.scores.columns[name].counts(), scores.counts())


def test_progress_that_names_no_rig_was_made_with_nuscenes(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path], capsys: Any
) -> None:
    judge(config, networks, tmp_path)
    file = tmp_path / "progress.npz"
    with np.load(file) as archive:
        content = dict(archive)
    identity = json.loads(str(content["identity"]))
    for name in ("config.data.lidar", "config.data.cameras"):
        del identity[name]
    np.savez(file, **content | {"identity": np.array(json.dumps(identity))})
    capsys.readouterr()
    judge(config, networks, tmp_path)
    assert "judged already" in capsys.readouterr().out
    with config.unlocked():
        config.data.cameras = ("CAM_FRONT",)
    with pytest.raises(
        EvaluationProgressError,
        match=r"config.data.cameras = \['CAM_FRONT', 'CAM_FRONT_RIGHT'.*now it is \['CAM_FRONT'\]",
    ):
        judge(config, networks, tmp_path)


def test_columns_that_would_share_files_are_refused(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path]
) -> None:
    same = {"a b": networks["first"], "a_b": networks["second"]}
    with pytest.raises(ValueError, match="would share files: rename"):
        judge(config, same, tmp_path / "out")


def test_checkpoints_of_something_else_are_refused(tmp_path: Path, config: ConfigDict) -> None:
    def file(name: str, tensors: dict[str, np.ndarray], voxels: Any = VOXELS) -> dict[str, Path]:
        return {name: save_state_dict_file(tmp_path / f"{name}.npz", tensors, voxels)}

    good = model_to_state_dict(Pointwise(nnx.Rngs(0)))
    with pytest.raises(NetworkMismatchError, match=r"other.npz: not one of 1 tensors matches"):
        judge(config, file("other", {"a": np.zeros(3)}), tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent"):
        judge(config, {"absent": tmp_path / "absent"}, tmp_path / "out")
    cubes = VOXELS | {"cylindrical_coordinates": False}
    with pytest.raises(CheckpointMismatchError, match=r"cubes.npz: trained with cylindrical_coord"):
        judge(config, file("cubes", good, cubes), tmp_path / "out")
    real = build_judged_split(config)
    wide = file("wide", weights(0) | {"final.kernel": np.zeros((96, 32), np.float32)})
    with pytest.raises(NetworkMismatchError, match=r"wide.npz: 1 tensors .* first is final.kernel"):
        load_network(real.build_model, wide["wide"], real.voxels)
    part = {name: value for name, value in weights(0).items() if not name.startswith("block8.")}
    with pytest.raises(NetworkMismatchError, match=r"part.npz: \d+ tensors .* block8.*: missing"):
        load_network(real.build_model, file("part", part)["part"], real.voxels)
    assert not (tmp_path / "out").exists()


def test_files_without_batch_counters_are_complete(
    tmp_path: Path, config: ConfigDict, capsys: Any
) -> None:
    old = {f"module.{k}": v for k, v in weights(1).items() if not k.endswith("tracked")}
    file = save_state_dict_file(tmp_path / "old.npz", old)
    split = build_judged_split(config)
    loaded = load_network(split.build_model, file, split.voxels)
    assert loaded.weights.unstated == ("voxel_size", "cylindrical_coordinates")
    kernel = loaded.state.parameters["final.kernel"]
    np.testing.assert_array_equal(kernel, old["module.final.kernel"])
    assert int(loaded.state.statistics["bn0.bn.num_batches_tracked"]) == 0
    judge_all = evaluate(split, {"old": file}, tmp_path / "out", QUIET, config, JudgedPictures())
    assert judge_all.finished
    assert "old.npz does not state voxel_size: taken as the recipe's" in capsys.readouterr().out


def test_afi_is_one_more_column(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path]
) -> None:
    one = {"first": networks["first"]}
    result = judge(config, one, tmp_path, afi=(None, 16_384), keyframes=1, predictions=True)
    assert list(result.scores.columns) == [
        "first",
        "first + AFI",
        "first + AFI 16384",
        "teacher, seen",
    ]
    plain, smooth, finer = (
        np.fromfile(next((tmp_path / "predictions" / name).rglob("*.bin")), np.uint8)
        for name in ("first", "first_AFI", "first_AFI_16384")
    )
    points = build_judged_split(config).sample(0)["points"]
    expected = afi.smooth_labels(points[:, :3], plain, ground=afi.NUSCENES_GROUND)
    np.testing.assert_array_equal(smooth, expected)
    denser = afi.FlatInteraction(points=16_384)
    expected = afi.smooth_labels(points[:, :3], plain, denser, ground=afi.NUSCENES_GROUND)
    np.testing.assert_array_equal(finer, expected)
    assert (finer != smooth).any()


def test_afi_is_weighed_beside_the_published_method(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path]
) -> None:
    one = {"first": networks["first"]}
    result = judge(config, one, tmp_path, afi=(16_384,), afi_weighed=True, keyframes=1,
                   predictions=True)  # fmt: skip
    assert list(result.scores.columns)[1:3] == ["first + AFI 16384", "first + AFI 16384 weighed"]
    published = judge(config, one, tmp_path / "without", afi=(16_384,), keyframes=1)
    for name in ("first", "first + AFI 16384"):
        np.testing.assert_array_equal(
            result.scores.columns[name].everywhere.counts,
            published.scores.columns[name].everywhere.counts,
        )
    split = PointwiseEvaluation(config, "mini_val")
    sample = split.sample(0)
    network = load_network(split.build_model, networks["first"], split.voxels)
    output = network.predict()(network.state, sample["inputs"])
    rows = np.asarray(split.probabilities(output))[sample["inverse"]]
    plain, weighed = (
        np.fromfile(next((tmp_path / "predictions" / name).rglob("*.bin")), np.uint8)
        for name in ("first", "first_AFI_16384_weighed")
    )
    expected = afi.smooth_labels(
        sample["points"][:, :3],
        plain,
        afi.FlatInteraction(points=16_384),
        ground=afi.NUSCENES_GROUND,
        probabilities=rows,
    )
    # Compiled alone, an output differs in its last bits.
    assert np.mean(weighed == expected) > 0.99
    with pytest.raises(EvaluationProgressError, match="afi_weighed"):
        judge(config, one, tmp_path, afi=(16_384,), keyframes=1, predictions=True)
    with pytest.raises(InputError, match="give --afi or --afi-points"):
        judge(config, one, tmp_path / "no", afi_weighed=True)


@pytest.fixture
def own_words(tmp_path: Path) -> Path:
    """Twenty classes with raw labels beyond nuScenes' own; of ground nothing is said."""
    groups = [
        {"raw_index": 2 * number + 1, "eval_class": number, "words": [f"word {number}"]}
        for number in range(1, 20)
    ]
    content = {"eval_classes": ["ignore", *(f"class {n}" for n in range(1, 20))], "groups": groups}
    (tmp_path / "own.json").write_text(json.dumps(content))
    return tmp_path / "own.json"


def test_a_vocabulary_of_ones_own_has_its_own_ground_and_number_of_classes(
    tmp_path: Path, config: ConfigDict, networks: dict[str, Path], own_words: Path
) -> None:
    vocabulary = load_vocabulary(own_words)
    root = write_dataset(tmp_path / "data", scenes=SCENES, keyframes=1)
    for path in (root / "lidarseg").iterdir():
        (np.fromfile(path, np.uint8) + 8).tofile(path)  # up to 39
    keyframes = NuScenesTables(root, "v1.0-mini").keyframes(SCENES)
    write_dumps(root / "dumps", keyframes, vocabulary)
    with config.unlocked():
        config.data.update(root=str(root), dumps=str(root / "dumps"), vocabulary=str(own_words))
    one = {"first": networks["first"]}
    result = judge(config, one, tmp_path / "out", afi=(None,), predictions=True)
    assert result.finished
    plain, smooth = (
        np.fromfile(next((tmp_path / "out" / "predictions" / name).rglob("*.bin")), np.uint8)
        for name in ("first", "first_AFI")
    )
    assert plain.max() > 16
    points = build_judged_split(config).sample(0)["points"]
    # No class is ground by its number alone.
    expected = afi.smooth_labels(points[:, :3], plain, num_classes=20, ground=None)
    np.testing.assert_array_equal(smooth, expected)
    with pytest.raises(
        InputError, match="a submission has the 16 classes .*these networks give 19"
    ):
        judge(config, one, tmp_path / "submission", submission=True)
    content = json.loads(own_words.read_text()) | {"ground": ["class 3", "class 19"]}
    own_words.write_text(json.dumps(content))
    found = build_judged_split(config).smooth(points, plain, None)
    ring = dataclasses.replace(afi.NUSCENES_GROUND, classes=(3, 19))
    expected = afi.smooth_labels(points[:, :3], plain, num_classes=20, ground=ring)
    np.testing.assert_array_equal(found, expected)


def test_a_vocabulary_counts_by_its_content(
    tmp_path: Path,
    config: ConfigDict,
    networks: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    shipped = resources.files("uov_jax.vocabulary").joinpath("nuscenes.json").read_text("utf-8")
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(shipped, "utf-8")
        with config.unlocked():
            config.data.vocabulary = str(tmp_path / name)
        assert judge(config, networks, tmp_path / "out").finished
    assert "judged already" in capsys.readouterr().out
    content = json.loads(shipped)
    (tmp_path / "b.json").write_text(json.dumps(content | {"ground": content["ground"][:1]}))
    with pytest.raises(
        EvaluationProgressError, match="classes of the ground = driveable_surface, "
    ):
        judge(config, networks, tmp_path / "out")


def test_a_submission_has_the_benchmarks_classes(
    tmp_path: Path,
    config: ConfigDict,
    networks: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As many, but two of them the other way round.
    ignored, first, second, *others = load_vocabulary("nuscenes").eval_classes
    swapped = property(lambda _: (ignored, second, first, *others))
    monkeypatch.setattr(NuScenesLabelFormat, "official_classes", swapped)
    with pytest.raises(
        InputError, match="the 16 classes of .*, bicycle, barrier, .* 16, barrier, "
    ):
        judge(config, networks, tmp_path / "out", submission=True)


def test_names_of_columns_tell_checkpoints_apart(tmp_path: Path) -> None:
    assert column_names(["runs/a", "b.pt"]) == {"a": "runs/a", "b.pt": "b.pt"}
    paths = ["runs/a/checkpoints/10", "runs/b/checkpoints/10"]
    assert list(column_names(paths)) == ["a/checkpoints/10", "b/checkpoints/10"]
    with pytest.raises(ValueError, match="a checkpoint is given twice: runs/a, runs/a/"):
        column_names(["runs/a", "runs/a/"])


def test_what_cannot_be_evaluated_is_refused(config: ConfigDict) -> None:
    with config.unlocked():
        config.data.val_split = ""
    with pytest.raises(ValueError, match="no split to evaluate on: give one with --split"):
        build_judged_split(config)
    with config.unlocked():
        config.task = "tpm"
    with pytest.raises(
        ValueError,
        match="expected one of .*'esg', 'ess', 'finetune', 'tri_modal'.*, found 'tpm'",
    ):
        build_judged_split(config, "mini_val")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/tmp_san.py"], "give a checkpoint: --checkpoint runs/tmp_san"),
        (["--checkpoint=runs/a"], "give a recipe: --config configs/tmp_san.py"),
        (["--config=configs/tmp_san.py", "--checkpoint=a", "val"], "not understood: val"),
        (["--config=configs/tmp_san.py", "--config.run.predict=1"], "predict_ignored"),
        (
            ["--config=configs/tmp_san.py", "--checkpoint=a", "--config.data.root=nowhere"],
            "nowhere: no nuScenes dataset of version v1.0-trainval",
        ),
    ],
)
def test_wrong_arguments_of_the_script_get_one_message(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "evaluate.py"), *arguments],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
