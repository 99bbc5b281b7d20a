"""ESS against the published code: 24 epochs of its training, by this project's task and step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.conftest import DATA
from uov_jax.checkpoints import state
from uov_jax.checkpoints.state_dict import model_to_state_dict, state_dict_to_model
from uov_jax.config import load_config
from uov_jax.datasets.rooms import RoomStore, RoomWriter
from uov_jax.fusion.features import FeatureFolder, FeatureManifest, FeatureWriter
from uov_jax.fusion.pseudo_labels import (
    PseudoLabelManifest,
    PseudoLabelWriter,
    RoomLabelFacts,
)
from uov_jax.input.room_points import PointSample, collate_points
from uov_jax.quirks import STEP_BEFORE_EPOCH, quirks_of
from uov_jax.tasks.ess import Specialisation
from uov_jax.training import parallel, step
from uov_jax.training.optimizer import build_optimizer, schedule
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
ROOM, EPOCHS, BATCHES = "scene0000_00", 24, 3
IGNORED_THERE = 20


@pytest.fixture(scope="module")
def measured() -> dict[str, np.ndarray]:
    with np.load(DATA / "indoor_ess.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, measured: dict[str, np.ndarray]) -> Any:
    """The task of the released recipe, on a room that has the fixture's features and labels."""
    folder = tmp_path_factory.mktemp("ess")
    vocabulary = load_vocabulary("scannet")
    seen = measured["mask_full"]
    rng = np.random.default_rng(0)
    writer = RoomWriter(folder / "store", "scannet", vocabulary)
    classes = np.where(measured["truth"] == 255, 0, measured["truth"] + 1).astype(np.uint8)
    coords = rng.uniform(0, 3, (len(seen), 3)).astype(np.float32)
    writer.write(ROOM, coords, np.zeros((len(seen), 3), np.uint8), classes)
    writer.write_split("train", [ROOM])
    manifest = FeatureManifest("openseg", "", 768, "scannet", "scannet", vocabulary.hash)
    FeatureWriter(folder / "features", manifest, measured["text"]).write(
        ROOM, seen.astype(np.uint16), measured["features"][seen]
    )
    features = FeatureFolder(folder / "features", vocabulary)
    pseudo = measured["pseudo"]
    labels = np.where(pseudo == IGNORED_THERE, 0, pseudo + 1).astype(np.uint8)
    PseudoLabelWriter(
        folder / "labels", PseudoLabelManifest.of_features(features, vocabulary, True)
    ).write(
        ROOM,
        labels,
        measured["probability"].astype(np.float16),
        RoomLabelFacts(len(labels), (1,), np.zeros((21, 21), np.int64)),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        config = load_config(str(ROOT / "configs" / "ess_scannet.py"))
    with config.unlocked():
        config.data.update(
            root=str(folder / "store"),
            features=str(folder / "features"),
            labels=str(folder / "labels"),
            val_split="",
        )
        config.reference_quirks = (STEP_BEFORE_EPOCH,)
    return Specialisation(config)


def batches(task: Any) -> list[Any]:
    """Three batches of equal thirds of the points that are seen, in their order."""
    (room,) = task.data.train
    points = RoomStore(task.config.data.root).facts(room).points
    fused = task.data.features.room(room, points)
    labels = task.labels.labels(room, points)[fused.visible]
    third = len(labels) // BATCHES
    return [
        collate_points([[PointSample(room, fused.features[i : i + third], labels[i : i + third])]])
        for i in range(0, BATCHES * third, third)
    ]


@pytest.fixture(scope="module")
def trained(task: Any, measured: dict[str, np.ndarray]) -> tuple[Any, list[float]]:
    """The adapter after 72 steps of the training step that runs take, and their losses."""
    model = step.initial_model(task, 0)
    weights = {"fc.0.weight": "w1", "fc.1.weight": "w2", "fc.1.bias": "b2"}
    assert len(state_dict_to_model(model, {n: measured[k] for n, k in weights.items()}).loaded) == 3
    skeleton, parameters, statistics = state.split(model)
    config = task.config
    optimizer, rate = build_optimizer(
        config.optimizer.to_dict(),
        config.schedule.to_dict(),
        {name: task.parameter_group(name) for name in parameters},
        EPOCHS * BATCHES,
        BATCHES,
        config.batch_size,
        quirks_of(config),
    )
    devices = parallel.Parallel(jax.local_devices()[:1])
    train = devices.spread(step.training_step(task, skeleton, optimizer, rate))
    current = devices.replicate(jax.device_get(state.create(parameters, statistics, optimizer)))
    losses = []
    made = batches(task)
    for number in range(EPOCHS * BATCHES):
        current, metrics = train(current, devices.shard(made[number % BATCHES]))
        losses.append(float(metrics["loss"][0]))
    last = devices.first(current)
    return skeleton.model(jax.tree.map(jnp.asarray, last.parameters), {}), losses


def test_all_72_losses_are_the_published_ones(
    trained: tuple[Any, list[float]], measured: dict[str, np.ndarray]
) -> None:
    """Within 1e-3 relative and 1e-6 absolute: float32 sums in another order, 72 steps of Adam."""
    np.testing.assert_allclose(trained[1], measured["losses"], rtol=1e-3, atol=1e-6)


def test_weights_after_training_are_the_published_ones(
    trained: tuple[Any, list[float]], measured: dict[str, np.ndarray]
) -> None:
    """Within 1e-3: Adam's first steps have the size of the rate whatever the gradient's."""
    found = model_to_state_dict(trained[0])
    np.testing.assert_allclose(found["fc.0.weight"], measured["w1_after"], atol=1e-3, rtol=0)
    np.testing.assert_allclose(found["fc.1.bias"], measured["b2_after"], atol=1e-3, rtol=0)


def test_specialised_features_are_the_published_ones(
    trained: tuple[Any, list[float]], task: Any, measured: dict[str, np.ndarray]
) -> None:
    """Within half precision: one unit in its last place, and 1e-3 where small numbers cancel."""
    fused = task.data.features.room(ROOM, len(measured["mask_full"]))
    found = np.asarray(nnx.jit(type(trained[0]).__call__)(trained[0], jnp.asarray(fused.features)))
    expected = measured["specialised"].astype(np.float32)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_rates_of_all_epochs_are_exactly_the_published_ones(
    task: Any, measured: dict[str, np.ndarray]
) -> None:
    """The first decay comes after 19 epochs with the quirk, after 20 without."""
    settings = task.config.schedule.to_dict()
    quirk, right = (
        schedule(
            task.config.optimizer.learning_rate,
            total_steps=EPOCHS * BATCHES,
            steps_per_epoch=BATCHES,
            quirks=quirks,
            **settings,
        )
        for quirks in (quirks_of(task.config), ())
    )
    steps = BATCHES * np.arange(EPOCHS)
    np.testing.assert_array_equal(quirk(steps), measured["rates"])
    np.testing.assert_array_equal(right(steps[1:]), measured["rates"][:-1])
