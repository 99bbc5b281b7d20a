"""The cards that tasks write, and what a recipe alone says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ml_collections import ConfigDict

from tests.tasks.room_recipe import room_config
from tests.tiny_rooms import write_features, write_rooms
from uov_jax.checkpoints.agreement import VoxelSettings
from uov_jax.errors import InputError
from uov_jax.input.voxels import CYLINDRICAL
from uov_jax.tasks.build import build_task
from uov_jax.tasks.cards import LOOKED_AT, recipe_card, room_figures, sweep_figures
from uov_jax.vocabulary import load_vocabulary


def test_figures_are_medians_over_some_sweeps() -> None:
    asked: list[int] = []

    def points(index: int) -> np.ndarray:
        asked.append(index)
        rng = np.random.default_rng(index)
        xyz = rng.uniform(-1, 1, (1000, 3)) * [20 + index, 10, 2]
        return np.column_stack([xyz, np.full(1000, 7.0 + index)]).astype(np.float32)

    found = sweep_figures(range(100), points, CYLINDRICAL, intensity_offset=1.0)
    assert found is not None
    assert len(asked) == LOOKED_AT
    assert found.points == 1000
    assert found.intensity == np.median([6.0 + index for index in asked])
    middle = 2 * (20 + np.median(asked))
    assert middle * 0.94 < found.extent[0] < middle
    assert 1.0 <= found.points_per_voxel < 1.5


def test_damaged_sweeps_are_left_out_of_the_figures() -> None:
    def points(index: int) -> np.ndarray:
        if index:
            raise InputError("damaged")
        found = np.ones((9, 4), np.float32)
        found[3] = np.nan
        return found

    found = sweep_figures(range(3), points, CYLINDRICAL)
    assert found is not None
    assert found.points == 8
    assert sweep_figures(range(1, 3), points, CYLINDRICAL) is None


def test_figures_of_rooms_have_their_density() -> None:
    def points(name: str) -> np.ndarray:
        cells = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), axis=-1).reshape(-1, 3)
        return np.repeat(cells * 0.02 + 0.01, int(name), axis=0).astype(np.float32)

    found = room_figures(["1", "3", "5"], points, 0.02)
    assert found is not None
    assert found.points_per_voxel == 3.0
    assert found.points == 375


@pytest.mark.parametrize("recipe", ["tmp_san", "annotation_free_san", "finetune_nuscenes"])
def test_recipes_of_nuscenes(configure: Any, recipe: str) -> None:
    config = configure(recipe)
    card = recipe_card(config)
    vocabulary = load_vocabulary()
    assert (card.task, card.unit, card.dataset, card.ahead) == (
        config.task, "sweeps", "nuscenes", "y",
    )  # fmt: skip
    assert card.classes == vocabulary.eval_classes
    assert card.ground == vocabulary.ground_classes
    assert card.voxels == VoxelSettings((0.1, 1.0, 0.1), cylindrical=True)
    assert card.capacity == (2560, 2560)
    assert card.model["variant"] == "minkunet14a"
    assert card.words is None


def test_networks_that_label_no_clouds_are_refused() -> None:
    with pytest.raises(InputError, match="here: networks of the task 'ess' label no clouds"):
        recipe_card(ConfigDict({"task": "ess"}), "here")


def test_the_card_of_rooms_has_the_features_words(tmp_path: Path) -> None:
    scannet = load_vocabulary("scannet")
    store = write_rooms(tmp_path / "rooms", scannet)
    write_features(tmp_path / "features", store, scannet)
    task: Any = build_task(room_config(tmp_path, tmp_path / "cache"))
    card = task.card()
    assert (card.unit, card.dataset, card.classes) == ("rooms", "scannet", scannet.eval_classes)
    assert card.words.vocabulary.hash == scannet.hash
    np.testing.assert_array_equal(card.words.embeddings, task.data.features.text_embeddings)
    # Boxes of 4 x 3 x 2.5 m.
    assert np.all(np.abs(np.array(card.training.extent) - [4, 3, 2.5]) < 0.5)
    assert np.isnan(card.training.intensity)
    plain = recipe_card(task.config)
    same = [
        f.name for f in dataclasses.fields(card) if f.name not in ("words", "training", "colors")
    ]
    assert all(getattr(card, name) == getattr(plain, name) for name in same)
