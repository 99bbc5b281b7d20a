"""Submissions of a simulated drive before nuscenes-devkit's own check."""

from __future__ import annotations

from pathlib import Path

import pytest

from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.simulate import simulate_drive


def small_drive(root: Path) -> Path:
    """A simulated drive of two scenes with two keyframes each, images of 160 x 90 pixels."""
    simulate_drive(root, 2, 2, 5, 1, 0.1)
    return root


def check_with_devkit(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of nuscenes-devkit, told which scenes the drive's validation split has."""
    from nuscenes import NuScenes
    from nuscenes.eval.lidarseg import utils
    from nuscenes.eval.lidarseg.validate_submission import validate_submission

    dataset = NuScenes(version="v1.0-sim", dataroot=str(root), verbose=False)
    scenes = {k.scene for k in NuScenesTables(root, "v1.0-sim").keyframes("sim_val")}
    monkeypatch.setattr(utils, "create_splits_scenes", lambda verbose: {"val": sorted(scenes)})
    validate_submission(dataset, str(folder), "val")
