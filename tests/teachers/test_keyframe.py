"""The whole way of a teacher: six real images, dump, verification, training on it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import real_nuscenes_root
from tests.teachers.recipe import text_rows
from uov_jax.command_line import dump_teacher
from uov_jax.config import load_config
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder
from uov_jax.tasks.build import build_task
from uov_jax.teachers.san import SanTeacher
from uov_jax.teachers.san_network import SanNetwork
from uov_jax.training.loop import train
from uov_jax.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
STEPS = 10


def dump_and_verify(output: Path, *options: str) -> None:
    """Dump the real keyframe by the script, and verify it by the script."""
    common = ["--data", str(real_nuscenes_root()), "--version", "v1.0-mini"]
    common += ["--split", "mini_train", "--output", str(output)]
    assert dump_teacher.main([*common, *options]) == 0
    assert dump_teacher.main([*common, "--check"]) == 0


def train_on(recipe: str, dumps: Path, workdir: Path, superpoints: int = 512) -> list[float]:
    """Losses of ten steps of the full network on the keyframe."""
    config = load_config(str(ROOT / "configs" / recipe))
    with config.unlocked():
        config.batch_size = 1
        config.total_steps = STEPS
        config.data.update(
            root=str(real_nuscenes_root()),
            version="v1.0-mini",
            train_split="mini_train",
            val_split="",
            dumps=str(dumps),
            voxels=(21_504, 21_504),
            pairs=(32_768, 32_768),
            superpoints=(superpoints, superpoints),
            workers=1,
        )
        config.run.update(log_every_steps=1, tensorboard=False)
    train(build_task(config), config, workdir)
    with (workdir / "metrics.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def test_san_dumps_a_keyframe_that_is_trained_on(
    tmp_path: Path, san_network: SanNetwork, monkeypatch: pytest.MonkeyPatch
):
    teacher = SanTeacher(san_network, text_rows(), "w" * 64)
    monkeypatch.setattr(dump_teacher, "create_teacher", lambda *_: teacher)
    dump_and_verify(tmp_path / "dumps", "--teacher", "san")
    folder = DumpFolder(tmp_path / "dumps", load_vocabulary())
    (keyframe,) = NuScenesTables(real_nuscenes_root(), "v1.0-mini").keyframes("mini_train")
    dump = folder.read(keyframe)
    assert all(4 < camera.num_masks < 60 for camera in dump.cameras)
    losses = train_on("tmp_san.py", tmp_path / "dumps", tmp_path / "run")
    assert len(losses) == STEPS
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
