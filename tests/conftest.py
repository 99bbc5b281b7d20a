"""Shared fixtures: strict numerics, a tiny dataset, the optional real sensor data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from tests import faults
from tests.tiny_dataset import write_dataset, write_dumps
from uov_jax import sparse
from uov_jax.datasets.keyframe import Keyframe
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder
from uov_jax.vocabulary import Vocabulary, load_vocabulary

# Implicit dtype promotion and rank broadcasting hide mistakes; tests run without either.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

DATA = Path(__file__).parent / "fixtures"
SIBLING = Path(__file__).parents[2] / "shared" / "real"
REAL = Path(os.environ.get("UOV_REAL_DATA") or SIBLING)
no_fault_of_another_test = faults.no_fault_of_another_test


def real_root(dataset: str) -> Path:
    """Root of one real sample of a dataset; skips the test where there is none.

    The licences forbid shipping them. The folder that holds `nuscenes/` and `semantickitti/` is the
    environment variable UOV_REAL_DATA, or ../shared/real next to the checkout.
    """
    root = REAL / dataset
    if not root.is_dir():
        pytest.skip(
            f"no real {dataset} sample in {root}: it may not be distributed; set UOV_REAL_DATA to "
            f"a folder with {dataset}/ inside"
        )
    return root


def real_nuscenes_root() -> Path:
    """Root of one real nuScenes keyframe."""
    return real_root("nuscenes")


@pytest.fixture
def real_nuscenes() -> Path:
    """Root of one real nuScenes keyframe."""
    return real_nuscenes_root()


@pytest.fixture
def real_semantickitti() -> Path:
    """Root of one real SemanticKITTI scan."""
    return real_root("semantickitti")


@pytest.fixture(autouse=True, scope="module")
def no_programs_of_another_file() -> Iterator[None]:
    """Compiled programs of one file are of no use to the next, and take gigabytes in the end.

    Neither is memory that was freed, of which training has the allocator keep all.
    """
    yield
    jax.clear_caches()
    sparse.give_freed_memory_back()


@pytest.fixture(autouse=True, scope="module")
def quickly_compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """What goes through whole recipes is compiled without optimisations, in a fifth less time.

    Values are compared where they are made, in sparse, models and losses, with all of them.
    """
    tests = Path(__file__).parent
    whole = bool({tests / "tasks", tests / "command_line"} & set(request.path.parents))
    jax.config.update("jax_disable_most_optimizations", whole)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


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
