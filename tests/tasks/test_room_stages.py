"""Both stages of rooms through the training loop, on tiny rooms."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from tests.tiny_rooms import BED, FLOOR, write_features, write_rooms
from uov_jax.checkpoints.folder import CheckpointError, read_arrays
from uov_jax.checkpoints.run import find_checkpoint
from uov_jax.config import load_config
from uov_jax.datasets.rooms import RoomStore
from uov_jax.errors import InputError, MissingFileError
from uov_jax.evaluation.confusion import ConfusionMatrix
from uov_jax.evaluation.scores import TEACHER
from uov_jax.files import write_text
from uov_jax.fusion.features import OPENSCENE, FeatureFolder, FeatureWriter
from uov_jax.fusion.make_pseudo_labels import LabelSettings, RoomLabeller
from uov_jax.fusion.pseudo_labels import (
    PseudoLabelError,
    PseudoLabelManifest,
    PseudoLabelWriter,
    RoomLabelFacts,
)
from uov_jax.input.whole_room import CHUNK
from uov_jax.tasks.build import build_task
from uov_jax.tasks.zero_shot import nearest_words
from uov_jax.training.loop import train
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
ROOMS = {"train": ("scene0000_00", "scene0001_00", "scene0003_00"), "val": ("scene0002_00",)}
SIZE = 16


def write_labels(root: Path, folder: Path) -> None:
    """Pseudo labels by the nearest word, of every room of the store in `folder`."""
    vocabulary = load_vocabulary("scannet")
    store, features = RoomStore(folder / "store"), FeatureFolder(folder / "features", vocabulary)
    writer = PseudoLabelWriter(
        root, PseudoLabelManifest.of_features(features, vocabulary, scene_filter=False)
    )
    classify = nearest_words(features.text_embeddings, vocabulary)
    number = len(vocabulary.eval_classes)
    for name in store.names():
        fused = features.room(name, store.facts(name).points)
        labels = np.zeros(len(fused.views), np.uint8)
        labels[fused.visible] = classify(fused.features)
        facts = RoomLabelFacts(len(labels), (1,), np.zeros((number, number), np.int64))
        writer.write(name, labels, np.ones(len(labels), np.float16), facts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, features and pseudo labels."""
    folder = tmp_path_factory.mktemp("rooms")
    vocabulary = load_vocabulary("scannet")
    store = write_rooms(folder / "store", vocabulary, splits=ROOMS)
    write_features(folder / "features", store, vocabulary, embedding_size=SIZE, length=3.0)
    write_labels(folder / "labels", folder)
    return folder


@pytest.fixture
def configure(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ConfigDict]:
    """A function that makes a recipe fit the tiny rooms."""

    def tiny(recipe: str, **data: Any) -> ConfigDict:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(ROOT))
            config = load_config(str(ROOT / "configs" / f"{recipe}.py"))
        with config.unlocked():
            config.batch_size, config.total_steps = 1, 4
            config.data.update(
                {"root": str(folder / "store"), "features": str(folder / "features"), "workers": 1}
                | (
                    {"labels": str(folder / "labels"), "points": 200}
                    if config.task == "ess"
                    else {"voxel_size": (0.2,) * 3, "voxels": (640, 640), "loop": 2}
                )
                | data
            )
            if config.task == "esg":
                config.model.variant = "minkunet14a"
            cache = tmp_path_factory.getbasetemp() / "compilation_cache"
            config.run.update(
                log_every_steps=1,
                evaluate_every_epochs=1.0,
                tensorboard=False,
                compilation_cache=str(cache),
            )
        return config

    return tiny


