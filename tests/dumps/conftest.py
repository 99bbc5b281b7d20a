"""Fixtures of the data tests: a tiny dataset with dumps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder
from uov_jax.vocabulary import Vocabulary, load_vocabulary


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return load_vocabulary()


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def tiny_keyframes(tiny_root: Path) -> list[Keyframe]:
    tables = NuScenesTables(tiny_root, "v1.0-mini")
    return tables.keyframes("mini_train") + tables.keyframes("mini_val")


@pytest.fixture(scope="session")
def tiny_dumps(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_keyframes: list[Keyframe],
    vocabulary: Vocabulary,
) -> DumpFolder:
    root = tmp_path_factory.mktemp("dumps")
    write_dumps(root, tiny_keyframes, vocabulary)
    return DumpFolder(root, vocabulary)
