"""The whole way of FC-CLIP: six real images, dump, verification, training on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import real_nuscenes_root
from tests.teachers.recipe import text_rows
from tests.teachers.test_keyframe import STEPS, dump_and_verify, train_on
from uov_jax.command_line import dump_teacher
from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.dumps.folder import DumpFolder
from uov_jax.teachers.fcclip import FcClip, FcClipTeacher
from uov_jax.vocabulary import load_vocabulary


@pytest.mark.slow
def test_fcclip_dumps_a_keyframe_that_is_trained_on(
    tmp_path: Path, fcclip_network: FcClip, monkeypatch: pytest.MonkeyPatch
):
    vocabulary = load_vocabulary()
    teacher = FcClipTeacher(fcclip_network, vocabulary, text_rows(), "w" * 64)
    monkeypatch.setattr(dump_teacher, "create_teacher", lambda *_: teacher)
    dump_and_verify(tmp_path / "dumps", "--teacher", "fcclip")
    folder = DumpFolder(tmp_path / "dumps", vocabulary)
    (keyframe,) = NuScenesTables(real_nuscenes_root(), "v1.0-mini").keyframes("mini_train")
    # 19 and 24 were measured on two of the images.
    assert all(4 < camera.num_masks < 80 for camera in folder.read(keyframe).cameras)
    losses = train_on("tmp_fcclip.py", tmp_path / "dumps", tmp_path / "run")
    assert len(losses) == STEPS
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