def test_ess_learns_the_words_and_keeps_the_best(
    configure: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure("ess_scannet")
    with config.unlocked():
        config.total_steps = 60
        config.run.evaluate_every_epochs = 10.0
    result = train(build_task(config), config, tmp_path / "run", jax.devices()[:1])
    said = capsys.readouterr().out
    assert "Embeddings semantic specialisation: 144 parameters" in said
    assert "1 rooms a step" in said
    assert result.finished
    assert result.metrics["miou_seen"] > 0.9
    assert result.metrics["teacher_miou_seen"] > 0.9
    header, first, *_, last = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("loss")
    assert float(last.split(",")[column]) < 0.7 * float(first.split(",")[column])
    assert "rooms_per_second" in header


def test_esg_trains_and_is_judged_on_all_points(configure: Any, tmp_path: Path) -> None:
    config = configure("esg_scannet")
    with config.unlocked():
        config.total_steps = 30
        config.run.evaluate_every_epochs = 1000.0
    task = build_task(config)
    result = train(task, config, tmp_path / "run", jax.devices()[:1])
    metrics = result.metrics
    assert {"miou", "miou_seen", "miou_few_views", "teacher_miou_seen", "teacher_agreement"} <= set(
        metrics
    )
    header, first, *_, last = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("loss")
    assert float(last.split(",")[column]) < 0.6 * float(first.split(",")[column])
    assert task.score(metrics) == metrics["miou"]


@pytest.mark.parametrize("recipe", ["ess_scannet", "esg_scannet"])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    configure: Any, tmp_path: Path, recipe: str
) -> None:
    config = configure(recipe, val_split="")
    whole = train(build_task(config), config, tmp_path / "whole", jax.devices()[:1])
    with config.unlocked():
        config.run.checkpoint_every_steps = 2
    task = build_task(config)
    made = task.train_batches(1)

    class Until2:
        steps_per_epoch = made.steps_per_epoch

        wait_seconds = 0.0

        def starting_at(self, step: int) -> Any:
            self.left, self.iterator = 2 - step, made.starting_at(step)
            return self

        def __next__(self) -> Any:
            if not self.left:
                raise InputError("stopped here")
            self.left -= 1
            return next(self.iterator)

    task.train_batches = lambda devices: Until2()
    with pytest.raises(InputError, match="stopped here"):
        train(task, config, tmp_path / "parts", jax.devices()[:1])
    train(build_task(config), config, tmp_path / "parts", jax.devices()[:1])
    one, other = (
        read_arrays(find_checkpoint(tmp_path / name), ("parameters",))
        for name in ("whole", "parts")
    )
    assert whole.step == 4
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])


def test_ess_does_not_go_on_with_labels_that_were_made_anew(
    configure: Any, folder: Path, tmp_path: Path
) -> None:
    """At the same place, of the same features, but from other classes of the rooms."""
    vocabulary = load_vocabulary("scannet")
    features = FeatureFolder(folder / "features", vocabulary)
    shutil.copytree(folder / "store", tmp_path / "store")

    def label() -> None:
        shutil.rmtree(tmp_path / "labels", ignore_errors=True)
        store = RoomStore(tmp_path / "store", vocabulary)
        made = RoomLabeller(store, features, vocabulary, tmp_path / "labels", LabelSettings())
        list(made.label(made.check(store.names())))

    def go_on() -> None:
        config = configure("ess_scannet", val_split="", labels=str(tmp_path / "labels"))
        train(build_task(config), config, tmp_path / "run", jax.devices()[:1])

    label()
    go_on()
    label()
    go_on()  # the same labels
    write_text(tmp_path / "store" / "scene_labels.txt", "scene0003_00: wall, floor")
    label()
    with pytest.raises(CheckpointError, match="was written with pseudo_labels ="):
        go_on()


@pytest.mark.parametrize("recipe", ["ess_scannet", "esg_scannet"])
def test_a_run_is_bound_to_what_the_features_of_its_rooms_are(
    configure: Any, folder: Path, tmp_path: Path, recipe: str
) -> None:
    """Other features of a room under the same manifest are another run's; of others, not."""
    shutil.copytree(folder / "features", tmp_path / "features")
    config = configure(recipe, features=str(tmp_path / "features"))
    features = FeatureFolder(tmp_path / "features")
    writer = FeatureWriter(features.root, features.manifest, features.text_embeddings)
    before = build_task(config).identity()
    for name in (*ROOMS["val"], ROOMS["train"][1]):
        assert build_task(config).identity() == before
        found = features.room(name, RoomStore(folder / "store").facts(name).points)
        writer.write(name, np.array(found.views), found.features * np.float16(2))
    after = build_task(config).identity()
    assert {key for key in before if before[key] != after[key]} == {"features_of_rooms"}


