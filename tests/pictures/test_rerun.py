"""Recordings for Rerun: what is in them, and one message where the package is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.pictures.rerun import write_recording
from uov_jax.pictures.scene import DrawnScene
from uov_jax.vocabulary import load_vocabulary


def test_without_rerun_one_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ImportError, match=r"need the package rerun-sdk .*uov-jax\[rerun\]"):
        write_recording(iter([]), load_vocabulary().colors, tmp_path / "scene.rrd")


def test_a_recording_has_points_cameras_and_labels(tmp_path: Path, drawn_root: Path) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is an optional extra")
    vocabulary = load_vocabulary()
    keyframes = NuScenesTables(drawn_root, "v1.0-mini").keyframes(["scene-0061"])
    scene = DrawnScene(keyframes, vocabulary, predictions=drawn_root / "predicted")
    path = tmp_path / "scene.rrd"
    names = vocabulary.eval_classes
    assert write_recording(iter(scene), vocabulary.colors, path, names=names) == 2
    content = path.read_bytes()
    assert content[:3] == b"RRF"
    # Every image is in it as the JPEG that it is.
    images = sum(view.path.stat().st_size for view in keyframes[0].cameras)
    assert len(content) > 2 * images
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene.rrd"]
    with pytest.raises(ValueError, match=r"none.rrd: a recording needs at least one frame"):
        write_recording(iter([]), vocabulary.colors, tmp_path / "none.rrd")
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene.rrd"]
