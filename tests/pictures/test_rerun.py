"""Recordings for Rerun: what is in them, and one message where the package is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uov_jax.datasets.nuscenes_tables import NuScenesTables
from uov_jax.pictures.animation import Frame
from uov_jax.pictures.rerun import ROOM_RADIUS, _log_points, write_recording
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


class Recorder:
    """What is logged, in the place of the package rerun."""

    def __init__(self) -> None:
        self.logged: dict[str, dict[str, Any]] = {}

    def log(self, place: str, content: dict[str, Any]) -> None:
        self.logged[place] = content

    def Points3D(self, points: np.ndarray, **settings: Any) -> dict[str, Any]:  # noqa: N802
        return {"points": points, **settings}


def test_a_room_is_logged_with_its_colours_labels_and_errors() -> None:
    points = np.arange(12, dtype=np.float32).reshape(4, 3)
    own = np.arange(12, dtype=np.uint8).reshape(4, 3)
    truth, prediction = np.array([1, 2, 0, 2]), np.array([1, 1, 2, 2])
    colors = load_vocabulary("scannet").colors
    recorder = Recorder()
    frame = Frame(points, {"truth": truth, "prediction": prediction}, colors=own)
    _log_points(recorder, frame, colors)
    assert set(recorder.logged) == {f"world/{name}" for name in (
        "colours", "truth", "prediction", "errors",
    )}  # fmt: skip
    assert {content["radii"] for content in recorder.logged.values()} == {ROOM_RADIUS}
    np.testing.assert_array_equal(recorder.logged["world/colours"]["colors"], own)
    np.testing.assert_array_equal(recorder.logged["world/truth"]["points"], points[truth > 0])
    np.testing.assert_array_equal(recorder.logged["world/prediction"]["class_ids"], prediction)
    assert len(recorder.logged["world/errors"]["points"]) == 3
    alone = Recorder()
    _log_points(alone, Frame(points, {}, colors=own), colors)
    assert set(alone.logged) == {"world/colours"}
