"""The whole way of CAT-Seg: six real images, dump, verification, training on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import real_nuscenes_root
from tests.teachers.catseg.made_up import template_rows
from tests.teachers.test_keyframe import STEPS, dump_and_verify, train_on
from uov_jax.command_line import dump_teacher
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder
from uov_jax.teachers.catseg import CatSeg, CatSegTeacher
from uov_jax.vocabulary import load_vocabulary


@pytest.mark.slow
def test_catseg_dumps_a_keyframe_that_is_trained_on(
    tmp_path: Path, catseg_network: CatSeg, monkeypatch: pytest.MonkeyPatch
):
    teacher = CatSegTeacher(catseg_network, template_rows(), weights_hash="w" * 64)
    monkeypatch.setattr(dump_teacher, "create_teacher", lambda *_: teacher)
    dump_and_verify(tmp_path / "dumps", "--teacher", "catseg")
    folder = DumpFolder(tmp_path / "dumps", load_vocabulary())
    (keyframe,) = NuScenesTables(real_nuscenes_root(), "v1.0-mini").keyframes("mini_train")
    # At made-up weights nearly every word wins some pixel.
    assert all(100 < camera.num_masks <= 175 for camera in folder.read(keyframe).cameras)
    losses = train_on("tmp_catseg.py", tmp_path / "dumps", tmp_path / "run", superpoints=1536)
    assert len(losses) == STEPS
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
