"""Tiny datasets with labels and pseudo labels, and published recipes that fit them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from tests.datasets.test_semantickitti import write_scan
from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax.config import load_config
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder
from uov_jax.superpoints.make import make_superpoints, prepare
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
CAPACITY = 2560


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four keyframes with labels, dumps and pseudo labels."""
    root = write_dataset(tmp_path_factory.mktemp("dataset"))
    vocabulary = load_vocabulary()
    tables = NuScenesTables(root, "v1.0-mini")
    keyframes = tables.keyframes("mini_train") + tables.keyframes("mini_val")
    write_dumps(root / "dumps", keyframes, vocabulary)
    dumps = DumpFolder(root / "dumps", vocabulary)
    folder = prepare(keyframes, dumps, vocabulary, root / "labels", "native")
    list(make_superpoints(keyframes, dumps, vocabulary, folder))
    return root


@pytest.fixture(scope="module")
def kitti(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitti")
    for number in range(3):
        write_scan(root, "00", number, points=300)
    write_scan(root, "08", 0, points=300)
    return root


@pytest.fixture
def configure(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that makes a published recipe fit the tiny dataset and its smallest network."""

    def tiny(recipe: str, **data: Any) -> ConfigDict:
        sys.path.insert(0, str(ROOT))
        config = load_config(str(ROOT / "configs" / f"{recipe}.py"))
        sys.path.pop(0)
        with config.unlocked():
            config.batch_size = 1
            config.total_steps = 4
            config.model.variant = "minkunet14a"
            # One momentum, so that stages of the same shapes share their compiled programs.
            config.model.batch_norm_momentum = 0.05
            if "init" in config:
                config.init.checkpoint = ""
            config.data.update(
                {
                    "root": str(dataset),
                    "version": "v1.0-mini",
                    "train_split": "mini_train",
                    "val_split": "mini_val",
                    "voxels": (CAPACITY, CAPACITY),
                    "workers": 1,
                }
                | ({"labels": str(dataset / "labels")} if "labels" in config.data else {})
                | data
            )
            cache = tmp_path_factory.getbasetemp() / "compilation_cache"
            config.run.update(log_every_steps=1, tensorboard=False, compilation_cache=str(cache))
        return config

    return tiny