def test_the_loss_of_ess_is_of_labelled_points_alone(configure: Any) -> None:
    task = build_task(configure("ess_scannet"))
    batch = next(iter(task.train_batches(1)))
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), batch)
    model = task.build_model(nnx.Rngs(0), None)
    loss, metrics = task.loss(model, one)
    logits = np.asarray(model(one["features"]), np.float64) @ task.text.T.astype(np.float64)
    labels = np.asarray(one["labels"])
    rows = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    columns = np.searchsorted(task.word_class, labels[labels > 0])
    expected = -rows[labels > 0, columns].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert float(metrics["labelled_points"]) == np.count_nonzero(labels)


def test_rooms_without_features_or_labels_are_named(
    configure: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary = load_vocabulary("scannet")
    store = write_rooms(tmp_path / "store", vocabulary, splits=ROOMS)
    write_features(
        tmp_path / "features", store, vocabulary, embedding_size=SIZE, rooms=ROOMS["train"][:2]
    )
    own = {"root": str(tmp_path / "store"), "features": str(tmp_path / "features")}
    with pytest.raises(MissingFileError, match="1 of 3 rooms have no features, the first is scene"):
        build_task(configure("esg_scannet", **own))
    unlabelled = write_rooms(tmp_path / "bare", vocabulary, splits=ROOMS, labels=False)
    assert not unlabelled.has_labels(ROOMS["val"][0])
    task = build_task(configure("esg_scannet", root=str(tmp_path / "bare")))
    assert "1 rooms of 'val' have no true labels: left out." in capsys.readouterr().out
    assert task.evaluate(lambda inputs: None, tmp_path, 1) == {}
    assert task.score({}) is None


def test_what_does_not_fit_is_refused(configure: Any, tmp_path: Path) -> None:
    vocabulary = load_vocabulary("scannet")
    with pytest.raises(MissingFileError, match="no pseudo labels"):
        build_task(configure("ess_scannet", labels=str(tmp_path)))
    store = write_rooms(tmp_path / "store", vocabulary, splits=ROOMS)
    write_features(tmp_path / "other", store, vocabulary, embedding_size=SIZE, teacher="another")
    with pytest.raises(PseudoLabelError, match="pseudo labels made of"):
        build_task(configure("ess_scannet", features=str(tmp_path / "other")))
    with pytest.raises(InputError, match=r"config.data.points = 0: expected at least 1"):
        build_task(configure("ess_scannet", points=0))
    with pytest.raises(InputError, match=r"config.data.loop = 0"):
        build_task(configure("esg_scannet", loop=0))
    with pytest.raises(InputError, match="voxels of rooms are cubes"):
        build_task(configure("esg_scannet", voxel_size=(0.2, 0.2, 0.1)))
    with pytest.raises(InputError, match=r"config.data.most_voxels = -1"):
        build_task(configure("esg_scannet", most_voxels=-1))
    write_rooms(tmp_path / "s3dis", vocabulary, splits=ROOMS, dataset="own")
    with pytest.raises(InputError, match="features of rooms of 'scannet', but .* of 'own'"):
        build_task(configure("esg_scannet", root=str(tmp_path / "s3dis")))
    for recipe in ("ess_scannet", "esg_scannet"):
        with pytest.raises(InputError, match=r"3 of 3 rooms of 'train' are in the .* were learnt"):
            build_task(configure(recipe, val_split="train"))
    config = configure("esg_scannet")
    with config.unlocked():
        config.reference_quirks = ("undistorted",)
    with pytest.raises(InputError, match=r"reference_quirks: .*found 'undistorted'"):
        build_task(config)


def test_the_quirk_leaves_rooms_undistorted(configure: Any) -> None:
    config = configure("esg_scannet")
    assert build_task(config).source.augmentation.elastic
    with config.unlocked():
        config.reference_quirks = ("undistorted_rooms",)
    augmentation = build_task(config).source.augmentation
    assert not augmentation.elastic
    assert (
        dataclasses.replace(augmentation, elastic=True)
        == build_task(configure("esg_scannet")).source.augmentation
    )


def test_validation_rooms_without_features_are_judged_without_a_teacher(
    configure: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary = load_vocabulary("scannet")
    store = write_rooms(tmp_path / "store", vocabulary, splits=ROOMS)
    write_features(
        tmp_path / "features", store, vocabulary, embedding_size=SIZE, rooms=ROOMS["train"]
    )
    config = configure(
        "esg_scannet", root=str(tmp_path / "store"), features=str(tmp_path / "features")
    )
    task = build_task(config)
    assert "no features of 1 of 1 validation rooms" in capsys.readouterr().out
    output = np.random.default_rng(0).standard_normal((640, SIZE)).astype(np.float32)
    metrics = task.evaluate(lambda inputs: output, tmp_path, 1)
    assert "miou" in metrics
    assert "teacher_miou_seen" not in metrics


def test_validation_by_published_features_says_nothing_of_how_many_views(
    configure: Any, folder: Path, tmp_path: Path
) -> None:
    vocabulary, store = load_vocabulary("scannet"), RoomStore(folder / "store")
    features = tmp_path / "features"
    write_features(features, store, vocabulary, embedding_size=SIZE, teacher=OPENSCENE)
    task = build_task(configure("esg_scannet", features=str(features)))
    output = np.random.default_rng(0).standard_normal((640, SIZE)).astype(np.float32)
    metrics = task.evaluate(lambda inputs: output, tmp_path, 1)
    assert {"miou", "miou_seen", "miou_unseen"} <= set(metrics)
    assert "miou_few_views" not in metrics
    table = (tmp_path / "tables" / "step_0000001.csv").read_text("utf-8")
    columns = ["class", "network, all points", "network, seen", "network, seen by none", TEACHER]
    assert next(csv.reader(table.splitlines())) == columns


def test_ess_is_judged_on_seen_points_and_says_so(configure: Any, tmp_path: Path) -> None:
    """Every answer is right but those for a class: scores are those of the seen points alone."""
    task = build_task(configure("ess_scannet"))
    name = ROOMS["val"][0]
    room = task.data.store.room(name)
    fused = task.data.features.room(name, len(room))
    seen = fused.visible
    truth = np.asarray(room.labels)[seen]
    words = task.data.features.text_embeddings
    assert 0 < np.count_nonzero(seen) < len(room)
    rows = iter(np.split(np.where(truth == BED, FLOOR, truth), range(CHUNK, len(truth), CHUNK)))
    word_of_class = np.concatenate([[0], np.unique(task.word_class, return_index=True)[1]])

    def predict(inputs: Any) -> np.ndarray:
        output = np.zeros((len(inputs["features"]), SIZE), np.float32)
        classes = next(rows)
        output[: len(classes)] = words[word_of_class[classes]]
        return output

    metrics = task.evaluate(predict, tmp_path, 7)
    expected = ConfusionMatrix(len(task.data.vocabulary.eval_classes))
    expected.add(truth, np.where(truth == BED, FLOOR, truth))
    assert metrics["miou_seen"] == expected.mean_iou("untrue") < 1
    assert metrics["accuracy_seen"] == expected.accuracy()
    assert metrics["mean_accuracy_seen"] == expected.mean_accuracy()
    assert metrics["miou_seen_as_published"] == expected.mean_iou("zero", void="drop")
    assert task.score(metrics) == metrics["miou_seen"]
    others = {"teacher_miou_seen", "teacher_agreement"}
    assert all("_seen" in metric for metric in metrics.keys() - others)
    with (tmp_path / "tables" / "step_0000007.csv").open(newline="") as stream:
        assert next(csv.reader(stream)) == ["class", "network, seen", TEACHER]
